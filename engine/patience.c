/* Patience: the one FIFO for whoever must wait while holding. Run by: worker threads.
 *
 * Algorithm. A lock, an owner, a queue. Leaving hands ownership to the first of the queue under the
 * lock and resumes it without: between the two it is owned by a waiter that does not know yet, and
 * nobody can come between. Ordering: the lock; what the last owner did happens before the next
 * owner's resume. Progress: strictly first come, first served; an owner never waits for anything
 * but tokens (whose holders wait for nothing) and exclusive sections (where others only finish
 * their command). Nobody asks for patience with a token in hand, so there is no cycle. */
#include <pthread.h>

#include "engine/assert.h"
#include "engine/slot.h"
#include "engine/slot_private.h"

static struct {
    _Alignas(64) pthread_mutex_t lock;
    struct waiter_list queue;     /* under lock */
    struct waiter *_Atomic owner; /* written under lock */
} patience = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool patience_enter(struct waiter *waiter) {
    waiter->slot = WAITER_PATIENCE;
    waiter->at = NULL;
    pthread_mutex_lock(&patience.lock);
    struct waiter *owner = atomic_load_explicit(&patience.owner, memory_order_relaxed);
    ASSERT(!waiter->linked && owner != waiter);
    if (owner == NULL)
        atomic_store_explicit(&patience.owner, waiter, memory_order_relaxed);
    else
        waiter_list_append(&patience.queue, waiter);
    pthread_mutex_unlock(&patience.lock);
    return owner == NULL;
}

void patience_leave(struct waiter *waiter) {
    pthread_mutex_lock(&patience.lock);
    ASSERT(atomic_load_explicit(&patience.owner, memory_order_relaxed) == waiter);
    struct waiter *next = patience.queue.first;
    if (next != NULL)
        waiter_list_remove(&patience.queue, next);
    atomic_store_explicit(&patience.owner, next, memory_order_relaxed);
    pthread_mutex_unlock(&patience.lock);
    if (next != NULL)
        next->resume(next);
}

bool patience_cancel(struct waiter *waiter) {
    pthread_mutex_lock(&patience.lock);
    bool linked = waiter->linked;
    if (linked)
        waiter_list_remove(&patience.queue, waiter);
    pthread_mutex_unlock(&patience.lock);
    return linked;
}

bool patience_is_owned(void) {
    return atomic_load_explicit(&patience.owner, memory_order_relaxed) != NULL;
}
