/* Connection: a socket, its session, its unparsed bytes and its replies.
 *
 * Owned by one loop; every field is that thread's unless noted. An idle connection holds no
 * buffers.
 *
 * One state; conn_become is the only place that changes it, and knows which changes there are:
 *
 *        accepted for this loop, or arrived here
 *                       |
 *                       v       budget used up
 *   +--------------> IDLE <----------------------> READY     unparsed commands wait for the next
 * turn |    resumed    |  | | |         +-----+  | +--> DETACHING --> MOVING --> IDLE of another
 * loop |         v        |          |           |
 *   +------ PARKED     v          v           v
 *             |     DRAINING -> CLOSING -> CLOSED -> freed
 *             +-------------------^
 *
 *   IDLE       what comes is parsed and runs; it may have entries in the batch (in_batch)
 *   READY      in the loop's ready list; what comes is kept
 *   PARKED     a command waits (wait.state tells for what); what comes is kept
 *   DETACHING  the backend lets go of it (io_detach); nothing is unsent; what comes is kept
 *   MOVING     in a message to another loop
 *   DRAINING   nothing more is read; it closes when all is sent
 *   CLOSING    the backend is closing it (io_close)
 *   CLOSED     the backend is done; freed as soon as nothing else holds it: the batch, the list of
 *              dirty ones, a resume under way, its watchers in slots whose tokens are taken
 *
 * in_batch, dirty and asked say in which lists it is, whatever the state. asked: others want it to
 * end or to move; it does not leave its loop before that has been answered. */
#ifndef SLOTWISE_SERVER_CONN_H
#define SLOTWISE_SERVER_CONN_H

#include "server/clients/loop.h"
#include "server/clients/query.h"
#include "server/dispatch/session.h"
#include "server/dispatch/wait.h"
#include "server/links/replica_link.h"
#include "server/net/address.h"
#include "server/net/io.h"
#include "server/resp/resp_parse.h"

enum conn_state {
    CONN_IDLE,
    CONN_READY,
    CONN_PARKED,
    CONN_DETACHING,
    CONN_MOVING,
    CONN_DRAINING,
    CONN_CLOSING,
    CONN_CLOSED,
    CONN_STATES
};

/* Whoever has a connection that is no client's. On its thread. */
struct conn_owner {
    /* A command of it is to run. As batch.c's run_entry: afterwards the connection may be in
     * another state than IDLE, and nothing is held but what dispatch keeps. */
    enum dispatch_result (*run)(struct conn *conn, struct batch_entry *entry, int next_slot);
    /* Bytes came; it calls conn_take_input with those of commands that are in them. NULL: they are
     * commands as they are. */
    void (*receive)(struct conn *conn, const char *data, size_t length);
    /* All that it was given is parsed, and it is IDLE: it may be given more of what came. It is
     * read from, or ends with its input, only if it is still IDLE afterwards. NULL: as receive. */
    void (*go_on)(struct conn *conn);
    /* The bytes that came are no commands. It closes next. */
    void (*broken)(struct conn *conn, const char *error);
    /* It begins to close: nothing more of it will run. */
    void (*ending)(struct conn *conn);
};

struct conn {
    struct io_connection io;      /* first */
    struct loop *loop;            /* changes only by a move */
    struct conn *next, *previous; /* the loop's list of connections */
    struct conn *next_dirty, *next_in_batch, *next_ready;
    struct conn *next_asked; /* the loop's list of those to be looked after */
    uint8_t state;           /* enum conn_state */
    bool dirty, in_batch;
    bool held;                  /* dirty, and in the loop's list of those: see lease_gate.h */
    bool asked;                 /* in that list */
    bool end_of_input;          /* the peer will send no more */
    bool source_is_query;       /* the entries in the batch point into the query buffer */
    struct address peer, local; /* as they were when it came */
    struct wait wait;
    struct message message;   /* the move */
    struct loop *move_target; /* where it is to go when it is quiet; NULL: it stays. Also set by
                                 conn_ask_to_move */
    struct query_buffer query;
    struct parse_large *large; /* a command of many arguments in progress, or NULL */
    struct reply reply;
    struct session session;
    const struct conn_owner *owner; /* NULL: a client. Set before it arrives. What has one stays on
                                       its loop, however long it is silent and whatever it sends */
    const char *source_end;         /* end of the bytes that the entries in the batch point into */
    const char *unexecuted;  /* first byte of what was not run, during a batch; NULL: all ran */
    uint64_t turn;           /* that spent belongs to */
    size_t spent;            /* of the budget of that turn */
    uint64_t last_active_ms; /* monotonic */
    uint64_t sent_counted;   /* of io.sent_bytes: what the loop's statistics have */
    uint64_t sent_seen;      /* of io.sent_bytes at the last look for idle ones */
    uint64_t output_soft_since_ms;
    uint64_t output_turn; /* since when there has been unsent output, if there is some */
};

/* The only way to another state. */
void conn_become(struct conn *conn, enum conn_state state);

/* Callbacks of the backend. */
void conn_drained(struct conn *conn, int error);
void conn_closed(struct conn *conn);

/* Closes as soon as possible; output that is not sent is dropped. */
void conn_close(struct conn *conn);
/* Reads no more; closes when all replies have been sent. */
void conn_close_after_reply(struct conn *conn);
/* Hands replies to the backend. */
void conn_flush(struct conn *conn);
void conn_mark_dirty(struct conn *conn);
/* Those whose replies were held back, if they are no more. The loop's thread. */
void conn_release_held(struct loop *loop);
/* Keeps bytes for later; may close it. */
void conn_keep_input(struct conn *conn, const char *data, size_t length);
/* Closes it if it waits for what may never come, and its peer has ended. */
void conn_end_waiting(struct conn *conn);
/* The batch has run: drops what was executed, keeps what was not (conn->unexecuted). */
void conn_batch_done(struct conn *conn);
/* Forgets a command of many arguments in progress. */
void conn_large_end(struct conn *conn);
/* Out of its loop's list. */
void conn_unlink(struct conn *conn);
/* Frees it if it is CLOSED and nothing holds it any more. */
void conn_free_if_done(struct conn *conn);
/* What is asked of it from outside: to end, to move, to go when it has been idle for too long. */
void conn_look_after(struct conn *conn, uint64_t timeout_ms);
/* Begins its move if one is wanted and it is quiet: nothing runs, waits or is unsent. */
void conn_try_move(struct conn *conn);

/* What has not been handed to the kernel. */
static inline size_t conn_unsent_bytes(const struct conn *conn) {
    return conn->io.output_bytes + reply_pending_bytes(&conn->reply);
}

static inline size_t conn_query_bytes(const struct conn *conn) {
    return conn->query.end - conn->query.begin;
}
/* Of the command that has begun to arrive, those of its arguments that are whole; and the bytes
 * behind them, without the announcement of what is awaited. Redis keeps the two apart. */
void conn_incomplete_bytes(const struct conn *conn, size_t *arguments, size_t *rest);
/* Memory that it takes, without what the kernel holds for it. On its thread, or in an exclusive
 * section. */
size_t conn_memory_bytes(const struct conn *conn);

/* As clients see it (Unix sockets: path:0). */
void conn_address_text(const struct address *address, char *text, size_t size);
/* The address that is shown so, to the letter. false: there is none. */
bool conn_address_parse(const char *text, size_t length, struct address *address);

/* In an exclusive section: its loop will end it at once and runs no more commands of it; move it
 * when it is quiet. Not if it is CLOSING or CLOSED. */
void conn_ask_to_end(struct conn *conn);
void conn_ask_to_move(struct conn *conn, struct loop *target);
/* Looks after some of those of whom something was asked. On the loop's thread. true: after all. */
bool conn_answer_asked(struct loop *loop);

static inline struct conn *conn_of_session(struct session *session) {
    return (struct conn *)(void *)((char *)session - offsetof(struct conn, session));
}

/* It belongs to a replica that gets the stream, or waits for it. */
static inline bool conn_is_replica(const struct conn *conn) {
    return __builtin_expect(conn->session.replica != NULL, 0) && conn->session.replica->attached;
}

#endif
