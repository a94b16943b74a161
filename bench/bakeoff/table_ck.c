/*
 * Concurrency Kit's hash set: one writer, many readers, pointers with hash bits in them. It grows
 * by doubling.
 */
#include "bench/bakeoff/bakeoff_table.h"

#ifdef BENCH_HAVE_CK

#include <ck_hs.h>

#include "bench/common/net.h"
#include "engine/memory.h"

static ck_hs_t set;
static const struct key *wanted; /* what compare() is looking for; this bake-off has one thread */

static void *allocate(size_t bytes) {
    return memory_alloc(bytes);
}

static void release(void *pointer, size_t bytes, bool defer) {
    (void)bytes;
    (void)defer; /* nobody reads while it grows */
    memory_free(pointer);
}

static struct ck_malloc allocator = {.malloc = allocate, .free = release};

static unsigned long hash(const void *pointer, unsigned long seed) {
    const struct object *object = pointer;
    size_t length = 0;
    const char *key = object_key(object, &length);
    (void)seed;
    return table_hash(key, length);
}

static bool compare(const void *stored, const void *ignored) {
    (void)ignored;
    return object_key_equals(stored, wanted->data, wanted->length);
}

static void create(struct world *world) {
    (void)world;
    if (!ck_hs_init(&set, CK_HS_MODE_SPMC | CK_HS_MODE_OBJECT, hash, compare, &allocator, 1024,
                    1)) {
        die("ck_hs_init failed");
    }
}

static void insert(struct world *world, const struct key *key, struct object *object) {
    (void)world;
    wanted = key;
    if (!ck_hs_put(&set, key->hash, object)) {
        die("ck_hs_put failed");
    }
}

static struct object *find(struct world *world, const struct key *key) {
    (void)world;
    wanted = key;
    return ck_hs_get(&set, key->hash, key);
}

const struct table_contender *table_contender_ck(void) {
    static const struct table_contender contender = {
        .name = "ck_hs",
        .create = create,
        .insert = insert,
        .find = find,
    };
    return &contender;
}

#else

const struct table_contender *table_contender_ck(void) {
    return NULL;
}

#endif
