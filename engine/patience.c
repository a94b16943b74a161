/* Patience: the one FIFO for whoever must wait while holding. Run by: worker threads.
 *
 * Algorithm. A lock, an owner, a queue. Leaving hands ownership to the first of the queue under the
 * lock and resumes it without: between the two it is owned by a waiter that does not know yet, and
 * nobody can come between. Ordering: the lock; what the last owner did happens before the next
 * owner's resume. Progress: strictly first come, first served; an owner never waits for anything
 * but tokens (whose holders wait for nothing) and exclusive sections (where others only finish
 * their command). Nobody asks for patience with a token in hand, so there is no cycle. */
#include "engine/patience.h"

#include <stdatomic.h>

#include "engine/assert.h"

static struct waiter_queue queue = WAITER_QUEUE_INITIALIZER;
static struct waiter *_Atomic owner_now; /* written under the queue's lock */

bool patience_enter(struct waiter *waiter) {
    pthread_mutex_lock(&queue.lock);
    struct waiter *owner = atomic_load_explicit(&owner_now, memory_order_relaxed);
    ASSERT(!waiter->linked && owner != waiter);
    waiter->queue = &queue;
    waiter->slot = NULL;
    if (owner == NULL)
        atomic_store_explicit(&owner_now, waiter, memory_order_relaxed);
    else
        waiter_append(&queue, waiter);
    pthread_mutex_unlock(&queue.lock);
    return owner == NULL;
}

void patience_leave(struct waiter *waiter) {
    pthread_mutex_lock(&queue.lock);
    ASSERT(atomic_load_explicit(&owner_now, memory_order_relaxed) == waiter);
    struct waiter *next = queue.first;
    if (next != NULL)
        waiter_remove(&queue, next);
    atomic_store_explicit(&owner_now, next, memory_order_relaxed);
    pthread_mutex_unlock(&queue.lock);
    if (next != NULL)
        next->resume(next);
}

bool patience_is_owned(void) {
    return atomic_load_explicit(&owner_now, memory_order_relaxed) != NULL;
}
