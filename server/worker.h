/* Worker: one thread with an event loop, its connections, its batch, and the background duties of
 * its home slots (slot mod number of workers).
 *
 * One turn: mailbox, events (bytes are parsed into the batch, a full batch runs), the rest of the
 * batch, replies, timers, quiescent state, sleep. Nothing ever spins waiting for work. */
#ifndef SLOTWISE_SERVER_WORKER_H
#define SLOTWISE_SERVER_WORKER_H

#include <pthread.h>

#include "engine/expiry.h"
#include "server/conn.h"
#include "server/mailbox.h"
#include "server/server.h"

#define BATCH_MAX             64
#define BATCH_ARGUMENTS       1024
#define WORKER_TIMER_MS       100
#define WORKER_EXPIRY_STEP_US 500
#define WORKER_EVICT_STEP_US  50 /* of a turn */
#define WORKER_FREE_STEP_US   50
#define WORKER_FLUSH_BYTES                                                                         \
    (256 * 1024) /* replies beyond this are sent in the middle of a batch                          \
                  */

struct batch_entry {
    struct conn *conn;
    struct call call;
    const char *start;         /* first byte of the command */
    struct argument *own_argv; /* allocated because it did not fit the arena */
    char *scratch;             /* unescaped inline arguments */
};

struct batch {
    unsigned count;
    unsigned arguments_used;
    struct conn *touched; /* connections with entries, by next_touched */
    bool running;
    struct batch_entry entries[BATCH_MAX];
    struct argument arguments[BATCH_ARGUMENTS];
};

/* Statistics of one command on one worker; written by it (relaxed), summed by INFO on another while
 * it goes on. */
struct command_statistics {
    _Atomic uint64_t calls, ticks, rejected, failed;
    /* NULL: not called yet, or latency-tracking is off. Freed in exclusive sections only, so who
     * has read it may use it until the end of its command. */
    struct latency_histogram *_Atomic latency;
    /* What was collected until latency-tracking went off; NULL when latency is not. Written in
     * exclusive sections. */
    struct latency_histogram *kept_latency;
};

#define WORKER_NAMES 8
struct remembered_name {
    uint64_t name;
    size_t length;
    const struct command *command;
};

struct worker {
    struct server *server;
    unsigned number;
    pthread_t thread;
    struct io *io;
    int io_refused; /* of io_create; read when the worker has started */
    struct mailbox mailbox;
    struct batch batch;
    struct conn *connections; /* list */
    unsigned connection_count;
    struct conn *dirty;
    uint64_t last_ticks; /* when the last command of this batch ended */
    struct remembered_name names[WORKER_NAMES];
    int held_slot; /* token kept for the next entry of the batch, -1: none */
    struct command_statistics *statistics; /* by command id */
    /* Scratch for multi-key commands. */
    uint16_t *slots;
    uint64_t *words;
    int *key_indexes;
    size_t key_room;
    /* Numbers, written by this worker only (relaxed where others read). */
    _Atomic uint64_t commands, received_bytes, sent_bytes;
    _Atomic uint64_t turns, reads, writes; /* of the event loop; of sockets */
    _Atomic unsigned paused;               /* connections that CLIENT PAUSE holds back */
    uint64_t slow_ticks; /* this worker: statistics_note_slow wants to hear of what takes so long */
    _Atomic uint64_t slowest_ticks;
    const struct command *_Atomic slowest_command;
    /* Of its connections, when it last looked (statistics_sample_connections). */
    _Atomic uint64_t input_buffer_max, output_buffer_max, connection_bytes;
    unsigned connection_samples;          /* this worker */
    void (*after_section)(void *context); /* set by handlers inside an exclusive section */
    void *after_section_context;
    _Atomic uint64_t busy_ns; /* thread CPU time at the last timer tick */
    _Atomic unsigned load_permille;
    uint64_t load_sampled_ns;
    uint64_t timer_due_us, expiry_due_us, eviction_due_us;
    uint64_t reclaim_due_us; /* UINT64_MAX: nothing is retired */
    int64_t now_ms;          /* of this turn, for idle times */
    struct expiry_cursor expiry;
    bool expiry_hurry;
    _Atomic int started;    /* 1 running, negative: why not */
    _Atomic bool attention; /* look at kill_requested of all connections */
    bool leaving;
    _Atomic unsigned connections_published;
    struct message control; /* rebalance request from the governor */
    _Atomic bool control_pending;
    unsigned give_away; /* number of connections to hand to give_target */
    struct worker *give_target;
};

extern _Thread_local struct worker *worker_self; /* NULL outside workers */

int worker_start(struct worker *worker);
void worker_join(struct worker *worker);
/* Wakes it from any thread. */
void worker_wake(struct worker *worker);

/* batch.c */
/* Room for one more entry, running the batch if there is none. */
struct batch_entry *batch_next(struct worker *worker, struct conn *conn);
/* The entry of batch_next is complete; foreign_arguments: its arguments are not in the batch's
 * arena. Or it is not used. */
void batch_add(struct worker *worker, struct batch_entry *entry, bool foreign_arguments);
void batch_entry_drop(struct batch_entry *entry);
void batch_run(struct worker *worker);

/* dispatch.c */
enum dispatch_result { DISPATCH_DONE, DISPATCH_PARKED, DISPATCH_CLOSE };
/* next_slot: slot of the next entry if it may share the token, -1 otherwise. */
enum dispatch_result dispatch_execute(struct worker *worker, struct conn *conn, struct call *call,
                                      int next_slot);
/* Gives back a token kept between entries. */
void dispatch_release_held(struct worker *worker);
/* A connection ends: leaves wait lists and patience, unlinks its watchers. true: may be freed now;
 * false: a message is under way and will call again. */
bool dispatch_forget(struct conn *conn);

/* transaction.c */
enum dispatch_result transaction_exec(struct worker *worker, struct conn *conn, struct call *call);
void transaction_queue(struct session *session, const struct call *call);
void transaction_unwatch(struct session *session);

void transaction_abort(struct worker *worker, struct conn *conn); /* EXEC was refused */

/* Runs one handler with statistics (used by dispatch and EXEC). */
enum call_result dispatch_call(struct worker *worker, struct call *call);
/* Parks conn for patience; true: it owns it already. */
bool dispatch_enter_patience(struct conn *conn);
void dispatch_leave_patience(struct conn *conn);
/* The slots of a command's keys behind the first n of worker->slots; sorting removes duplicates.
 * Both return the new number. */
size_t dispatch_add_slots(struct worker *worker, const struct command *command,
                          const struct argument *argv, int argc, size_t n);
size_t dispatch_sort_slots(uint16_t *slots, size_t n);
/* Tokens of worker->slots[0..n): true held, false parked. */
bool dispatch_take_tokens(struct worker *worker, struct conn *conn, size_t n);
void dispatch_wait_ends(struct conn *conn);
/* Work that a handler left for after its exclusive section (freeing). */
void dispatch_after_section(struct worker *worker);
/* Makes sure that the scratch arrays hold n keys. */
void worker_key_room(struct worker *worker, size_t n);

/* balance.c: how many workers are awake, moving connections */
void balance_tick(struct worker *worker);
struct worker *balance_choose(struct server *server);
void balance_send(struct conn *conn, struct worker *target); /* linked nowhere */
void balance_adopt(struct worker *worker, struct conn *conn);
void balance_detached(struct conn *conn);

#endif
