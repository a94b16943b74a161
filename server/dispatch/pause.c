/* See pause.h. */
#include "server/dispatch/pause.h"

#include "engine/clock.h"
#include "server/dispatch/command.h"

/* While it lasts no expired key is deleted. */
static void tell_view(struct pause *pause, bool paused) {
    if (pause->view)
        atomic_store_explicit(&pause->view->paused, paused, memory_order_relaxed);
}

void pause_begin(struct pause *pause, uint64_t until_us, bool all) {
    bool on = pause_is_on(pause);
    /* One that holds everybody back is not turned into one that only holds writers back. */
    pause->all = all || (on && pause->all);
    if (!on || atomic_load(&pause->until_us) < until_us)
        atomic_store(&pause->until_us, until_us);
    tell_view(pause, true);
}

void pause_end(struct pause *pause) {
    atomic_store(&pause->until_us, 0);
    tell_view(pause, false);
}

bool pause_is_on(const struct pause *pause) {
    uint64_t until_us = atomic_load_explicit(&pause->until_us, memory_order_relaxed);
    return until_us != 0 && clock_monotonic_us() < until_us;
}

bool pause_holds(const struct pause *pause, uint32_t command_flags) {
    return pause_is_on(pause) &&
           (pause->all || (command_flags & (COMMAND_WRITE | COMMAND_MAY_REPLICATE)));
}

uint64_t pause_end_us(const struct pause *pause) {
    return atomic_load_explicit(&pause->until_us, memory_order_relaxed);
}

void pause_tick(struct pause *pause) {
    uint64_t until_us = atomic_load_explicit(&pause->until_us, memory_order_relaxed);
    if (until_us != 0 && clock_monotonic_us() >= until_us)
        if (atomic_compare_exchange_strong(&pause->until_us, &until_us, 0))
            tell_view(pause, false);
}
