/* How long a command has waited, by which it becomes impatient. */
#include <criterion/criterion.h>
#include <unistd.h>

#include "engine/clock.h"
#include "server/dispatch/wait.h"

static struct mailbox mailbox;
static unsigned resumed;

static void note_resumed(struct wait *wait) {
    (void)wait;
    resumed++;
}

/* Work that takes a while is nothing to be impatient about: a command that was blocked for hours
 * must not stop everybody who has a token when it comes back. */
Test(wait, time_begins_anew_when_work_is_over) {
    clock_init();
    cr_assert_eq(mailbox_init(&mailbox), 0);
    struct waiter_queue queue = WAITER_QUEUE_INITIALIZER;
    bool done = false;
    struct wait wait;
    wait_init(&wait, &mailbox, note_resumed);
    cr_assert_eq(wait_elapsed_us(&wait), 0);
    cr_assert(wait_for_work(&wait, &queue, &done));
    uint64_t began_us = clock_monotonic_us();
    usleep(20000);
    cr_assert_geq(wait_elapsed_us(&wait), 20000 - 1000);
    waiter_queue_end(&queue, &done);
    uint64_t over_us = clock_monotonic_us();
    cr_assert_eq(mailbox_drain(&mailbox), 1);
    cr_assert_eq(resumed, 1);
    cr_assert_eq(wait.state, WAIT_RETRY);
    cr_assert_leq(wait_elapsed_us(&wait), clock_monotonic_us() - over_us);
    /* The same for who finds that it is over already. */
    wait.started_us = began_us;
    cr_assert_not(wait_for_work(&wait, &queue, &done));
    cr_assert_eq(wait.state, WAIT_RETRY);
    cr_assert_leq(wait_elapsed_us(&wait), clock_monotonic_us() - over_us);
    wait_end(&wait);
    mailbox_destroy(&mailbox);
}
