/* The commit log: what a unit looks like in the stream, numbers, sleep, reuse of memory. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/memory.h"
#include "replication/commit_log.h"

static struct commit_log *commit_log;
static unsigned wakes;

static void wake(void *context) {
    cr_assert_eq(context, &wakes);
    wakes++;
}

static void begin(void) {
    wakes = 0;
    commit_log = commit_log_make(wake, &wakes);
}

static void end(void) {
    commit_log_free(commit_log);
}

TestSuite(commit_log, .init = begin, .fini = end, .timeout = 60);

static uint64_t commit(const struct effect *effects, size_t count) {
    struct effect_log *log = commit_log_effect_log(commit_log);
    return log->commit(log->context, effects, count);
}

static uint64_t commit_set(unsigned database, const char *value, size_t length) {
    struct effect_argument arguments[] = {{"SET", 3}, {"key", 3}, {value, length}};
    return commit(&(struct effect){database, 3, arguments}, 1);
}

static void check_next(uint64_t number, unsigned first, unsigned last, const char *text) {
    struct commit_entry entry;
    cr_assert(commit_log_next(commit_log, &entry));
    cr_assert_eq(entry.number, number);
    cr_assert_eq(entry.first_database, first);
    cr_assert_eq(entry.last_database, last);
    cr_assert_eq(entry.length, strlen(text), "%.*s", (int)entry.length, entry.data);
    cr_assert_eq(memcmp(entry.data, text, entry.length), 0);
}

Test(commit_log, one_effect_is_the_command_itself) {
    cr_assert_eq(commit_set(3, "ab", 2), 1);
    cr_assert_eq(commit_set(0, "", 0), 2);
    check_next(1, 3, 3, "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$2\r\nab\r\n");
    check_next(2, 0, 0, "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n");
    struct commit_entry entry;
    cr_assert(!commit_log_next(commit_log, &entry));
    cr_assert_eq(commit_log_last_number(commit_log), 2);
    cr_assert_eq(commit_log_read_number(commit_log), 2);
}

Test(commit_log, several_effects_are_a_transaction) {
    struct effect_argument set[] = {{"SET", 3}, {"k", 1}, {"v", 1}}, del[] = {{"DEL", 3}, {"k", 1}};
    struct effect effects[] = {{1, 3, set}, {12, 2, del}, {12, 2, del}};
    commit(effects, 3);
    check_next(1, 1, 12,
               "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"
               "*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"
               "*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n");
}

Test(commit_log, lengths_of_every_number_of_digits) {
    static const size_t lengths[] = {0,    9,    10,   99,    100,   101,    998,    999,
                                     1000, 1001, 9999, 10000, 99999, 100000, 1000000};
    char *value = calloc(1, 1000001), expected[64];
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct commit_entry entry;
        commit_set(0, value, lengths[i]);
        cr_assert(commit_log_next(commit_log, &entry));
        int n = snprintf(expected, sizeof expected, "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%zu\r\n",
                         lengths[i]);
        cr_assert_eq(entry.length, (size_t)n + lengths[i] + 2);
        cr_assert_eq(memcmp(entry.data, expected, (size_t)n), 0);
    }
    free(value);
}

Test(commit_log, entries_of_every_size_around_a_chunk) {
    static char value[200000];
    struct commit_entry entry;
    for (size_t length = 0; length < sizeof value; length += 1 + length / 7) {
        memset(value, 'a' + (int)(length % 23), length);
        uint64_t number = commit_set(0, value, length);
        cr_assert(commit_log_next(commit_log, &entry));
        cr_assert_eq(entry.number, number);
        cr_assert_eq(memcmp(entry.data + entry.length - 2 - length, value, length), 0);
    }
}

Test(commit_log, memory_is_used_again_and_what_is_too_much_is_freed) {
    char value[1000] = {0};
    struct commit_entry entry;
    for (int i = 0; i < 20000; i++) /* 20 MB that the consumer falls behind */
        commit_set(0, value, sizeof value);
    cr_assert(commit_log_is_full(commit_log));
    while (commit_log_next(commit_log, &entry))
        ;
    cr_assert(!commit_log_is_full(commit_log));
    size_t kept = commit_log_bytes(commit_log);
    cr_assert_leq(kept, 5 * 1024 * 1024);
    for (int i = 0; i < 20000; i++) {
        commit_set(0, value, sizeof value);
        cr_assert(commit_log_next(commit_log, &entry));
    }
    cr_assert_leq(commit_log_bytes(commit_log), kept + 65536);
}

Test(commit_log, who_sleeps_is_woken_once) {
    struct commit_entry entry;
    cr_assert(commit_log_sleep(commit_log));
    cr_assert_eq(wakes, 0);
    commit_set(0, "a", 1);
    commit_set(0, "b", 1);
    cr_assert_eq(wakes, 1);
    cr_assert(!commit_log_sleep(commit_log), "there is something to read");
    cr_assert(commit_log_next(commit_log, &entry));
    cr_assert(commit_log_next(commit_log, &entry));
    cr_assert(commit_log_sleep(commit_log));
    commit_set(0, "c", 1);
    cr_assert_eq(wakes, 2);
}
