/* Saver: when the data set is written to the RDB file, and what became of it: SAVE, BGSAVE, the
 * save points, the last save before the process ends.
 *
 *            begin                        the file is in its place, or not
 *   IDLE ------------> SAVING -----------------------------------------------> IDLE
 *                        |                cancel (FLUSHALL, the end)             ^
 *                        +-------------------------------------------------------+
 *
 * Except for the last one each save is the sink of a walk (replication/snapshot_walk.h), which has
 * a thread of its own. A save that was cancelled is none any more at once; its thread cleans up
 * after it. Threads: beginnings and cancels in exclusive sections; the sink's thread reports the
 * end; the tick is worker 0's. What they share is under the lock, which workers take while commands
 * wait: nothing that may wait for the disk happens under it. */
#ifndef SLOTWISE_SERVER_SAVER_H
#define SLOTWISE_SERVER_SAVER_H

#include <pthread.h>

#include "engine/waiter.h"
#include "replication/snapshot_walk.h"
#include "server/persistence/persistence.h"
#include "server/persistence/saving.h"

struct config;
struct save;

struct saver_surroundings {
    struct snapshot_walker *walker;
    struct persistence *persistence;
    /* Changes of keys since the start; exact in an exclusive section. */
    uint64_t (*changes)(void *context);
    /* In an exclusive section. */
    void (*state)(void *context, struct saving_state *state);
    void *context;
};

struct saver_state {
    bool saving, scheduled, last_ok;
    int64_t last_duration_s;  /* -1: there was none */
    int64_t started_s;        /* of the one that goes on */
    uint64_t changes;         /* since what the last one has */
    uint64_t keys, keys_done; /* of the one that goes on */
};

struct saver {
    struct saver_surroundings around;
    pthread_mutex_t lock;
    /* A file is given its place, or its save is cancelled: one or the other. Before lock. */
    pthread_mutex_t place_lock;
    pthread_cond_t idle;
    unsigned threads;  /* beginnings and saves, cancelled ones included, that have not ended */
    bool beginning;    /* a thread is about to begin one */
    struct save *save; /* that goes on */
    bool scheduled;    /* BGSAVE SCHEDULE: the next one begins when nothing is in its way */
    bool last_ok;
    int64_t last_try_s, last_duration_s;
};

/* The end of a save that a client waits for. Of the heap; users share it. */
struct save_end {
    struct waiter_queue queue;
    bool done; /* under the queue's lock */
    bool ok;   /* when done */
    _Atomic unsigned users;
};
void save_end_leave(struct save_end *end);

void saver_init(struct saver *saver, const struct saver_surroundings *around);
/* Waits for the threads: after saver_cancel they end soon. Not a joined thread; no worker runs any
 * more. */
void saver_destroy(struct saver *saver);

/* In an exclusive section: the cut is now. 0; -EBUSY: a walk goes on; or another negative errno.
 * end (may be NULL): gets what tells of its end, one user. */
int saver_begin(struct saver *saver, const struct config *config, struct save_end **end);
/* As soon as nothing is in its way. Any worker. */
void saver_schedule(struct saver *saver);
/* In an exclusive section: the save that goes on is none any more. false: there was none. */
bool saver_cancel(struct saver *saver);
/* In an exclusive section: writes the file at once, on the calling thread. The save that goes on is
 * cancelled. 0 or a negative errno. */
int saver_save_now(struct saver *saver, const struct saving_state *state);
/* In an exclusive section: all databases were emptied. */
void saver_flushed(struct saver *saver, const struct config *config);

/* A few times a second, on worker 0: save points, what is scheduled. */
void saver_tick(struct saver *saver, const struct config *config);

/* Joined threads. */
void saver_get_state(const struct saver *saver, struct saver_state *state);

#endif
