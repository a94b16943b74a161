/* Virtual time: events in the order of their time, and of their creation where that is the same.
 * Nothing in a simulation happens but by an event, and none waits for a real clock. One thread. */
#ifndef SLOTWISE_TESTS_SIM_QUEUE_H
#define SLOTWISE_TESTS_SIM_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* There is no taking back of an event: argument says whether it still matters (a generation, say).
 */
struct sim_event {
    uint64_t at_us, order;
    void (*run)(void *context, uint64_t argument);
    void *context;
    uint64_t argument;
};

struct sim_queue {
    struct sim_event *events; /* a heap */
    size_t count, capacity;
    uint64_t now_us, created, processed;
};

void sim_queue_destroy(struct sim_queue *queue);
void sim_queue_after(struct sim_queue *queue, uint64_t delay_us,
                     void (*run)(void *context, uint64_t argument), void *context,
                     uint64_t argument);
/* The next event; false: there is none. */
bool sim_queue_step(struct sim_queue *queue);

#endif
