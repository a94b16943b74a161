/* Snapshot walk: an exact image of the data set at one moment, the cut, taken while commands go on
 * and without a fork, for one or two sinks.
 *
 * Algorithm. The cut is an exclusive section: the keyspace's snapshot id moves on
 * (engine/snapshot.h), the numbers of the databases and the effect log's number are noted; it takes
 * as long however much data there is. From then on whoever is about to change an object that has
 * not been taken yet takes it first (the hook behind the door), and each worker walks over the
 * tables of its home slots in its turns and takes the rest, a few objects per token. To take an
 * object is to copy it into a buffer of the thread's own (snapshot_encode.h). What changes, and
 * what busy workers walk over, is encoded by the threads of the sinks, to whose queues full buffers
 * go (piece_queue.h); a worker without commands encodes what it walks over itself, when it has
 * released the token. When a sink has more before it than half of what its queue may take, workers
 * encode all that they take, which slows those down who would make the queue longer. A string that
 * lies outside of its object (more than 16 KB) is lent to the sink's thread: who holds the token
 * never handles more than that, and who changes it meanwhile copies it. Tables that FLUSHDB or
 * FLUSHALL took out are gone through before they are freed, by whoever frees them (salvage). SWAPDB
 * exchanges numbers only, and the walk goes by the physical databases with the numbers of the cut.
 * When all workers are through and nothing is left to salvage, another exclusive section ends the
 * snapshot and gathers what is in the threads' buffers. The order of keys in a snapshot is free, so
 * pieces are written as they come.
 *
 * Each object is taken exactly once: it is stamped with the new id under the same token, and
 * objects made after the cut have that id from the beginning. A table that is being rebuilt step by
 * step is walked in both halves (table_walk).
 *
 * Threads. One of each walk waits for its end and spools; one of each sink writes. The walk never
 * waits for a sink: encoded pieces queue in memory up to a bound, then in a file. A sink that fails
 * is left out; when none is left the walk is given up. When the walk has ended, the next one may
 * begin although a slow sink is still being written to.
 *
 * Ordering. What is known of the walk (walker->walk, its phase, the cursors' beginning) changes in
 * exclusive sections, and those who read it are joined threads, so plain fields do. A thread's
 * buffers are its own until such a section gathers them. Pieces: piece_queue.h.
 *
 * Progress. Nobody waits for a token: a slot that is in use is come back to. Nothing blocks under a
 * token. Reclamation. A walk is counted: its thread, its sinks' threads, each salvage, the walker;
 * the last one frees it. */
#ifndef SLOTWISE_REPLICATION_SNAPSHOT_WALK_H
#define SLOTWISE_REPLICATION_SNAPSHOT_WALK_H

#include "engine/keyspace.h"
#include "engine/snapshot.h"
#include "replication/snapshot_sink.h"

struct snapshot_walk;

/* What is around the walks of one keyspace. Callbacks: context first. */
struct snapshot_surroundings {
    struct keyspace *keyspace;
    unsigned workers;
    const char *spool_directory;
    uint64_t memory_bytes; /* of encoded pieces per sink; beyond it they are spooled */
    /* In an exclusive section: the number of the effect log's last entry. NULL: 0. */
    uint64_t (*log_number)(void *context);
    /* Any thread: there is something to walk, all workers should take a turn. */
    void (*wake)(void *context);
    void *context;
};
#define SNAPSHOT_MEMORY_BYTES ((uint64_t)64 << 20)

struct snapshot_walker {
    struct snapshot_surroundings around;
    struct snapshot_walk *walk; /* that goes on; written in exclusive sections */
    pthread_mutex_t lock;
    pthread_cond_t none;
    unsigned threads; /* of walks and sinks; under lock */
};

void snapshot_walker_init(struct snapshot_walker *walker,
                          const struct snapshot_surroundings *around);
/* Waits until all threads of walks and sinks have ended: after snapshot_walk_abort they do soon,
 * except for a sink that blocks. Not a joined thread. */
void snapshot_walker_destroy(struct snapshot_walker *walker);

/* In an exclusive section, when no walk goes on: the cut, and the beginning of the walk. After
 * three walks that were given up in a row all objects have to be gone over first; then the cut is
 * made by the walk's own thread when that is done. 0 or a negative errno (then done is not called).
 */
int snapshot_walk_begin(struct snapshot_walker *walker, const struct snapshot_sink *sinks,
                        unsigned count);
/* In an exclusive section. The sinks' done is called with -ECANCELED, soon after. No-op when no
 * walk goes on. The next one may begin at once. */
void snapshot_walk_abort(struct snapshot_walker *walker);
/* The same for the sink with this context only: the walk goes on if there is another. No-op if no
 * walk goes on that has such a sink. */
void snapshot_walk_cancel(struct snapshot_walker *walker, const void *context);

/* A walk goes on. Joined threads. */
static inline bool snapshot_walk_is_on(const struct snapshot_walker *walker) {
    return walker->walk != NULL;
}

/* Tells the sinks of what this thread has taken since it last did: in each turn of a thread that
 * changes keys, while a walk is on. No token is held. */
void snapshot_walk_tell(struct snapshot_walker *walker);

/* Who encodes what a worker takes in its walk. */
enum snapshot_share {
    SNAPSHOT_SHARE_IDLE, /* the worker, which has time */
    SNAPSHOT_SHARE_BUSY, /* the sinks' threads, as long as they keep up */
};
/* Sinks have more before them than they take at once. Of a thread that has told of what it took;
 * false: no walk goes on. */
bool snapshot_walk_is_behind(struct snapshot_walker *walker);

/* A worker's part of the walk, for about so long, at least one piece of about 20 us; tells as well.
 * No token is held; a registered reader, online, joined. */
enum snapshot_step {
    SNAPSHOT_STEP_NONE, /* nothing to walk (any more) */
    SNAPSHOT_STEP_MORE, /* the time was up */
    SNAPSHOT_STEP_BUSY, /* of what is left, all is in use: again in a moment */
};
enum snapshot_step snapshot_walk_step(struct snapshot_walker *walker, unsigned worker,
                                      enum snapshot_share share, uint64_t budget_us);

struct snapshot_progress {
    bool on;
    uint64_t keys_taken, keys; /* keys: at the cut */
    uint64_t memory_bytes, spooled_bytes;
};
/* Joined threads. */
void snapshot_walk_progress(const struct snapshot_walker *walker,
                            struct snapshot_progress *progress);

#endif
