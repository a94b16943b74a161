/* Session: the logical state of one connection, what SELECT, HELLO, AUTH, MULTI, WATCH and CLIENT
 * change.
 *
 * Owned by the connection's worker; it moves with the connection. Other threads read it only inside
 * exclusive sections (CLIENT LIST) except for watch_dirty, which whoever changes a watched key
 * sets. */
#ifndef SLOTWISE_SERVER_SESSION_H
#define SLOTWISE_SERVER_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/base/shared_text.h"
#include "server/dispatch/command.h"

struct subscriptions;
struct watcher;
struct replica_link;
struct waiter_queue;

/* One command queued by MULTI: its arguments copied into one allocation. */
struct queued_command {
    const struct command *command;
    int argc;
    struct argument *argv;
    size_t bytes;
};

struct transaction {
    struct queued_command *commands;
    size_t count, capacity, bytes;
    size_t arguments; /* of all commands */
};

/* What a command that goes on later has so far (CALL_UNFINISHED); the command's own structure
 * begins with it. */
struct unfinished {
    /* The command has ended, or will not go on: frees it. */
    void (*drop)(struct unfinished *unfinished);
    struct waiter_queue *queue; /* ended when it can go on; NULL: in the next turn */
    const bool *done;           /* under the queue's lock: it can */
    /* It may wait for ever: who sends no more is not answered, but closed, as in Redis. */
    bool ends_with_input;
    /* Its connection ends: it must not go on. NULL: it need not know. */
    void (*cancel)(struct unfinished *unfinished);
    /* CLIENT UNBLOCK, in an exclusive section: it ends with this error, or as if its time were over
     * (NULL). false: it has ended already. NULL: it cannot be ended so. */
    bool (*unblock)(struct unfinished *unfinished, const char *error);
};

enum reply_mode { REPLY_ON, REPLY_OFF, REPLY_SKIP_NEXT, REPLY_SKIPPING };

struct session {
    uint64_t id;
    uint32_t database;
    uint8_t resp; /* mirrored in the reply builder */
    bool authenticated;
    bool in_multi;
    bool multi_failed; /* a queued command was wrong: EXECABORT */
    uint8_t reply_mode;
    bool no_evict, no_touch;
    bool reads_replica;   /* READONLY: a replica in a cluster answers what reads */
    bool asks, asks_next; /* ASKING: for the command that runs, for the next one */
    _Atomic bool watch_dirty;
    bool close_after_reply;
    bool kill_requested; /* CLIENT KILL: nothing more of it runs. Set in exclusive sections */
    bool is_local;       /* over a Unix socket or from a loopback address */
    bool applies;        /* the stream of a primary: see dispatch_apply */
    bool imports_slots;  /* it has told of slots that it hands over (links/slot_import.h) */
    /* Writes who the peer is ("address:port") as text; set by whoever has sessions with peers. */
    void (*peer_text)(const struct session *session, char *text, size_t size);
    struct subscriptions *subscriptions;          /* server/clients/pubsub.h; NULL: none */
    void (*unsubscribe)(struct session *session); /* from all of them; set while there are any */
    struct watcher *watchers;                     /* list by next_of_owner */
    size_t watched_bytes;                         /* of memory that they take */
    struct transaction transaction;
    struct unfinished *unfinished; /* of the command that waits; NULL: none */
    struct shared_text *name, *library_name, *library_version; /* NULL: none */
    struct replica_link
        *replica;            /* of the connection of a replica (links/replica_link.h), or NULL */
    uint32_t unacknowledged; /* mark of lease_gate.h: a write's reply may be unsent; 0: none is */
    uint64_t last_commit;    /* number in the effect log of the last change that it made; 0: none */
    const struct command *last_command;
    uint64_t created_ms; /* monotonic */
};

void session_init(struct session *session, uint64_t id, bool authenticated);
/* The connection ends; the unfinished command, if there is one, stays where it is until it is
 * dropped. */
static inline void session_cancel_unfinished(struct session *session) {
    if (session->unfinished && session->unfinished->cancel)
        session->unfinished->cancel(session->unfinished);
}
/* The command that was unfinished has ended. */
void session_drop_unfinished(struct session *session);
/* Frees what it owns. Watchers must have been unlinked. */
void session_destroy(struct session *session);
/* DISCARD: forgets queued commands (not watches). */
void session_discard(struct session *session);

#endif
