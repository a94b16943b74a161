/*
 * A keyspace full of keys, and GET and SET on it as a worker does them: the data plane without
 * sockets and protocol.
 *
 * Keys are 16 bytes, values 64. The calling thread must have entered (world_thread_enter).
 */
#ifndef BENCH_BAKEOFF_WORLD_H
#define BENCH_BAKEOFF_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/common/random.h"
#include "engine/keyspace.h"

#define WORLD_KEY_BYTES   16
#define WORLD_VALUE_BYTES 64
#define WORLD_BATCH       64 /* commands that are prefetched together */

struct world {
    struct keyspace *keyspace;
    char *key_text; /* all keys, one after another */
    uint64_t keys;
};

/* Once per process: tables of the hash functions, seed, epoch thread, keyspace and the keys' texts;
 * no objects yet. */
void world_start(struct world *world, uint64_t keys);

/* Inserts all keys. */
void world_fill(struct world *world);

/* Registers the calling thread as worker `number`, and takes it back. */
void world_thread_enter(unsigned number);
/* A key that is not there yet; under its token. */
void world_add_owned(const struct key *key, struct object *object);
void world_thread_leave(void);

static inline struct key world_key(const struct world *world, uint64_t number) {
    return key_make(world->key_text + number * WORLD_KEY_BYTES, WORLD_KEY_BYTES);
}

/* Copies the value to `reply` (at least WORLD_VALUE_BYTES). Without the token; takes it after
 * failed attempts. */
bool world_get(struct world *world, const struct key *key, char *reply);

/* As the slot's owner: no other thread may write in the slot meanwhile. */
bool world_get_owned(struct world *world, const struct key *key, char *reply);

/* Replaces the value under the token; and as the slot's owner, without it. */
void world_set(struct world *world, const struct key *key);
void world_set_owned(struct world *world, const struct key *key);

/* The four stages of a batch: slots, table headers, buckets, objects. */
void world_prefetch(struct world *world, const struct key *keys, unsigned count);

#endif
