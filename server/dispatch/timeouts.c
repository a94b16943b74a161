/* See timeouts.h. */
#include "server/dispatch/timeouts.h"

#include "engine/assert.h"
#include "engine/memory.h"

#define ROOM_FIRST 16

static void put(struct timeouts *timeouts, size_t at, struct timeout *timeout) {
    timeouts->heap[at] = timeout;
    timeout->place = at + 1;
}

static void move_up(struct timeouts *timeouts, size_t at, struct timeout *timeout) {
    for (; at > 0; at = (at - 1) / 2) {
        struct timeout *above = timeouts->heap[(at - 1) / 2];
        if (above->due_us <= timeout->due_us)
            break;
        put(timeouts, at, above);
    }
    put(timeouts, at, timeout);
}

static void move_down(struct timeouts *timeouts, size_t at, struct timeout *timeout) {
    for (size_t child; (child = 2 * at + 1) < timeouts->count; at = child) {
        if (child + 1 < timeouts->count &&
            timeouts->heap[child + 1]->due_us < timeouts->heap[child]->due_us)
            child++;
        if (timeouts->heap[child]->due_us >= timeout->due_us)
            break;
        put(timeouts, at, timeouts->heap[child]);
    }
    put(timeouts, at, timeout);
}

static void publish(struct timeouts *timeouts) {
    atomic_store_explicit(&timeouts->published, (unsigned)timeouts->count, memory_order_relaxed);
}

void timeouts_add(struct timeouts *timeouts, struct timeout *timeout) {
    ASSERT(timeout->place == 0);
    if (timeouts->count == timeouts->room) {
        timeouts->room = timeouts->room ? timeouts->room * 2 : ROOM_FIRST;
        timeouts->heap = memory_realloc(timeouts->heap, timeouts->room * sizeof(struct timeout *));
    }
    move_up(timeouts, timeouts->count++, timeout);
    publish(timeouts);
}

void timeouts_remove(struct timeouts *timeouts, struct timeout *timeout) {
    if (timeout->place == 0)
        return;
    size_t at = timeout->place - 1;
    timeout->place = 0;
    struct timeout *last = timeouts->heap[--timeouts->count];
    publish(timeouts);
    if (last == timeout)
        return;
    if (at > 0 && timeouts->heap[(at - 1) / 2]->due_us > last->due_us)
        move_up(timeouts, at, last);
    else
        move_down(timeouts, at, last);
}

struct timeout *timeouts_take_due(struct timeouts *timeouts, uint64_t now_us) {
    if (timeouts_due_us(timeouts) > now_us || timeouts->count == 0)
        return NULL;
    struct timeout *first = timeouts->heap[0];
    timeouts_remove(timeouts, first);
    return first;
}

void timeouts_destroy(struct timeouts *timeouts) {
    memory_free(timeouts->heap);
    *timeouts = (struct timeouts){0};
}
