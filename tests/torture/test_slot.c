/* Tokens, optimistic reads and reservations under contention. Data under a token is not atomic, so
 * ThreadSanitizer sees a missing order as well as the sums do. Parking, patience and exclusive
 * sections together: test_exclusive.c. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/slot.h"

#define THREADS_MAX 8
#define DURATION_MS 700

static struct slot slots[SLOT_COUNT];

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t seed_of(const void *thread_number) {
    return 0x9e3779b97f4a7c15 * ((uint64_t)(uintptr_t)thread_number + 1);
}

static void serve_all(void) {
    for (unsigned i = 0; i < SLOT_COUNT; i++)
        atomic_store_explicit(&slots[i].word, SLOT_SERVING, memory_order_relaxed);
}

static void run_threads(size_t count, void *(*function)(void *)) {
    pthread_t threads[THREADS_MAX];
    for (size_t i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, function, (void *)i);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

TestSuite(torture_slot, .init = serve_all, .timeout = 60);

/* --- Mutual exclusion
 * ----------------------------------------------------------------------------------- */

#define COUNTERS 4
static long counters[COUNTERS]; /* each under the token of its slot */
static _Atomic long counted;

static void *counting_thread(void *number) {
    uint64_t random = seed_of(number);
    uint64_t end_ms = now_ms() + DURATION_MS;
    long mine = 0;
    while (now_ms() < end_ms) {
        unsigned n = next_random(&random) % COUNTERS;
        if (next_random(&random) % 8 == 0) {
            slot_acquire_waiting(&slots[n]);
        } else if (!slot_try_acquire(&slots[n])) {
            sched_yield();
            continue;
        }
        long value = counters[n];
        if (next_random(&random) % 64 == 0)
            sched_yield(); /* lose the core while holding */
        counters[n] = value + 1;
        slot_release(&slots[n]);
        mine++;
    }
    atomic_fetch_add(&counted, mine);
    return NULL;
}

static void count_with(size_t threads) {
    run_threads(threads, counting_thread);
    long sum = 0;
    for (int i = 0; i < COUNTERS; i++) {
        uint64_t word = atomic_load(&slots[i].word);
        cr_assert_eq(word / SLOT_VERSION_ONE, (uint64_t)counters[i], "one version per token");
        cr_assert_eq(word % SLOT_VERSION_ONE, SLOT_SERVING);
        sum += counters[i];
    }
    cr_assert_eq(sum, atomic_load(&counted));
    cr_assert_gt(sum, 0);
}

Test(torture_slot, one_holder_2) {
    count_with(2);
}

Test(torture_slot, one_holder_8) {
    count_with(8);
}

/* --- Optimistic reads of several slots
 * ------------------------------------------------------------------ */

#define ACCOUNTS 6
#define MONEY    1000
static _Atomic long accounts[ACCOUNTS]; /* one per slot, written under its token */
static _Atomic long reads_valid;

static void transfer(uint64_t *random) {
    uint16_t a = (uint16_t)(next_random(random) % ACCOUNTS);
    uint16_t b = (uint16_t)(next_random(random) % ACCOUNTS);
    if (a == b)
        return;
    const uint16_t numbers[] = {a < b ? a : b, a < b ? b : a};
    uint32_t busy;
    if (!slots_try_acquire(slots, numbers, 2, &busy))
        return;
    long amount = (long)(next_random(random) % 10);
    long from = atomic_load_explicit(&accounts[a], memory_order_relaxed);
    long to = atomic_load_explicit(&accounts[b], memory_order_relaxed);
    atomic_store_explicit(&accounts[a], from - amount, memory_order_relaxed);
    if (next_random(random) % 32 == 0)
        sched_yield(); /* in the middle */
    atomic_store_explicit(&accounts[b], to + amount, memory_order_relaxed);
    slots_release(slots, numbers, 2);
}

static bool read_all(long *sum, bool slowly) {
    uint64_t words[ACCOUNTS];
    for (int i = 0; i < ACCOUNTS; i++) {
        if (!slot_read_begin(&slots[i], &words[i]))
            return false;
    }
    *sum = 0;
    for (int i = 0; i < ACCOUNTS; i++) {
        *sum += atomic_load_explicit(&accounts[i], memory_order_relaxed);
        if (slowly && i == ACCOUNTS / 2)
            sched_yield(); /* writers come and go meanwhile */
    }
    for (int i = 0; i < ACCOUNTS; i++) {
        if (!slot_read_validate(&slots[i], words[i]))
            return false;
    }
    return true;
}

static void *account_thread(void *number) {
    uint64_t random = seed_of(number);
    uint64_t end_ms = now_ms() + DURATION_MS;
    long valid = 0;
    while (now_ms() < end_ms) {
        long sum;
        if ((uintptr_t)number % 2 == 0 || next_random(&random) % 4 == 0)
            transfer(&random);
        if (read_all(&sum, next_random(&random) % 16 == 0)) {
            if (sum != (long)ACCOUNTS * MONEY)
                abort();
            valid++;
        }
    }
    atomic_fetch_add(&reads_valid, valid);
    return NULL;
}

static void transfer_with(size_t threads) {
    for (int i = 0; i < ACCOUNTS; i++)
        atomic_store(&accounts[i], MONEY);
    run_threads(threads, account_thread);
    long sum;
    cr_assert(read_all(&sum, false));
    cr_assert_eq(sum, (long)ACCOUNTS * MONEY);
    cr_assert_gt(atomic_load(&reads_valid), 0);
}

Test(torture_slot, reads_are_consistent_2) {
    transfer_with(2);
}

Test(torture_slot, reads_are_consistent_8) {
    transfer_with(8);
}

/* --- A write and a read of another slot do not pass each other
 * ------------------------------------------ */

#define ROUNDS 20000
static _Atomic int written[2]; /* by slot; a relaxed store under the token */
static _Atomic int missed[2];  /* by thread: the round in which it saw nothing */
static atomic_int arrived;

static void meet(int round, int meeting) {
    atomic_fetch_add(&arrived, 1);
    for (int spins = 0; atomic_load(&arrived) < 2 * (3 * round + meeting); spins++) {
        if (spins > 200)
            sched_yield();
    }
}

static void write_then_read(int mine, int round) {
    if (!slot_try_acquire(&slots[mine]))
        abort(); /* nobody else takes it */
    atomic_store_explicit(&written[mine], round, memory_order_relaxed);
    slot_release(&slots[mine]);
    uint64_t word;
    int seen;
    do {
        while (!slot_read_begin(&slots[1 - mine], &word))
            ;
        seen = atomic_load_explicit(&written[1 - mine], memory_order_relaxed);
    } while (!slot_read_validate(&slots[1 - mine], word));
    if (seen != round)
        atomic_store_explicit(&missed[mine], round, memory_order_relaxed);
}

static void *crossing_thread(void *number) {
    int mine = (int)(uintptr_t)number;
    for (int round = 1; round <= ROUNDS; round++) {
        meet(round - 1, 1);
        write_then_read(mine, round);
        meet(round - 1, 2);
        if (atomic_load(&missed[0]) == round && atomic_load(&missed[1]) == round)
            abort(); /* no order of the two commands explains it */
        meet(round - 1, 3);
    }
    return NULL;
}

Test(torture_slot, one_of_two_crossing_commands_sees_the_other) {
    run_threads(2, crossing_thread);
    cr_assert_eq(atomic_load(&written[0]), ROUNDS);
    cr_assert_eq(atomic_load(&written[1]), ROUNDS);
}

/* --- Reservations
 * --------------------------------------------------------------------------------------- */

#define WAITING_TOKENS 300
static atomic_int waiting_left;
static long waiting_counter; /* under the token of slot 0 */

static void *hogging_thread(void *number) {
    (void)number;
    while (atomic_load(&waiting_left) > 0) {
        if (slot_try_acquire(&slots[0])) {
            for (volatile int i = 0; i < 200; i++)
                ;
            waiting_counter++;
            slot_release(&slots[0]);
        }
    }
    return NULL;
}

static void *waiting_thread(void *number) {
    if ((uintptr_t)number >= 2)
        return hogging_thread(number);
    for (int i = 0; i < WAITING_TOKENS; i++) {
        slot_acquire_waiting(&slots[0]);
        waiting_counter++;
        slot_release(&slots[0]);
    }
    atomic_fetch_sub(&waiting_left, 1);
    return NULL;
}

Test(torture_slot, who_waits_gets_the_token_from_those_who_only_try) {
    atomic_store(&waiting_left, 2);
    run_threads(5, waiting_thread);
    uint64_t word = atomic_load(&slots[0].word);
    cr_assert_eq(word % SLOT_VERSION_ONE, SLOT_SERVING, "no reservation is left over");
    cr_assert_eq(word / SLOT_VERSION_ONE, (uint64_t)waiting_counter);
    cr_assert_geq(waiting_counter, 2 * WAITING_TOKENS);
}
