/* Timeouts: moments at which one thread is to do something, the first of them known at once. A
 * heap, so that to come, to go and to be due costs the logarithm of how many there are.
 *
 * All by the thread that owns them; how many there are may be read by others. */
#ifndef SLOTWISE_SERVER_TIMEOUTS_H
#define SLOTWISE_SERVER_TIMEOUTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Part of what is to be done; stays where it is while it is in the heap. */
struct timeout {
    uint64_t due_us; /* monotonic; does not change in the heap */
    size_t place;    /* in the heap, from 1; 0: not there */
};

/* Zero: empty. */
struct timeouts {
    struct timeout **heap;
    size_t count, room;
    _Atomic unsigned published; /* count, for others; relaxed */
};

/* It is not there yet. */
void timeouts_add(struct timeouts *timeouts, struct timeout *timeout);
/* If it is there. */
void timeouts_remove(struct timeouts *timeouts, struct timeout *timeout);
/* When the first one is due; UINT64_MAX: there is none. */
static inline uint64_t timeouts_due_us(const struct timeouts *timeouts) {
    return timeouts->count > 0 ? timeouts->heap[0]->due_us : UINT64_MAX;
}
/* Takes one that is due out, the earliest one first; NULL: there is none. */
struct timeout *timeouts_take_due(struct timeouts *timeouts, uint64_t now_us);
/* Any thread. */
static inline unsigned timeouts_count(const struct timeouts *timeouts) {
    return atomic_load_explicit(&timeouts->published, memory_order_relaxed);
}
void timeouts_destroy(struct timeouts *timeouts);

#endif
