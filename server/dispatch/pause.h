/* CLIENT PAUSE: for a while nobody, or nobody who writes, is served.
 *
 * A paused command has been checked but nothing of it has happened: it waits (wait_by_time) until
 * the pause is over, and runs again from its start. The pause begins, is prolonged and ends in
 * exclusive sections, so that no command is under way when CLIENT PAUSE replies. Time is monotonic:
 * a step of the wall clock neither ends nor prolongs it. */
#ifndef SLOTWISE_SERVER_PAUSE_H
#define SLOTWISE_SERVER_PAUSE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/view.h"

/* One for the process. */
struct pause {
    _Atomic uint64_t until_us; /* monotonic; 0: nobody is paused. Set in exclusive sections, cleared
                                  by whoever sees that it is over */
    bool all;                  /* else writes only; exclusive sections */
    struct view_state *view;   /* is told; set once before threads exist, NULL: nobody is */
};

/* In an exclusive section. A pause that lasts longer already stays. */
void pause_begin(struct pause *pause, uint64_t until_us, bool all);
void pause_end(struct pause *pause);

/* Any thread. false: nobody is paused, for sure. */
static inline bool pause_is_set(const struct pause *pause) {
    return atomic_load_explicit(&pause->until_us, memory_order_relaxed) != 0;
}
bool pause_is_on(const struct pause *pause);
/* Whether commands with these flags have to wait. */
bool pause_holds(const struct pause *pause, uint32_t command_flags);
/* When it ends. */
uint64_t pause_end_us(const struct pause *pause);
/* Timer of any thread: clears it when it is over, so that commands need not look at the clock. */
void pause_tick(struct pause *pause);

#endif
