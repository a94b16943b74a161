/* Readers that dereference published pointers while others replace, retire and free them. What a
 * destructor does to a node (a plain store, then free) is a data race and a use after free for any
 * reader that may still hold it: ThreadSanitizer and AddressSanitizer see it, and without them the
 * magic number does. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/background.h"
#include "engine/epoch.h"
#include "engine/memory.h"

#define CELLS       64
#define DURATION_MS 1200
#define READERS_MAX 40
#define ALIVE       UINT64_C(0x616c6976656e6f64)
#define DEAD        UINT64_C(0xdeaddeaddeaddead)

struct node {
    uint64_t magic;
    uint64_t cell;
    uint64_t sum; /* magic + cell + salt */
    uint64_t salt;
};

static struct node *_Atomic cells[CELLS];
static _Atomic long alive;
static atomic_int readers_done;

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

static struct node *node_create(uint64_t cell, uint64_t salt) {
    struct node *node = memory_alloc(sizeof(*node));
    *node = (struct node){ALIVE, cell, ALIVE + cell + salt, salt};
    atomic_fetch_add_explicit(&alive, 1, memory_order_relaxed);
    return node;
}

static void node_destroy(void *pointer) {
    struct node *node = pointer;
    if (node->magic != ALIVE)
        abort();
    node->magic = DEAD;
    memory_free(node);
    atomic_fetch_sub_explicit(&alive, 1, memory_order_relaxed);
}

static void node_check(const struct node *node, uint64_t cell) {
    if (node->magic != ALIVE || node->cell != cell || node->sum != ALIVE + cell + node->salt)
        abort(); /* a cr_assert would synchronise, and there is nothing to clean up */
}

static void replace(uint64_t cell, uint64_t salt) {
    struct node *node = node_create(cell, salt);
    struct node *old = atomic_exchange_explicit(&cells[cell], node, memory_order_acq_rel);
    node_check(old, cell);
    epoch_retire(old, sizeof(*old), node_destroy);
}

/* One loop turn: nodes are held over several operations, never over its end. */
static void turn(uint64_t *random, unsigned writes_percent) {
    const struct node *held[4];
    uint64_t held_cell[4];
    for (int i = 0; i < 4; i++) {
        held_cell[i] = next_random(random) % CELLS;
        held[i] = atomic_load_explicit(&cells[held_cell[i]], memory_order_acquire);
    }
    unsigned operations = next_random(random) % 40;
    for (unsigned i = 0; i < operations; i++) {
        uint64_t cell = next_random(random) % CELLS;
        if (next_random(random) % 100 < writes_percent)
            replace(cell, next_random(random));
        else
            node_check(atomic_load_explicit(&cells[cell], memory_order_acquire), cell);
    }
    for (int i = 0; i < 4; i++)
        node_check(held[i], held_cell[i]);
}

static void *reader_thread(void *argument) {
    uint64_t random = 0x9e3779b97f4a7c15 * ((uint64_t)(uintptr_t)argument + 1);
    uint64_t end_ms = now_ms() + DURATION_MS;
    epoch_reader_enter();
    while (now_ms() < end_ms) {
        turn(&random, 1 + (unsigned)(next_random(&random) % 60));
        switch (next_random(&random) % 64) {
        case 0:
            epoch_reader_leave();
            epoch_reader_enter();
            break;
        case 1:
        case 2:
            epoch_offline();
            nanosleep(&(struct timespec){0, (long)(next_random(&random) % 1000000)}, NULL);
            if (next_random(&random) % 2)
                epoch_reclaim(3);
            epoch_online();
            break;
        case 3:
            epoch_reclaim(next_random(&random) % 100);
            break;
        case 4:
            nanosleep(&(struct timespec){0, 300000}, NULL); /* a slow turn, online */
            epoch_quiescent();
            break;
        default:
            epoch_quiescent();
        }
    }
    epoch_reader_leave();
    atomic_fetch_add(&readers_done, 1);
    return NULL;
}

static void run(size_t threads_count) {
    pthread_t threads[READERS_MAX];
    cr_assert_eq(epoch_start(10000, NULL, NULL), 0);
    uint64_t used_bytes = memory_used_bytes();
    for (uint64_t i = 0; i < CELLS; i++)
        atomic_store(&cells[i], node_create(i, i));
    for (size_t i = 0; i < threads_count; i++)
        pthread_create(&threads[i], NULL, reader_thread, (void *)i);
    for (size_t i = 0; i < threads_count; i++)
        pthread_join(threads[i], NULL);
    struct epoch_statistics statistics;
    epoch_get_statistics(&statistics);
    cr_assert_eq(statistics.retired, statistics.freed);
    cr_assert_gt(statistics.retired, 100);
    cr_assert_gt(statistics.grace_periods, 2);
    cr_assert_eq(statistics.stalls, 0);
    cr_assert_eq(atomic_load(&alive), CELLS);
    cr_assert_eq(memory_retired_bytes(), 0);
    for (uint64_t i = 0; i < CELLS; i++)
        node_destroy(atomic_load(&cells[i]));
    cr_assert_eq(memory_used_bytes(), used_bytes);
    epoch_stop();
}

TestSuite(torture_epoch, .timeout = 60);

Test(torture_epoch, readers_2) {
    run(2);
}

Test(torture_epoch, readers_4) {
    run(4);
}

Test(torture_epoch, readers_8) {
    run(8);
}

Test(torture_epoch, readers_40) {
    run(40);
}

/* --- Background jobs from many threads
 * ------------------------------------------------------------------ */

#define JOBS 2000

static int jobs_next[8]; /* only on the background thread */
static _Atomic long jobs_done;

struct job {
    int thread;
    int number;
};

static void job_run(void *argument) {
    struct job *job = argument;
    if (jobs_next[job->thread] != job->number)
        abort(); /* the jobs of one thread keep their order */
    jobs_next[job->thread]++;
    memory_free(job);
    atomic_fetch_add_explicit(&jobs_done, 1, memory_order_relaxed);
}

static void *job_thread(void *argument) {
    epoch_reader_enter();
    for (int i = 0; i < JOBS; i++) {
        struct job *job = memory_alloc(sizeof(*job));
        *job = (struct job){(int)(intptr_t)argument, i};
        background_submit(job_run, job);
        epoch_quiescent();
        if (i % 500 == 499)
            background_drain();
    }
    epoch_reader_leave();
    return NULL;
}

Test(torture_epoch, background_jobs_keep_their_order) {
    pthread_t threads[8];
    cr_assert_eq(epoch_start(10000, NULL, NULL), 0);
    cr_assert_eq(background_start(), 0);
    for (intptr_t i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, job_thread, (void *)i);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    background_drain();
    cr_assert_eq(atomic_load(&jobs_done), 8 * JOBS);
    background_stop();
    epoch_stop();
}
