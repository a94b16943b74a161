/* Queues of waiters: see waiter.h. */
#include "engine/waiter.h"

#include "engine/assert.h"

void waiter_append(struct waiter_queue *queue, struct waiter *waiter) {
    ASSERT(!waiter->linked);
    waiter->next = NULL;
    waiter->previous = queue->last;
    if (queue->last != NULL)
        queue->last->next = waiter;
    else
        queue->first = waiter;
    queue->last = waiter;
    waiter->linked = true;
}

void waiter_remove(struct waiter_queue *queue, struct waiter *waiter) {
    ASSERT(waiter->linked && waiter->queue == queue);
    if (waiter->previous != NULL)
        waiter->previous->next = waiter->next;
    else
        queue->first = waiter->next;
    if (waiter->next != NULL)
        waiter->next->previous = waiter->previous;
    else
        queue->last = waiter->previous;
    waiter->next = NULL;
    waiter->previous = NULL;
    waiter->linked = false;
}

bool waiter_cancel(struct waiter *waiter) {
    struct waiter_queue *queue = waiter->queue;
    if (queue == NULL)
        return false;
    pthread_mutex_lock(&queue->lock);
    bool linked = waiter->linked;
    if (linked)
        waiter_remove(queue, waiter); /* a slot's WAITERS may stay set for nobody: harmless */
    pthread_mutex_unlock(&queue->lock);
    return linked;
}
