/* SCAN and RANDOMKEY over the keyspace.
 *
 * A cursor is slot << 39 | bound, bound being the upper 39 bits of a hash: everything in that slot below the bound
 * has been returned. Because tables keep hash order (table.h) the guarantee of SCAN holds over any rebuild, and
 * a key that stays is returned exactly once. The cursor stays below 2^53: some clients parse doubles.
 *
 * Each slot's part is read without the token and validated; after SCAN_TRIES failures under the token. Any thread
 * that holds no token; exclusive: inside an exclusive section (or holding all tokens), nothing to validate. */
#include <string.h>

#include "engine/clock.h"
#include "engine/keyspace.h"

#define BOUND_BITS 39
#define GRANULARITY_BITS (64 - BOUND_BITS)
#define SCAN_TRIES 4
#define SCAN_BUCKET_LIMIT_MIN 64

struct walk {
    const struct scan_visitor *visitor;
    size_t seen;
};

static void walk_visit(struct object *object, uint64_t hash, void *context) {
    (void)hash;
    struct walk *walk = context;
    walk->seen++;
    walk->visitor->visit(object, walk->visitor->context);
}

/* The first slot >= from with a key, SLOT_COUNT if there is none. */
static uint32_t next_occupied(const struct slot_bitmaps *bitmaps, uint32_t from) {
    for (uint32_t word = from / 64; word < SLOT_COUNT / 64; word++) {
        uint64_t bits = atomic_load_explicit(&bitmaps->occupied[word], memory_order_acquire);
        if (word == from / 64)
            bits &= ~(uint64_t)0 << (from & 63);
        if (bits)
            return word * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return SLOT_COUNT;
}

/* Runs part() so that what it saw is one state of the slot. */
static void read_slot(struct slot *slot, bool exclusive, const struct scan_visitor *visitor,
                      void (*part)(void *context), void *context) {
    visitor->mark(visitor->context);
    if (exclusive) {
        part(context);
        return;
    }
    for (int i = 0; i < SCAN_TRIES; i++) {
        uint64_t word;
        if (!slot_read_begin(slot, &word))
            continue;
        part(context);
        if (slot_read_validate(slot, word))
            return;
        visitor->reset(visitor->context);
    }
    slot_acquire_waiting(slot);
    part(context);
    slot_release(slot);
}

struct scan_part {
    const table_root *root;
    uint64_t from, next;
    size_t limit, bucket_limit;
    struct walk walk;
};

static void scan_part(void *context) {
    struct scan_part *part = context;
    part->walk.seen = 0;
    part->next = 0;
    if (part->root)
        table_walk(part->root, part->from, GRANULARITY_BITS, part->limit, part->bucket_limit, false,
                   walk_visit, &part->walk, &part->next);
}

uint64_t keyspace_scan(struct keyspace *keyspace, unsigned database, uint64_t cursor, size_t count,
                       bool exclusive, const struct scan_visitor *visitor) {
    const struct slot_bitmaps *bitmaps =
        atomic_load_explicit(&keyspace->bitmaps[keyspace->database_map[database]], memory_order_acquire);
    uint32_t slot = (uint32_t)((cursor >> BOUND_BITS) & (SLOT_COUNT - 1));
    uint64_t from = cursor << GRANULARITY_BITS;
    size_t seen = 0;
    if (!bitmaps)
        return 0;
    for (;;) {
        uint32_t occupied = next_occupied(bitmaps, slot);
        if (occupied == SLOT_COUNT)
            return 0;
        if (occupied != slot) {
            slot = occupied;
            from = 0;
        }
        struct scan_part part = {.root = keyspace_root(keyspace, database, slot),
                                 .from = from,
                                 .limit = count - seen,
                                 .bucket_limit = count > SCAN_BUCKET_LIMIT_MIN ? count : SCAN_BUCKET_LIMIT_MIN,
                                 .walk = {.visitor = visitor}};
        read_slot(&keyspace->slots[slot], exclusive, visitor, scan_part, &part);
        seen += part.walk.seen;
        from = part.next;
        if (from == 0 && ++slot == SLOT_COUNT)
            return 0;
        if (seen >= count)
            return (uint64_t)slot << BOUND_BITS | from >> GRANULARITY_BITS;
    }
}

/* --- RANDOMKEY ------------------------------------------------------------------------------------------------
 *
 * A slot is chosen with a probability proportional to its keys. The sums of groups of 64 slots are remembered per
 * thread and made anew when the number of keys has moved by more than 1/128 or a second has passed; inside the
 * group the counts are live. */

#define GROUPS (SLOT_COUNT / 64)
#define RANDOM_TRIES 100

struct weights {
    const struct keyspace *keyspace;
    unsigned database;
    uint64_t total, made_us;
    uint64_t groups[GROUPS];
};

static uint64_t random_64(void) {
    static _Thread_local uint64_t state;
    if (state == 0)
        state = (uint64_t)(uintptr_t)&state ^ clock_monotonic_ns();
    state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t random_below(uint64_t n) {
    return (uint64_t)(((unsigned __int128)random_64() * n) >> 64);
}

static size_t live_count(const struct keyspace *keyspace, unsigned database, uint32_t slot) {
    const table_root *root = keyspace_root(keyspace, database, slot);
    return root ? table_count(root) : 0;
}

static void weights_make(struct weights *w, const struct keyspace *keyspace, unsigned database,
                         const struct slot_bitmaps *bitmaps) {
    w->keyspace = keyspace;
    w->database = database;
    w->made_us = clock_monotonic_us();
    w->total = 0;
    for (uint32_t group = 0; group < GROUPS; group++) {
        w->groups[group] = 0;
        uint64_t bits = atomic_load_explicit(&bitmaps->occupied[group], memory_order_acquire);
        for (; bits; bits &= bits - 1)
            w->groups[group] +=
                live_count(keyspace, database, group * 64 + (uint32_t)__builtin_ctzll(bits));
        w->total += w->groups[group];
    }
}

static bool weights_stale(const struct weights *w, const struct keyspace *keyspace, unsigned database) {
    if (w->keyspace != keyspace || w->database != database || w->total == 0)
        return true;
    uint64_t count = keyspace_count(keyspace, database);
    uint64_t moved = count > w->total ? count - w->total : w->total - count;
    return moved > w->total / 128 || clock_monotonic_us() - w->made_us > 1000000;
}

static uint32_t choose_slot(const struct weights *w, const struct keyspace *keyspace, unsigned database) {
    uint64_t pick = random_below(w->total), sum = 0;
    uint32_t group = 0;
    while (group < GROUPS - 1 && pick >= w->groups[group])
        pick -= w->groups[group++];
    size_t counts[64];
    for (uint32_t i = 0; i < 64; i++)
        sum += counts[i] = live_count(keyspace, database, group * 64 + i);
    if (sum == 0)
        return SLOT_COUNT;
    pick = random_below(sum);
    uint32_t i = 0;
    while (pick >= counts[i])
        pick -= counts[i++];
    return group * 64 + i;
}

struct random_part {
    const table_root *root;
    const struct scan_visitor *visitor;
    bool found;
};

static void random_part(void *context) {
    struct random_part *part = context;
    struct object *object = part->root ? table_random(part->root, random_64(), random_64()) : NULL;
    part->found = object && !object_is_expired(object);
    if (part->found)
        part->visitor->visit(object, part->visitor->context);
}

bool keyspace_random(struct keyspace *keyspace, unsigned database, bool exclusive,
                     const struct scan_visitor *visitor) {
    static _Thread_local struct weights weights;
    const struct slot_bitmaps *bitmaps =
        atomic_load_explicit(&keyspace->bitmaps[keyspace->database_map[database]], memory_order_acquire);
    if (!bitmaps)
        return false;
    if (weights_stale(&weights, keyspace, database))
        weights_make(&weights, keyspace, database, bitmaps);
    for (int i = 0; i < RANDOM_TRIES && weights.total > 0; i++) {
        uint32_t slot = choose_slot(&weights, keyspace, database);
        if (slot == SLOT_COUNT) {
            weights_make(&weights, keyspace, database, bitmaps);
            continue;
        }
        struct random_part part = {keyspace_root(keyspace, database, slot), visitor, false};
        read_slot(&keyspace->slots[slot], exclusive, visitor, random_part, &part);
        if (part.found)
            return true;
    }
    return false;
}
