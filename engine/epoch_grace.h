/* Private to epoch.c: grace periods that are counted by a thread of their own, and a watchdog that
 * looks after it. See epoch_grace.c for the essay. */
#ifndef SLOTWISE_ENGINE_EPOCH_GRACE_H
#define SLOTWISE_ENGINE_EPOCH_GRACE_H

#include <stdatomic.h>
#include <stdint.h>

/* ThreadSanitizer does not see liburcu's barriers: tell it what a grace period orders. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EPOCH_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(EPOCH_TSAN)
void __tsan_acquire(void *address);
void __tsan_release(void *address);
extern char epoch_tsan_grace_period;
#define READER_RELEASES() __tsan_release(&epoch_tsan_grace_period)
#define WRITER_ACQUIRES() __tsan_acquire(&epoch_tsan_grace_period)
#else
#define READER_RELEASES() ((void)0)
#define WRITER_ACQUIRES() ((void)0)
#endif

/* Grace periods so far. Read by readers whose memory waits, written by the epoch thread. */
struct epoch_grace_count {
    _Alignas(64) _Atomic uint64_t value;
};
extern struct epoch_grace_count epoch_grace_count;

/* As epoch_start and epoch_stop, which call them. */
int epoch_grace_start(unsigned stall_ms, void (*stalled)(uint64_t waited_ms, void *context),
                      void *context);
void epoch_grace_stop(void);

/* Somebody waits for this count. Any thread; wakes the epoch thread if it sleeps. */
void epoch_grace_want(uint64_t target);
uint64_t epoch_grace_stalls(void); /* calls of stalled; any thread */

#endif
