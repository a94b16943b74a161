/* What the primary's side of replication consists of: see primary.h. For the files of that side,
 * and for who embeds it. */
#ifndef SLOTWISE_SERVER_PRIMARY_TYPES_H
#define SLOTWISE_SERVER_PRIMARY_TYPES_H

#include <pthread.h>

#include "engine/keyspace.h"
#include "engine/waiter.h"
#include "replication/backlog_compressor.h"
#include "replication/commit_log.h"
#include "replication/snapshot_walk.h"
#include "server/dispatch/service.h"
#include "server/dispatch/session.h"
#include "server/links/replica_link.h"
#include "server/links/replication.h"

struct primary_surroundings {
    struct keyspace *keyspace;
    struct snapshot_walker *walker;
    struct replication *replication; /* its serving is filled in by primary_init */
    /* The database that the stream of our own primary has selected, or had when the connection was
     * lost; on a replica. */
    unsigned (*stream_database)(void *context);
    const struct replica_connection *connection;
    struct service *service;     /* told when there are too few replicas */
    void (*wake)(void *context); /* worker 0; any thread */
    /* Commands that wait for keys end, since this has become a replica; exclusive section. */
    void (*end_blocked)(void *context);
    /* The role, or the history that the data belong to, is another one now; exclusive section. */
    void (*role_changed)(void *context);
    void *context;
};

/* WAIT: what a client waits for. */
struct replica_wait {
    struct unfinished unfinished; /* first */
    struct replica_wait *next, *previous;
    struct primary *primary;
    struct waiter_queue queue;
    bool done;           /* under the queue's lock */
    const char *refusal; /* the error that it ends with; before done */
    bool closes;         /* and the connection with it: this has become a replica */
    bool linked;         /* in the primary's list; under its lock */
    uint64_t number;     /* of the commit log that is to be acknowledged */
    uint64_t offset;     /* where that ends; UINT64_MAX: not known yet */
    unsigned replicas;
    uint64_t due_us; /* monotonic; UINT64_MAX: no limit */
};

/* The stream had grown to this offset at this time: a ring of the last that were noted, at most ten
 * a second and only while it grows. */
#define PRIMARY_OFFSETS 1024
struct primary_offsets {
    struct {
        uint64_t offset, ms; /* monotonic */
    } of[PRIMARY_OFFSETS];
    uint64_t count; /* that have been noted so far */
};

struct primary {
    struct primary_surroundings around;
    struct commit_log *log;
    /* Worker 0, or an exclusive section. */
    bool on;
    struct backlog *backlog;
    struct backlog_compressor *compressor;
    struct backlog *load_backlog; /* of primary_load_expired; the load's thread until it is over */
    int load_database;            /* that it has selected */
    size_t load_backlog_bytes; /* its size; set once: that thread may not see the configuration */
    int stream_database; /* that the stream has selected; -1: none, or not what everybody knows */
    bool flush_wanted;   /* something was appended since the last flush of frames */
    uint64_t last_flush_us;
    uint64_t last_merge_us, last_ping_ms, last_second_ms, last_limits_ms;
    bool no_pings;                /* nothing of our own comes into the stream; exclusive */
    uint64_t no_replica_since_ms; /* 0: there are some, or it is off */
    bool round_wanted;            /* a thread is beginning one, or a round goes on */
    uint64_t round_again_ms;      /* not before */
    _Atomic bool round_over;      /* set by any thread: round_wanted is to be cleared */
    _Atomic bool round_failed;    /* before round_over */
    _Atomic unsigned round_sinks; /* of the round that goes on, which have not ended */
    /* Of what needs an exclusive section: a round, the end of the backlog. */
    pthread_t starter;
    bool starter_runs; /* to be joined */
    bool turning_off;
    _Atomic bool stopped; /* the process ends */
    uint64_t shared_end;  /* end of the stream when its links last got their shares */
    /* Of commands about slots that are imported (slot_import.h), which stock servers do not know:
     * the stream may have them up to here. slots_told: some have come since that was noted; any
     * thread. */
    uint64_t slots_end;
    atomic_bool slots_told;
    bool acknowledge_asked; /* REPLCONF GETACK is the last thing in the stream */
    /* By worker 0, read by others. */
    _Atomic uint64_t merged_number, merged_offset, backlog_first_offset;
    _Atomic bool backlog_active;
    _Atomic unsigned good_replicas;
    _Atomic uint64_t full_syncs, partial_syncs, partial_syncs_refused;
    pthread_mutex_t lock;
    struct replica_link *links; /* under the lock, written by worker 0 or in exclusive sections */
    struct replica_wait *waits; /* under the lock */
    struct primary_offsets offsets;    /* under the lock */
    struct backlog_statistics figures; /* some 100 ms old; under the lock */
    _Atomic unsigned wait_count;
};

#endif
