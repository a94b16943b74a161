/* A modelled cluster: nodes that run the state machine of cluster/, the connections between them,
 * their disks, clocks and data.
 *
 *   bus.c        connections: packets in order, late, lost, twice; ways that are cut
 *   node.c       a node: what the machine asks for by its callbacks, starts and crashes
 *   data.c       writes, replication, pauses for a manual failover
 *   checks.c     the invariants
 *   faults.c     what goes wrong, and operators at bad times
 *   operator.c   the operator that makes a cluster, and mends it in the end
 *   ablations.c  rules broken on purpose, by taking the place of functions of the machine
 *
 * One thread, one seed. A node that is stopped (SIGSTOP) finds what has come when it goes on. */
#ifndef SLOTWISE_TESTS_SIM_CLUSTER_WORLD_H
#define SLOTWISE_TESTS_SIM_CLUSTER_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/cluster.h"
#include "cluster/operate.h"
#include "cluster/slot_map.h"
#include "cluster/state.h"
#include "tests/sim/queue.h"
#include "tests/sim/random.h"
#include "tests/sim/runner.h"

#define NODES_MAX 500
#define NODE_PORT 7001
#define BUS_PORT  (NODE_PORT + CLUSTER_BUS_PORT_STEP)
#define TICK_US   100000

enum figure {
    FIGURE_EVENTS,
    FIGURE_PACKETS,
    FIGURE_WRITES,
    FIGURE_VOTES,
    FIGURE_ELECTIONS,
    FIGURE_MANUAL,
    FIGURE_TAKEOVERS,
    FIGURE_FAILS,
    FIGURE_RESTARTS,
    FIGURE_INHERITED,
    FIGURE_EARLY,
    FIGURE_LOST_FILES,
    FIGURE_COMMANDS,
    FIGURE_MENDED,
    FIGURE_CONVERGENCE_MS,
};

/* In the order of main.c's table. */
enum ablation {
    ABLATION_NONE,
    ABLATION_VOTE_NOT_DURABLE,
    ABLATION_DISK_FAILURE_IGNORED,
    ABLATION_VOTE_FORGOTTEN,
    ABLATION_VOTE_AGAIN,
    ABLATION_VOTE_WHILE_UP,
    ABLATION_VOTE_COUNTED_TWICE,
    ABLATION_SIBLING_IGNORED,
    ABLATION_EPOCH_NOT_RAISED,
    ABLATION_COLLISION_IGNORED,
    ABLATION_STALE_CLAIM_WINS,
    ABLATION_FAIL_ALONE,
    ABLATION_FAIL_KEPT,
    ABLATION_CHAIN_KEPT,
    ABLATION_MEET_ONCE,
    ABLATION_HANDOVER_EARLY,
    ABLATION_PAUSE_LATE,
    ABLATION_PAUSE_SHORT,
    ABLATION_MINORITY_SERVES,
    ABLATION_INHERIT_EARLY,
    ABLATION_END_EARLY,
    ABLATION_LEASE_FROM_ANSWER,
    ABLATION_NO_FRESH_CLOCK,
    ABLATION_LEASE_NOT_AWAITED,
    ABLATION_ANSWER_AFTER_VOTE,
    ABLATION_EARLY_FOR_EVER,
    ABLATION_CLAIM_NOT_CONFIRMED,
    ABLATION_CONFIRMED_AT_ONCE,
    ABLATION_START_UNFENCED,
    ABLATIONS
};

struct world;
struct node;

/* One end of a connection; lives as long as the world, so that late events find it. */
struct end {
    struct cluster_link link;
    struct node *node;
    struct end *peer; /* NULL: never connected */
    struct end *next;
    uint64_t last_arrival_us; /* of packets to it: they stay in order */
    unsigned life;            /* the node's, in which it was made */
    bool closed;
};

enum event_kind {
    EVENT_TICK,
    EVENT_PACKET,
    EVENT_CONNECT,
    EVENT_ACCEPT,
    EVENT_END,
    EVENT_PERSISTED,
    EVENT_PROMOTED,
    EVENT_PAUSED,
    EVENT_SHUTDOWN,
    EVENT_CRASH,
};

struct event {
    struct event *next; /* of those that wait for a stopped node */
    enum event_kind kind;
    struct node *node;
    unsigned life;
    struct end *end;
    struct node *target; /* of a connection */
    uint64_t ticket;
    uint8_t *bytes; /* a packet or a file */
    size_t length;
    bool failed; /* a file that could not be written */
};

/* A write that has been acknowledged. Data are what has been written since the beginning. */
struct write {
    struct write *before, *made_before;
    uint64_t offset;
};

struct node {
    struct world *world;
    unsigned index, life;
    struct cluster *cluster; /* NULL: it is down */
    struct cluster_config config;
    char address[16];
    bool powered_off; /* its peers have not been told */
    bool gone;        /* it does not come back before the end */
    bool ending;      /* it acknowledges nothing any more */
    /* Stopped. */
    bool stopped, tick_waits;
    struct event *waiting, **waiting_end;
    uint64_t started_us, went_on_us; /* the second: or went on */
    /* Its machine. */
    uint64_t disk_us, slow_us, disk_free_us;
    bool disk_full, disk_hangs;
    char *file; /* nodes.conf as it is durable; NULL: none */
    size_t file_length;
    int64_t unix_offset_ms;
    uint64_t clock_base_ms;
    /* The server above. */
    struct slot_map *map;
    int source; /* the node whose data it follows; -1: none */
    struct write *data;
    bool link_up, synchronised, whole;
    uint64_t link_down_us, synchronised_us, paused_until_us;
    uint64_t behind_until_us;     /* its stream is slow */
    uint64_t no_connect_until_us; /* others reach it, but not the other way round */
    /* What checks remember. */
    struct node_id id, primary, vote_primary;
    bool vote_allowed;
    uint64_t current_epoch, config_epoch, vote_epoch;
    uint8_t claimed[WIRE_SLOT_BYTES];
    uint64_t claimed_epoch;
    uint64_t heard_us[NODES_MAX]; /* when something of that node has come last */
    unsigned voters;              /* by its own count */
    bool crash_at_vote, operating;
    bool inherits;           /* of an election that is won: without waiting */
    bool early;              /* the same: before FAIL */
    uint64_t lease_until_ms; /* by its clock, or CLUSTER_LEASE_ */
    struct write *last_data; /* when it last ended after it had said so */
};

struct vote;
struct claim;
struct forgotten;

struct world {
    struct sim_run *run;
    struct sim_queue queue;
    struct sim_random network, servers, clients;
    unsigned count, primaries;
    struct node nodes[NODES_MAX];
    struct end *ends;
    uint64_t delay_max_us, timeout_ms;
    unsigned loss_percent, twice_percent;
    uint64_t loss_until_us;
    bool disk_was_full;        /* somewhere: what was told then may not have been kept */
    bool resends;              /* what is lost in a cut comes when it is over, as with TCP */
    uint64_t *cut_until_us;    /* [from * count + to] */
    bool faults_over, quiet;   /* no trace of packets */
    bool needs_operator;       /* something has happened that nodes cannot mend alone */
    bool operators_take_slots; /* by commands that ask nobody */
    bool forgets;              /* ids that nobody has any more are to be forgotten */
    bool switches;             /* operators change cluster-fast-failover */
    bool leased;               /* all acknowledge by leases, and nobody may end that */
    struct write *writes;
    struct vote *votes;
    struct claim *claims;
    struct forgotten *forgotten;
    unsigned vote_count, claim_count, forgotten_count;
    uint64_t sent_bytes, sent_packets, steps;
    uint64_t config_changes; /* of any node's owners or roles: maps published */
};

extern enum ablation ablation;
extern struct world *the_world; /* for functions that take the place of the machine's */

static inline uint64_t world_ms(const struct world *world) {
    return world->queue.now_us / 1000;
}
#define SAY(world, ...)  sim_trace_line(&(world)->run->trace, (world)->queue.now_us, __VA_ARGS__)
#define FAIL(world, ...) sim_fail((world)->run, __VA_ARGS__)

/* --- bus.c ------------------------------------------------------------------------------------ */

bool bus_is_cut(const struct world *world, const struct node *from, const struct node *to);
/* One way, for so long. */
void bus_cut(struct world *world, const struct node *from, const struct node *to, uint64_t for_us);
/* Their connections end, and both hear of it. */
void bus_reset(struct world *world, const struct node *one, const struct node *other);
void bus_isolate(struct world *world, const struct node *node, uint64_t for_us);
struct cluster_link *bus_connect(void *context, const char *address, uint16_t bus_port);
void bus_send(void *context, struct cluster_link *link, const void *bytes, size_t length);
void bus_close(void *context, struct cluster_link *link);
void bus_run_connect(struct event *event);
/* All connections of a node that ends; told: its kernel says so to the others. */
void bus_close_all(struct node *node, bool told);
void bus_destroy(struct world *world);

/* --- node.c ----------------------------------------------------------------------------------- */

struct node *node_by_address(struct world *world, const char *address);
/* By the id that it has now; NULL: no node that is up has it. */
struct node *node_by_id(struct world *world, const struct node_id *id);
/* An event that is void when the node has been restarted. */
struct event *event_after(struct node *node, enum event_kind kind, uint64_t delay_us);
void node_start(struct node *node);
void node_crash(struct node *node, bool told);
void node_restart_after(struct node *node, uint64_t delay_us, bool with_file);
void node_stop(struct node *node, uint64_t for_us);
void node_go_on(struct node *node);
/* What would still have happened. */
void node_free_events(struct world *world);
/* After anything that was done to its machine from outside. */
void node_settle(struct node *node);

/* --- data.c ----------------------------------------------------------------------------------- */

void data_position(void *context, struct cluster_data_position *position);
void data_follow(void *context, const char *address, uint16_t port);
void data_pause(void *context, uint64_t for_ms);
void data_begin(struct world *world);
bool data_may_acknowledge(const struct node *node);
bool data_includes(const struct write *data, const struct write *write);
void data_destroy(struct world *world);

/* --- checks.c --------------------------------------------------------------------------------- */

/* After each event of a node. */
void checks_step(struct node *node);
void checks_vote_sent(struct node *node, const struct node *to, uint64_t epoch);
void checks_promoted(struct node *node);
void checks_failed(struct node *node, const struct node_id *failed);
void checks_acknowledged(struct node *node);
/* Two acknowledge writes to one slot. */
void checks_two_primaries(const struct node *one, const struct node *other);
void checks_state(struct node *node);
/* NULL: all that are up agree and are well; or what is missing. */
const char *checks_disagreement(struct world *world);
void checks_destroy(struct world *world);

/* --- faults.c --------------------------------------------------------------------------------- */

void faults_plan(struct sim_run *run);
const char *faults_describe(const struct sim_fault *fault);
void faults_schedule(struct world *world);
#define FAULTS_FROM_US 1000000
#define FAULTS_TO_US   25000000

/* --- operator.c ------------------------------------------------------------------------------- */

/* Starts all nodes as members of a cluster that has been there for a while. */
void operator_make(struct world *world);
/* A node without a file is met, and replicates somebody. */
void operator_replace(struct node *node);
/* What can only be mended by hand. */
void operator_mend(struct world *world);
bool operator_is_known(struct world *world, const struct node *node);

#endif
