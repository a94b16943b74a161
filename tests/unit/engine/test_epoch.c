/* Retire lists, grace periods and the watchdog, one behaviour at a time. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/memory.h"

static atomic_int destroyed;
static int order[1024];

static void count_destroyed(void *pointer) {
    (void)pointer;
    atomic_fetch_add(&destroyed, 1);
}

/* The pointer is a number: remembers the order. Only on one thread. */
static void note_destroyed(void *pointer) {
    order[atomic_fetch_add(&destroyed, 1)] = (int)(intptr_t)pointer;
}

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static void *number(int n) {
    return (void *)(intptr_t)n;
}

/* Reports quiescence until everything retired so far is safe to free: two grace periods after the
 * first report, or, as one may have ended just then, until no more come. */
static void pass_grace_periods(void) {
    struct epoch_statistics before, now;
    epoch_quiescent();
    epoch_get_statistics(&before);
    uint64_t seen = before.grace_periods;
    for (int unchanged_ms = 0; unchanged_ms < 200; unchanged_ms++) {
        sleep_ms(1);
        epoch_quiescent();
        epoch_get_statistics(&now);
        if (now.grace_periods >= before.grace_periods + 2)
            break;
        if (now.grace_periods != seen)
            unchanged_ms = 0;
        seen = now.grace_periods;
    }
    epoch_quiescent();
}

static void start(void) {
    epoch_set_looking(false);
    cr_assert_eq(epoch_start(1000, NULL, NULL), 0);
    epoch_reader_enter();
}

static void stop(void) {
    epoch_reader_leave();
    epoch_stop();
}

TestSuite(epoch, .init = start, .fini = stop, .timeout = 30);
TestSuite(epoch_bare, .timeout = 30);

Test(epoch, nothing_is_freed_without_a_quiescent_state) {
    for (int i = 0; i < 100; i++)
        epoch_retire(NULL, 10, count_destroyed);
    sleep_ms(50);
    cr_assert_eq(atomic_load(&destroyed), 0);
    cr_assert_eq(epoch_reclaim(SIZE_MAX), 100);
    cr_assert_eq(atomic_load(&destroyed), 0);
}

Test(epoch, everything_is_freed_after_two_grace_periods) {
    for (int i = 0; i < 100; i++)
        epoch_retire(NULL, 10, count_destroyed);
    pass_grace_periods();
    cr_assert_eq(atomic_load(&destroyed), 0, "a quiescent state frees nothing itself");
    cr_assert_eq(epoch_reclaim(30), 70);
    cr_assert_eq(atomic_load(&destroyed), 30);
    cr_assert_eq(epoch_reclaim(SIZE_MAX), 0);
    cr_assert_eq(atomic_load(&destroyed), 100);
}

Test(epoch, objects_are_freed_by_their_size) {
    static const size_t sizes[] = {1, 8, 9, 100, 513, 1025, 3000, 20000, 300000};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (size_t i = 0; i < SIZES; i++) /* what is allocated once and stays */
        memory_free_object(memory_alloc_object(sizes[i]), sizes[i]);
    epoch_retire_object(memory_alloc_object(8), memory_object_bytes(8));
    pass_grace_periods();
    epoch_reclaim(SIZE_MAX);
    uint64_t used = memory_used_bytes();
    for (size_t i = 0; i < SIZES; i++)
        epoch_retire_object(memory_alloc_object(sizes[i]), memory_object_bytes(sizes[i]));
    cr_assert_gt(memory_retired_bytes(), 300000);
    pass_grace_periods();
    cr_assert_eq(epoch_reclaim(SIZE_MAX), 0);
    cr_assert_eq(memory_retired_bytes(), 0);
    cr_assert_eq(memory_used_bytes(), used);
}

Test(epoch, an_offline_thread_does_not_hold_grace_periods_up) {
    epoch_retire(NULL, 10, count_destroyed);
    epoch_offline();
    cr_assert_not(epoch_is_online());
    for (int i = 0; i < 2000 && epoch_reclaim(1) > 0; i++)
        sleep_ms(1);
    cr_assert_eq(atomic_load(&destroyed), 1);
    epoch_online();
    cr_assert(epoch_is_online());
}

Test(epoch, a_retire_frees_a_few_older_entries_in_order) {
    for (int i = 0; i < 10; i++)
        epoch_retire(number(i), 1, note_destroyed);
    pass_grace_periods();
    for (int retires = 1; retires <= 5; retires++) {
        epoch_retire(number(100), 1, note_destroyed);
        cr_assert_eq(atomic_load(&destroyed), retires * EPOCH_FREES_PER_RETIRE);
    }
    epoch_retire(number(100), 1, note_destroyed);
    cr_assert_eq(atomic_load(&destroyed), 10, "only those that are safe");
    for (int i = 0; i < 10; i++)
        cr_assert_eq(order[i], i);
}

Test(epoch, the_list_grows_and_shrinks) {
    uint64_t before = memory_used_bytes();
    for (int round = 0; round < 3; round++) {
        atomic_store(&destroyed, 0);
        for (int i = 0; i < 5000; i++)
            epoch_retire(NULL, 0, count_destroyed);
        cr_assert_gt(memory_used_bytes(), before + 5000 * sizeof(void *));
        pass_grace_periods();
        cr_assert_eq(epoch_reclaim(SIZE_MAX), 0);
        cr_assert_eq(atomic_load(&destroyed), 5000);
        cr_assert_lt(memory_used_bytes(), before + 16384, "a spare chunk may stay");
    }
}

Test(epoch, retired_bytes_are_accounted) {
    uint64_t before = memory_retired_bytes();
    for (int i = 0; i < 7; i++)
        epoch_retire(NULL, 1000, count_destroyed);
    cr_assert_eq(memory_retired_bytes(), before + 7000);
    pass_grace_periods();
    epoch_reclaim(3);
    cr_assert_eq(memory_retired_bytes(), before + 4000);
    epoch_reclaim(SIZE_MAX);
    cr_assert_eq(memory_retired_bytes(), before);
}

static void retire_from_destructor(void *pointer) {
    if (pointer != NULL)
        epoch_retire((char *)pointer - 1, 1, retire_from_destructor);
    atomic_fetch_add(&destroyed, 1);
}

Test(epoch, a_destructor_may_retire) {
    for (int i = 0; i < 20; i++)
        epoch_retire(number(3), 1, retire_from_destructor);
    pass_grace_periods();
    while (epoch_reclaim(SIZE_MAX) > 0)
        pass_grace_periods();
    cr_assert_eq(atomic_load(&destroyed), 20 * 4);
}

Test(epoch, statistics_add_up) {
    struct epoch_statistics before, after;
    epoch_get_statistics(&before);
    for (int i = 0; i < 50; i++)
        epoch_retire(NULL, 1, count_destroyed);
    pass_grace_periods();
    epoch_reclaim(20);
    epoch_get_statistics(&after);
    cr_assert_eq(after.retired - before.retired, 50);
    cr_assert_eq(after.freed - before.freed, 20);
    cr_assert_geq(after.grace_periods, before.grace_periods + 2);
    cr_assert_eq(after.stalls, 0);
}

Test(epoch_bare, leaving_frees_everything_even_without_the_epoch_thread) {
    epoch_reader_enter();
    for (int i = 0; i < 1000; i++)
        epoch_retire(number(2), 5, retire_from_destructor);
    epoch_reader_leave();
    cr_assert_eq(atomic_load(&destroyed), 3000);
    cr_assert_eq(memory_retired_bytes(), 0);
    struct epoch_statistics statistics;
    epoch_get_statistics(&statistics);
    cr_assert_eq(statistics.retired, 3000);
    cr_assert_eq(statistics.freed, 3000);
}

Test(epoch_bare, a_single_reader_frees_at_once) {
    epoch_set_single_reader(true);
    epoch_reader_enter();
    for (int i = 1; i <= 10; i++) {
        epoch_retire(NULL, 5, count_destroyed);
        cr_assert_eq(atomic_load(&destroyed), i);
    }
    cr_assert_eq(memory_retired_bytes(), 0);
    cr_assert_eq(epoch_reclaim(1), 0);
    /* And back, as if a second one were about to start. */
    epoch_set_single_reader(false);
    epoch_retire(NULL, 5, count_destroyed);
    epoch_quiescent();
    cr_assert_eq(atomic_load(&destroyed), 10);
    epoch_reader_leave();
    cr_assert_eq(atomic_load(&destroyed), 11);
}

/* --- Another reader
 * ------------------------------------------------------------------------------------- */

static sem_t reader_ready, reader_may_report;

static void *slow_reader(void *unused) {
    epoch_reader_enter();
    sem_post(&reader_ready);
    sem_wait(&reader_may_report); /* online all the time: a fault, in a server */
    epoch_reader_leave();
    return unused;
}

Test(epoch, another_reader_holds_the_memory_back) {
    pthread_t thread;
    sem_init(&reader_ready, 0, 0);
    sem_init(&reader_may_report, 0, 0);
    pthread_create(&thread, NULL, slow_reader, NULL);
    sem_wait(&reader_ready);
    epoch_retire(NULL, 1, count_destroyed);
    for (int i = 0; i < 50; i++) {
        epoch_quiescent();
        cr_assert_eq(epoch_reclaim(1), 1);
        sleep_ms(1);
    }
    sem_post(&reader_may_report);
    pass_grace_periods();
    cr_assert_eq(epoch_reclaim(1), 0);
    pthread_join(thread, NULL);
}

static atomic_int stall_calls;
static _Atomic uint64_t stall_waited_ms;
static atomic_int stall_context;

static void on_stall(uint64_t waited_ms, void *context) {
    atomic_store(&stall_waited_ms, waited_ms);
    atomic_fetch_add((atomic_int *)context, 1);
    atomic_fetch_add(&stall_calls, 1);
}

Test(epoch_bare, the_watchdog_reports_a_reader_that_does_not) {
    epoch_set_looking(false);
    pthread_t thread;
    sem_init(&reader_ready, 0, 0);
    sem_init(&reader_may_report, 0, 0);
    cr_assert_eq(epoch_start(30, on_stall, &stall_context), 0);
    epoch_reader_enter();

    /* Healthy grace periods, the watchdog awake and asleep: no report. */
    for (int i = 0; i < 5; i++) {
        epoch_retire(NULL, 1, count_destroyed);
        pass_grace_periods();
        sleep_ms(i * 20);
        epoch_quiescent();
    }
    int early = atomic_load(&stall_calls);

    pthread_create(&thread, NULL, slow_reader, NULL);
    sem_wait(&reader_ready);
    epoch_retire(NULL, 1, count_destroyed);
    epoch_offline();
    for (int i = 0; i < 5000 && atomic_load(&stall_calls) < early + 3; i++)
        sleep_ms(1);
    cr_assert_geq(atomic_load(&stall_calls), early + 3);
    cr_assert_geq(atomic_load(&stall_waited_ms), 90);
    cr_assert_eq(atomic_load(&stall_context), atomic_load(&stall_calls));
    sem_post(&reader_may_report);
    pthread_join(thread, NULL);
    epoch_online();
    pass_grace_periods();
    cr_assert_eq(epoch_reclaim(SIZE_MAX), 0);

    struct epoch_statistics statistics;
    epoch_get_statistics(&statistics);
    cr_assert_eq((int)statistics.stalls, atomic_load(&stall_calls));
    epoch_reader_leave();
    epoch_stop();
}

/* --- Start, stop, idle
 * ---------------------------------------------------------------------------------- */

Test(epoch_bare, may_be_started_again) {
    for (int i = 1; i <= 3; i++) {
        start();
        epoch_retire(NULL, 1, count_destroyed);
        pass_grace_periods();
        epoch_reclaim(1);
        cr_assert_eq(atomic_load(&destroyed), i);
        epoch_retire(NULL, 1, count_destroyed);
        epoch_reader_leave();
        atomic_fetch_sub(&destroyed, 1);
        epoch_stop();
    }
    epoch_stop(); /* not running: nothing happens */
}

static uint64_t process_cpu_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

Test(epoch_bare, an_idle_process_costs_nothing) {
    cr_assert_eq(epoch_start(20, NULL, NULL), 0);
    epoch_reader_enter();
    epoch_retire(NULL, 1, count_destroyed);
    pass_grace_periods();
    epoch_offline();
    sleep_ms(100); /* the watchdog goes to sleep */
    struct epoch_statistics before, after;
    epoch_get_statistics(&before);
    uint64_t cpu_us = process_cpu_us();
    sleep_ms(500);
    cpu_us = process_cpu_us() - cpu_us;
    epoch_get_statistics(&after);
    cr_assert_eq(after.grace_periods, before.grace_periods);
    cr_assert_lt(cpu_us, 2000, "%lu us of CPU in 500 ms", (unsigned long)cpu_us);
    epoch_online();
    epoch_reader_leave();
    epoch_stop();
}

Test(epoch, grace_periods_keep_a_distance) {
    struct epoch_statistics before, after;
    epoch_get_statistics(&before);
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    long elapsed_ms;
    do {
        epoch_retire(NULL, 1, count_destroyed);
        epoch_quiescent();
        clock_gettime(CLOCK_MONOTONIC, &now);
        elapsed_ms = (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000;
    } while (elapsed_ms < 200);
    epoch_get_statistics(&after);
    cr_assert_leq(after.grace_periods - before.grace_periods, (uint64_t)elapsed_ms + 2);
    cr_assert_gt(after.grace_periods, before.grace_periods);
}

/* --- Looking at the others ----------------------------------------------------------------------
 */

static sem_t other_may_go, other_did;

/* Online; passes a quiescent state, then goes offline, then leaves: a step per post. */
static void *step_by_step(void *unused) {
    (void)unused;
    epoch_reader_enter();
    sem_post(&other_did);
    sem_wait(&other_may_go);
    epoch_quiescent();
    sem_post(&other_did);
    sem_wait(&other_may_go);
    epoch_offline();
    sem_post(&other_did);
    sem_wait(&other_may_go);
    epoch_reader_leave();
    return NULL;
}

static void other_step(void) {
    sem_post(&other_may_go);
    sem_wait(&other_did);
}

Test(epoch_bare, looking_frees_as_soon_as_the_others_have_moved_on) {
    pthread_t other;
    sem_init(&other_may_go, 0, 0);
    sem_init(&other_did, 0, 0);
    cr_assert_eq(epoch_start(0, NULL, NULL), 0);
    epoch_reader_enter();
    epoch_retire(NULL, 10, count_destroyed);
    epoch_quiescent();
    cr_assert_eq(epoch_reclaim(SIZE_MAX), 0, "alone: nobody can hold it");
    cr_assert_eq(pthread_create(&other, NULL, step_by_step, NULL), 0);
    sem_wait(&other_did);
    epoch_retire(NULL, 10, count_destroyed);
    epoch_quiescent();
    for (int i = 0; i < 10; i++, epoch_quiescent())
        cr_assert_eq(epoch_reclaim(SIZE_MAX), 1, "the other is online and has not moved on");
    other_step();
    epoch_quiescent();
    cr_assert_eq(epoch_reclaim(SIZE_MAX), 0, "it has passed a quiescent state");
    epoch_retire(NULL, 10, count_destroyed);
    epoch_quiescent();
    cr_assert_eq(epoch_reclaim(SIZE_MAX), 1);
    other_step();
    epoch_quiescent();
    cr_assert_eq(epoch_reclaim(SIZE_MAX), 0, "it is offline");
    epoch_retire(NULL, 10, count_destroyed);
    epoch_quiescent();
    cr_assert_eq(epoch_reclaim(SIZE_MAX), 0, "it stays offline");
    cr_assert_eq(atomic_load(&destroyed), 4);
    sem_post(&other_may_go);
    pthread_join(other, NULL);
    epoch_reader_leave();
    epoch_stop();
}

/* Registers, and is offline until it ends; or comes and goes. */
static atomic_int bystanders;
static atomic_bool bystanders_end;

static void *stand_by(void *busy) {
    epoch_reader_enter();
    atomic_fetch_add(&bystanders, 1);
    if (busy == NULL)
        epoch_offline();
    while (!atomic_load(&bystanders_end)) {
        if (busy != NULL)
            epoch_quiescent();
        sleep_ms(1);
    }
    if (busy == NULL)
        epoch_online();
    epoch_reader_leave();
    return NULL;
}

Test(epoch_bare, looking_is_enough_with_many_readers) {
    enum { READERS = 60, BUSY = 20 };
    pthread_t threads[READERS];
    struct epoch_statistics statistics;
    cr_assert_eq(epoch_start(0, NULL, NULL), 0);
    epoch_reader_enter();
    for (int i = 0; i < READERS; i++)
        pthread_create(&threads[i], NULL, stand_by, i < BUSY ? &bystanders : NULL);
    while (atomic_load(&bystanders) < READERS)
        sleep_ms(1);
    /* Of a round in which the machine let the others sleep for long nothing is expected. */
    int looked = 0;
    for (int round = 1; looked < 5; round++) {
        cr_assert_leq(round, 200, "the readers' states never say it sooner than grace periods");
        epoch_get_statistics(&statistics);
        uint64_t before = statistics.grace_periods;
        epoch_retire(NULL, 10, count_destroyed);
        epoch_quiescent();
        /* Slowly, so that they are not asked in vain so often that grace periods are wanted. */
        while (epoch_reclaim(SIZE_MAX) > 0) {
            sleep_ms(3);
            epoch_quiescent();
        }
        cr_assert_eq(atomic_load(&destroyed), round);
        epoch_get_statistics(&statistics);
        looked += statistics.grace_periods == before;
    }
    atomic_store(&bystanders_end, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    epoch_reader_leave();
    epoch_stop();
}

Test(epoch_bare, who_does_not_report_makes_grace_periods_wanted) {
    pthread_t other;
    struct epoch_statistics statistics = {0};
    sem_init(&other_may_go, 0, 0);
    sem_init(&other_did, 0, 0);
    cr_assert_eq(epoch_start(0, NULL, NULL), 0);
    epoch_reader_enter();
    cr_assert_eq(pthread_create(&other, NULL, step_by_step, NULL), 0);
    sem_wait(&other_did);
    epoch_retire(NULL, 10, count_destroyed);
    for (int i = 0; i < 100; i++)
        epoch_quiescent();
    cr_assert_eq(epoch_reclaim(SIZE_MAX), 1);
    other_step();
    other_step(); /* offline */
    for (int i = 0; i < 5000 && statistics.grace_periods == 0; i++) {
        epoch_quiescent();
        sleep_ms(1);
        epoch_get_statistics(&statistics);
    }
    cr_assert_geq(statistics.grace_periods, 1);
    cr_assert_eq(epoch_reclaim(SIZE_MAX), 0);
    sem_post(&other_may_go);
    pthread_join(other, NULL);
    epoch_reader_leave();
    epoch_stop();
}

static void destroy_slowly(void *pointer) {
    uint64_t end_us = clock_monotonic_us() + 20;
    while (clock_monotonic_us() < end_us)
        ;
    count_destroyed(pointer);
}

Test(epoch_bare, a_backlog_is_freed_by_time) {
    enum { ENTRIES = 5000 };
    epoch_reader_enter();
    for (int i = 0; i < ENTRIES; i++)
        epoch_retire(NULL, 10, destroy_slowly);
    epoch_quiescent();
    cr_assert_gt(epoch_reclaim_for(1000), ENTRIES / 2);
    cr_assert_geq(atomic_load(&destroyed), EPOCH_RECLAIM_STEP);
    cr_assert_eq(epoch_reclaim_for(60000000), 0);
    cr_assert_eq(atomic_load(&destroyed), ENTRIES);
    cr_assert_eq(epoch_reclaim_for(0), 0);
    epoch_reader_leave();
}
