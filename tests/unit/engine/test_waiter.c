/* Queues of waiters: each is resumed or cancelled, never both. */
#include <criterion/criterion.h>

#include "engine/waiter.h"

static struct waiter *resumed[8];
static int resumed_count;

static void note_resumed(struct waiter *waiter) {
    resumed[resumed_count++] = waiter;
}

TestSuite(waiter, .timeout = 30);

Test(waiter, the_end_resumes_all_in_order) {
    struct waiter_queue queue = WAITER_QUEUE_INITIALIZER;
    struct waiter waiters[3] = {
        {.resume = note_resumed}, {.resume = note_resumed}, {.resume = note_resumed}};
    bool over = false;
    for (int i = 0; i < 3; i++)
        cr_assert(waiter_enqueue(&queue, &waiters[i], &over));
    cr_assert(waiter_cancel(&waiters[1]));
    cr_assert_not(waiter_cancel(&waiters[1]), "only once");
    waiter_queue_end(&queue, &over);
    cr_assert(over);
    cr_assert_eq(resumed_count, 2);
    cr_assert_eq(resumed[0], &waiters[0]);
    cr_assert_eq(resumed[1], &waiters[2]);
    cr_assert_not(waiter_cancel(&waiters[0]), "resumed already");
    cr_assert_null(queue.first);
}

Test(waiter, nobody_waits_for_what_is_over) {
    struct waiter_queue queue = WAITER_QUEUE_INITIALIZER;
    struct waiter waiter = {.resume = note_resumed};
    bool over = false;
    waiter_queue_end(&queue, &over);
    cr_assert_not(waiter_enqueue(&queue, &waiter, &over));
    cr_assert_not(waiter_cancel(&waiter));
    cr_assert_eq(resumed_count, 0);
}

Test(waiter, who_never_waited_has_nothing_to_cancel) {
    struct waiter waiter = {.resume = note_resumed};
    cr_assert_not(waiter_cancel(&waiter));
}
