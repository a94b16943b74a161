/* Going over a table: walks in hash order, random objects and samples, the end of a table, the
 * check.
 *
 * Run by readers under RCU (walk, random, sample: the slot's word tells whether a writer
 * interfered; without it the result may miss or repeat, but never faults) or by the token's holder.
 * table_destroy is for whoever owns an unpublished table.
 *
 * A walk is exact because it filters by the hash itself, computed from the key, and not by the
 * place: its bounds mean the same in any table, old or new, whatever its size. The place and the
 * tag only spare it the objects that cannot be meant. */
#include "engine/memory.h"
#include "engine/table.h"
#include "engine/table_rebuild.h"
#include "engine/value.h"

/* --- Walk ------------------------------------------------------------------------------------- */

#define WALK_PENDING 32

struct walk {
    uint64_t first; /* hashes of the present piece, both inclusive */
    uint64_t last;
    bool volatile_only;
    table_visit *visit;
    void *context;
    size_t seen;
    unsigned pending_count;
    struct object *pending[WALK_PENDING]; /* prefetched */
};

static void walk_flush(struct walk *w) {
    for (unsigned i = 0; i < w->pending_count; i++) {
        uint64_t hash = object_hash(w->pending[i]);
        if (hash >= w->first && hash <= w->last) {
            w->visit(w->pending[i], hash, w->context);
            w->seen++;
        }
    }
    w->pending_count = 0;
}

static void walk_bucket(struct walk *w, const struct tag_context *c, uint64_t index,
                        const struct bucket *b) {
    for (unsigned mask = bucket_objects(b); mask; mask &= mask - 1) {
        uint64_t entry = word_acquire(b, (unsigned)__builtin_ctz(mask));
        if (!(entry & ENTRY_OBJECT) || (w->volatile_only && !(entry & ENTRY_VOLATILE)))
            continue;
        struct hash_range range = entry_hashes(c, index, entry);
        if (range.last < w->first || range.first > w->last)
            continue;
        if (w->pending_count == WALK_PENDING)
            walk_flush(w);
        w->pending[w->pending_count++] = entry_object(entry);
        __builtin_prefetch(entry_object(entry));
    }
}

/* All keys of one table with hashes in first..last. */
static void walk_range(struct walk *w, const struct table *t, uint64_t first, uint64_t last) {
    struct tag_context c = tag_context_of(t);
    uint64_t home = hash_home(first, c.buckets);
    uint64_t last_home = hash_home(last, c.buckets);
    uint64_t wrapped = home + c.buckets; /* a bucket is not looked at twice */
    uint64_t end = home;
    for (uint64_t i = home; i <= end && i < wrapped; i++) {
        const struct bucket *b = table_bucket(t, bucket_wrap(i, c.buckets));
        if (i <= last_home) {
            uint64_t reach = home_reach(t, i, c.buckets);
            uint64_t until = i < last_home && !reach ? i + 1 : i + reach;
            end = until > end ? until : end;
        }
        for (; b; b = bucket_link(b))
            walk_bucket(w, &c, bucket_wrap(i, c.buckets), b);
    }
}

/* The last hash of the bucket in which hash has its home. */
static uint64_t home_last_hash(const struct table *t, uint64_t hash) {
    uint64_t buckets = table_buckets(t);
    uint64_t next = hash_home(hash, buckets) + 1;
    return next < buckets ? home_first_hash(next, buckets) - 1 : UINT64_MAX;
}

/* One piece: the keys from `from` to the end of its bucket, rounded up. Returns how many buckets
 * that were. */
static size_t walk_piece(struct walk *w, struct table *t, uint64_t from, uint64_t granule_mask) {
    const struct table_rebuild *r = table_rebuild_state(t);
    uint64_t bound = r ? atomic_load_explicit(&r->bound, memory_order_acquire) : 0;
    bool in_new = !r || from < bound;
    uint64_t last = home_last_hash(in_new ? t : r->old, from);
    if (r && in_new && last >= bound)
        last = bound - 1;
    last |= granule_mask;
    w->first = from;
    w->last = last;
    /* The rounding may take a piece over the bound. */
    if (in_new)
        walk_range(w, t, from, r && last >= bound ? bound - 1 : last);
    if (r && last >= bound)
        walk_range(w, r->old, in_new ? bound : from, last);
    walk_flush(w);
    uint64_t buckets = table_buckets(in_new ? t : r->old);
    return (size_t)(hash_home(last, buckets) - hash_home(from, buckets) + 1);
}

void table_walk(const table_root *root, uint64_t from, unsigned granularity_bits, size_t limit,
                size_t bucket_limit, bool volatile_only, table_visit *visit, void *context,
                uint64_t *next) {
    struct table *t = atomic_load_explicit(root, memory_order_acquire);
    struct walk w = {.volatile_only = volatile_only, .visit = visit, .context = context};
    uint64_t granule_mask = ((uint64_t)1 << granularity_bits) - 1;
    size_t buckets = 0;
    *next = 0;
    if (!t)
        return;
    do {
        buckets += walk_piece(&w, t, from, granule_mask);
        from = w.last + 1; /* 0 after the last hash of all */
    } while (from != 0 && w.seen < limit && buckets < bucket_limit);
    *next = from;
}

/* --- Random ----------------------------------------------------------------------------------- */

/* The buckets that may hold keys, numbered: those of the new table that are initialised, then all
 * of the old one. */
struct bucket_space {
    const struct table *table;
    const struct table *old;
    uint64_t in_table;
    uint64_t total;
    uint64_t longest_chain;
};

static bool space_make(const table_root *root, struct bucket_space *s) {
    const struct table *t = atomic_load_explicit(root, memory_order_acquire);
    if (!t)
        return false;
    const struct table_rebuild *r = table_rebuild_state(t);
    *s = (struct bucket_space){.table = t, .longest_chain = table_longest_chain(t)};
    if (r) {
        s->old = r->old;
        s->in_table = atomic_load_explicit(&r->initialised, memory_order_acquire);
        s->total = s->in_table + table_buckets(r->old);
        uint64_t longest = table_longest_chain(r->old);
        s->longest_chain = longest > s->longest_chain ? longest : s->longest_chain;
    } else {
        s->total = s->in_table = table_buckets(t);
    }
    return true;
}

static const struct bucket *space_bucket(const struct bucket_space *s, uint64_t index) {
    return index < s->in_table ? table_bucket(s->table, index)
                               : table_bucket(s->old, index - s->in_table);
}

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* The bucket of a key taken at random by the region counts, for tables that are so sparse somewhere
 * that trying places finds nothing (deleted in hash order). A hint: a writer may interfere. */
static uint64_t counted_bucket(const struct bucket_space *s, uint64_t random) {
    const struct table *sides[2] = {s->table, s->old};
    uint64_t keys = word_load(&s->table->first, HEADER_COUNT) >> 1, sum = 0;
    for (unsigned i = 0; i < 2 && sides[i]; i++)
        for (uint64_t n = table_buckets(sides[i]), r = 0;
             region_lines(n) && r < n / TABLE_REGION_BUCKETS; r++)
            sum += region_count(sides[i], n, r);
    /* A side without region counts has the rest. */
    uint64_t rest = keys > sum ? keys - sum : 0, rank = hash_home(random, sum + rest);
    for (unsigned i = 0; i < 2 && sides[i]; i++) {
        uint64_t n = table_buckets(sides[i]), first = i == 0 ? 0 : s->in_table;
        uint64_t regions = region_lines(n) ? n / TABLE_REGION_BUCKETS : 1;
        for (uint64_t r = 0; r < regions; r++) {
            uint64_t count = region_lines(n) ? region_count(sides[i], n, r) : rest;
            if (rank >= count) {
                rank -= count;
                continue;
            }
            uint64_t at = first + r * TABLE_REGION_BUCKETS;
            for (; at < s->total; at++) {
                uint64_t here = 0;
                for (const struct bucket *b = space_bucket(s, at); b; b = bucket_link(b))
                    here += (uint64_t)__builtin_popcount(bucket_objects(b));
                if (rank < here)
                    return at;
                rank -= here;
            }
        }
    }
    return hash_home(random, s->total);
}

#define RANDOM_TRIES 256

struct object *table_random(const table_root *root, uint64_t random_a, uint64_t random_b) {
    struct bucket_space s;
    if (!space_make(root, &s))
        return NULL;
    for (unsigned try = 0; try < RANDOM_TRIES; try++) {
        /* One of the entries that there could be, each with the same chance: the bucket from one
         * number, the link of its chain and the word from the other. */
        random_a += 0x9e3779b97f4a7c15u;
        uint64_t choice = mix(random_b ^ random_a);
        const struct bucket *b = space_bucket(&s, hash_home(mix(random_a), s.total));
        for (uint64_t up = (choice >> 3) % (s.longest_chain + 1); b && up > 0; up--)
            b = bucket_link(b);
        uint64_t entry = b ? word_acquire(b, choice % BUCKET_ENTRIES) : 0;
        if (entry & ENTRY_OBJECT)
            return entry_object(entry);
    }
    /* Hardly any key left in some part, or long chains. */
    struct object *object = NULL;
    uint64_t start = counted_bucket(&s, mix(random_b));
    for (uint64_t i = 0; i < s.total && !object; i++) {
        const struct bucket *b = space_bucket(&s, bucket_wrap(start + i, s.total));
        for (; b && !object; b = bucket_link(b)) {
            unsigned mask = bucket_objects(b);
            uint64_t entry = mask ? word_acquire(b, (unsigned)__builtin_ctz(mask)) : 0;
            if (entry & ENTRY_OBJECT)
                object = entry_object(entry);
        }
    }
    return object;
}

static size_t sample_from(const struct bucket_space *s, uint64_t start, bool volatile_only,
                          size_t max, struct object **objects) {
    size_t count = 0;
    uint64_t buckets = s->total < TABLE_SAMPLE_BUCKETS ? s->total : TABLE_SAMPLE_BUCKETS;
    for (uint64_t i = 0; i < buckets && count < max; i++) {
        const struct bucket *b = space_bucket(s, bucket_wrap(start + i, s->total));
        for (; b && count < max; b = bucket_link(b)) {
            for (unsigned mask = bucket_objects(b); mask && count < max; mask &= mask - 1) {
                uint64_t entry = word_acquire(b, (unsigned)__builtin_ctz(mask));
                if ((entry & ENTRY_OBJECT) && (!volatile_only || (entry & ENTRY_VOLATILE)))
                    objects[count++] = entry_object(entry);
            }
        }
    }
    return count;
}

size_t table_sample(const table_root *root, uint64_t random, bool volatile_only, size_t max,
                    struct object **objects) {
    struct bucket_space s;
    if (!space_make(root, &s))
        return 0;
    uint64_t start = hash_home(mix(random), s.total);
    size_t count = sample_from(&s, start, volatile_only, max, objects);
    if (UNLIKELY(count == 0))
        count = sample_from(&s, counted_bucket(&s, mix(~random)), volatile_only, max, objects);
    return count;
}

/* --- The end of a table ----------------------------------------------------------------------- */

#define DESTROY_PREFETCH_BUCKETS 2

static void destroy_objects(struct table *t, uint64_t buckets) {
    for (uint64_t i = 0; i < buckets; i++) {
        if (i + DESTROY_PREFETCH_BUCKETS < buckets) {
            const struct bucket *ahead = table_bucket(t, i + DESTROY_PREFETCH_BUCKETS);
            for (unsigned mask = bucket_objects(ahead); mask; mask &= mask - 1)
                __builtin_prefetch(entry_object(word_load(ahead, (unsigned)__builtin_ctz(mask))));
        }
        for (const struct bucket *b = table_bucket(t, i); b; b = bucket_link(b))
            for (unsigned mask = bucket_objects(b); mask; mask &= mask - 1)
                object_free(entry_object(word_load(b, (unsigned)__builtin_ctz(mask))));
    }
}

void table_destroy(void *table) {
    struct table *t = table;
    struct table_rebuild *r = table_rebuild_state(t);
    if (r) {
        destroy_objects(t, atomic_load_explicit(&r->initialised, memory_order_relaxed));
        destroy_objects(r->old, table_buckets(r->old));
        table_free_shell(r->old);
        memory_free(r);
    } else {
        destroy_objects(t, table_buckets(t));
    }
    table_free_shell(t);
}

/* --- Check ------------------------------------------------------------------------------------ */

struct figures {
    uint64_t keys;
    uint64_t volatile_keys;
    uint64_t overflow;
};

static void check_entry(const table_root *root, const struct table *t, uint64_t index,
                        uint64_t entry, struct figures *f) {
    struct object *o = entry_object(entry);
    uint64_t hash = object_hash(o);
    uint64_t buckets = table_buckets(t);
    ASSERT(entry_tag(entry) == hash_tag(hash, geometry_tag_position(table_geometry(t))));
    ASSERT(!(entry & ENTRY_VOLATILE) == !object_is_volatile(o));
    struct tag_context c = tag_context_of(t);
    struct hash_range range = entry_hashes(&c, index, entry);
    ASSERT(hash >= range.first && hash <= range.last);
    uint64_t home = hash_home(hash, buckets);
    ASSERT(bucket_wrap(index + buckets - home, buckets) <= home_reach(t, home, buckets));
    /* It is found, and no other object under its key. */
    size_t length;
    const char *key = object_key(o, &length);
    ASSERT(table_find(root, hash, key, length) == o);
    f->keys++;
    f->volatile_keys += (entry & ENTRY_VOLATILE) != 0;
}

static void check_regions(const struct table *t, uint64_t keys) {
    uint64_t buckets = table_buckets(t);
    for (uint64_t i = 0; region_lines(buckets) && i < buckets / TABLE_REGION_BUCKETS; i++)
        keys -= region_count(t, buckets, i);
    ASSERT(keys == 0 || !region_lines(buckets));
}

/* bound_first..bound_last: the hashes that this table may hold. */
static void check_table(const table_root *root, const struct table *t, uint64_t initialised,
                        uint64_t bound_first, uint64_t bound_last, struct figures *sum) {
    struct figures f = {0};
    uint64_t geometry = table_geometry(t);
    ASSERT(geometry_tag_position(geometry) == tag_position_for(geometry_buckets(geometry)));
    for (unsigned i = 0; i < HEADER_WORDS; i++)
        ASSERT(!(word_load(&t->first, i) & ENTRY_OBJECT));
    for (uint64_t index = 0; index < initialised; index++) {
        const struct bucket *head = table_bucket(t, index);
        uint64_t chain = 0;
        for (const struct bucket *b = head; b; b = bucket_link(b)) {
            unsigned mask = bucket_objects(b);
            ASSERT(b == head || mask != 0);
            chain += b != head;
            for (unsigned i = index == 0 && b == head ? HEADER_WORDS : 0; i < BUCKET_LINK; i++)
                ASSERT((mask >> i & 1) || (word_load(b, i) & ~ENTRY_REACH) == 0);
            for (; mask; mask &= mask - 1) {
                uint64_t entry = word_load(b, (unsigned)__builtin_ctz(mask));
                uint64_t hash = object_hash(entry_object(entry));
                ASSERT(hash >= bound_first && hash <= bound_last);
                check_entry(root, t, index, entry, &f);
            }
        }
        ASSERT(chain <= table_longest_chain(t) || table_longest_chain(t) == LINK_CHAIN_MAX);
        ASSERT(chain == 0 || link_chain(head) >= chain || link_chain(head) == LINK_CHAIN_MAX);
        ASSERT(chain == 0 || bucket_reach(head) == REACH_MAX);
        f.overflow += chain;
    }
    ASSERT(f.overflow == table_overflow_buckets(t));
    check_regions(t, f.keys);
    sum->keys += f.keys;
    sum->volatile_keys += f.volatile_keys;
}

void table_check(const table_root *root) {
    const struct table *t = atomic_load_explicit(root, memory_order_acquire);
    if (!t)
        return;
    struct figures sum = {0};
    const struct table_rebuild *r = table_rebuild_state(t);
    if (r) {
        uint64_t bound = atomic_load_explicit(&r->bound, memory_order_relaxed);
        ASSERT(bound > 0 && bound == home_first_hash(r->next_old, table_buckets(r->old)));
        check_table(root, t, atomic_load_explicit(&r->initialised, memory_order_relaxed), 0,
                    bound - 1, &sum);
        check_table(root, r->old, table_buckets(r->old), bound, UINT64_MAX, &sum);
    } else {
        check_table(root, t, table_buckets(t), 0, UINT64_MAX, &sum);
    }
    ASSERT(sum.keys > 0);
    ASSERT(sum.keys == table_count(root));
    ASSERT(sum.volatile_keys == table_volatile_count(root));
}
