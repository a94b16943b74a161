/*
 * The commands of a run, made so that making them costs next to nothing.
 *
 * Each kind of command is compiled once into literal bytes with the places at which digits or a
 * value go in. A request is a number (its seed): the kind, the keys and the values follow from it
 * by arithmetic. So the reader of the replies knows what was asked and what must come back, without
 * any record of it.
 *
 * Placeholders of a template: __key__ (prefix and digits, key_bytes long), __number__ (12 digits),
 * __value__ (a word of its own; the value of the latest key before it). The value of a key is
 * always the same.
 *
 * Immutable after workload_create: shared by all threads.
 */
#ifndef BENCH_CLIENT_WORKLOAD_H
#define BENCH_CLIENT_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/client/options.h"
#include "bench/common/random.h"

/* Digits go in, ending before `end` bytes from the section's start. */
struct patch {
    uint32_t end;
    uint32_t draw; /* which of the request's numbers */
};

/* Literal bytes with patches, and then perhaps a value. */
struct section {
    const char *literal;
    uint32_t length;
    uint32_t first_patch;
    uint32_t patch_count;
    uint32_t value_draw;
    bool value;
};

struct operation {
    char name[32];
    const char *expected_kinds; /* first bytes that a reply may have; NULL: any but an error */
    bool returns_values;        /* the n-th bulk string of the reply is the value of the n-th key */
    struct section *sections;
    uint32_t section_count;
    struct patch *patches;
    uint32_t patch_count;
    uint32_t draw_count;
    size_t max_bytes;
};

struct workload {
    enum key_pattern keys;
    uint64_t keyspace;
    unsigned digits; /* that a key number needs */
    unsigned value_bytes_min;
    unsigned value_bytes_spread; /* max - min + 1 */
    bool verify;
    struct operation operations[OPTIONS_MAX_OPERATIONS];
    unsigned operation_count;
    uint8_t *choices; /* one operation number per unit of weight */
    unsigned choice_count;
    uint32_t draws_per_request;
    uint32_t *zipf_samples;
    uint64_t zipf_mask;
    char *pool;         /* random letters, or bytes, of which values are cut */
    size_t pool_starts; /* places at which one may start; a power of two */
    size_t max_command_bytes;
};

/* Compiles the options; ends the program if they make no sense. `workload` must stay where it is.
 */
void workload_create(const struct options *options, struct workload *workload);

/* Frees what workload_create took. */
void workload_destroy(struct workload *workload);

/* Writes the command of request `seed`, at most max_command_bytes, and returns its end. */
char *workload_append(const struct workload *workload, uint64_t seed, char *out);

/* The value that belongs to key number `key`. */
void workload_value(const struct workload *workload, uint64_t key, const char **data,
                    size_t *length);

/* The kind of request `seed`. */
static inline const struct operation *workload_operation(const struct workload *workload,
                                                         uint64_t seed) {
    if (workload->operation_count == 1) {
        return &workload->operations[0];
    }
    uint64_t random = random_mix(seed ^ 0x5bd1e995a3c59ac3ULL);
    return &workload->operations[workload->choices[random_below(random, workload->choice_count)]];
}

/* The draw-th key number of request `seed`. */
static inline uint64_t workload_key(const struct workload *workload, uint64_t seed, uint32_t draw) {
    uint64_t counter = seed * workload->draws_per_request + draw;
    switch (workload->keys) {
    case KEYS_ZIPF:
        return workload->zipf_samples[counter & workload->zipf_mask];
    case KEYS_SEQUENTIAL:
        return counter % workload->keyspace;
    case KEYS_UNIFORM:
        break;
    }
    return random_below(random_mix(counter), workload->keyspace);
}

#endif
