/* See queue.h: a binary heap. */
#include "tests/sim/queue.h"

#include <stdlib.h>

#include "engine/assert.h"

static bool is_before(const struct sim_event *a, const struct sim_event *b) {
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void sim_queue_destroy(struct sim_queue *queue) {
    free(queue->events);
    *queue = (struct sim_queue){0};
}

void sim_queue_after(struct sim_queue *queue, uint64_t delay_us,
                     void (*run)(void *context, uint64_t argument), void *context,
                     uint64_t argument) {
    const struct sim_event event = {queue->now_us + delay_us, queue->created++, run, context,
                                    argument};
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity ? 2 * queue->capacity : 256;
        queue->events = realloc(queue->events, queue->capacity * sizeof *queue->events);
        ASSERT(queue->events);
    }
    size_t at = queue->count++;
    for (; at > 0 && is_before(&event, &queue->events[(at - 1) / 2]); at = (at - 1) / 2)
        queue->events[at] = queue->events[(at - 1) / 2];
    queue->events[at] = event;
}

static struct sim_event take_first(struct sim_queue *queue) {
    struct sim_event first = queue->events[0], last = queue->events[--queue->count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < queue->count) {
        if (child + 1 < queue->count && is_before(&queue->events[child + 1], &queue->events[child]))
            child++;
        if (!is_before(&queue->events[child], &last))
            break;
        queue->events[at] = queue->events[child];
        at = child;
    }
    queue->events[at] = last;
    return first;
}

bool sim_queue_step(struct sim_queue *queue) {
    if (queue->count == 0)
        return false;
    struct sim_event event = take_first(queue);
    queue->now_us = event.at_us;
    queue->processed++;
    event.run(event.context, event.argument);
    return true;
}
