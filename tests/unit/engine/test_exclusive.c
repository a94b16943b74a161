/* Exclusive sections against threads that run, sleep, stop, join and leave. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "engine/patience.h"
#include "engine/slot.h"

TestSuite(exclusive, .timeout = 60);

static void sleep_us(long us) {
    nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
}

static uint64_t thread_cpu_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int ran;

static void run_once(void *context) {
    ran += *(int *)context;
}

Test(exclusive, a_section_without_others_just_runs) {
    int add = 3;
    exclusive_run_blocking(run_once, &add);
    exclusive_join();
    exclusive_point();
    exclusive_sleep_begin();
    exclusive_sleep_end();
    struct waiter waiter = {0};
    cr_assert(patience_enter(&waiter));
    exclusive_run(run_once, &add);
    patience_leave(&waiter);
    exclusive_leave();
    exclusive_run_blocking(run_once, &add);
    cr_assert_eq(ran, 9);
    cr_assert_eq(exclusive_count(), 3);
}

/* A joined thread that blocks for patience may wait behind a connection of its own, which only it
 * would resume. */
Test(exclusive, a_joined_thread_may_not_block_for_a_section, .signal = SIGABRT) {
    int add = 1;
    exclusive_join();
    exclusive_run_blocking(run_once, &add);
}

/* --- One other thread
 * ----------------------------------------------------------------------------------- */

enum { OTHER_STARTING, OTHER_RUNNING, OTHER_ASLEEP, OTHER_AT_POINT, OTHER_WOKEN, OTHER_LEFT };
static atomic_int other_at, other_may;

static void wait_for(atomic_int *variable, int value) {
    while (atomic_load(variable) < value)
        sleep_us(100);
}

static void *other_thread(void *unused) {
    epoch_reader_enter();
    exclusive_join();
    atomic_store(&other_at, OTHER_RUNNING);
    wait_for(&other_may, OTHER_ASLEEP);
    exclusive_sleep_begin();
    atomic_store(&other_at, OTHER_ASLEEP);
    epoch_offline();
    wait_for(&other_may, OTHER_WOKEN);
    exclusive_sleep_end();
    atomic_store(&other_at, OTHER_WOKEN);
    epoch_online();
    wait_for(&other_may, OTHER_LEFT);
    exclusive_leave();
    atomic_store(&other_at, OTHER_LEFT);
    epoch_reader_leave();
    return unused;
}

static atomic_bool section_entered, section_may_end;

static void long_section(void *unused) {
    (void)unused;
    atomic_store(&section_entered, true);
    while (!atomic_load(&section_may_end))
        sleep_us(100);
}

static void *section_thread(void *unused) {
    exclusive_run_blocking(long_section, NULL);
    return unused;
}

Test(exclusive, waits_for_a_running_thread_and_not_for_a_sleeping_one) {
    pthread_t other, section;
    pthread_create(&other, NULL, other_thread, NULL);
    wait_for(&other_at, OTHER_RUNNING);
    pthread_create(&section, NULL, section_thread, NULL);
    sleep_us(20000);
    cr_assert_not(atomic_load(&section_entered), "the other thread runs");

    atomic_store(&other_may, OTHER_ASLEEP);
    while (!atomic_load(&section_entered))
        sleep_us(100);
    atomic_store(&other_may, OTHER_WOKEN);
    sleep_us(20000);
    cr_assert_eq(atomic_load(&other_at), OTHER_ASLEEP, "it may not come back yet");

    atomic_store(&section_may_end, true);
    wait_for(&other_at, OTHER_WOKEN);
    pthread_join(section, NULL);
    atomic_store(&other_may, OTHER_LEFT);
    pthread_join(other, NULL);
}

Test(exclusive, leaving_lets_a_section_begin) {
    pthread_t other, section;
    atomic_store(&other_may, OTHER_WOKEN);
    pthread_create(&other, NULL, other_thread, NULL);
    wait_for(&other_at, OTHER_WOKEN);
    pthread_create(&section, NULL, section_thread, NULL);
    sleep_us(10000);
    cr_assert_not(atomic_load(&section_entered));
    atomic_store(&other_may, OTHER_LEFT);
    while (!atomic_load(&section_entered))
        sleep_us(100);
    atomic_store(&section_may_end, true);
    pthread_join(section, NULL);
    pthread_join(other, NULL);
}

Test(exclusive, joining_waits_for_the_end_of_a_section) {
    pthread_t other, section;
    pthread_create(&section, NULL, section_thread, NULL);
    while (!atomic_load(&section_entered))
        sleep_us(100);
    pthread_create(&other, NULL, other_thread, NULL);
    sleep_us(20000);
    cr_assert_eq(atomic_load(&other_at), OTHER_STARTING);
    atomic_store(&section_may_end, true);
    wait_for(&other_at, OTHER_RUNNING);
    atomic_store(&other_may, OTHER_LEFT);
    pthread_join(other, NULL);
    pthread_join(section, NULL);
}

/* --- A section while others stop
 * ------------------------------------------------------------------------ */

static atomic_bool stopping_thread_joined;
static uint64_t stopped_cpu_us;

static void *stopping_thread(void *unused) {
    epoch_reader_enter();
    exclusive_join();
    atomic_store(&stopping_thread_joined, true);
    while (!atomic_load(&exclusive_gate.requested))
        sleep_us(100);
    uint64_t cpu_us = thread_cpu_us();
    exclusive_point();
    stopped_cpu_us = thread_cpu_us() - cpu_us;
    cr_assert(epoch_is_online());
    exclusive_leave();
    epoch_reader_leave();
    return unused;
}

static void synchronize_and_dally(void *unused) {
    (void)unused;
    epoch_synchronize(); /* a stopped reader is offline */
    sleep_us(100000);
}

Test(exclusive, a_stopped_thread_is_offline_and_costs_nothing) {
    pthread_t other;
    pthread_create(&other, NULL, stopping_thread, NULL);
    while (!atomic_load(&stopping_thread_joined))
        sleep_us(100);
    exclusive_run_blocking(synchronize_and_dally, NULL);
    pthread_join(other, NULL);
    cr_assert_lt(stopped_cpu_us, 5000);
}

/* --- Many
 * -----------------------------------------------------------------------------------------------
 */

#define MANY     64
#define SECTIONS 200

static atomic_bool many_quit;
static atomic_int many_joined;
static struct {
    _Alignas(64) atomic_int inside; /* in a command */
    long commands;
} many[MANY];
static long many_sections;

static void *many_thread(void *argument) {
    size_t me = (size_t)argument;
    epoch_reader_enter();
    exclusive_join();
    atomic_fetch_add(&many_joined, 1);
    for (unsigned turn = 0; !atomic_load(&many_quit); turn++) {
        exclusive_point();
        atomic_store_explicit(&many[me].inside, 1, memory_order_relaxed);
        many[me].commands++;
        atomic_store_explicit(&many[me].inside, 0, memory_order_relaxed);
        epoch_quiescent();
        if (turn % 4 == me % 4) {
            exclusive_sleep_begin();
            epoch_offline();
            sleep_us(200);
            epoch_online();
            exclusive_sleep_end();
        }
    }
    exclusive_leave();
    epoch_reader_leave();
    return NULL;
}

static void look_at_all(void *sum) {
    for (int i = 0; i < MANY; i++) {
        cr_assert_eq(atomic_load_explicit(&many[i].inside, memory_order_relaxed), 0);
        *(long *)sum += many[i].commands; /* not atomic: ThreadSanitizer knows if it is ordered */
        many[i].commands++;
    }
    many_sections++;
}

Test(exclusive, holds_up_with_64_threads) {
    pthread_t threads[MANY];
    long sum = 0;
    for (size_t i = 0; i < MANY; i++)
        pthread_create(&threads[i], NULL, many_thread, (void *)i);
    wait_for(&many_joined, MANY);
    for (int i = 0; i < SECTIONS; i++) {
        exclusive_run_blocking(look_at_all, &sum);
        if (i % 8 == 0)
            sleep_us(500);
    }
    atomic_store(&many_quit, true);
    for (size_t i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(many_sections, SECTIONS);
    cr_assert_gt(sum, 0);
}
