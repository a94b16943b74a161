/* Connection: a socket, its session, its unparsed bytes and its replies.
 *
 * Owned by one worker; every field is that worker's unless noted. An idle connection holds no
 * buffers. It is freed only when the backend has let go of it, it is in no wait list and no message
 * of it is under way. */
#ifndef SLOTWISE_SERVER_CONN_H
#define SLOTWISE_SERVER_CONN_H

#include "engine/slot.h"
#include "server/io.h"
#include "server/mailbox.h"
#include "server/session.h"

struct worker;

/* Bytes received and not yet executed. Empty most of the time: commands are parsed where they were
 * received. */
struct query_buffer {
    char *data;
    size_t length, capacity;
    size_t parsed; /* bytes already turned into batch entries (dropped when the batch has run) */
    size_t needed; /* no use parsing before length reaches this */
};

enum conn_wait { WAIT_NONE, WAIT_SLOT, WAIT_PATIENCE, WAIT_RESUMED, WAIT_PAUSE };

struct conn {
    struct io_connection io;      /* first */
    struct worker *worker;        /* changes only by a move */
    struct conn *next, *previous; /* the worker's list of connections */
    struct conn *next_dirty;
    bool dirty;        /* in the worker's list of connections with unsent replies */
    bool touched;      /* has entries in the current batch, in the worker's touched list */
    bool end_of_input; /* the peer will send no more */
    bool closing;      /* io_close was called */
    bool close_after_reply;
    bool stop_batch; /* remaining entries of this batch are not for now (parked, closing) */
    bool parked;     /* waits for a slot or for patience; nothing is parsed */
    bool owns_patience;
    bool released;       /* the backend is done with it */
    bool kill_requested; /* set in exclusive sections by CLIENT KILL */
    bool tcp;
    bool moving;
    uint8_t wait; /* enum conn_wait */
    uint8_t authenticated_limits;
    struct waiter waiter;
    struct message message; /* resume or move: one at a time */
    uint64_t wait_started_us;
    struct worker *move_target;
    struct query_buffer query;
    struct parse_large *large; /* a command of many arguments in progress, or NULL */
    struct reply reply;
    struct session session;
    const char
        *source_end; /* end of the received bytes that the current batch's entries point into */
    struct conn *next_touched;
    const char *unexecuted; /* first byte of the command that parked, during a batch */
    int64_t last_active_ms;
    uint64_t sent_counted; /* of io.sent_bytes: what the worker's statistics have */
    uint64_t received_bytes, commands;
    int64_t output_soft_since_ms;
};

struct conn *conn_create(struct worker *worker, int fd, bool tcp);

/* Bytes have come (callback of the backend), or a parked connection goes on. */
void conn_receive(struct conn *conn, const char *data, int64_t length);
void conn_resume(struct conn *conn);
/* Closes as soon as possible; output that is not sent is dropped. */
void conn_close(struct conn *conn);
/* Closes when all replies have been sent. */
void conn_close_after_reply(struct conn *conn);
/* The backend is done with it: frees it when nothing else holds it. */
void conn_released(struct conn *conn);
/* Hands replies to the backend. */
void conn_flush(struct conn *conn);
void conn_mark_dirty(struct conn *conn);
/* Adds what has been sent since the last call to the worker's statistics. */
void conn_count_sent(struct conn *conn);
/* client-output-buffer-limit: logs and counts when it is exceeded; the caller closes. */
bool conn_over_output_limit(struct conn *conn);
/* After a batch: drops executed bytes, keeps what a parked connection has not executed. start:
 * first byte of the command that was not executed, NULL if all were. */
void conn_batch_done(struct conn *conn, const char *unexecuted);
void conn_after_batch(struct conn *conn);
/* true: nothing of it is under way, it may go to another worker. */
bool conn_is_movable(const struct conn *conn);
bool conn_is_detachable(const struct conn *conn); /* the same once its move has begun */
/* Address texts for CLIENT LIST; buffers of at least 64 bytes (unix sockets: path:0). */
void conn_peer_text(const struct conn *conn, char *text, size_t size);
void conn_local_text(const struct conn *conn, char *text, size_t size);

static inline struct conn *conn_of_session(struct session *session) {
    return (struct conn *)(void *)((char *)session - offsetof(struct conn, session));
}

#endif
