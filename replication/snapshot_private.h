/* The inside of a walk: for snapshot_walk.c and its tests. */
#ifndef SLOTWISE_REPLICATION_SNAPSHOT_PRIVATE_H
#define SLOTWISE_REPLICATION_SNAPSHOT_PRIVATE_H

#include <semaphore.h>

#include "replication/snapshot_take.h"
#include "replication/snapshot_walk.h"

/* Where a worker is. */
struct walk_cursor {
    _Alignas(64) uint32_t physical; /* database */
    uint32_t slot;                  /* 0..SLOT_COUNT / workers, times workers: of its home slots */
    uint64_t from;                  /* hash; 0: the slot has not been begun */
    bool again;                     /* the round over the slots that were in use */
    bool done;
    uint64_t busy[SLOT_COUNT / 64]; /* begun or not, they were in use */
};

enum walk_phase {
    WALK_STAMPING, /* all objects get the id of now, so that ids can begin anew */
    WALK_TAKING,
};

struct snapshot_walk {
    struct snapshot_walker *walker;
    struct snapshot hooks;
    _Atomic unsigned references;
    enum walk_phase phase; /* written in exclusive sections, as the next three */
    uint8_t id;            /* of the cut */
    _Atomic bool ended;    /* nothing is to be taken any more; also read by the walk's thread */
    struct snapshot_cut cut;
    uint16_t *numbers;    /* physical database -> its number at the cut */
    _Atomic bool aborted; /* written in exclusive sections, read by anybody */
    _Atomic unsigned workers_left, salvages;
    sem_t work; /* for the walk's thread: look again */
    unsigned sinks;
    struct transfer transfers[SNAPSHOT_SINKS_MAX];
    struct taker *_Atomic takers[KEYSPACE_THREADS_MAX]; /* made by their threads */
    pthread_mutex_t salvage_lock;
    struct taker *salvager; /* under salvage_lock */
    struct walk_cursor cursors[];
};

#endif
