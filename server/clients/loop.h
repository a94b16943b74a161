/* Loop: the part of a worker that its connections see: its backend, its mailbox, its batch, and the
 * lists that connections are in. Every field belongs to the worker's thread unless noted. */
#ifndef SLOTWISE_SERVER_LOOP_H
#define SLOTWISE_SERVER_LOOP_H

#include "server/clients/pubsub_inbox.h"
#include "server/dispatch/execution.h"
#include "server/net/io.h"
#include "server/net/mailbox.h"

#define BATCH_MAX       64
#define BATCH_ARGUMENTS 1024
#define BATCH_KEYS      512 /* of commands with more than one key */
#define LOOP_NAMES      8

struct conn;
struct server;

struct batch_entry {
    struct conn *conn;
    struct call call;
    const char *start;         /* first byte of the command */
    const char *end;           /* behind its last one */
    struct argument *own_argv; /* allocated because it did not fit the arena */
    char *scratch;             /* unescaped inline arguments */
};

struct batch {
    unsigned count;
    unsigned arguments_used;
    struct conn *members; /* connections with entries, by next_in_batch */
    bool running;
    struct batch_entry entries[BATCH_MAX];
    struct argument arguments[BATCH_ARGUMENTS];
    unsigned keys_used;
    struct key keys[BATCH_KEYS];
};

struct remembered_name {
    uint64_t name;
    size_t length;
    const struct command *command;
};

/* For maxmemory-clients (client_eviction.c). */
struct client_eviction {
    /* The loop's thread, and exclusive sections. */
    uint64_t due_us;         /* of the next look, if nothing grows */
    uint64_t rested_us;      /* no look before that */
    uint64_t received_bytes; /* by the loop, at the last look */
    uint64_t unsent_bytes;   /* output to which more was added, since then */
    /* As last measured; read by the other loops. */
    _Atomic uint64_t bytes;         /* of all connections */
    _Atomic uint64_t biggest_bytes; /* of one that may be evicted; 0: there is none */
};

struct loop {
    struct server *server;
    unsigned number;
    struct io *io;
    struct mailbox mailbox;
    struct execution execution;
    struct batch batch;
    struct conn *connections; /* all of this thread; by next */
    struct conn *look_next;   /* of them the next to be looked after; NULL: the first */
    unsigned connection_count;
    struct conn *dirty;  /* with unsent replies; by next_dirty */
    struct conn *held;   /* the same, which may not leave yet (lease_gate.h) */
    uint32_t held_reign; /* in which these were looked at last */
    struct conn *asked;  /* by next_asked; written by others in exclusive sections (conn.c) */
    struct conn *ready_first, *ready_last; /* with commands left over; by next_ready */
    unsigned ready_count;
    uint64_t turn;        /* number of this turn */
    uint64_t now_ms;      /* monotonic, of this turn: idle times, ages */
    uint64_t yield_ticks; /* a batch that takes longer runs one command of each */
    bool leaving;         /* the server stops */
    struct remembered_name names[LOOP_NAMES];
    /* Read by others, relaxed. */
    _Atomic uint64_t received_bytes, sent_bytes, reads, writes, turns;
    _Atomic unsigned connections_published;
    _Atomic uint64_t input_buffer_max, output_buffer_max, connection_bytes; /* statistics.c */
    _Atomic uint64_t paused_clients;
    struct client_eviction client_eviction;
    struct pubsub_inbox pubsub;
    _Atomic bool attention; /* set by anybody: something was asked, or the pause is over */
    /* Balance (balance.c). */
    _Atomic uint64_t busy_ns;          /* thread CPU time at the last sample; read by others */
    _Atomic unsigned load_permille;    /* read by worker 0 */
    _Atomic unsigned waiting_permille; /* for a core; read by worker 0 */
    uint64_t load_sampled_ns, waited_ns;
    struct message control; /* worker 0 asks for connections */
    _Atomic bool control_pending;
    unsigned give_away; /* how many to hand to give_target; written before control is posted */
    struct loop *give_target;
};

extern _Thread_local struct loop *loop_self; /* NULL outside workers */

/* Whether tokens are given back and batches cut short by time. */
void loop_set_time_slices(struct loop *loop, bool on);
/* Wakes it from any thread. */
void loop_wake(struct loop *loop);
/* Sets attention; wakes it unless that was set. */
void loop_call_attention(struct loop *loop);

#endif
