/* Primary: the side of replication that gives. One stream of all changes, kept in a backlog, read
 * by any number of replicas.
 *
 * Threads. Worker 0 hosts it: in each of its turns it takes what all workers have committed
 * (replication/commit_log.h), appends it to the backlog and wakes the connections of replicas,
 * which live on worker 0 too. PSYNC is decided in an exclusive section, since it may be asked on
 * any worker. The list of links is also read by INFO, ROLE and WAIT on other threads, under the
 * lock.
 *
 * Nothing is logged until the first replica comes: then, in the section that decides its PSYNC, the
 * log is put behind the door and the backlog made; both go when there has been no replica for
 * repl-backlog-ttl.
 *
 *   OFF --the first PSYNC--> ON --no replica for repl-backlog-ttl--> OFF (another id)
 *
 * On a replica the stream is that of its own primary, byte for byte as it applies it: nothing is
 * logged, and nothing is added (no PING, no GETACK, no SELECT).
 *
 * Snapshots. A round (sync_round.h) serves all that wait when it begins. It is begun by a thread of
 * its own, in an exclusive section; the offset at the cut is that of the stream when all that was
 * committed before is in it. */
#ifndef SLOTWISE_SERVER_PRIMARY_H
#define SLOTWISE_SERVER_PRIMARY_H

#include <pthread.h>

#include "engine/keyspace.h"
#include "engine/waiter.h"
#include "replication/commit_log.h"
#include "replication/snapshot_walk.h"
#include "server/dispatch/service.h"
#include "server/dispatch/session.h"
#include "server/links/replica_link.h"
#include "server/links/replication.h"

struct config;

struct primary_surroundings {
    struct keyspace *keyspace;
    struct snapshot_walker *walker;
    struct replication *replication; /* its serving is filled in by primary_init */
    /* The database that the stream of our own primary has selected; on a replica. */
    unsigned (*stream_database)(void *context);
    const struct replica_connection *connection;
    struct service *service;     /* told when there are too few replicas */
    void (*wake)(void *context); /* worker 0; any thread */
    void *context;
};

/* WAIT: what a client waits for. */
struct replica_wait {
    struct unfinished unfinished; /* first */
    struct replica_wait *next, *previous;
    struct primary *primary;
    struct waiter_queue queue;
    bool done;       /* under the queue's lock */
    bool linked;     /* in the primary's list; under its lock */
    uint64_t number; /* of the commit log that is to be acknowledged */
    uint64_t offset; /* where that ends; UINT64_MAX: not known yet */
    unsigned replicas;
    uint64_t due_us; /* monotonic; UINT64_MAX: no limit */
};

struct primary {
    struct primary_surroundings around;
    struct commit_log *log;
    /* Worker 0, or an exclusive section. */
    bool on;
    struct backlog *backlog;
    int stream_database; /* that the stream has selected; -1: none, or not what everybody knows */
    uint64_t last_merge_us, last_ping_ms, last_second_ms, last_limits_ms;
    uint64_t no_replica_since_ms; /* 0: there are some, or it is off */
    bool round_wanted;            /* a thread is beginning one, or a round goes on */
    uint64_t round_again_ms;      /* not before */
    _Atomic bool round_over;      /* set by any thread: round_wanted is to be cleared */
    /* Of what needs an exclusive section: a round, the end of the backlog. */
    pthread_t starter;
    bool starter_runs; /* to be joined */
    bool turning_off;
    bool acknowledge_asked; /* REPLCONF GETACK is the last thing in the stream */
    /* By worker 0, read by others. */
    _Atomic uint64_t merged_number, merged_offset, backlog_first_offset;
    _Atomic bool backlog_active;
    _Atomic unsigned online, good_replicas;
    _Atomic uint64_t full_syncs, partial_syncs, partial_syncs_refused;
    pthread_mutex_t lock;
    struct replica_link *links; /* under the lock, written by worker 0 or in exclusive sections */
    struct replica_wait *waits; /* under the lock */
    _Atomic unsigned wait_count;
};

void primary_init(struct primary *primary, const struct primary_surroundings *around);
/* The workers have ended, and so have walks and their sinks. */
void primary_destroy(struct primary *primary);

/* A part of each turn of worker 0, before replies are sent. */
void primary_turn(struct primary *primary);
/* When worker 0 has to take a turn for it (monotonic): 0: at once. Called before it sleeps; if it
 * may sleep for longer, commits wake it. */
uint64_t primary_due_us(struct primary *primary);

/* PSYNC (or SYNC: id NULL) of a session with a link, in an exclusive section. offset: as PSYNC
 * counts, -1: none. Replies when it continues; else the link waits for a round. */
void primary_sync(struct primary *primary, struct replica_link *link, const char *id,
                  int64_t offset, struct reply *reply);
/* The connection of an attached link is on worker 0 now. */
void primary_welcome(struct primary *primary, struct replica_link *link);
/* The session of the link ends. Any thread. */
void primary_forget(struct primary *primary, struct replica_link *link);

/* Counts the replicas that lag less than min-replicas-max-lag, and says whether they are enough to
 * write: some times a second, and when the configuration changes. Any thread. */
void primary_count_good(struct primary *primary, const struct config *config);
/* repl-backlog-size has changed. In an exclusive section. */
void primary_resize_backlog(struct primary *primary, uint64_t size_bytes);

/* How many replicas have acknowledged the stream up to the offset. Any thread. */
unsigned primary_acknowledged(struct primary *primary, uint64_t offset);
/* The same for what the commit log has given this number. */
unsigned primary_acknowledged_number(struct primary *primary, uint64_t number);
/* WAIT for what has this number, until due_us (monotonic; 0: no limit). NULL: *count replicas have
 * it already, that is enough. */
struct replica_wait *primary_wait(struct primary *primary, uint64_t number, unsigned replicas,
                                  uint64_t due_us, unsigned *count);

/* Lines of INFO replication and of ROLE: visit is called for each link under the lock. Any thread.
 */
void primary_visit(const struct primary *primary,
                   void (*visit)(void *context, const struct replica_link *link), void *context);

#endif
