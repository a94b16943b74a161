/* Pauses: for a while nobody, or nobody who writes, is served.
 *
 * A paused command has been checked but nothing of it has happened: it waits (wait_by_time) until
 * the pause is over, and runs again from its start. Who pauses does so for a purpose of his own
 * (CLIENT PAUSE, FAILOVER ...): each purpose has its own end, and a command waits while any of them
 * holds it. A pause begins, is prolonged and is ended early in exclusive sections, so that no
 * command is under way when CLIENT PAUSE replies. Time is monotonic: a step of the wall clock
 * neither ends nor prolongs it. */
#ifndef SLOTWISE_SERVER_PAUSE_H
#define SLOTWISE_SERVER_PAUSE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/view.h"

enum pause_purpose {
    PAUSE_BY_CLIENT,
    PAUSE_FOR_FAILOVER,
    PAUSE_FOR_CLUSTER,
    PAUSE_FOR_SHUTDOWN,
    PAUSE_PURPOSES
};

#define PAUSE_WITHOUT_END UINT64_MAX

/* One for the process. Times are set in exclusive sections, and cleared by any worker that sees
 * that they are over, one at a time. */
struct pause {
    _Atomic uint64_t until_us; /* monotonic: the latest of all purposes; 0: nobody is paused */
    struct {
        _Atomic uint64_t until_us; /* 0: not paused for this */
        bool all;                  /* else writes only; exclusive sections */
    } purposes[PAUSE_PURPOSES];
    atomic_bool ticking;     /* by the worker that clears what is over */
    _Atomic unsigned ends;   /* moves when one has ended: who waits is to be looked at again */
    struct view_state *view; /* is told; set once before threads exist, NULL: nobody is */
};

/* In an exclusive section. One for this purpose that lasts longer already stays. */
void pause_begin(struct pause *pause, enum pause_purpose purpose, uint64_t until_us, bool all);
/* In an exclusive section. Those who wait are to be told (ends). */
void pause_end(struct pause *pause, enum pause_purpose purpose);

/* Any thread. false: nobody is paused, for sure. */
static inline bool pause_is_set(const struct pause *pause) {
    return atomic_load_explicit(&pause->until_us, memory_order_relaxed) != 0;
}
bool pause_is_on(const struct pause *pause);
/* Whether commands with these flags have to wait. */
bool pause_holds(const struct pause *pause, uint32_t command_flags);
/* When the first that is on ends; a worker looks at those who wait again then. */
uint64_t pause_end_us(const struct pause *pause);
/* Timer of any worker: clears what is over, so that commands need not look at the clock. */
void pause_tick(struct pause *pause);

#endif
