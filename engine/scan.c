/* SCAN and RANDOMKEY over the keyspace.
 *
 * A cursor is slot << 39 | bound, bound being the upper 39 bits of a hash: everything in that slot
 * below the bound has been returned. Because tables keep hash order (table.h) the guarantee of SCAN
 * holds over any rebuild, and a key that stays is returned exactly once. The cursor stays below
 * 2^53: some clients parse doubles.
 *
 * Each slot's part is read without the token and validated; after SCAN_TRIES failures under the
 * token. Any thread that holds no token; exclusive: inside an exclusive section (or holding all
 * tokens), nothing to validate. */
#include "engine/clock.h"
#include "engine/keyspace.h"
#include "engine/random_slot.h"

#define BOUND_BITS            39
#define GRANULARITY_BITS      (64 - BOUND_BITS)
#define SCAN_TRIES            4
#define SCAN_BUCKET_LIMIT_MIN 64
#define SCAN_EMPTY_PARTS      10

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
    bool empty; /* no table at all */
    struct walk walk;
};

static void scan_part(void *context) {
    struct scan_part *part = context;
    part->walk.seen = 0;
    part->next = 0;
    part->empty = !part->root || table_count(part->root) == 0;
    if (!part->empty)
        table_walk(part->root, part->from, GRANULARITY_BITS, part->limit, part->bucket_limit, false,
                   walk_visit, &part->walk, &part->next);
}

uint64_t keyspace_scan(struct keyspace *keyspace, unsigned database, uint64_t cursor, size_t count,
                       bool exclusive, const struct scan_visitor *visitor) {
    const struct slot_bitmaps *bitmaps = atomic_load_explicit(
        &keyspace->bitmaps[keyspace->database_map[database]], memory_order_acquire);
    uint32_t slot = (uint32_t)((cursor >> BOUND_BITS) & (SLOT_COUNT - 1));
    uint64_t from = cursor << GRANULARITY_BITS;
    size_t seen = 0, empty = 0;
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
                                 .bucket_limit =
                                     count > SCAN_BUCKET_LIMIT_MIN ? count : SCAN_BUCKET_LIMIT_MIN,
                                 .walk = {.visitor = visitor}};
        read_slot(&keyspace->slots[slot], exclusive, visitor, scan_part, &part);
        seen += part.walk.seen;
        from = part.next;
        if (from == 0 && ++slot == SLOT_COUNT)
            return 0;
        /* As in Redis a call ends after a while even if it meets hardly any key: a table that was
         * large may be nearly empty. */
        empty += part.walk.seen == 0 && !part.empty;
        if (part.empty)
            keyspace_note_empty(keyspace, database, occupied, exclusive);
        if (seen >= count || empty >= SCAN_EMPTY_PARTS)
            return (uint64_t)slot << BOUND_BITS | from >> GRANULARITY_BITS;
    }
}

/* --- RANDOMKEY -------------------------------------------------------------------------------- */

#define RANDOM_TRIES      100
#define RANDOM_TOLERANCE  128
#define RANDOM_SCAN_COUNT 1000

struct random_part {
    const table_root *root;
    const struct scan_visitor *visitor;
    bool found;
};

/* Per thread; a seed of its own is fair enough. */
static uint64_t *random_state(void) {
    static _Thread_local uint64_t state;
    if (state == 0)
        state = (uint64_t)(uintptr_t)&state ^ clock_monotonic_ns();
    return &state;
}

static void random_part(void *context) {
    struct random_part *part = context;
    uint64_t *random = random_state();
    struct object *object =
        part->root ? table_random(part->root, random_next(random), random_next(random)) : NULL;
    part->found = object && !object_is_expired(object);
    if (part->found)
        part->visitor->visit(object, part->visitor->context);
}

/* The first key from a random place that has not expired; for a database of nearly only expired
 * keys. */
struct first_live {
    const struct object *object, *final;
};

static void live_visit(const struct object *object, void *context) {
    struct first_live *first = context;
    if (!first->object && !object_is_expired(object))
        first->object = object;
}
static void live_mark(void *context) {
    struct first_live *first = context;
    first->final = first->object;
}
static void live_reset(void *context) {
    struct first_live *first = context;
    first->object = first->final;
}

static bool random_by_scan(struct keyspace *keyspace, unsigned database, bool exclusive,
                           const struct scan_visitor *visitor) {
    struct first_live first = {NULL, NULL};
    struct scan_visitor inner = {live_visit, live_mark, live_reset, &first};
    uint64_t start = random_below(random_state(), SLOT_COUNT) << BOUND_BITS, cursor = start;
    do
        cursor = keyspace_scan(keyspace, database, cursor, RANDOM_SCAN_COUNT, exclusive, &inner);
    while (cursor != 0 && !first.object);
    while (!first.object && cursor < start) {
        cursor = keyspace_scan(keyspace, database, cursor, RANDOM_SCAN_COUNT, exclusive, &inner);
        if (cursor == 0)
            break;
    }
    if (!first.object)
        return false;
    visitor->mark(visitor->context);
    visitor->visit(first.object, visitor->context);
    return true;
}

bool keyspace_random(struct keyspace *keyspace, unsigned database, bool exclusive,
                     const struct scan_visitor *visitor) {
    static _Thread_local struct slot_choice choice;
    slot_choice_refresh(&choice, keyspace, database, false, RANDOM_TOLERANCE);
    for (int i = 0; i < RANDOM_TRIES && choice.total > 0; i++) {
        uint32_t slot = slot_choice_pick(&choice, random_state());
        if (slot == SLOT_COUNT) {
            slot_choice_make(&choice, keyspace, database, false);
            continue;
        }
        struct random_part part = {keyspace_root(keyspace, database, slot), visitor, false};
        read_slot(&keyspace->slots[slot], exclusive, visitor, random_part, &part);
        if (part.found)
            return true;
    }
    /* Counts may be those of a transaction that is under way; the scan's answer is final. */
    return random_by_scan(keyspace, database, exclusive, visitor);
}
