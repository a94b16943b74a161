/* Replica: the part of replication that has a primary. Whose replica this process is, the attempts
 * to get in step with it (sync.h), and what is kept of a lost connection so that the stream can go
 * on where it broke.
 *
 *     primary --REPLICAOF host port--> CONNECT --> an attempt --> CONNECTED
 *        ^                                ^  |        |              |
 *        +---- REPLICAOF NO ONE ----------+--+--------+-- lost ------+
 *
 * Once in step the connection belongs to the room above, which hands what comes to dispatch_apply
 * and tells here what it has applied. Everything runs on worker 0 or, where said, in exclusive
 * sections. */
#ifndef SLOTWISE_SERVER_REPLICA_H
#define SLOTWISE_SERVER_REPLICA_H

#include "server/links/sync.h"

struct config;
struct view_state;

/* What the room above does with the connection to the primary; it has at most one. */
struct primary_connection {
    /* Worker 0: what comes over this socket is applied from now on, beginning in this database.
     * frames: it comes in frames (replication/frame.h). */
    void (*open)(void *context, int fd, unsigned database, bool frames);
    /* Exclusive: nothing more of it is applied, and nobody hears of its end. Returns the database
     * that the stream had selected. */
    unsigned (*drop)(void *context);
    /* Worker 0: ends; replica_lost is called before this returns. */
    void (*close)(void *context);
    /* Worker 0: when bytes last came, monotonic. */
    uint64_t (*last_received_ms)(void *context);
    /* Worker 0. */
    void (*send)(void *context, const char *data, size_t length);
    void *context;
};

struct replica {
    struct replication *replication;
    struct primary_connection connection; /* before the workers start */
    struct sync_environment environment;  /* likewise */
    unsigned threads, thread_number;      /* likewise: of those that load */
    struct sync_progress progress;
    struct sync *sync; /* the attempt under way; worker 0 or exclusive */
    bool connected;    /* worker 0 or exclusive, and read in handlers through atomics below */
    _Atomic int link;  /* enum replication_link without what an attempt does */
    /* It has been synchronised with this primary, be the link up or not. Written by worker 0, or
     * exclusively. */
    _Atomic bool has_primary_data;
    bool failing_over;            /* the primary is asked to take over from us; exclusive */
    _Atomic int64_t down_since_s; /* unix time; 0: it is up, or never was */
    /* Monotonic: when something came over the connection. Written by worker 0. */
    _Atomic uint64_t last_io_ms;
    _Atomic uint64_t received_offset; /* with what has come and is not applied. Worker 0 */
    /* Of the applied stream: its bytes, and the commands that failed. Written by worker 0. */
    _Atomic uint64_t stream_bytes, stream_errors;
    _Atomic uint64_t shared_commands; /* of its commands, those applied by all workers together */
    bool serves_stale;                /* of the configuration; exclusive */
    struct view_state *view;
    uint64_t tried_ms, acknowledged_ms; /* worker 0, or exclusive */
};

/* What the process is begun as: the replica of what the configuration names, or nobody's. Before
 * the workers start. */
void replica_init(struct replica *replica, struct replication *replication,
                  const struct sync_environment *environment, struct view_state *view,
                  unsigned threads, unsigned thread_number);
/* Takes over the configuration. Before the workers start, or exclusive. */
void replica_configure(struct replica *replica, const struct config *config);
/* Ten times a second on worker 0: attempts, acknowledgements, timeouts. */
void replica_tick(struct replica *replica, uint64_t now_ms);
/* No worker runs any more. */
void replica_stop(struct replica *replica);

/* Exclusive. Makes it the replica of somebody else, or of somebody for the first time. */
void replica_set_primary(struct replica *replica, const char *host, int port);
/* Before the workers start: it begins as the replica of somebody, as if the configuration had said
 * so. */
void replica_start_as(struct replica *replica, const char *host, int port);
/* Exclusive. Makes it a primary: what has been applied stays and becomes the second history. */
void replica_unset_primary(struct replica *replica);
/* What was read from a file belongs to this place of this history: a primary that has it may go on
 * from there. Exclusive, or before the workers start. */
void replica_adopt_place(struct replica *replica, const char *id, uint64_t offset,
                         unsigned database);

/* The connection has ended. may_continue: what was applied is what the primary sent. Worker 0. */
void replica_lost(struct replica *replica, unsigned database, bool may_continue);
/* Tells the primary how much has been applied. Worker 0. */
void replica_acknowledge(struct replica *replica);

/* CONFIG RESETSTAT. Exclusive. */
void replica_reset_statistics(struct replica *replica);

/* For INFO and ROLE: any worker, in a handler. */
enum replication_link replica_link(const struct replica *replica);

#endif
