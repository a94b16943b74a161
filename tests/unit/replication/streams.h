/* Replication streams for tests: deterministic bytes of several kinds, and JSON SETs as an
 * application writes them, which the compression ratios are measured with. */
#ifndef SLOTWISE_TESTS_STREAMS_H
#define SLOTWISE_TESTS_STREAMS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline uint64_t random_next(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t random_below(uint64_t *state, uint64_t limit) {
    return random_next(state) % limit;
}

static inline void random_fill(uint64_t *state, char *to, size_t length) {
    for (size_t i = 0; i < length; i++)
        to[i] = (char)random_next(state);
}

/* One SET of a JSON document of about 400 bytes; returns its length, at most JSON_SET_MAX. */
#define JSON_SET_MAX 1024
static inline size_t json_set(uint64_t *state, char *to) {
    static const char *const cities[] = {"Amsterdam", "Berlin",    "Chicago",    "Dublin",
                                         "Edinburgh", "Frankfurt", "Gothenburg", "Hamburg"};
    static const char *const plans[] = {"free", "basic", "professional", "enterprise"};
    char key[64], value[JSON_SET_MAX - 128];
    uint64_t user = random_below(state, 500000);
    int key_length = snprintf(key, sizeof key, "user:%llu", (unsigned long long)user);
    int length = snprintf(
        value, sizeof value,
        "{\"id\":%llu,\"name\":\"user-%llu\",\"email\":\"user.%llu@example.com\",\"active\":%s,"
        "\"plan\":\"%s\",\"address\":{\"city\":\"%s\",\"zip\":\"%05llu\",\"street\":\"Street "
        "%llu\"},"
        "\"balance\":%llu.%02llu,\"session\":\"%016llx%08llx\",\"last_seen\":17%08llu,"
        "\"tags\":[\"t%llu\",\"t%llu\",\"t%llu\"],\"counters\":{\"logins\":%llu,\"errors\":%llu},"
        "\"signature\":\"%016llx%08llx\"}",
        (unsigned long long)user, (unsigned long long)user, (unsigned long long)user,
        random_below(state, 2) ? "true" : "false", plans[random_below(state, 4)],
        cities[random_below(state, 8)], (unsigned long long)random_below(state, 100000),
        (unsigned long long)random_below(state, 1000),
        (unsigned long long)random_below(state, 100000),
        (unsigned long long)random_below(state, 100), (unsigned long long)random_next(state),
        (unsigned long long)random_below(state, 1ull << 32),
        (unsigned long long)random_below(state, 100000000),
        (unsigned long long)random_below(state, 100), (unsigned long long)random_below(state, 100),
        (unsigned long long)random_below(state, 100),
        (unsigned long long)random_below(state, 10000),
        (unsigned long long)random_below(state, 100), (unsigned long long)random_next(state),
        (unsigned long long)random_below(state, 1ull << 32));
    return (size_t)snprintf(to, JSON_SET_MAX, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n",
                            key_length, key, length, value);
}

/* An entry of a kind that it chooses: JSON, a counter, random bytes, short random bytes in text,
 * one letter over and over. Returns its length, at most `room`; room is at least JSON_SET_MAX. */
static inline size_t any_entry(uint64_t *state, char *to, size_t room) {
    size_t length;
    switch (random_below(state, 5)) {
    case 0:
        return json_set(state, to);
    case 1:
        return (size_t)snprintf(to, room, "*2\r\n$4\r\nINCR\r\n$9\r\ncount:%03llu\r\n",
                                (unsigned long long)random_below(state, 1000));
    case 2:
        length = 1 + random_below(state, room < 30000 ? room : 30000);
        random_fill(state, to, length);
        return length;
    case 3:
        length = (size_t)sprintf(to, "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$20\r\n");
        random_fill(state, to + length, 20);
        return length + 20;
    default:
        length = 1 + random_below(state, room < 3000 ? room : 3000);
        memset(to, 'a' + (int)random_below(state, 26), length);
        return length;
    }
}

#endif
