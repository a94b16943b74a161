/* Waiters: what whoever waits for a slot or for patience puts into a queue. Run by: any thread.
 *
 * Algorithm. A waiter is an intrusive node in what waits (a connection), in at most one queue at a
 * time. The queue's lock guards its links. Whoever ends a wait unlinks the node under the lock and
 * calls its resume without; a cancel unlinks it under the same lock, so exactly one of the two gets
 * it. Ordering: the lock. Progress: nothing waits inside it. Reclamation: nothing is allocated; the
 * owner keeps the node until it is resumed or cancelled, and from resume on it is the owner's
 * again, so that a waker reads the node's links before. */
#ifndef SLOTWISE_ENGINE_WAITER_H
#define SLOTWISE_ENGINE_WAITER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slot;
struct waiter_queue;

/* One wait at a time. resume is called exactly once for each wait that ended other than by
 * waiter_cancel, on the thread that ended it, without any lock held; it must only post to the
 * owner's mailbox. The node must stay alive until the wait has ended; from resume on it may be used
 * again. Set resume, zero the rest: the other fields belong to the engine. */
struct waiter {
    struct waiter *next; /* under the queue's lock; after unlinking: the waking thread's chain */
    struct waiter *previous;
    void (*resume)(struct waiter *waiter);
    struct waiter_queue *queue; /* where it waits or waited last; the thread that waits */
    struct slot *slot;          /* what it waits for, NULL: no slot; the thread that waits */
    bool linked;                /* under the queue's lock */
};

/* In order of arrival. */
struct waiter_queue {
    _Alignas(64) pthread_mutex_t lock;
    struct waiter *first, *last; /* under lock */
};
#define WAITER_QUEUE_INITIALIZER                                                                   \
    { .lock = PTHREAD_MUTEX_INITIALIZER }

/* Under the queue's lock. */
void waiter_append(struct waiter_queue *queue, struct waiter *waiter);
void waiter_remove(struct waiter_queue *queue, struct waiter *waiter);

/* Takes the lock; false: *over, which is written under it, is set, and nothing is linked. */
bool waiter_enqueue(struct waiter_queue *queue, struct waiter *waiter, const bool *over);
/* What the queue waits for is over: sets *over under the lock and resumes all. */
void waiter_queue_end(struct waiter_queue *queue, bool *over);

/* Unlinks. true: it was linked, resume will not be called. false: resume has been called or is
 * being called on another thread: the owner must expect it in its mailbox. For patience false also
 * means that the waiter owns it: patience_leave once it has arrived. Only on the thread that waits,
 * and only while that thread has not yet seen the resume. */
bool waiter_cancel(struct waiter *waiter);

#endif
