/* A simulated server: what server/links does with sockets and threads, as a driver above the pure
 * code of replication/ (history, place, psync, backlog, frames, the RDB's frame). It follows the
 * links function by function, so that a rule that is changed there is easily changed here:
 *
 *   primary.c   links/primary.c, primary_stream.c, primary_round.c, replica_link.c
 *   replica.c   links/replica.c, sync*.c, clients/primary_conn.c
 *   failover.c  links/failover.c
 *   node.c      roles, restarts, files
 *
 * Left out are what has no part in the decisions: the log's lanes (a queue of commits that are
 * merged at turns stands for them), handshake lines other than PSYNC, transfers that end with a
 * mark. Files survive the death of a process, nothing else does. One thread. */
#ifndef SLOTWISE_TESTS_SIM_NODE_H
#define SLOTWISE_TESTS_SIM_NODE_H

#include "replication/backlog.h"
#include "replication/frame.h"
#include "replication/history.h"
#include "replication/place.h"
#include "replication/psync.h"
#include "tests/sim/link.h"
#include "tests/sim/replication/model.h"
#include "tests/sim/replication/truth.h"
#include "tests/sim/runner.h"

#define NODES_MAX 6

/* Rules that are left out or broken on purpose, to see that the checks find it. */
enum ablation {
    ABLATION_NONE,
    ABLATION_ANY_ID,
    ABLATION_SECOND_UNBOUNDED,
    ABLATION_HALF_TRANSACTION,
    ABLATION_RELAY_HALF,
    ABLATION_PROMOTE_HALF,
    ABLATION_SAVE_RECEIVED,
    ABLATION_ID_KEPT_UNUSED,
    ABLATION_ID_KEPT_BEGUN,
    ABLATION_ID_KEPT_PROMOTED,
    ABLATION_ID_KEPT_CONTINUED,
    ABLATION_BACKLOG_KEPT_LOADED,
    ABLATION_PLACE_LATE,
    ABLATION_DEMOTED_UNMERGED,
    ABLATION_SELECT_KEPT_CUT,
    ABLATION_SELECT_KEPT_PROMOTED,
    ABLATION_DATABASE_UNTOLD,
    ABLATION_DATABASE_FORGOTTEN,
    ABLATION_CURSOR_LATE,
    ABLATION_REFUSAL_IGNORED,
    ABLATION_STREAM_NOT_KEPT,
    ABLATION_DATABASE_UNTOLD_DOWN,
    ABLATION_ID_KEPT_RESUMED,
    ABLATION_FAILOVER_EARLY,
    ABLATION_SILENCE_IGNORED,
    ABLATIONS
};

enum figure {
    FIGURE_EVENTS,
    FIGURE_UNITS,
    FIGURE_FULL,
    FIGURE_PARTIAL,
    FIGURE_SECOND,
    FIGURE_FRAMES,
    FIGURE_PROMOTIONS,
    FIGURE_RESTARTS,
    FIGURE_CUT,
    FIGURE_FAILOVERS,
    FIGURE_RESUMED,
    FIGURE_FAULTS,
};

struct bytes {
    char *data;
    size_t length, capacity;
};

/* A unit that has been committed and is not in the stream yet. */
struct commit {
    unsigned first_database, last_database;
    uint64_t chain; /* of the model behind it */
    struct bytes bytes;
};

enum sub_state { SUB_HANDSHAKE, SUB_WAITING, SUB_SNAPSHOT, SUB_ONLINE, SUB_DROPPED };

/* A replica as its primary knows it; its end of the link is 1. */
struct sub {
    struct sub *next;
    struct sim_link *link; /* NULL: gone */
    enum sub_state state;
    int replica;
    unsigned capabilities;
    bool frames;
    struct backlog_cursor *cursor;
    struct bytes line, greeting, snapshot;
    size_t snapshot_sent;
    uint64_t snapshot_offset, snapshot_ready_us;
    uint64_t acknowledged, heard_us, moved_us;
    size_t unsent_seen;
};

enum attempt_phase {
    ATTEMPT_CONNECTING,
    ATTEMPT_ASKED,
    ATTEMPT_TRANSFER,
    ATTEMPT_LOADING,
    ATTEMPT_CONTINUED, /* ... and the next two wait to be taken over */
    ATTEMPT_LOADED,
    ATTEMPT_FAILED,
    ATTEMPT_BROKEN,
};

/* An attempt to get in step; the replica's end of the link is 0. */
struct attempt {
    uint64_t number;
    enum attempt_phase phase;
    struct sim_link *link;
    bool link_ended;
    bool may_continue;
    char id[HISTORY_ID_LENGTH + 1]; /* that is asked for, then that of what comes */
    uint64_t offset;
    unsigned database;
    bool frames;
    bool flushed, failover;
    size_t size; /* of the transfer; 0: not told yet */
    struct bytes input, file;
    uint64_t heard_us;
};

struct world;

struct node {
    struct world *world;
    int index;
    bool frames; /* reads and sends frames: not a stock server */
    bool by_file;
    size_t backlog_bytes, output_limit;
    int64_t ttl_s;
    /* Of the process. */
    bool alive;
    uint64_t generation; /* of processes */
    uint64_t paused_until_us, isolated_until_us;
    struct history history;
    struct place place;
    int primary; /* index, -1: it is one itself */
    struct model model;
    bool synced; /* the data are a state of the history */
    /* Its side as a primary. */
    bool on;
    struct backlog *backlog;
    int stream_database;
    uint64_t merged_chain;
    struct commit *commits;
    size_t commit_count, commit_capacity;
    struct sub *subs;
    bool round_wanted;
    struct backlog_job *job;
    /* FAILOVER: writes pause meanwhile. */
    enum failover { FAILOVER_NONE, FAILOVER_WAITS, FAILOVER_ASKS } failover;
    bool failover_force;
    int failover_target;
    uint64_t failover_due_us, failover_generation; /* of the target's process when it is asked */
    uint64_t no_replica_since_us, last_ping_us, last_second_us, last_flush_us;
    /* Its side as a replica. */
    struct attempt *attempt;
    uint64_t attempts;
    struct sim_link *connection; /* NULL: not connected */
    struct frame_decoder *decoder;
    struct bytes input, queued;
    bool in_multi;
    unsigned database;
    bool loading, fail_load;
    uint64_t ambush; /* enum ambush: when it next has half a transaction or, AMBUSH_LOSE, a replica
                      * that waits for a snapshot */
    uint64_t tried_us, heard_us, acknowledged_us;
    unsigned full_syncs; /* since the faults ended */
    /* On its disk. */
    struct bytes file;
    bool file_synced;
};

struct world {
    struct sim_run *run;
    struct sim_queue queue;
    struct sim_network network;
    struct truth truth;
    struct sim_random clients, servers;
    struct node nodes[NODES_MAX];
    int count;
    bool faults_over;
    /* Clients write to the one that they take for the primary, some (in percent) to anybody. */
    int target;
    unsigned stray;
    uint64_t writes_until_us, write_gap_us, quiet_until_us, unique;
};

/* --- Common ----------------------------------------------------------------------------------- */

void bytes_add(struct bytes *bytes, const void *data, size_t length);
void bytes_drop(struct bytes *bytes, size_t length); /* from the front */
void bytes_free(struct bytes *bytes);

static inline bool has(const struct node *node, enum ablation ablation) {
    return node->world->run->ablation == (unsigned)ablation;
}
static inline bool is_replica(const struct node *node) {
    return node->primary >= 0;
}
static inline uint64_t now_us(const struct node *node) {
    return node->world->queue.now_us;
}
static inline void figure_add(const struct node *node, enum figure figure) {
    node->world->run->figures[figure]++;
}
#define SAY(node, ...)  sim_trace_line(&(node)->world->run->trace, now_us(node), __VA_ARGS__)
#define FAIL(node, ...) sim_fail((node)->world->run, __VA_ARGS__)

/* "2": the index in the truth, by which traces call a history. */
int node_history(const struct node *node);

/* What happens to a node at the worst of times. */
enum ambush {
    AMBUSH_NONE,
    AMBUSH_SAVE,
    AMBUSH_KILL,
    AMBUSH_SAVE_KILL,
    AMBUSH_PROMOTE,
    AMBUSH_LOSE,
    AMBUSHES
};

/* --- node.c ----------------------------------------------------------------------------------- */

void node_start(struct node *node, bool with_file, int primary);
void node_kill(struct node *node);
void node_follow(struct node *node, int primary);
void node_promote(struct node *node);
void node_change_id(struct node *node);
void node_save(struct node *node);
void node_restart_after(struct node *node, uint64_t delay_us, bool with_file, int primary);
/* A file with the data and, if id, their place. */
void node_write_file(const struct node *node, const char *id, uint64_t offset, int database,
                     struct bytes *file);
/* false: it is no file. id is "" and database -1 where it tells none. */
bool node_read_file(struct model *model, const struct bytes *file, char *id, uint64_t *offset,
                    int *database);

/* --- primary.c -------------------------------------------------------------------------------- */

/* A client writes; nothing happens on a replica. */
void primary_write(struct node *node);
void primary_turn(struct node *node);
struct sim_party primary_party(struct node *node);
/* struct replication_serving. */
void primary_feed(struct node *node, const char *data, size_t length);
void primary_drop_replicas(struct node *node, bool keep_backlog);
void primary_role_changed(struct node *node);
void primary_act(struct node *node, unsigned effects);
void primary_accept(struct node *node, struct sim_link *link);
void primary_merge(struct node *node);
void primary_die(struct node *node);
void primary_turn_on(struct node *node);
/* FAILOVER to whoever is in step (target -1), or to this node; then what came of it. */
void primary_fail_over(struct node *node, int target, uint64_t timeout_us, bool force);
void primary_failover_tick(struct node *node);
void primary_failover_answered(struct node *node, bool accepted);

/* --- replica.c -------------------------------------------------------------------------------- */

void replica_tick(struct node *node);
void replica_start_attempt(struct node *node);
void replica_cancel(struct node *node);
/* REPLICAOF: the connection goes, what came over it stays. */
void replica_drop_connection(struct node *node);
void replica_die(struct node *node);
/* The data are what the truth says of their place. */
void replica_check(const struct node *node, const char *when);

#endif
