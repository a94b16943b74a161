/* The commit log under threads: every number comes once and in order, with the content that its
 * commit had; who changes the same cell (under its lock, as under a token) has numbers in the order
 * of its changes; a consumer that sleeps is woken; memory stays bounded while it keeps up. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/memory.h"
#include "replication/commit_log.h"

#define WRITERS        4
#define CELLS          16
#define UNITS          60000 /* a writer */
#define LARGE_ONE_IN   2000
#define LARGE_BYTES    200000
#define TEST_SECONDS   120
#define CONSUMER_WAITS 20 /* ms, if nobody wakes it: a lost wake would cost so much each time */
#define LOST_WAKES_MAX 3  /* a machine that stalls for CONSUMER_WAITS */

static struct commit_log *commit_log;
static struct {
    pthread_mutex_t lock;
    uint64_t changes, number;
} cells[CELLS];
static pthread_mutex_t wake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake_condition = PTHREAD_COND_INITIALIZER;
static bool woken;
static uint64_t sleeps, lost_wakes;

static void wake(void *context) {
    (void)context;
    pthread_mutex_lock(&wake_lock);
    woken = true;
    pthread_cond_signal(&wake_condition);
    pthread_mutex_unlock(&wake_lock);
}

static void consumer_sleep(void) {
    struct timespec until;
    if (!commit_log_sleep(commit_log))
        return;
    sleeps++;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += CONSUMER_WAITS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&wake_lock);
    int code = 0;
    while (!woken && code == 0)
        code = pthread_cond_timedwait(&wake_condition, &wake_lock, &until);
    if (!woken && commit_log_last_number(commit_log) != commit_log_read_number(commit_log))
        lost_wakes++;
    woken = false;
    pthread_mutex_unlock(&wake_lock);
}

static void *writer(void *number) {
    unsigned seed = (unsigned)(uintptr_t)number;
    char *large = malloc(LARGE_BYTES);
    memset(large, 'x', LARGE_BYTES);
    for (unsigned i = 0; i < UNITS; i++) {
        unsigned cell = (unsigned)rand_r(&seed) % CELLS;
        char text[64];
        pthread_mutex_lock(&cells[cell].lock);
        int length = snprintf(text, sizeof text, "%u %lu", cell, ++cells[cell].changes);
        struct effect_argument arguments[2] = {{text, (size_t)length}, {large, 0}};
        if (rand_r(&seed) % LARGE_ONE_IN == 0)
            arguments[1].length = LARGE_BYTES;
        struct effect effect = {cell, 2, arguments};
        struct effect_log *effects = commit_log_effect_log(commit_log);
        uint64_t given = effects->commit(effects->context, &effect, 1);
        cr_assert_gt(given, cells[cell].number);
        cells[cell].number = given;
        pthread_mutex_unlock(&cells[cell].lock);
        if (rand_r(&seed) % 500 == 0 || commit_log_is_full(commit_log))
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    free(large);
    return NULL;
}

Test(commit_log, one_stream_in_the_order_of_the_changes, .timeout = TEST_SECONDS) {
    pthread_t threads[WRITERS];
    uint64_t seen[CELLS] = {0}, expected = 0;
    size_t bytes_max = 0;
    commit_log = commit_log_make(wake, NULL);
    for (unsigned i = 0; i < CELLS; i++)
        pthread_mutex_init(&cells[i].lock, NULL);
    for (uintptr_t i = 0; i < WRITERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, writer, (void *)(i + 1)), 0);
    while (expected < (uint64_t)WRITERS * UNITS) {
        struct commit_entry entry;
        unsigned cell;
        uint64_t change;
        char text[64] = {0};
        if (!commit_log_next(commit_log, &entry)) {
            consumer_sleep();
            continue;
        }
        cr_assert_eq(entry.number, ++expected);
        const char *line = memchr(entry.data, '\n', entry.length); /* "*2\r\n$5\r\n3 812\r\n..." */
        line = memchr(line + 1, '\n', entry.length - (size_t)(line + 1 - entry.data));
        memcpy(text, line + 1, 40 < entry.length ? 24 : 12);
        cr_assert_eq(sscanf(text, "%u %lu", &cell, &change), 2);
        cr_assert_eq(entry.first_database, cell);
        cr_assert_eq(change, ++seen[cell]);
        cr_assert_eq(memcmp(entry.data + entry.length - 2, "\r\n", 2), 0);
        size_t bytes = commit_log_bytes(commit_log);
        if (bytes > bytes_max)
            bytes_max = bytes;
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    struct commit_entry entry;
    cr_assert(!commit_log_next(commit_log, &entry));
    cr_assert_leq(bytes_max, (size_t)WRITERS * (COMMIT_LOG_FULL_BYTES + 6 * 1024 * 1024));
    cr_assert_gt(sleeps, 0);
    cr_assert_leq(lost_wakes, LOST_WAKES_MAX);
    cr_log_info("%lu sleeps, at most %zu bytes", sleeps, bytes_max);
    commit_log_free(commit_log);
}
