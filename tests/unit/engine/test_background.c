/* The queue for work that nobody waits for. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include <criterion/criterion.h>

#include "engine/background.h"
#include "engine/epoch.h"

static int done[100];
static atomic_int done_count;
static pthread_t job_thread;

static void note(void *argument) {
    done[atomic_fetch_add(&done_count, 1)] = (int)(intptr_t)argument;
    job_thread = pthread_self();
}

TestSuite(background, .timeout = 30);

Test(background, jobs_run_in_order_on_another_thread) {
    cr_assert_eq(epoch_start(0, NULL, NULL), 0);
    cr_assert_eq(background_start(), 0);
    for (int i = 0; i < 100; i++)
        background_submit(note, (void *)(intptr_t)i);
    background_drain();
    cr_assert_eq(atomic_load(&done_count), 100);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(done[i], i);
    cr_assert_not(pthread_equal(job_thread, pthread_self()));
    cr_assert_eq(background_pending(), 0);
    background_drain(); /* nothing to wait for */
    background_stop();
    epoch_stop();
}

Test(background, without_the_thread_jobs_run_at_once) {
    background_submit(note, (void *)(intptr_t)7);
    cr_assert_eq(atomic_load(&done_count), 1);
    cr_assert(pthread_equal(job_thread, pthread_self()));
    background_drain();
}

static sem_t may_go_on;

static void wait_for_semaphore(void *argument) {
    sem_wait(argument);
}

static void submit_another(void *argument) {
    background_submit(note, argument);
}

Test(background, stopping_runs_what_is_queued) {
    sem_init(&may_go_on, 0, 0);
    cr_assert_eq(epoch_start(0, NULL, NULL), 0);
    cr_assert_eq(background_start(), 0);
    background_submit(wait_for_semaphore, &may_go_on);
    background_submit(note, (void *)(intptr_t)1);
    background_submit(submit_another, (void *)(intptr_t)2);
    cr_assert_geq(background_pending(), 3);
    cr_assert_eq(atomic_load(&done_count), 0);
    sem_post(&may_go_on);
    background_stop();
    epoch_stop();
    cr_assert_eq(atomic_load(&done_count), 2);
}

static void synchronize(void *argument) {
    (void)argument;
    epoch_synchronize();
}

Test(background, a_reader_that_drains_does_not_block_grace_periods) {
    cr_assert_eq(epoch_start(0, NULL, NULL), 0);
    cr_assert_eq(background_start(), 0);
    epoch_reader_enter();
    background_submit(synchronize, NULL);
    background_drain();
    cr_assert(epoch_is_online());
    epoch_reader_leave();
    background_stop();
    epoch_stop();
}
