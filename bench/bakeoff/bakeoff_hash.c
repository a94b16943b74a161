/*
 * Bake-off: what it costs to find out a key's slot and its place in a table.
 *
 * CRC16 a byte at a time, as Redis does it, against slicing (engine/crc16.c) against XXH3
 * (table_hash), for keys that lie in the first-level cache. The slot must be CRC16, so a key costs
 * slicing plus XXH3.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench/bakeoff/common.h"
#include "bench/common/clock.h"
#include "bench/common/random.h"
#include "engine/crc16.h"
#include "engine/table.h"

#define KEY_COUNT 64
#define MAX_BYTES 256

enum function { BYTEWISE, SLICED, XXH3, SLOT_AND_XXH3 };

struct subject {
    enum function function;
    size_t bytes;
};

/* ns per key of one function, called through nothing. */
#define TIME_CALLS(expression)                                                                     \
    do {                                                                                           \
        for (uint64_t i = 0; i < calls; i++) {                                                     \
            const char *key = keys + (i % KEY_COUNT) * MAX_BYTES;                                  \
            bakeoff_use(expression);                                                               \
        }                                                                                          \
    } while (0)

static void measure(const struct bakeoff_options *options, void *context, double *values) {
    const struct subject *subject = context;
    const size_t bytes = subject->bytes;
    const uint64_t calls = options->quick ? 1000000 : 5000000;
    static char keys[KEY_COUNT * MAX_BYTES];
    for (size_t i = 0; i < sizeof(keys); i++) {
        keys[i] = (char)('a' + random_below(random_mix(i), 26));
    }
    crc16_init();
    table_set_seed(1);
    uint64_t start = bakeoff_thread_cpu_ns();
    switch (subject->function) {
    case BYTEWISE:
        TIME_CALLS(crc16_bytewise(key, bytes));
        break;
    case SLICED:
        TIME_CALLS(crc16(key, bytes));
        break;
    case XXH3:
        TIME_CALLS(table_hash(key, bytes));
        break;
    case SLOT_AND_XXH3:
        TIME_CALLS(table_hash(key, bytes) + slot_of_key(key, bytes));
        break;
    }
    values[0] = (double)(bakeoff_thread_cpu_ns() - start) / (double)calls;
}

int main(int argc, char **argv) {
    static const char *const names[] = {"CRC16 bytewise", "CRC16 sliced", "XXH3", "slot and XXH3"};
    static const size_t lengths[] = {16, 32, 64, 250};
    static struct subject subjects[BAKEOFF_MAX_CONTENDERS];
    static char groups[4][32];
    struct bakeoff_contender contenders[BAKEOFF_MAX_CONTENDERS];
    const struct bakeoff_metric metrics[] = {{"ns", "per key", "ns", 1, false}};
    struct bakeoff_options options;
    unsigned count = 0;
    bakeoff_parse(argc, argv, &options);
    for (unsigned l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
        snprintf(groups[l], sizeof(groups[l]), "keys of %zu bytes", lengths[l]);
        for (unsigned f = BYTEWISE; f <= SLOT_AND_XXH3; f++) {
            subjects[count] = (struct subject){(enum function)f, lengths[l]};
            contenders[count] =
                (struct bakeoff_contender){groups[l], names[f], measure, &subjects[count]};
            count++;
        }
    }
    return bakeoff_run(&options, "hashing", metrics, 1, contenders, count);
}
