/* Replica link: what a primary knows of one of its replicas, and what it sends it.
 *
 * It belongs to the session of the replica's connection, from its first REPLCONF on:
 *
 *   HANDSHAKE --PSYNC, SYNC--> WAITING --a snapshot began--> SNAPSHOT --all of it sent--> ONLINE
 *       |                                                                                  ^
 *       +---------------------------PSYNC that continues ----------------------------------+
 *
 *   HANDSHAKE  REPLCONF says who it is
 *   WAITING    for the next snapshot
 *   SNAPSHOT   gets the file of its round (sync_round.h) as it grows
 *   ONLINE     gets the stream
 *   DROPPED    its history has ended: worker 0 closes its connection
 *
 * From WAITING on it is attached: in the primary's list, its connection stays on worker 0 (or is on
 * its way there), and what it is sent comes from here, as much at a time as its socket takes.
 * Changes of the state, the cursor and the round are made by worker 0 or in exclusive sections; the
 * handler of REPLCONF writes what is atomic. Others read it under the primary's lock. */
#ifndef SLOTWISE_SERVER_REPLICA_LINK_H
#define SLOTWISE_SERVER_REPLICA_LINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "replication/backlog.h"
#include "replication/psync.h"
#include "server/links/sync_round.h"
#include "server/resp/reply.h"

struct session;

enum replica_link_state { LINK_HANDSHAKE, LINK_WAITING, LINK_SNAPSHOT, LINK_ONLINE, LINK_DROPPED };

/* What it needs of its connection; on the connection's thread. */
struct replica_connection {
    /* There is something to send (replica_link_fill). */
    void (*wake)(struct session *session);
    /* To be closed. */
    void (*close)(struct session *session);
    /* Bytes that the socket has not taken yet. */
    size_t (*unsent_bytes)(const struct session *session);
    /* When something came over it; monotonic. */
    uint64_t (*heard_ms)(const struct session *session);
};

struct replica_link {
    struct replica_link *next, *previous; /* in the primary's list */
    bool attached;                        /* in the list */
    /* Its connection has arrived on worker 0, the only thread that uses session and connection from
     * then on. */
    bool at_home;
    _Atomic bool ended; /* the connection is gone; worker 0 takes the link out and frees it */
    struct session *session;
    const struct replica_connection *connection;
    uint64_t client_id;
    uint64_t waiting_since_ms; /* monotonic */
    _Atomic uint8_t state;     /* enum replica_link_state */
    /* Of REPLCONF; written by the connection's thread, which is worker 0 from WAITING on. */
    int listening_port;
    char announced_address[64]; /* "": that of the socket */
    char address[48];
    char name[64];         /* for the log: address and port, or the client */
    unsigned capabilities; /* enum psync_capability */
    bool asked_by_sync;    /* SYNC, not PSYNC */
    bool snapshot_only;    /* rdb-only: when that has been sent it is over */
    _Atomic uint64_t acknowledged_offset;
    _Atomic uint64_t acknowledged_ms; /* monotonic; when it last said so */
    /* A snapshot that ends with a mark is over when the mark is the last that has come; so the
     * stream begins when the replica has loaded it and says so. */
    bool stream_on_acknowledge;
    /* Sending. */
    char greeting[PSYNC_REPLY_BYTES]; /* the reply to PSYNC; "": sent */
    bool newline;     /* a sign of life is to be sent, since there is nothing else yet */
    bool length_told; /* what comes before the snapshot has been sent */
    struct sync_round *round;
    uint64_t round_sent;
    uint64_t round_sent_seen, round_sent_ms; /* that it had grown to, and when (monotonic) */
    bool round_marked; /* the snapshot ends with a mark, its length is not told before */
    bool blocks;       /* the snapshot goes out in LZ4 blocks */
    uint64_t output_soft_since_ms; /* over the soft limit since then; 0: it is not */
    bool frames;                   /* the stream goes out in LZ4 frames */
    /* So much of the stream it may be given in one go, and have unsent, if that is more than what
     * everybody may. Written in each turn. */
    size_t share_bytes;
    struct backlog_cursor *cursor; /* where the stream goes on; from SNAPSHOT on */
};

struct replica_link *replica_link_make(struct session *session,
                                       const struct replica_connection *connection);
/* Not attached any more. */
void replica_link_free(struct replica_link *link);

/* As INFO and the log name it. */
const char *replica_link_state_name(enum replica_link_state state);
static inline enum replica_link_state replica_link_state(const struct replica_link *link) {
    return (enum replica_link_state)atomic_load_explicit(&link->state, memory_order_relaxed);
}

/* Writes what is to be sent next, as long as less than a few hundred KB are unsent. Worker 0.
 * false: it cannot go on (the snapshot failed): close. */
bool replica_link_fill(struct replica_link *link, struct reply *reply, size_t unsent_bytes);
/* There is something to send and the socket can take it. Worker 0. */
bool replica_link_is_due(const struct replica_link *link);

#endif
