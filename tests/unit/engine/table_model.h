/* A model of a table for its tests: an array of what should be in it, and hashes made to collide.
 * One thread, so what the table retires is freed at once, and a sanitizer sees every use after
 * that. */
#ifndef SLOTWISE_TESTS_TABLE_MODEL_H
#define SLOTWISE_TESTS_TABLE_MODEL_H

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/epoch.h"
#include "engine/memory.h"
#include "engine/object.h"
#include "engine/table.h"
#include "engine/table_bucket.h"
#include "engine/value.h"

#define FAR_EXPIRY_MS 4000000000000

/* --- Keys, hashes, the model ------------------------------------------------------------------ */

enum hash_mode {
    HASH_REAL,
    HASH_SAME,      /* all keys collide in everything */
    HASH_SEVEN,     /* seven hashes, at both ends and in between */
    HASH_LAST,      /* all in the last buckets: wraps around the end of the table */
    HASH_FIRST,     /* all in the first buckets: beside the header */
    HASH_CLUSTERED, /* many keys in few homes, all else differs */
    HASH_MODES
};

static enum hash_mode mode;

static inline uint64_t scramble(uint64_t x) {
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
    return x ^ (x >> 33);
}

static inline uint64_t made_up_hash(const char *key, size_t length) {
    uint64_t id, h;
    if (mode == HASH_REAL)
        return table_hash(key, length);
    memcpy(&id, key, 8);
    h = scramble(id + 1);
    switch (mode) {
    case HASH_SAME:
        return 0x123456789abcdef0u;
    case HASH_SEVEN:
        return (id % 7) * (UINT64_MAX / 6);
    case HASH_LAST:
        return ~(h >> 12);
    case HASH_FIRST:
        return h >> 12;
    case HASH_CLUSTERED:
        return (h & 0x1f) * 0x0712345678901234u + (h >> 20);
    default:
        return h;
    }
}

#define KEY_BYTES 8

static inline uint64_t id_hash(uint64_t id) {
    char key[KEY_BYTES];
    memcpy(key, &id, KEY_BYTES);
    return made_up_hash(key, KEY_BYTES);
}

static inline uint64_t object_id(const struct object *o) {
    size_t length;
    uint64_t id;
    const char *key = object_key(o, &length);
    cr_assert_eq(length, KEY_BYTES);
    memcpy(&id, key, KEY_BYTES);
    return id;
}

static inline struct object *make_object(uint64_t id, bool is_volatile) {
    char key[KEY_BYTES];
    memcpy(key, &id, KEY_BYTES);
    return object_make_string(key, KEY_BYTES, "v", 1,
                              is_volatile ? FAR_EXPIRY_MS : OBJECT_NO_EXPIRY, STRING_SET);
}

static uint64_t random_state;
static inline uint64_t random_next(void) {
    return scramble(random_state += 0x9e3779b97f4a7c15u);
}
static inline uint64_t random_below(uint64_t n) {
    return (uint64_t)(((unsigned __int128)random_next() * n) >> 64);
}

struct model {
    table_root root;
    size_t size; /* of objects */
    size_t count;
    size_t volatile_count;
    struct object **objects; /* by id, NULL: absent */
};

static inline void model_make(struct model *m, size_t size) {
    *m = (struct model){.size = size, .objects = calloc(size, sizeof(struct object *))};
}

static inline struct object *model_find(struct model *m, uint64_t id) {
    char key[KEY_BYTES];
    memcpy(key, &id, KEY_BYTES);
    uint64_t hash = id_hash(id);
    table_prefetch_header(&m->root);
    table_prefetch_bucket(&m->root, hash);
    table_prefetch_object(&m->root, hash, true);
    table_prefetch_further(&m->root, hash);
    return table_find(&m->root, hash, key, KEY_BYTES);
}

static inline void model_insert(struct model *m, uint64_t id, bool is_volatile) {
    struct object *o = make_object(id, is_volatile);
    table_insert(&m->root, id_hash(id), o);
    m->objects[id] = o;
    m->count++;
    m->volatile_count += is_volatile;
}

static inline void model_remove(struct model *m, uint64_t id) {
    char key[KEY_BYTES];
    memcpy(key, &id, KEY_BYTES);
    struct object *o = table_remove(&m->root, id_hash(id), key, KEY_BYTES);
    cr_assert_eq(o, m->objects[id]);
    if (!o)
        return;
    m->count--;
    m->volatile_count -= object_is_volatile(o);
    m->objects[id] = NULL;
    object_free(o);
}

static inline void model_replace(struct model *m, uint64_t id, bool is_volatile) {
    struct object *old = m->objects[id];
    struct object *o = make_object(id, is_volatile);
    m->volatile_count += is_volatile;
    m->volatile_count -= object_is_volatile(old);
    table_replace(&m->root, id_hash(id), old, o);
    m->objects[id] = o;
    object_free(old);
}

static inline void model_check(struct model *m) {
    table_check(&m->root);
    cr_assert_eq(table_count(&m->root), m->count);
    cr_assert_eq(table_volatile_count(&m->root), m->volatile_count);
    cr_assert((atomic_load(&m->root) == NULL) == (m->count == 0));
    for (uint64_t id = 0; id < m->size; id++)
        cr_assert_eq(model_find(m, id), m->objects[id]);
}

static inline void model_end(struct model *m) {
    struct table *t = table_detach(&m->root);
    cr_assert_eq(atomic_load(&m->root), NULL);
    if (t)
        table_destroy(t);
    free(m->objects);
}

/* Everything that is allocated in a test is gone at its end. */
static uint64_t memory_before;

static inline void model_setup(void) {
    epoch_set_single_reader(true);
    epoch_reader_enter();
    table_set_seed(0x5eed);
    table_hash_for_tests = made_up_hash;
    mode = HASH_REAL;
    random_state = 1;
    memory_before = memory_used_bytes();
}

static inline void model_teardown(void) {
    cr_assert_eq(memory_used_bytes(), memory_before, "%ld bytes left",
                 (long)(memory_used_bytes() - memory_before));
    epoch_reader_leave();
}

static inline void count_visit(struct object *o, uint64_t hash, void *context) {
    (void)o;
    (void)hash;
    ++*(size_t *)context;
}

#endif
