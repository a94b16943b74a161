/* The one FIFO. */
#include <criterion/criterion.h>

#include "engine/patience.h"

static int resumed_count;
static struct waiter *resumed[16];

static void note_resumed(struct waiter *waiter) {
    resumed[resumed_count++] = waiter;
}

TestSuite(patience, .timeout = 30);

Test(patience, the_first_owns_it_at_once) {
    struct waiter waiter = {.resume = note_resumed};
    cr_assert_not(patience_is_owned());
    cr_assert(patience_enter(&waiter));
    cr_assert(patience_is_owned());
    patience_leave(&waiter);
    cr_assert_not(patience_is_owned());
    cr_assert(patience_enter(&waiter));
    patience_leave(&waiter);
    cr_assert_eq(resumed_count, 0);
}

Test(patience, the_others_own_it_in_order) {
    struct waiter waiters[5] = {0};
    for (int i = 0; i < 5; i++) {
        waiters[i].resume = note_resumed;
        cr_assert_eq(patience_enter(&waiters[i]), i == 0);
    }
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(resumed_count, i);
        patience_leave(&waiters[i]);
        if (i < 4)
            cr_assert_eq(resumed[i], &waiters[i + 1]);
    }
    cr_assert_eq(resumed_count, 4);
    cr_assert_not(patience_is_owned());
}

Test(patience, a_queued_waiter_may_be_cancelled) {
    struct waiter waiters[4] = {0};
    for (int i = 0; i < 4; i++) {
        waiters[i].resume = note_resumed;
        patience_enter(&waiters[i]);
    }
    cr_assert_not(waiter_cancel(&waiters[0]), "an owner leaves");
    cr_assert(waiter_cancel(&waiters[1]));
    cr_assert(waiter_cancel(&waiters[3]));
    patience_leave(&waiters[0]);
    cr_assert_eq(resumed_count, 1);
    cr_assert_eq(resumed[0], &waiters[2]);
    cr_assert_not(waiter_cancel(&waiters[2]), "it owns patience now");
    cr_assert_not(patience_enter(&waiters[1]), "the node may be used again");
    patience_leave(&waiters[2]);
    cr_assert_eq(resumed[1], &waiters[1]);
    patience_leave(&waiters[1]);
    cr_assert_not(patience_is_owned());
}
