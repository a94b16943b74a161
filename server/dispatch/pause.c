/* See pause.h. */
#include "server/dispatch/pause.h"

#include "engine/clock.h"
#include "server/dispatch/command.h"

/* While it lasts no expired key is deleted. */
static void tell_view(struct pause *pause, bool paused) {
    if (pause->view)
        atomic_store_explicit(&pause->view->paused, paused, memory_order_relaxed);
}

static uint64_t until_us_of(const struct pause *pause, unsigned purpose) {
    return atomic_load_explicit(&pause->purposes[purpose].until_us, memory_order_relaxed);
}

static void update(struct pause *pause) {
    uint64_t latest_us = 0;
    for (unsigned i = 0; i < PAUSE_PURPOSES; i++)
        if (until_us_of(pause, i) > latest_us)
            latest_us = until_us_of(pause, i);
    atomic_store(&pause->until_us, latest_us);
    tell_view(pause, latest_us != 0);
}

void pause_begin(struct pause *pause, enum pause_purpose purpose, uint64_t until_us, bool all) {
    bool on = clock_monotonic_us() < until_us_of(pause, purpose);
    /* One that holds everybody back is not turned into one that only holds writers back. */
    pause->purposes[purpose].all = all || (on && pause->purposes[purpose].all);
    if (!on || until_us_of(pause, purpose) < until_us)
        atomic_store(&pause->purposes[purpose].until_us, until_us);
    update(pause);
}

void pause_end(struct pause *pause, enum pause_purpose purpose) {
    atomic_store(&pause->purposes[purpose].until_us, 0);
    update(pause);
    atomic_fetch_add(&pause->ends, 1);
}

bool pause_is_on(const struct pause *pause) {
    uint64_t until_us = atomic_load_explicit(&pause->until_us, memory_order_relaxed);
    return until_us != 0 && clock_monotonic_us() < until_us;
}

bool pause_holds(const struct pause *pause, uint32_t command_flags) {
    bool writes = command_flags & (COMMAND_WRITE | COMMAND_MAY_REPLICATE);
    uint64_t now_us = clock_monotonic_us();
    for (unsigned i = 0; i < PAUSE_PURPOSES; i++)
        if (now_us < until_us_of(pause, i) && (writes || pause->purposes[i].all))
            return true;
    return false;
}

uint64_t pause_end_us(const struct pause *pause) {
    uint64_t first_us = PAUSE_WITHOUT_END;
    for (unsigned i = 0; i < PAUSE_PURPOSES; i++)
        if (until_us_of(pause, i) != 0 && until_us_of(pause, i) < first_us)
            first_us = until_us_of(pause, i);
    return first_us;
}

/* No section runs beside it, so nothing begins meanwhile; another worker's tick may: then that one
 * does it, since two would tell what each has found. */
void pause_tick(struct pause *pause) {
    uint64_t now_us = clock_monotonic_us();
    bool ended = false;
    if (!pause_is_set(pause) || atomic_exchange(&pause->ticking, true))
        return;
    for (unsigned i = 0; i < PAUSE_PURPOSES; i++) {
        uint64_t until_us = until_us_of(pause, i);
        if (until_us == 0 || now_us < until_us)
            continue;
        atomic_store(&pause->purposes[i].until_us, 0);
        ended = true;
    }
    if (ended) {
        update(pause);
        atomic_fetch_add(&pause->ends, 1);
    }
    atomic_store(&pause->ticking, false);
}
