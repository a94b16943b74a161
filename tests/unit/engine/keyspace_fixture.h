/* A keyspace of 16 databases on one registered thread, and short ways to change and check it. Each
 * test program that includes it names keyspace_begin and keyspace_end as the init and fini of its
 * suite. */
#ifndef SLOTWISE_TESTS_KEYSPACE_FIXTURE_H
#define SLOTWISE_TESTS_KEYSPACE_FIXTURE_H

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "tests/unit/engine/deadline_check.h"

#define DATABASES 16
#define NEVER     OBJECT_NO_EXPIRY
#define LONG_AGO  1000
#define FAR_AWAY  4000000000000

static struct keyspace *keyspace;
static struct change change;
static uint64_t used_before_keyspace;

static void keyspace_begin(void) {
    crc16_init();
    table_set_seed(0x5eed);
    epoch_start(0, NULL, NULL);
    epoch_reader_enter();
    keyspace_thread_set(0);
    used_before_keyspace = memory_used_bytes();
    keyspace_create(DATABASES, &keyspace);
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
}

/* Everything that a keyspace took must be back. */
static void keyspace_end(void) {
    change_destroy(&change);
    keyspace_destroy(keyspace);
    epoch_reader_leave();
    epoch_stop();
    cr_assert_eq(memory_retired_bytes(), 0);
    cr_assert_leq(memory_used_bytes(), used_before_keyspace, "%zu bytes were not accounted back",
                  (size_t)(memory_used_bytes() - used_before_keyspace));
}

/* CPU time of this thread: how long something takes whatever else the machine does. */
static inline uint64_t busy_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static inline struct key key_of(const char *name) {
    return key_make(name, strlen(name));
}

/* A unit of work begins with it. */
static inline struct slot *token_of(const struct key *key) {
    change_begin(&change);
    struct slot *slot = &keyspace->slots[key->slot];
    cr_assert(slot_try_acquire(slot));
    return slot;
}

/* SET with an expiry. */
static inline void put(unsigned database, const char *name, const char *value, int64_t expiry_ms) {
    struct key key = key_of(name);
    struct slot *slot = token_of(&key);
    struct object *old = keyspace_find_raw(keyspace, database, &key);
    struct object *object =
        object_make_string(name, strlen(name), value, strlen(value), expiry_ms, STRING_SET);
    if (old)
        keyspace_replace(&change, database, &key, old, object, CHANGE_SET);
    else
        keyspace_add(&change, database, &key, object, CHANGE_SET);
    slot_release(slot);
}

static inline struct object *raw(unsigned database, const char *name) {
    struct key key = key_of(name);
    return keyspace_find_raw(keyspace, database, &key);
}

/* As a client that reads sees it. */
static inline struct object *live(unsigned database, const char *name) {
    change_begin(&change);
    struct object *object = raw(database, name);
    return object && !view_is_expired(&change.view, object) ? object : NULL;
}

static inline bool remove_key(unsigned database, const char *name) {
    struct key key = key_of(name);
    struct slot *slot = token_of(&key);
    bool deleted = keyspace_delete(&change, database, &key, CHANGE_DEL);
    slot_release(slot);
    return deleted;
}

/* n keys prefix0 .. */
static inline void put_many(unsigned database, const char *prefix, unsigned n, int64_t expiry_ms) {
    char name[64];
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s%u", prefix, i);
        put(database, name, "v", expiry_ms);
        if (i % 64 == 0)
            epoch_quiescent();
    }
}

static inline uint64_t expired_total(void) {
    return atomic_load(&keyspace_counters_mine(keyspace)->expired);
}

/* Counts, bitmaps and deadlines against the tables, and the tables themselves. */
static inline void check_keyspace(void) {
    for (unsigned database = 0; database < DATABASES; database++) {
        const struct slot_bitmaps *bitmaps =
            atomic_load(&keyspace->bitmaps[keyspace->database_map[database]]);
        uint64_t keys = 0, expiring = 0;
        for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
            const table_root *root = keyspace_root(keyspace, database, slot);
            size_t n = root ? table_count(root) : 0, v = root ? table_volatile_count(root) : 0;
            if (n > 0)
                table_check(root);
            uint64_t bit = (uint64_t)1 << (slot & 63);
            bool occupied = bitmaps && (atomic_load(&bitmaps->occupied[slot / 64]) & bit);
            bool volatiles = bitmaps && (atomic_load(&bitmaps->expiring[slot / 64]) & bit);
            cr_assert(occupied || n == 0, "slot %u of database %u", slot, database);
            cr_assert_eq(volatiles, v > 0, "slot %u of database %u", slot, database);
            keys += n;
            expiring += v;
        }
        cr_assert_eq(keyspace_count(keyspace, database), keys);
        cr_assert_eq(keyspace_expiring_count(keyspace, database), expiring);
        check_deadlines(keyspace, database);
    }
}

#endif
