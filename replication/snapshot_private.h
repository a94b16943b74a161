/* What the walk of a snapshot (snapshot_walk.c) and the way to its sinks (snapshot_transfer.c) know
 * of each other. */
#ifndef SLOTWISE_REPLICATION_SNAPSHOT_PRIVATE_H
#define SLOTWISE_REPLICATION_SNAPSHOT_PRIVATE_H

#include <semaphore.h>

#include "replication/piece_queue.h"
#include "replication/snapshot_walk.h"

/* A buffer goes to the queue when it is as full as PIECE_BYTES, and has room for a bit more. */
#define PIECE_BYTES      (64 * 1024)
#define PIECE_ROOM_BYTES (80 * 1024)

/* One sink, its queue and its thread. */
struct transfer {
    struct snapshot_walk *walk;
    struct snapshot_sink sink;
    struct piece_queue queue;
    sem_t work;                /* posted when there is a piece or the end */
    _Atomic int error;         /* the first one; set by its thread or the walk's */
    _Atomic bool closed;       /* no piece comes any more; written by the walk's thread */
    uint32_t database;         /* of the last key that was written; its thread */
    struct rdb_writer scratch; /* its thread */
};

/* The buffers of one thread: its own until the walk has ended. */
struct taker {
    struct {
        struct rdb_writer writer;
        uint32_t first_database, last_database;
    } of[SNAPSHOT_SINKS_MAX];
    _Atomic uint64_t keys; /* taken so far; its thread writes */
    bool pushed;           /* since its last turn */
};

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
    bool ended;            /* nothing is to be taken any more */
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

/* A new thread that the walker waits for. 0 or a negative errno. */
int snapshot_thread(struct snapshot_walker *walker, void *(*main)(void *context), void *context);
/* The last act of such a thread. */
void snapshot_thread_end(struct snapshot_walker *walker);
void snapshot_walk_release(struct snapshot_walk *walk);

void transfer_init(struct transfer *transfer, struct snapshot_walk *walk,
                   const struct snapshot_sink *sink);
void transfer_destroy(struct transfer *transfer);
void *transfer_run(void *transfer); /* what its thread does */
/* No piece comes any more. The walk's thread. */
void transfer_close(struct transfer *transfer);
/* The last that happens to it; after transfer_close on the walk's thread if it has none of its own.
 */
void transfer_end(struct transfer *transfer);
/* Only the first error counts. Any thread. */
void transfer_fail(struct transfer *transfer, int error);
static inline bool transfer_has_failed(const struct transfer *transfer) {
    return atomic_load_explicit(&transfer->error, memory_order_relaxed) != 0;
}
/* Spools what is too much. The walk's thread. */
void transfer_relieve(struct transfer *transfer);

#endif
