/* Execution: what one thread needs to run commands, and the ways in which a command runs.
 *
 * Everybody who runs commands on a thread (its connections' batch; later scripts and links) shares
 * the thread's one struct execution. All fields belong to that thread unless noted. */
#ifndef SLOTWISE_SERVER_EXECUTION_H
#define SLOTWISE_SERVER_EXECUTION_H

#include "server/dispatch/blocked.h"
#include "server/dispatch/call.h"
#include "server/dispatch/command.h"
#include "server/dispatch/wait.h"

#define SERVING_RETRY_US 1000 /* a command whose slot serves nobody looks again after so long */

struct evictor;
struct pause;
struct service;
struct accounting;
struct latency_histogram;
struct slot_map;

/* Statistics of one command on one thread; written by it (relaxed), summed by INFO on another while
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

struct execution {
    struct server *server; /* for call->server */
    struct keyspace *keyspace;
    struct evictor *evictor;
    struct pause *pause;
    const struct service *service;
    struct accounting *accounting;
    struct change change;   /* of the unit of work that runs */
    struct change applying; /* the same for what is applied: it sees no key as expired */
    /* redirect.h: the slot map by which the command that runs was let pass, NULL: none; its slot if
     * that is open (migrating, importing), else -1. */
    const struct slot_map *map;
    int open_slot;
    int held_slot; /* token kept for the next entry of the batch, -1: none */
    bool kept;     /* the entry that runs keeps its token for the next one */
    uint64_t held_since_ticks;
    uint64_t hold_ticks;                     /* no token is kept for longer */
    uint64_t last_ticks;                     /* when the last command ended, or the batch began */
    _Atomic(const struct command *) running; /* for the watchdog; NULL: between commands */
    struct command_statistics *statistics;   /* by command id */
    uint64_t slow_ticks; /* accounting_note_slow wants to hear of what takes so long */
    /* Written by this thread, read by others; relaxed. */
    _Atomic uint64_t commands;
    _Atomic uint64_t slowest_ticks;
    const struct command *_Atomic slowest_command;
    struct wait_list paused;  /* CLIENT PAUSE holds them back */
    struct wait_list delayed; /* tried again in a moment: no room under maxmemory, or a slot that is
                                 not served */
    struct blocked_list blocked; /* commands that wait for a key */
    /* Scratch for the slots of a command. */
    uint16_t *slots;
    uint64_t *words;
    int *key_indexes;
    size_t key_room;
};

void execution_init(struct execution *execution, struct server *server);
void execution_destroy(struct execution *execution);

enum dispatch_result {
    DISPATCH_DONE,   /* replied */
    DISPATCH_PARKED, /* it waits (wait.h): nothing of it has happened, and nothing is held */
    DISPATCH_CLOSE,  /* replied; the connection is to be closed */
};

/* --- Tokens ----------------------------------------------------------------------------------- */

/* Gives back a token kept between entries. */
void execution_give_back(struct execution *execution);
/* The tokens of execution->slots[0..n), ascending and without duplicates, all or none. false: it
 * waits. take_tokens: whether the slots are served or not, for what leaves them (watchers);
 * take_served: for what reads or changes data, which waits until they are. */
bool execution_take_tokens(struct execution *execution, struct wait *wait, size_t n);
bool execution_take_served(struct execution *execution, struct wait *wait, size_t n);
/* With the tokens of execution->slots[0..*n), before a change: also those of what commands that
 * wait in these slots change when they are served. false: it waits, and holds nothing. */
bool execution_take_targets(struct execution *execution, struct wait *wait, size_t *n);
/* The unit's commands are done: those who wait for what has appeared are served, and all is handed
 * to the log. */
static inline void execution_commit(struct call *call) {
    if (UNLIKELY(call->change->ready != NULL))
        blocked_serve(call);
    else
        call_commit(call);
}
/* Some slot serves nobody at the moment: no time to change data with everything stopped. */
static inline bool execution_is_unserved(const struct execution *execution) {
    return atomic_load_explicit(&execution->keyspace->unserved, memory_order_relaxed) != 0;
}
/* Makes sure that the scratch arrays hold n keys. */
void execution_key_room(struct execution *execution, size_t n);
/* The slots of a command's keys behind the first n of execution->slots; sorting removes duplicates.
 * Both return the new number. */
size_t execution_add_slots(struct execution *execution, const struct command *command,
                           const struct argument *argv, int argc, size_t n);
size_t execution_sort_slots(uint16_t *slots, size_t n);

/* --- The ways to run -------------------------------------------------------------------------- */

/* Reads without tokens; if that fails three times, or needs them, with them. */
enum dispatch_result execution_read(struct execution *execution, struct wait *wait,
                                    struct call *call, int next_slot);
/* With the tokens of all its keys. next_slot: the slot for which the token may be kept, -1: none.
 */
enum dispatch_result execution_write(struct execution *execution, struct wait *wait,
                                     struct call *call, int next_slot);
/* With the tokens of execution->slots[0..n). */
enum dispatch_result execution_hold(struct execution *execution, struct wait *wait,
                                    struct call *call, size_t n, int next_slot);
/* While all threads are stopped. */
enum dispatch_result execution_exclusive(struct execution *execution, struct wait *wait,
                                         struct call *call);
/* Without tokens; exclusively if the handler asks for that. */
enum dispatch_result execution_plain(struct execution *execution, struct wait *wait,
                                     struct call *call);

/* Runs the handler of a command inside a transaction, whose tokens are held, and accounts it. */
enum call_result execution_call(struct execution *execution, struct call *call);
/* A command is accounted once, when it is done. errors: those of its reply before it began. */
void execution_account(struct execution *execution, struct call *call, uint64_t errors,
                       uint64_t began_ticks);

#endif
