/* Exclusive sections. Run by: the threads that joined (workers), and whoever wants a section.
 *
 * Algorithm. Each joined thread has a state of its own: running, stopped or asleep. Who wants a
 * section raises exclusive_gate.requested and waits until no joined thread but itself is running;
 * runs its function; lowers the flag; wakes who was stopped. A thread looks at the flag at each
 * command boundary, and when it comes back from sleep. The requester counts the threads that it
 * found running (outstanding) and marks each as awaited; a thread that stops takes its mark back
 * and the last of them wakes the requester: one wake-up per section, whatever the number of
 * threads.
 *
 * Ordering. All accesses to requested, state and awaited below are seq_cst.
 * - A thread stores "running", then loads requested; the requester stores requested, then loads the
 * state: one of them sees the other. So a thread that goes on without stopping is one that the
 * requester waits for.
 * - A thread stores "stopped" or "asleep", then loads requested, and takes its mark back if it is
 * set; the requester stores the mark, then loads the state again, and takes the mark back itself if
 * the thread has stopped meanwhile. Taking is an exchange, so exactly one of them counts.
 * - The state that the requester reads as not running is a release of everything that thread did
 * before; the lowered flag releases everything that the section did.
 *
 * Progress. Sections are one at a time because their requesters own patience. A requester waits
 * only for commands in progress, which wait for nothing but a token (slot.c), and whose holder
 * gives it up before its own boundary. Threads stopped are offline for RCU, so a section may wait
 * for a grace period. Waiting spins for a microsecond or so and then blocks in the kernel.
 *
 * Reclamation. A thread's record is in its thread-local storage; joining and leaving take
 * registry.lock, which a section holds, so records cannot go away under it. */
#include "engine/exclusive.h"

#include <pthread.h>
#include <stddef.h>

#include "engine/epoch.h"
#include "engine/futex.h"
#include "engine/patience.h"

enum participant_state {
    PARTICIPANT_RUNNING = 1,
    PARTICIPANT_STOPPED,
    PARTICIPANT_ASLEEP,
};

struct participant {
    _Alignas(64) _Atomic uint32_t state; /* written by its own thread only */
    _Atomic uint32_t awaited;            /* set by the requester, taken back by either */
    bool joined;                         /* its own thread only */
    struct participant *next;            /* under registry.lock */
    struct participant *previous;
};
static _Thread_local struct participant self;

struct exclusive_gate exclusive_gate;

static struct {
    pthread_mutex_t lock; /* held for the whole of a section */
    struct participant *first;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Threads that the requester waits for, plus one while it is still counting. */
static _Atomic uint32_t outstanding;
/* Sections so far; under registry.lock. */
static _Atomic uint64_t sections;
/* Threads that block on the gate in the kernel. */
static _Atomic uint32_t blocked;

#define SPIN_LIMIT 100

static bool reader_offline(void) {
    bool online = epoch_is_online();
    if (online)
        epoch_offline();
    return online;
}

static void reader_online(bool online) {
    if (online)
        epoch_online();
}

/* --- The threads that stop -------------------------------------------------------------------- */

static void outstanding_remove(void) {
    if (atomic_fetch_sub(&outstanding, 1) == 1)
        futex_wake(&outstanding, 1);
}

/* No longer running. */
static void participant_halt(enum participant_state state) {
    atomic_store(&self.state, state);
    if (atomic_load(&exclusive_gate.requested) && atomic_exchange(&self.awaited, 0))
        outstanding_remove();
}

static void gate_wait(void) {
    for (int i = 0; i < SPIN_LIMIT; i++) {
        if (!atomic_load(&exclusive_gate.requested))
            return;
        cpu_relax();
    }
    atomic_fetch_add(&blocked, 1);
    while (atomic_load(&exclusive_gate.requested))
        futex_wait(&exclusive_gate.requested, 1);
    atomic_fetch_sub(&blocked, 1);
}

void exclusive_stop(void) {
    ASSERT(self.joined);
    bool online = reader_offline();
    do {
        participant_halt(PARTICIPANT_STOPPED);
        gate_wait();
        atomic_store(&self.state, PARTICIPANT_RUNNING);
    } while (atomic_load(&exclusive_gate.requested));
    reader_online(online);
}

void exclusive_sleep_begin(void) {
    ASSERT(self.joined);
    participant_halt(PARTICIPANT_ASLEEP);
}

void exclusive_sleep_end(void) {
    ASSERT(atomic_load_explicit(&self.state, memory_order_relaxed) == PARTICIPANT_ASLEEP);
    atomic_store(&self.state, PARTICIPANT_RUNNING);
    if (UNLIKELY(atomic_load(&exclusive_gate.requested)))
        exclusive_stop();
}

void exclusive_join(void) {
    ASSERT(!self.joined);
    bool online = reader_offline();
    pthread_mutex_lock(&registry.lock);
    atomic_store(&self.awaited, 0);
    atomic_store(&self.state, PARTICIPANT_RUNNING);
    self.joined = true;
    self.previous = NULL;
    self.next = registry.first;
    if (registry.first != NULL)
        registry.first->previous = &self;
    registry.first = &self;
    pthread_mutex_unlock(&registry.lock);
    reader_online(online);
}

void exclusive_leave(void) {
    ASSERT(self.joined);
    bool online = reader_offline();
    participant_halt(PARTICIPANT_ASLEEP); /* who holds the lock may be waiting for us */
    pthread_mutex_lock(&registry.lock);
    if (self.previous != NULL)
        self.previous->next = self.next;
    else
        registry.first = self.next;
    if (self.next != NULL)
        self.next->previous = self.previous;
    self.joined = false;
    pthread_mutex_unlock(&registry.lock);
    reader_online(online);
}

/* --- The requester ---------------------------------------------------------------------------- */

/* Raises the flag and waits until no joined thread but this one runs. */
static void stop_all(void) {
    atomic_store(&outstanding, 1);
    atomic_store(&exclusive_gate.requested, 1);
    for (struct participant *other = registry.first; other != NULL; other = other->next) {
        if (other == &self || atomic_load(&other->state) != PARTICIPANT_RUNNING)
            continue;
        atomic_fetch_add(&outstanding, 1);
        atomic_store(&other->awaited, 1);
        if (atomic_load(&other->state) != PARTICIPANT_RUNNING &&
            atomic_exchange(&other->awaited, 0))
            atomic_fetch_sub(&outstanding, 1);
    }
    atomic_fetch_sub(&outstanding, 1);
    uint32_t left;
    for (int i = 0; (left = atomic_load(&outstanding)) != 0; i++) {
        if (i < SPIN_LIMIT)
            cpu_relax();
        else
            futex_wait(&outstanding, left);
    }
}

void exclusive_run(void (*function)(void *context), void *context) {
    ASSERT(patience_is_owned());
    ASSERT(!self.joined ||
           atomic_load_explicit(&self.state, memory_order_relaxed) == PARTICIPANT_RUNNING);
    pthread_mutex_lock(&registry.lock);
    ASSERT(!atomic_load(&exclusive_gate.requested));
    stop_all();
    function(context);
    atomic_fetch_add_explicit(&sections, 1, memory_order_relaxed);
    atomic_store(&exclusive_gate.requested, 0);
    pthread_mutex_unlock(&registry.lock);
    /* Who blocks from now on sees 0 in the kernel. */
    if (atomic_load(&blocked) != 0)
        futex_wake(&exclusive_gate.requested, INT_MAX);
}

uint64_t exclusive_count(void) {
    return atomic_load_explicit(&sections, memory_order_relaxed);
}

struct blocking_waiter {
    struct waiter waiter; /* first */
    _Atomic uint32_t granted;
};

static void blocking_resume(struct waiter *waiter) {
    struct blocking_waiter *blocking = (struct blocking_waiter *)waiter;
    atomic_store(&blocking->granted, 1);
    futex_wake(&blocking->granted, 1);
}

void exclusive_run_blocking(void (*function)(void *context), void *context) {
    struct blocking_waiter blocking = {.waiter = {.resume = blocking_resume}};
    ASSERT(!self.joined);
    if (!patience_enter(&blocking.waiter)) {
        bool online = reader_offline();
        while (!atomic_load(&blocking.granted))
            futex_wait(&blocking.granted, 0);
        reader_online(online);
    }
    exclusive_run(function, context);
    patience_leave(&blocking.waiter);
}
