/* See table_hash.h. */
#include "engine/table_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/assert.h"
#include "engine/object.h"

static uint64_t hash_seed;
uint64_t (*table_hash_for_tests)(const char *key, size_t length);

void table_set_seed(uint64_t seed) {
    hash_seed = seed;
}

uint64_t table_hash(const char *key, size_t length) {
    return XXH3_64bits_withSeed(key, length, hash_seed);
}

uint64_t object_hash(const struct object *o) {
    size_t length;
    const char *key = object_key(o, &length);
    if (UNLIKELY(table_hash_for_tests != NULL))
        return table_hash_for_tests(key, length);
    return table_hash(key, length);
}
