/* Table: lookup, insertion and removal. The layout is in table_bucket.h, placing an entry in
 * table_bucket.c, rebuilds in table_rebuild.c, walks and samples in table_walk.c.
 *
 * Algorithm
 *   A key's home is bucket hash * n >> 64. It lives in its home or, when that is full, in the
 *   nearest of the REACH_MAX next buckets that has room; the home's reach says how far one must
 *   look. Only when all of these are full does the home get an overflow bucket. A removal pulls the
 *   furthest key of the bucket's own back into the hole, so that churn does not scatter keys. Plain
 *   overflow chains cannot do what this does: with 7 or 8 keys a bucket they bottom out at 12 bytes
 *   a key, whatever the load; this takes 9 to 11 with 86-95 % of the keys at home.
 *
 *   An entry carries 16 bits of the hash (the tag) beside the pointer. A lookup compares the eight
 *   tags of a bucket at once and touches only objects that match: a wrong one once in a hundred
 *   lookups or less. Which 16 bits depends on the size of the table (tag_position_for): those that
 *   the place does not tell, so that place and tag together give the hash to within 2^-9 of a
 *   bucket or better, and a rebuild need not touch the objects.
 *
 *   Small tables are rebuilt at once into a new array; large ones a few buckets per write, in hash
 *   order, with a bound: keys below it are in the new array (table_rebuild.c).
 *
 * Ordering
 *   One writer at a time, the token's holder; tokens order writers among each other. An object is
 *   complete before its entry is stored (release), which pairs with the reader's load of the entry
 *   (acquire); in the same way an array before the root, an overflow bucket before its link, and
 *   moved entries before the bound or the root that makes readers look for them in their new place.
 *   An entry is stored in its new place before it goes from the old.
 *
 *   A reader may all the same miss a key that moves while it looks, or find one that has just been
 *   replaced. It may not fault: a word is loaded once, as an atomic, and is an object, a link or
 *   nothing by its own bits. What a lookup found or missed counts only if the slot's word validates
 *   (slot.h).
 *
 * Progress
 *   Readers are wait-free: at most 1 + REACH_MAX buckets and the overflow chain of each. A write is
 *   bounded by the same plus a rebuild of a table below TABLE_STEP_THRESHOLD_BUCKETS or
 *   TABLE_STEP_BUCKETS buckets of a larger one. A table does not shrink further than its densest
 * part allows, and placing and taking out cost the same in a chain of any length, so that an
 * overflow chain is long only if hashes collide in far more bits than a seeded hash lets them, or
 * for a while if keys come in the order of their hashes (SCAN and MOVE).
 *
 * Reclamation
 *   Old arrays, overflow buckets and rebuild states go through epoch_retire; large arrays from
 *   there to the background thread. Objects belong to the caller. */
#include "engine/table.h"

#include <string.h>

#include "engine/table_rebuild.h"

/* --- Lookup ----------------------------------------------------------------------------------- */

/* For short keys; in line, so that a lookup calls nothing and needs no stack. */
#define SHORT_KEY_BYTES 64
static inline __attribute__((always_inline)) bool short_equal(const char *a, const char *b,
                                                              size_t length) {
    uint64_t x, y;
    if (LIKELY(length >= 8)) {
        /* Eight bytes at a time, the last eight overlap. */
        for (size_t i = 0; i + 8 < length; i += 8) {
            memcpy(&x, a + i, 8);
            memcpy(&y, b + i, 8);
            if (x != y)
                return false;
        }
        memcpy(&x, a + length - 8, 8);
        memcpy(&y, b + length - 8, 8);
        return x == y;
    }
    for (size_t i = 0; i < length; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* false for keys that are not short, too. */
static inline __attribute__((always_inline)) bool short_key_is(const struct object *o,
                                                               const char *key, size_t length) {
    if (UNLIKELY(length > SHORT_KEY_BYTES || o->key_length != length))
        return false;
    if (object_flags(o) & OBJECT_WIDE_KEY)
        __builtin_unreachable(); /* such a key has more bytes than that */
    size_t n;
    const char *k = object_key(o, &n);
    return LIKELY(short_equal(k, key, length));
}

static struct object *bucket_find(const struct bucket *b, uint64_t tag, const char *key,
                                  size_t length) {
    for (unsigned mask = bucket_match(b, tag); mask; mask &= mask - 1) {
        uint64_t entry = word_acquire(b, MATCH_INDEX(mask));
        if ((entry & ENTRY_OBJECT) && object_key_equals(entry_object(entry), key, length))
            return entry_object(entry);
    }
    return NULL;
}

/* All that table_find does not do itself. */
static __attribute__((noinline)) struct object *find_further(const struct table *t, uint64_t hash,
                                                             const char *key, size_t length) {
    uint64_t geometry = table_geometry(t);
    uint64_t buckets = geometry_buckets(geometry);
    uint64_t tag = hash_tag(hash, geometry_tag_position(geometry));
    uint64_t home = hash_home(hash, buckets);
    uint64_t reach = home_reach(t, home, buckets);
    for (uint64_t d = 0; d <= reach; d++) {
        const struct bucket *b = table_bucket(t, bucket_wrap(home + d, buckets));
        for (; b; b = bucket_link(b)) {
            struct object *found = bucket_find(b, tag, key, length);
            if (found)
                return found;
        }
    }
    return NULL;
}

/* The table of this hash at this moment, NULL if there is none. */
static inline struct table *table_for(const table_root *root, uint64_t hash) {
    struct table *t = atomic_load_explicit(root, memory_order_acquire);
    if (LIKELY(t != NULL)) {
        struct table_rebuild *r = table_rebuild_state(t);
        if (UNLIKELY(r != NULL))
            t = rebuild_side(t, r, hash);
    }
    return t;
}

struct object *table_find(const table_root *root, uint64_t hash, const char *key, size_t length) {
    const struct table *t = table_for(root, hash);
    if (UNLIKELY(t == NULL))
        return NULL;
    uint64_t geometry = table_geometry(t);
    uint64_t tag = hash_tag(hash, geometry_tag_position(geometry));
    uint64_t home = hash_home(hash, geometry_buckets(geometry));
    const struct bucket *b = table_bucket(t, home);
    unsigned mask = bucket_match(b, tag);
    if (LIKELY(mask != 0)) {
        /* Nearly always it is the first match at home. */
        uint64_t entry = word_acquire(b, MATCH_INDEX(mask));
        if (LIKELY(entry & ENTRY_OBJECT) && short_key_is(entry_object(entry), key, length))
            return entry_object(entry);
    } else if (!bucket_reaches_on(b)) {
        return NULL;
    }
    return find_further(t, hash, key, length);
}

void table_prefetch_header(const table_root *root) {
    __builtin_prefetch(atomic_load_explicit(root, memory_order_relaxed));
}

void table_prefetch_bucket(const table_root *root, uint64_t hash) {
    const struct table *t = table_for(root, hash);
    if (t)
        __builtin_prefetch(table_bucket(t, hash_home(hash, table_buckets(t))));
}

bool table_prefetch_object(const table_root *root, uint64_t hash, bool value) {
    const struct table *t = table_for(root, hash);
    if (!t)
        return false;
    uint64_t geometry = table_geometry(t);
    uint64_t home = hash_home(hash, geometry_buckets(geometry));
    const struct bucket *b = table_bucket(t, home);
    unsigned mask = bucket_match(b, hash_tag(hash, geometry_tag_position(geometry)));
    if (UNLIKELY(!mask) && bucket_reaches_on(b)) {
        __builtin_prefetch(table_bucket(t, bucket_wrap(home + 1, geometry_buckets(geometry))));
        return true;
    }
    for (; mask; mask &= mask - 1) {
        const char *object = (const char *)entry_object(word_load(b, MATCH_INDEX(mask)));
        __builtin_prefetch(object);
        if (value)
            __builtin_prefetch(object + 64);
    }
    return false;
}

void table_prefetch_further(const table_root *root, uint64_t hash) {
    const struct table *t = table_for(root, hash);
    if (!t)
        return;
    uint64_t geometry = table_geometry(t), buckets = geometry_buckets(geometry);
    uint64_t tag = hash_tag(hash, geometry_tag_position(geometry)), home = hash_home(hash, buckets);
    uint64_t reach = home_reach(t, home, buckets);
    for (uint64_t d = 1; d <= reach; d++) {
        const struct bucket *b = table_bucket(t, bucket_wrap(home + d, buckets));
        for (unsigned mask = bucket_match(b, tag); mask; mask &= mask - 1) {
            const char *object = (const char *)entry_object(word_load(b, MATCH_INDEX(mask)));
            __builtin_prefetch(object);
            __builtin_prefetch(object + 64);
        }
    }
}

/* --- Removing --------------------------------------------------------------------------------- */

/* Where an entry is. */
struct place {
    struct table *table;
    uint64_t home;
    uint64_t index;        /* of the bucket in the table */
    struct bucket *bucket; /* that or one of its overflow buckets */
    unsigned word;
};

/* By identity if object is given, else by key. */
static inline bool bucket_locate(struct place *p, struct bucket *b, uint64_t tag,
                                 const struct object *object, const char *key, size_t length) {
    for (unsigned mask = bucket_match(b, tag); mask; mask &= mask - 1) {
        uint64_t entry = word_load(b, MATCH_INDEX(mask));
        if (!(entry & ENTRY_OBJECT))
            continue;
        if (object ? entry_object(entry) == object
                   : object_key_equals(entry_object(entry), key, length)) {
            p->bucket = b;
            p->word = MATCH_INDEX(mask);
            return true;
        }
    }
    return false;
}

static bool table_locate(struct place *p, struct table *t, uint64_t hash,
                         const struct object *object, const char *key, size_t length) {
    uint64_t geometry = table_geometry(t);
    uint64_t buckets = geometry_buckets(geometry);
    uint64_t tag = hash_tag(hash, geometry_tag_position(geometry));
    p->table = t;
    p->home = hash_home(hash, buckets);
    uint64_t reach = home_reach(t, p->home, buckets);
    for (uint64_t d = 0; d <= reach; d++) {
        p->index = bucket_wrap(p->home + d, buckets);
        struct bucket *b = table_bucket(t, p->index);
        for (; b; b = bucket_link(b))
            if (bucket_locate(p, b, tag, object, key, length))
                return true;
    }
    return false;
}

/* Is this entry, found in bucket index, of that home? */
static bool entry_has_home(const struct tag_context *c, uint64_t index, uint64_t entry,
                           uint64_t home) {
    struct hash_range range = entry_hashes(c, index, entry);
    uint64_t first = hash_home(range.first, c->buckets);
    uint64_t last = hash_home(range.last, c->buckets);
    if (LIKELY(first == last))
        return first == home;
    if (home != first && home != last)
        return false;
    return hash_home(object_hash(entry_object(entry)), c->buckets) == home;
}

/* The furthest entry of this home that is not in it, and sets the home's reach to what is needed
 * with it (within) or without it. A home with overflow keeps REACH_MAX. */
static bool find_furthest(struct table *t, const struct tag_context *c, uint64_t home, bool within,
                          struct place *p) {
    struct bucket *b = table_bucket(t, home);
    uint64_t reach = home_reach(t, home, c->buckets);
    bool found = false;
    uint64_t needed = 0;
    for (uint64_t d = reach; d > 0 && needed == 0; d--) {
        uint64_t index = bucket_wrap(home + d, c->buckets);
        for (struct bucket *o = table_bucket(t, index); o && needed == 0; o = bucket_link(o)) {
            for (unsigned mask = bucket_objects(o); mask; mask &= mask - 1) {
                unsigned word = (unsigned)__builtin_ctz(mask);
                if (!entry_has_home(c, index, word_load(o, word), home))
                    continue;
                if (!found && !within) {
                    found = true;
                    *p = (struct place){t, home, index, o, word};
                    continue;
                }
                found = true;
                needed = d;
                break;
            }
        }
    }
    bucket_set_reach(b, bucket_link(b) ? REACH_MAX : (unsigned)needed);
    return found;
}

static void reach_shrink(struct table *t, const struct tag_context *c, uint64_t home) {
    struct place ignored;
    if (bucket_reaches_on(table_bucket(t, home)))
        find_furthest(t, c, home, true, &ignored);
}

/* An entry of the first overflow bucket moves into the hole. */
static void fill_from_overflow(struct table *t, struct bucket *hole, unsigned hole_word,
                               struct bucket *head) {
    struct bucket *first = bucket_link(head);
    unsigned mask = bucket_objects(first);
    if (first != hole) {
        unsigned word = 31 - (unsigned)__builtin_clz(mask);
        entry_store(hole, hole_word, word_load(first, word));
        entry_store(first, word, 0);
        mask &= ~(1u << word);
    }
    if (!mask)
        overflow_unlink(t, head);
}

/* The entry at p has been taken out: keys that are not at home come closer. */
static void fill_hole(struct place p) {
    struct table *t = p.table;
    struct tag_context c = tag_context_of(t);
    uint64_t home = p.home;
    if (p.index != home)
        reach_shrink(t, &c, home);
    for (;;) {
        struct bucket *b = table_bucket(t, p.index);
        struct place far;
        if (UNLIKELY(bucket_link(b) != NULL)) {
            fill_from_overflow(t, p.bucket, p.word, b);
            if (!bucket_link(b))
                reach_shrink(t, &c, p.index);
            return;
        }
        if (!bucket_reaches_on(b) || !find_furthest(t, &c, p.index, false, &far))
            return;
        entry_store(p.bucket, p.word, word_load(far.bucket, far.word));
        entry_store(far.bucket, far.word, 0);
        p = far;
    }
}

/* --- The public writers ----------------------------------------------------------------------- */

static struct table *root_load(const table_root *root) {
    return atomic_load_explicit(root, memory_order_relaxed);
}

/* The root's table, after the write's share of a rebuild. */
static struct table *write_begin(table_root *root) {
    struct table *t = root_load(root);
    if (t) {
        struct table_rebuild *r = table_rebuild_state(t);
        if (UNLIKELY(r != NULL))
            rebuild_step(t, r);
    }
    return t;
}

static struct table *write_side(struct table *t, uint64_t hash) {
    struct table_rebuild *r = table_rebuild_state(t);
    return UNLIKELY(r != NULL) ? rebuild_side(t, r, hash) : t;
}

static void header_add(struct table *t, enum table_header_word word, int64_t change) {
    word_relaxed(&t->first, word, word_load(&t->first, word) + ((uint64_t)change << 1));
}

/* The next size class that takes so many keys, at least an eighth larger than now. */
static uint64_t buckets_grown(uint64_t buckets, uint64_t keys) {
    do
        buckets = buckets_rounded(buckets + (buckets < 8 ? 1 : buckets / 8));
    while (table_capacity(buckets) < keys);
    return buckets;
}

/* Keys in the densest part of the table, and of how many buckets that is. Small tables are counted,
 * bucket by bucket; the large ones have region counts. */
#define SMALL_REGION_BUCKETS 8
static uint64_t densest_region(struct table *t, uint64_t buckets, uint64_t *region_buckets) {
    bool small = buckets < TABLE_STEP_THRESHOLD_BUCKETS;
    uint64_t size = small ? SMALL_REGION_BUCKETS : TABLE_REGION_BUCKETS;
    uint64_t regions = buckets < size ? 1 : buckets / size, most = 0;
    *region_buckets = buckets < size ? buckets : size;
    for (uint64_t i = 0; i < regions; i++) {
        uint64_t count = 0, end = i + 1 < regions ? (i + 1) * size : buckets;
        if (small)
            for (uint64_t index = i * size; index < end; index++)
                for (const struct bucket *b = table_bucket(t, index); b; b = bucket_link(b))
                    count += (uint64_t)__builtin_popcount(bucket_objects(b));
        else
            count = region_count(t, buckets, i);
        if (i + 1 == regions) /* the last one may be larger */
            count = count * size / (end - i * size);
        most = count > most ? count : most;
    }
    return most;
}

/* Far underfull: below 9/20 of the capacity, and a smaller class leaves room to grow by a fifth and
 * no part of it crowded. Asked once for each 32nd of the keys that goes, since it goes over the
 * regions. */
static void shrink_if_worth_it(table_root *root, struct table *t, uint64_t keys) {
    uint64_t buckets = table_buckets(t);
    uint64_t capacity = table_capacity(buckets);
    if (LIKELY(keys > capacity * 9 / 20) || table_rebuild_state(t))
        return;
    uint64_t each = keys < 64 ? 1 : (uint64_t)1 << (58 - __builtin_clzll(keys));
    if (keys & (each - 1))
        return;
    uint64_t wanted = 1;
    uint64_t room = keys + keys / 5 + 2;
    while (table_capacity(wanted) < room) {
        uint64_t estimate = room / BUCKET_ENTRIES;
        wanted = estimate > wanted ? estimate : wanted + 1 + wanted / 8;
    }
    uint64_t region_buckets;
    uint64_t most = densest_region(t, buckets, &region_buckets);
    uint64_t least = most * buckets / (region_buckets * TABLE_DENSEST_KEYS) + 1;
    wanted = buckets_rounded(wanted > least ? wanted : least);
    if (wanted <= buckets - buckets / 4 && wanted < buckets)
        table_rebuild_to(root, t, wanted);
}

void table_insert(table_root *root, uint64_t hash, struct object *object) {
    struct table *t = write_begin(root);
    if (UNLIKELY(t == NULL)) {
        t = table_make(buckets_rounded(1), true);
        atomic_store_explicit(root, t, memory_order_release);
    }
    uint64_t keys = table_count(root) + 1;
    uint64_t buckets = table_buckets(t);
    if (UNLIKELY(keys > table_capacity(buckets)) && !table_rebuild_state(t))
        t = table_rebuild_to(root, t, buckets_grown(buckets, keys));
    struct table *side = write_side(t, hash);
    uint64_t geometry = table_geometry(side);
    uint64_t entry = entry_make(object, hash_tag(hash, geometry_tag_position(geometry)));
    buckets = geometry_buckets(geometry);
    uint64_t home = hash_home(hash, buckets);
    table_place(side, buckets, home, entry);
    region_add(side, buckets, home, 1);
    header_add(t, HEADER_COUNT, 1);
    if (entry & ENTRY_VOLATILE)
        header_add(t, HEADER_VOLATILE, 1);
}

/* Stores the object in the place of old, which may be itself. */
static void entry_replace(table_root *root, uint64_t hash, struct object *old,
                          struct object *object) {
    struct place p;
    struct table *t = root_load(root);
    ASSERT(t != NULL);
    struct table *side = write_side(t, hash);
    uint64_t geometry = table_geometry(side);
    struct bucket *home = table_bucket(side, hash_home(hash, geometry_buckets(geometry)));
    bool found = bucket_locate(&p, home, hash_tag(hash, geometry_tag_position(geometry)), old, "",
                               0); /* nearly always */
    if (UNLIKELY(!found))
        found = table_locate(&p, side, hash, old, "", 0);
    ASSERT(found);
    uint64_t before = word_load(p.bucket, p.word);
    uint64_t after = entry_make(object, entry_tag(before));
    entry_store(p.bucket, p.word, after);
    int64_t change = !!(after & ENTRY_VOLATILE) - !!(before & ENTRY_VOLATILE);
    if (UNLIKELY(change))
        header_add(t, HEADER_VOLATILE, change);
}

void table_replace(table_root *root, uint64_t hash, struct object *old, struct object *object) {
    write_begin(root);
    entry_replace(root, hash, old, object);
}

void table_note_expiry(table_root *root, uint64_t hash, struct object *object) {
    entry_replace(root, hash, object, object);
}

struct object *table_remove(table_root *root, uint64_t hash, const char *key, size_t length) {
    struct place p;
    struct table *t = write_begin(root);
    if (!t || !table_locate(&p, write_side(t, hash), hash, NULL, key, length))
        return NULL;
    uint64_t entry = word_load(p.bucket, p.word);
    uint64_t keys = table_count(root) - 1;
    if (keys == 0) {
        atomic_store_explicit(root, NULL, memory_order_release);
        table_retire_shell(t);
        return entry_object(entry);
    }
    entry_store(p.bucket, p.word, 0);
    region_add(p.table, table_buckets(p.table), p.home, -1);
    header_add(t, HEADER_COUNT, -1);
    if (entry & ENTRY_VOLATILE)
        header_add(t, HEADER_VOLATILE, -1);
    fill_hole(p);
    shrink_if_worth_it(root, t, keys);
    return entry_object(entry);
}

struct table *table_detach(table_root *root) {
    struct table *t = root_load(root);
    atomic_store_explicit(root, NULL, memory_order_release);
    return t;
}

/* --- Figures ---------------------------------------------------------------------------------- */

size_t table_count(const table_root *root) {
    const struct table *t = atomic_load_explicit(root, memory_order_acquire);
    return t ? word_load(&t->first, HEADER_COUNT) >> 1 : 0;
}

size_t table_volatile_count(const table_root *root) {
    const struct table *t = atomic_load_explicit(root, memory_order_acquire);
    return t ? word_load(&t->first, HEADER_VOLATILE) >> 1 : 0;
}

size_t table_bytes(const table_root *root) {
    const struct table *t = atomic_load_explicit(root, memory_order_acquire);
    if (!t)
        return 0;
    const struct table_rebuild *r = table_rebuild_state(t);
    return table_shell_bytes(t) + (r ? table_shell_bytes(r->old) + sizeof *r : 0);
}

bool table_is_rebuilding(const table_root *root) {
    const struct table *t = atomic_load_explicit(root, memory_order_acquire);
    return t && table_rebuild_state(t);
}

bool table_rebuild_some(table_root *root) {
    return write_begin(root) && table_is_rebuilding(root);
}
