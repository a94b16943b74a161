/* Pauses for several purposes, which end by themselves. */
#include <criterion/criterion.h>

#include "engine/clock.h"
#include "server/dispatch/pause.h"

Test(pause, ends_for_all_when_its_last_purpose_does) {
    struct view_state view = {0};
    struct pause pause = {.view = &view};
    uint64_t now_us = clock_monotonic_us();
    pause_begin(&pause, PAUSE_BY_CLIENT, now_us - 1, true);
    pause_begin(&pause, PAUSE_FOR_CLUSTER, PAUSE_WITHOUT_END, false);
    pause_tick(&pause);
    cr_expect(pause_is_on(&pause));
    cr_expect(atomic_load(&view.paused));
    cr_expect_eq(pause_end_us(&pause), PAUSE_WITHOUT_END);
    cr_expect_eq(atomic_load(&pause.ends), 1);
    pause_end(&pause, PAUSE_FOR_CLUSTER);
    cr_expect_not(pause_is_set(&pause));
    cr_expect_not(atomic_load(&view.paused));
}

/* Two workers that each cleared one purpose could tell what they had found in the wrong order: then
 * no expired key was ever deleted again. */
Test(pause, is_cleared_by_one_worker_at_a_time) {
    struct view_state view = {0};
    struct pause pause = {.view = &view};
    pause_begin(&pause, PAUSE_BY_CLIENT, clock_monotonic_us() - 1, false);
    atomic_store(&pause.ticking, true);
    pause_tick(&pause);
    cr_expect(pause_is_set(&pause), "somebody else is at it");
    cr_expect_eq(atomic_load(&pause.ends), 0);
    atomic_store(&pause.ticking, false);
    pause_tick(&pause);
    cr_expect_not(pause_is_set(&pause));
    cr_expect_not(atomic_load(&view.paused));
    cr_expect_not(atomic_load(&pause.ticking));
    cr_expect_eq(atomic_load(&pause.ends), 1);
}
