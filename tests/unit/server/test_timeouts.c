/* Timeouts come due in the order of their times, whatever came and went before. */
#include <criterion/criterion.h>

#include "server/dispatch/timeouts.h"

#define TIMEOUTS 500

static struct timeouts timeouts;
static struct timeout all[TIMEOUTS];

static unsigned long next(unsigned long *random) {
    *random = *random * 6364136223846793005ul + 1442695040888963407ul;
    return *random >> 33;
}

Test(timeouts, none_is_due_of_none) {
    cr_assert_eq(timeouts_due_us(&timeouts), UINT64_MAX);
    cr_assert_null(timeouts_take_due(&timeouts, UINT64_MAX));
    timeouts_remove(&timeouts, &all[0]); /* it is not there */
    cr_assert_eq(timeouts_count(&timeouts), 0);
}

Test(timeouts, only_what_is_due_is_taken) {
    all[0].due_us = 20, all[1].due_us = 10;
    timeouts_add(&timeouts, &all[0]);
    timeouts_add(&timeouts, &all[1]);
    cr_assert_eq(timeouts_due_us(&timeouts), 10);
    cr_assert_null(timeouts_take_due(&timeouts, 9));
    cr_assert_eq(timeouts_take_due(&timeouts, 10), &all[1]);
    cr_assert_null(timeouts_take_due(&timeouts, 10));
    cr_assert_eq(timeouts_take_due(&timeouts, 30), &all[0]);
    timeouts_destroy(&timeouts);
}

/* Against a plain model: the earliest of those that are marked as there. */
Test(timeouts, random_comings_and_goings) {
    unsigned long random = 7;
    unsigned there = 0;
    for (unsigned step = 0; step < 20000; step++) {
        struct timeout *timeout = &all[next(&random) % TIMEOUTS];
        if (timeout->place) {
            timeouts_remove(&timeouts, timeout);
            there--;
        } else {
            timeout->due_us = next(&random) % 1000;
            timeouts_add(&timeouts, timeout);
            there++;
        }
        cr_assert_eq(timeouts_count(&timeouts), there);
        uint64_t earliest = UINT64_MAX;
        for (unsigned i = 0; i < TIMEOUTS && step % 32 == 0; i++)
            if (all[i].place && all[i].due_us < earliest)
                earliest = all[i].due_us;
        if (step % 32 == 0)
            cr_assert_eq(timeouts_due_us(&timeouts), earliest);
    }
    uint64_t last_us = 0;
    for (struct timeout *due; (due = timeouts_take_due(&timeouts, 2000)); there--) {
        cr_assert_geq(due->due_us, last_us);
        cr_assert_eq(due->place, 0);
        last_us = due->due_us;
    }
    cr_assert_eq(there, 0);
    timeouts_destroy(&timeouts);
}
