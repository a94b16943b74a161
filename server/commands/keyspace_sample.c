/* See keyspace_sample.h. */
#include "server/commands/keyspace_sample.h"

#include "engine/clock.h"

#define SAMPLED_SLOTS   64 /* of a database */
#define SAMPLED_KEYS    8  /* of such a slot */
#define SAMPLED_BUCKETS 8
#define WALK_BITS       25 /* of the granularity of a walk */

/* Calls visit for up to SAMPLED_SLOTS slots that have their bit set, spread over all. */
static void sample_slots(struct keyspace *keyspace, unsigned database, const _Atomic uint64_t *bits,
                         void (*visit)(const table_root *root, void *context), void *context) {
    unsigned seen = 0, words = SLOT_COUNT / 64;
    uint32_t start = (uint32_t)clock_ticks();
    for (unsigned i = 0; i < words && seen < SAMPLED_SLOTS; i++) {
        /* An odd stride visits every word once. */
        unsigned word = (start + i * 97) % words;
        uint64_t left = atomic_load_explicit(&bits[word], memory_order_relaxed);
        for (; left && seen < SAMPLED_SLOTS; left &= left - 1, seen++)
            visit(keyspace_root(keyspace, database, word * 64 + (unsigned)__builtin_ctzll(left)),
                  context);
    }
}

static const struct slot_bitmaps *bitmaps_of(const struct keyspace *keyspace, unsigned database) {
    return atomic_load_explicit(&keyspace->bitmaps[keyspace->database_map[database]],
                                memory_order_acquire);
}

/* --- Times to live ---------------------------------------------------------------------------- */

struct time_to_live {
    int64_t now_ms, count;
    double sum_ms;
};

static void add_time_to_live(struct object *object, uint64_t hash, void *context) {
    (void)hash;
    struct time_to_live *average = context;
    int64_t expiry_ms = object_expiry(object);
    if (expiry_ms == OBJECT_NO_EXPIRY || average->count >= SAMPLED_SLOTS * SAMPLED_KEYS)
        return;
    if (expiry_ms > average->now_ms)
        average->sum_ms += (double)(expiry_ms - average->now_ms);
    average->count++;
}

static void sample_time_to_live(const table_root *root, void *context) {
    uint64_t next;
    table_walk(root, 0, WALK_BITS, SAMPLED_KEYS, SAMPLED_BUCKETS, true, add_time_to_live, context,
               &next);
}

int64_t keyspace_sample_ttl_ms(struct keyspace *keyspace, unsigned database) {
    const struct slot_bitmaps *bitmaps = bitmaps_of(keyspace, database);
    struct time_to_live average = {.now_ms = clock_now_ms()};
    if (bitmaps)
        sample_slots(keyspace, database, bitmaps->expiring, sample_time_to_live, &average);
    return average.count ? (int64_t)(average.sum_ms / (double)average.count) : 0;
}

/* --- Tables ----------------------------------------------------------------------------------- */

struct table_share {
    uint64_t bytes, keys;
};

static void sample_table(const table_root *root, void *context) {
    struct table_share *share = context;
    share->bytes += table_bytes(root);
    share->keys += table_count(root);
}

uint64_t keyspace_sample_table_bytes(struct keyspace *keyspace, unsigned database) {
    const struct slot_bitmaps *bitmaps = bitmaps_of(keyspace, database);
    struct table_share share = {0};
    if (bitmaps)
        sample_slots(keyspace, database, bitmaps->occupied, sample_table, &share);
    if (!share.keys)
        return 0;
    return (uint64_t)((double)share.bytes / (double)share.keys *
                      (double)keyspace_count(keyspace, database));
}
