/* Active expiry: see expiry.h.
 *
 * The walk goes round the home slots that have keys with a TTL (a bitmap), database by database, in hash order within
 * a slot, so that it survives rebuilds and never looks at keys without a TTL (their table entries say so). One
 * token is held for at most EXPIRY_KEYS_PER_TOKEN deletions. As in Redis a step goes on only while a good part of what
 * it looks at has expired; so a keyspace of keys that live long costs next to nothing. */
#include "engine/expiry.h"

#include "engine/assert.h"
#include "engine/clock.h"

#define EXPIRY_KEYS_PER_TOKEN 48
#define EXPIRY_BUCKETS_PER_TOKEN 256
#define EXPIRY_LOOK_MIN 20          /* keys looked at before a step may end early */
#define EXPIRY_STALE_PERCENT 10     /* goes on above this; effort lowers it */

struct collected {
    size_t count, seen;
    int64_t now_ms;
    struct {
        struct object *object;
        uint64_t hash;
    } expired[EXPIRY_KEYS_PER_TOKEN + 16];
};

static void collect(struct object *object, uint64_t hash, void *context) {
    struct collected *c = context;
    c->seen++;
    if (object_expiry(object) <= c->now_ms && c->count < sizeof c->expired / sizeof *c->expired) {
        c->expired[c->count].object = object;
        c->expired[c->count++].hash = hash;
    }
}

/* One token's worth of work in the cursor's slot; moves the bound, 0 when the slot is done. */
static void expire_part(struct keyspace *keyspace, unsigned database, struct expiry_cursor *cursor,
                        struct collected *c) {
    struct slot *slot = &keyspace->slots[cursor->slot];
    c->count = c->seen = 0;
    if (!slot_try_acquire(slot)) {
        cursor->bound = 0; /* somebody is busy here; the next round comes by again */
        return;
    }
    table_root *root = keyspace_root(keyspace, database, cursor->slot);
    uint64_t next = 0;
    if (root && slot_is_serving(slot))
        table_walk(root, cursor->bound, 0, EXPIRY_KEYS_PER_TOKEN, EXPIRY_BUCKETS_PER_TOKEN, true, collect, c, &next);
    bool full = c->count == sizeof c->expired / sizeof *c->expired;
    for (size_t i = 0; i < c->count; i++) {
        struct key key = {.hash = c->expired[i].hash, .slot = cursor->slot};
        key.data = object_key(c->expired[i].object, &key.length);
        keyspace_expire_now(keyspace, database, &key);
    }
    slot_release(slot);
    cursor->bound = full ? cursor->bound : next; /* overfull buckets: look at the same part again */
}

/* The next home slot at or behind cursor->slot with the bit set; false: this database is done. */
static bool next_slot(const struct slot_bitmaps *bitmaps, struct expiry_cursor *cursor, unsigned worker,
                      unsigned workers) {
    for (uint32_t slot = cursor->slot; slot < SLOT_COUNT;) {
        uint64_t bits = atomic_load_explicit(&bitmaps->expiring[slot / 64], memory_order_acquire) >> (slot & 63);
        if (!bits) {
            slot = (slot | 63) + 1;
            continue;
        }
        slot += (uint32_t)__builtin_ctzll(bits);
        if (slot % workers == worker) {
            if (slot != cursor->slot)
                cursor->bound = 0;
            cursor->slot = slot;
            return true;
        }
        slot++;
    }
    return false;
}

static void next_database(const struct keyspace *keyspace, struct expiry_cursor *cursor) {
    cursor->slot = 0;
    cursor->bound = 0;
    cursor->database = (cursor->database + 1) % keyspace->databases;
}

bool expiry_step(struct keyspace *keyspace, struct expiry_cursor *cursor, unsigned worker, unsigned workers,
                 unsigned effort, uint64_t budget_us) {
    uint64_t end_us = clock_monotonic_us() + budget_us;
    size_t seen = 0, expired = 0;
    struct collected c = {.now_ms = clock_now_ms()};
    size_t stale_percent = EXPIRY_STALE_PERCENT > effort ? EXPIRY_STALE_PERCENT + 1 - effort : 1;
    for (unsigned empty = 0; empty <= keyspace->databases;) {
        const struct slot_bitmaps *bitmaps =
            atomic_load_explicit(&keyspace->bitmaps[cursor->database], memory_order_acquire);
        if (!bitmaps || !next_slot(bitmaps, cursor, worker, workers)) {
            next_database(keyspace, cursor);
            empty++;
            continue;
        }
        expire_part(keyspace, keyspace->database_map_inverse[cursor->database], cursor, &c);
        if (cursor->bound == 0 && ++cursor->slot == SLOT_COUNT)
            next_database(keyspace, cursor);
        seen += c.seen;
        expired += c.count;
        if (seen >= EXPIRY_LOOK_MIN * effort && expired * 100 < seen * stale_percent)
            return false;
        if (clock_monotonic_us() >= end_us) {
            COUNTER_ADD(keyspace_counters_mine(keyspace)->expire_limit_reached, 1);
            return expired > 0;
        }
    }
    return false;
}
