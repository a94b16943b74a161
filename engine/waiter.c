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

bool waiter_enqueue(struct waiter_queue *queue, struct waiter *waiter, const bool *over) {
    pthread_mutex_lock(&queue->lock);
    bool waits = !*over;
    waiter->queue = queue;
    waiter->slot = NULL;
    if (waits)
        waiter_append(queue, waiter);
    pthread_mutex_unlock(&queue->lock);
    return waits;
}

void waiter_queue_end(struct waiter_queue *queue, bool *over) {
    struct waiter *first = NULL, **end = &first;
    pthread_mutex_lock(&queue->lock);
    *over = true;
    for (struct waiter *waiter; (waiter = queue->first) != NULL; end = &waiter->next) {
        waiter_remove(queue, waiter);
        *end = waiter;
    }
    pthread_mutex_unlock(&queue->lock);
    for (struct waiter *waiter = first, *next; waiter != NULL; waiter = next) {
        next = waiter->next;
        waiter->resume(waiter);
    }
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
