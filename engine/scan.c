/* SCAN and RANDOMKEY over the keyspace.
 *
 * A cursor is slot << 39 | bound, bound being the upper 39 bits of a hash: everything in that slot
 * below the bound has been returned. Because tables keep hash order (table.h) the guarantee of SCAN
 * holds over any rebuild, and a key that stays is returned exactly once. The cursor stays below
 * 2^53: some clients parse doubles.
 *
 * Algorithm. One call reads a part of each slot that it comes to, without tokens, and remembers the
 * slot's word. At the end all words are looked at again: if none has changed, then between the
 * reading of the last and the first look again all slots were as they were read. Slots are passed
 * over by their clear bit in the bitmap; at the end the bits must be clear still, and no bit may
 * have been cleared meanwhile. So the call shows the database as it was at one moment. If only
 * later slots have changed the call may end before the first of them, since a client takes any
 * number of keys; else it is repeated, and in the end runs in an exclusive section.
 *
 * Ordering. Words as slot.h says. A bit is set under its slot's token, and cleared under it after
 * `cleared` has been counted up: who reads the same count and a clear bit at both ends has missed
 * no key between.
 *
 * Progress. SCAN_TRIES attempts, of which only the first is as long as the client wants; the
 * section looks at SCAN_EXCLUSIVE_KEYS keys at most, RANDOMKEY's at as many as are expired.
 *
 * Reclamation. Objects live until the end of the command (RCU).
 *
 * Any thread that holds no token; exclusive: inside an exclusive section, nothing to validate. */
#include "engine/clock.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "engine/random_slot.h"

#define BOUND_BITS            39
#define GRANULARITY_BITS      (64 - BOUND_BITS)
#define SCAN_TRIES            3
#define SCAN_BUCKET_LIMIT_MIN 64
#define SCAN_EMPTY_PARTS      10
#define SCAN_EXCLUSIVE_KEYS   10000

/* --- Parts: what was read of each slot -------------------------------------------------------- */

struct scan_part {
    uint64_t word;
    size_t first; /* objects before it */
    uint32_t slot;
    bool empty; /* there was no key at all in the slot */
};

struct scan_walk {
    struct keyspace *keyspace;
    const struct slot_bitmaps *bitmaps;
    unsigned database;
    size_t count; /* keys wanted */
    bool exclusive;
    struct scan_list *list;
    struct view *view; /* RANDOMKEY only: SCAN tells nobody's time */
};

static void list_push(struct scan_list *list, const struct object *object) {
    if (UNLIKELY(list->count == list->capacity)) {
        list->capacity = list->capacity ? list->capacity * 2 : 64;
        list->objects =
            memory_realloc(list->objects, list->capacity * sizeof(const struct object *));
    }
    list->objects[list->count++] = object;
}

static struct scan_part *part_push(struct scan_list *list) {
    if (UNLIKELY(list->part_count == list->part_capacity)) {
        list->part_capacity = list->part_capacity ? list->part_capacity * 2 : 16;
        list->parts = memory_realloc(list->parts, list->part_capacity * sizeof *list->parts);
    }
    return &list->parts[list->part_count++];
}

void scan_list_free(struct scan_list *list) {
    memory_free(list->objects);
    memory_free(list->parts);
}

static void list_visit(struct object *object, uint64_t hash, void *context) {
    (void)hash;
    list_push(context, object);
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

/* Up to which slot, from `from` up to end, all is of one moment: the parts (of ascending slots in
 * that range) and the slots passed over. end: all of it. */
static uint32_t settled_up_to(const struct scan_walk *walk, const struct scan_part *parts,
                              size_t count, uint64_t cleared, uint32_t from, uint32_t end) {
    size_t i = 0;
    for (; i < count && parts[i].slot < end; i++)
        if (!slot_read_validate(&walk->keyspace->slots[parts[i].slot], parts[i].word))
            end = parts[i].slot;
    i = 0;
    for (uint32_t slot = from; (slot = next_occupied(walk->bitmaps, slot)) < end; slot++) {
        while (i < count && parts[i].slot < slot)
            i++;
        if (i == count || parts[i].slot != slot)
            end = slot;
    }
    uint64_t now = atomic_load_explicit(&walk->bitmaps->cleared, memory_order_seq_cst);
    return now == cleared ? end : from;
}

/* --- SCAN ------------------------------------------------------------------------------------- */

/* Reads a part of a slot, from the bound on. false: the slot is held, nothing was read. */
static bool read_part(const struct scan_walk *walk, uint32_t slot, uint64_t from, uint64_t *next) {
    struct scan_list *list = walk->list;
    uint64_t word = 0;
    if (!walk->exclusive && !slot_read_begin(&walk->keyspace->slots[slot], &word))
        return false;
    const table_root *root = keyspace_root(walk->keyspace, walk->database, slot);
    bool empty = !root || table_count(root) == 0;
    *part_push(list) = (struct scan_part){word, list->count, slot, empty};
    *next = 0;
    if (!empty)
        table_walk(root, from, GRANULARITY_BITS, walk->count - list->count,
                   walk->count > SCAN_BUCKET_LIMIT_MIN ? walk->count : SCAN_BUCKET_LIMIT_MIN, false,
                   list_visit, list, next);
    return true;
}

/* Returns the slot up to which it came, with the bound of the next call in *bound. *held: it ended
 * there because that slot was. */
static uint32_t walk_once(const struct scan_walk *walk, uint32_t slot, uint64_t from,
                          uint64_t *bound, bool *held) {
    struct scan_list *list = walk->list;
    size_t barren = 0;
    list->count = list->part_count = 0;
    *held = false;
    *bound = 0;
    while (slot < SLOT_COUNT) {
        uint32_t occupied = next_occupied(walk->bitmaps, slot);
        if (occupied != slot) {
            slot = occupied;
            from = 0;
            continue;
        }
        size_t before = list->count;
        if (!read_part(walk, slot, from, &from)) {
            *held = true;
            return slot;
        }
        /* As in Redis a call ends after a while even if it meets hardly any key: a table that was
         * large may be nearly empty. */
        barren += list->count == before && !list->parts[list->part_count - 1].empty;
        slot += from == 0;
        if (list->count >= walk->count || barren >= SCAN_EMPTY_PARTS) {
            *bound = from;
            return slot;
        }
    }
    return slot;
}

static uint64_t cursor_of(uint32_t slot, uint64_t bound) {
    return slot == SLOT_COUNT ? 0 : (uint64_t)slot << BOUND_BITS | bound >> GRANULARITY_BITS;
}

static void note_empty_slots(const struct scan_walk *walk) {
    for (size_t i = 0; i < walk->list->part_count; i++)
        if (walk->list->parts[i].empty)
            keyspace_note_empty(walk->keyspace, walk->database, walk->list->parts[i].slot,
                                walk->exclusive);
}

/* One attempt without tokens. true: *cursor is the next one, and the list is of one moment. least:
 * so many keys are enough if what comes behind them has changed. */
static bool scan_once(const struct scan_walk *walk, size_t least, uint64_t *cursor) {
    struct scan_list *list = walk->list;
    uint32_t slot = (uint32_t)(*cursor >> BOUND_BITS);
    uint64_t bound;
    bool held;
    uint64_t cleared = atomic_load_explicit(&walk->bitmaps->cleared, memory_order_seq_cst);
    uint32_t next = walk_once(walk, slot, *cursor << GRANULARITY_BITS, &bound, &held);
    uint32_t end = bound ? next + 1 : next;
    uint32_t settled = settled_up_to(walk, list->parts, list->part_count, cleared, slot, end);
    if (settled == end && !held) {
        *cursor = cursor_of(next, bound);
        note_empty_slots(walk);
        return true;
    }
    size_t n = list->part_count;
    while (n > 0 && list->parts[n - 1].slot >= settled)
        n--;
    size_t keys = n < list->part_count ? list->parts[n].first : list->count;
    if (n == 0 || keys < least)
        return false;
    list->count = keys;
    list->part_count = n;
    *cursor = cursor_of(settled, 0);
    note_empty_slots(walk);
    return true;
}

bool keyspace_scan(struct keyspace *keyspace, unsigned database, uint64_t *cursor, size_t count,
                   bool exclusive, struct scan_list *list) {
    struct scan_walk walk = {
        keyspace,
        atomic_load_explicit(&keyspace->bitmaps[keyspace->database_map[database]],
                             memory_order_acquire),
        database,
        count,
        exclusive,
        list,
        NULL};
    size_t few = count < SCAN_EXCLUSIVE_KEYS ? count : SCAN_EXCLUSIVE_KEYS;
    list->count = list->part_count = 0;
    *cursor &= ((uint64_t)1 << (SLOT_BITS + BOUND_BITS)) - 1;
    if (!walk.bitmaps) {
        *cursor = 0;
        return true;
    }
    if (exclusive) {
        uint64_t bound;
        bool held;
        walk.count = few;
        uint32_t end = walk_once(&walk, (uint32_t)(*cursor >> BOUND_BITS),
                                 *cursor << GRANULARITY_BITS, &bound, &held);
        *cursor = cursor_of(end, bound);
        note_empty_slots(&walk);
        return true;
    }
    for (unsigned i = 0; i < SCAN_TRIES; i++) {
        if (scan_once(&walk, (walk.count >> (i + 1)) + 1, cursor))
            return true;
        walk.count = few;
    }
    list->count = 0;
    return false;
}

/* --- RANDOMKEY -------------------------------------------------------------------------------- */

#define RANDOM_TRIES     100
#define RANDOM_TOLERANCE 128
#define RANDOM_BUCKETS   256 /* looked at before it is asked whether there is a live key */

/* Per thread; a seed of its own is fair enough. */
static uint64_t *random_state(void) {
    static _Thread_local uint64_t state;
    if (state == 0)
        state = (uint64_t)(uintptr_t)&state ^ clock_monotonic_ns();
    return &state;
}

/* A live key of the slot, NULL: there was none, or somebody changed it. */
static const struct object *random_of_slot(const struct keyspace *keyspace, struct view *view,
                                           unsigned database, uint32_t slot, bool exclusive) {
    uint64_t word = 0, *random = random_state();
    if (!exclusive && !slot_read_begin(&keyspace->slots[slot], &word))
        return NULL;
    const table_root *root = keyspace_root(keyspace, database, slot);
    const struct object *object =
        root ? table_random(root, random_next(random), random_next(random)) : NULL;
    if (!object || view_is_expired(view, object))
        return NULL;
    return exclusive || slot_read_validate(&keyspace->slots[slot], word) ? object : NULL;
}

struct live {
    struct view *view;
    const struct object *object;
};

static void live_visit(struct object *object, uint64_t hash, void *context) {
    struct live *live = context;
    (void)hash;
    if (!live->object && !view_is_expired(live->view, object))
        live->object = object;
}

/* The first live key in hash order; parts as in SCAN. *object NULL: none. false: the slot is held
 * or has changed. */
static bool first_live(const struct scan_walk *walk, uint32_t slot, const struct object **object) {
    uint64_t next = 0, word = 0;
    if (!walk->exclusive && !slot_read_begin(&walk->keyspace->slots[slot], &word))
        return false;
    const table_root *root = keyspace_root(walk->keyspace, walk->database, slot);
    bool empty = !root || table_count(root) == 0;
    *part_push(walk->list) = (struct scan_part){word, 0, slot, empty};
    *object = NULL;
    if (empty)
        return true;
    struct live live = {walk->view, NULL};
    do
        table_walk(root, next, 0, SIZE_MAX, RANDOM_BUCKETS, false, live_visit, &live, &next);
    while (next != 0 && !live.object);
    *object = live.object;
    return !*object || walk->exclusive || slot_read_validate(&walk->keyspace->slots[slot], word);
}

/* The slots in [from, end). true: *object is a live key. false: none was seen; *settled is cleared
 * if that proves nothing. */
static bool random_in_range(const struct scan_walk *walk, uint32_t from, uint32_t end,
                            const struct object **object, bool *settled) {
    for (uint32_t slot = from; (slot = next_occupied(walk->bitmaps, slot)) < end; slot++) {
        if (!first_live(walk, slot, object))
            *settled = false;
        else if (*object)
            return true;
    }
    *object = NULL;
    return false;
}

/* For a database of nearly only expired keys, and to prove that there is none: looks at all slots
 * from a random one on. true: *object is a live key, or NULL and there was none at one moment. */
static bool random_by_walk(const struct scan_walk *walk, const struct object **object) {
    struct scan_list *list = walk->list;
    uint32_t start = (uint32_t)random_below(random_state(), SLOT_COUNT);
    uint64_t cleared = atomic_load_explicit(&walk->bitmaps->cleared, memory_order_seq_cst);
    bool settled = true;
    list->count = list->part_count = 0;
    if (random_in_range(walk, start, SLOT_COUNT, object, &settled))
        return true;
    size_t above = list->part_count;
    if (random_in_range(walk, 0, start, object, &settled))
        return true;
    if (!walk->exclusive)
        settled =
            settled &&
            settled_up_to(walk, list->parts, above, cleared, start, SLOT_COUNT) == SLOT_COUNT &&
            settled_up_to(walk, list->parts + above, list->part_count - above, cleared, 0, start) ==
                start;
    if (settled)
        note_empty_slots(walk);
    return settled;
}

bool keyspace_random(struct keyspace *keyspace, struct view *view, unsigned database,
                     bool exclusive, const struct object **object) {
    static _Thread_local struct slot_choice choice;
    struct scan_list list = {0};
    struct scan_walk walk = {
        keyspace,
        atomic_load_explicit(&keyspace->bitmaps[keyspace->database_map[database]],
                             memory_order_acquire),
        database,
        0,
        exclusive,
        &list,
        view};
    uint64_t count;
    *object = NULL;
    if (!walk.bitmaps)
        return true;
    slot_choice_refresh(&choice, keyspace, database, false, RANDOM_TOLERANCE);
    for (int i = 0; i < RANDOM_TRIES && choice.total > 0; i++) {
        uint32_t slot = slot_choice_pick(&choice, random_state());
        if (slot == SLOT_COUNT)
            slot_choice_make(&choice, keyspace, database, false);
        else if ((*object = random_of_slot(keyspace, view, database, slot, exclusive)))
            return true;
    }
    if (!exclusive && keyspace_count_at_once(keyspace, database, &count) && count == 0)
        return true;
    bool settled = false;
    for (unsigned i = 0; i < SCAN_TRIES && !settled; i++)
        settled = random_by_walk(&walk, object);
    scan_list_free(&list);
    return settled;
}
