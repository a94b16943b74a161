/* The way of a snapshot to one sink: see snapshot_transfer.c. A part of snapshot_walk.h. */
#ifndef SLOTWISE_REPLICATION_SNAPSHOT_TRANSFER_H
#define SLOTWISE_REPLICATION_SNAPSHOT_TRANSFER_H

#include <semaphore.h>

#include "replication/piece_queue.h"
#include "replication/snapshot_encode.h"

/* What a transfer knows of its walk. */
struct transfer_surroundings {
    const char *spool_directory;
    uint64_t memory_bytes; /* of encoded pieces; beyond it they are spooled */
    const struct snapshot_cut *cut;
    const _Atomic bool *aborted; /* the walk is given up; set before transfer_close */
    sem_t *look_again;           /* of the walk's thread */
    void (*ended)(void *walk);   /* the last that is heard of the transfer */
    void *walk;
};

/* One sink, its queue and its thread. */
struct transfer {
    struct transfer_surroundings around;
    struct snapshot_sink sink;
    struct piece_queue queue;
    sem_t work;                      /* posted when there is a piece or the end */
    _Atomic int error;               /* the first one; set by its thread or the walk's */
    _Atomic bool closed;             /* no piece comes any more; written by the walk's thread */
    uint32_t database;               /* of the last key that was written; its thread */
    struct snapshot_encoder encoder; /* its thread */
};

void transfer_init(struct transfer *transfer, const struct transfer_surroundings *around,
                   const struct snapshot_sink *sink);
void transfer_destroy(struct transfer *transfer);
void transfer_run(struct transfer *transfer); /* what its thread does */
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
