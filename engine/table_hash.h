/* The hash of keys: XXH3 with a seed that nobody outside knows. Any thread; the seed is set before
 * threads exist. */
#ifndef SLOTWISE_ENGINE_TABLE_HASH_H
#define SLOTWISE_ENGINE_TABLE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct object;

/* Set once at start from the system's randomness, before any table exists. */
void table_set_seed(uint64_t seed);
uint64_t table_hash(const char *key, size_t length);
/* The hash of an object's key: touches the object. */
uint64_t object_hash(const struct object *o);

/* Tests may make up hashes (collisions); must then give the same for the key as the hash argument
 * of the table's functions. NULL: table_hash. */
extern uint64_t (*table_hash_for_tests)(const char *key, size_t length);

#endif
