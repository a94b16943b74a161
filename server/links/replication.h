/* Replication: what the process is (a primary or a replica), and the history that its data belong
 * to (replication/history.h). The replica's side (replica.h) and the primary's side both work on
 * it.
 *
 * A replica has the id and the offset of its primary. When it is promoted it begins a new history,
 * and the old one becomes the second: others may go on from it up to where the new one began.
 *
 * One for the process, without threads of its own. "Exclusive" fields are written in exclusive
 * sections or before the workers start, so that every command may read them. */
#ifndef SLOTWISE_SERVER_REPLICATION_H
#define SLOTWISE_SERVER_REPLICATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/history.h"
#include "replication/place.h"

/* Of a replica to its primary: Redis's states, for INFO and ROLE. */
enum replication_link {
    REPLICATION_LINK_NONE,    /* it is a primary */
    REPLICATION_LINK_CONNECT, /* it will try to connect */
    REPLICATION_LINK_CONNECTING,
    REPLICATION_LINK_HANDSHAKE,
    REPLICATION_LINK_TRANSFER, /* it receives or loads the data set */
    REPLICATION_LINK_CONNECTED,
};

struct reply;

/* What the primary's side does, whether this process has a primary itself or not. Each may be NULL:
 * nobody is served. */
struct replication_serving {
    /* The stream goes on, from the history's offset, by these bytes of our own primary: whole
     * commands and whole transactions; none when it is about to begin. Worker 0. */
    void (*feed)(void *context, const char *bytes, size_t length);
    /* Replicas must ask anew: the id has changed, and with keep_backlog false their history has
     * ended. Exclusive section. */
    void (*drop_replicas)(void *context, bool keep_backlog);
    /* ROLE's array of replicas. Any worker, in a handler. */
    void (*list)(void *context, struct reply *reply);
    /* It has become a primary or a replica, or has the data and the offset of another history.
     * Exclusive section, at the end of the change. */
    void (*changed)(void *context);
    void *context;
};

struct replication {
    /* Exclusive, but for its offset: a replica's is written by worker 0 as it applies the stream,
     * before the next command boundary; a primary's as its side says. */
    struct history history;
    /* From where the stream of a primary may go on while there is no connection to it. Worker 0 or
     * exclusive. */
    struct place place;
    char *host;                         /* exclusive; of the primary, NULL: this is one */
    int port;                           /* exclusive */
    _Atomic bool data_gone;             /* exclusive: the old data of a replica have made way for
                                           others, which are not whole yet */
    struct replication_serving serving; /* before the workers start */
};

static inline bool replication_is_replica(const struct replication *replication) {
    return replication->host != NULL;
}

/* A primary with a history of its own. Before threads exist. */
void replication_init(struct replication *replication);
void replication_destroy(struct replication *replication);

/* What replication/place.h says is to be done to our own replicas. Exclusive. */
void replication_act(struct replication *replication, unsigned effects);

/* What was applied of our primary's stream goes on to our own replicas, and the offset with it.
 * Whole commands and whole transactions. Worker 0. */
void replication_feed_raw(struct replication *replication, const char *bytes, size_t length);

#endif
