/* Grace periods and deferred freeing (liburcu, QSBR flavour).
 *
 * Threads that read published pointers (objects, tables, configuration, slot map) register as
 * readers. A reader reports a quiescent state once per loop turn and is offline while it blocks.
 * What a thread replaces it retires; the memory is freed by the same thread, a few at a time, once
 * every reader that might still hold it has passed a quiescent state since. Nobody waits for that.
 * See epoch.c for Algorithm / Ordering / Progress / Reclamation. */
#ifndef SLOTWISE_ENGINE_EPOCH_H
#define SLOTWISE_ENGINE_EPOCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Starts the epoch thread and its watchdog; both sleep while there is nothing to do. stalled (NULL:
 * nobody is told) is called on the watchdog thread when one grace period has taken longer than
 * stall_ms, and again for each further stall_ms: some reader does not report. stall_ms 0: no
 * watchdog. After daemonizing: threads do not survive a fork. May be started again after a stop.
 * Returns 0 or a negative errno. */
int epoch_start(unsigned stall_ms, void (*stalled)(uint64_t waited_ms, void *context),
                void *context);
/* Stops them. Everything retired must have been drained by its threads (epoch_reader_leave does),
 * and no reader may be stuck. */
void epoch_stop(void);

/* Registers this thread as a reader (online) with an empty retire list. */
void epoch_reader_enter(void);
/* Waits for and frees what this thread retired, then unregisters it. Works without the epoch
 * thread. */
void epoch_reader_leave(void);

/* No published pointer obtained before this call may be used after it. Only for registered threads,
 * online. What was retired since the last call gets its stamp here, so a thread that never calls it
 * (nor epoch_offline, epoch_reclaim) never frees anything. */
void epoch_quiescent(void);
/* Around a blocking wait: offline, wait, online. No published pointer may be held across. Not
 * nested: code that may be called in either state asks epoch_is_online. */
void epoch_offline(void);
void epoch_online(void);
/* This thread is registered and online. */
bool epoch_is_online(void);

/* Whether the readers' states are looked at besides grace periods (they are, unless this says no).
 * For tests and bake-offs; before the readers start. */
void epoch_set_looking(bool looking);

/* true: only this one reader exists (one worker configured), so that retired memory may be freed at
 * once. Set before the readers start; with it set epoch_retire calls the destructor immediately, so
 * the pointer is dead when epoch_retire returns: take what you need from it before. */
void epoch_set_single_reader(bool single);

/* Hands over memory that was unpublished: destructor(pointer) runs on this thread when no reader
 * can still hold it. bytes (what it takes) leaves the maxmemory sum at once. Each call also frees
 * up to EPOCH_FREES_PER_RETIRE older entries that are safe, in the order in which they were
 * retired. A destructor may retire in its turn. Registered threads only. */
#define EPOCH_FREES_PER_RETIRE 2
void epoch_retire(void *pointer, size_t bytes, void (*destructor)(void *pointer));
/* The same for what memory_alloc_object gave, which memory_free_object frees. bytes is what it
 * takes, as memory_object_bytes tells. */
void epoch_retire_object(void *pointer, size_t bytes);

/* Frees up to limit safe entries of this thread; returns how many remain (safe or not). Call it at
 * idle turns: an idle thread that never does keeps its last entries. Registered threads, online or
 * offline. */
size_t epoch_reclaim(size_t limit);

/* The same bounded by time: frees what is safe for about budget_us, at least EPOCH_RECLAIM_STEP
 * entries. For every turn of a loop, so that a backlog is gone as fast as it becomes safe. */
#define EPOCH_RECLAIM_STEP 16
size_t epoch_reclaim_for(uint64_t budget_us);

/* Waits until every reader has passed a quiescent state. The calling thread must be offline or not
 * registered. Slow (milliseconds): never on the command path. */
void epoch_synchronize(void);

struct epoch_statistics {
    uint64_t grace_periods; /* counted so far */
    uint64_t retired;       /* entries retired by all threads */
    uint64_t freed;
    uint64_t stalls; /* calls of stalled */
};
/* Any thread. A snapshot: the sums of running threads may be a few entries apart. */
void epoch_get_statistics(struct epoch_statistics *statistics);

#endif
