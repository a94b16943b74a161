/* Rebuilds of a table: run by the token's holder, inside a write.
 *
 * A small table is copied into a new array at once and the root is swapped. A large one (at least
 * TABLE_STEP_THRESHOLD_BUCKETS before or after) gets a struct table_rebuild: the root names the new
 * table at once, and every write moves the next TABLE_STEP_BUCKETS homes, in hash order:
 *
 *   old table:  | moved, empty        | not yet                     |
 *               0                     next_old
 *   hashes:     | below bound: new    | bound and above: old        |
 *   new table:  | live       | set to empty | not touched, not even |
 *               0                           initialised             by zeroes
 *
 * The memory of the new array is set to empty as the bound advances, at least REACH_MAX buckets
 * ahead of it: nobody looks further. A step copies, then publishes the bound, then empties the old
 * places, so that what the old table holds is always exactly the keys from the bound on; nothing
 * stale is left where a key that was displaced by a few buckets could still be looked up. A rebuild
 * is over after buckets / 8 writes, while the next one is due only after more than a tenth as many
 * insertions as there are keys, so there is never more than one. */
#include "engine/table_rebuild.h"

#include <string.h>

#include "engine/background.h"
#include "engine/epoch.h"
#include "engine/memory.h"
#include "engine/table_hash.h"

/* Copies entries from one table to another. */
struct mover {
    struct tag_context from;
    struct table *to;
    uint64_t buckets; /* of to */
    uint64_t
        spread; /* how far the hashes of a range lie apart in the new table, in 2^-64 of a bucket */
    unsigned to_position; /* of the tag. If it is that of from, the tag stays; else every object is
                             hashed */
    /* Free words of the new buckets from first_free on (around the end), a mask each; NULL: look
     * into the buckets. Many entries in a row go into the same bucket, and looking into it each
     * time means vector loads of what has just been stored word by word: the processor waits for
     * each of these. */
    uint8_t *free_words;
    uint64_t first_free;
};

static struct mover mover_make(const struct table *from, struct table *to) {
    uint64_t geometry = table_geometry(to);
    struct mover m = {
        .from = tag_context_of(from), .to = to, .buckets = geometry_buckets(geometry)};
    m.to_position = geometry_tag_position(geometry);
    m.spread = (((uint64_t)1 << m.from.tag_position) - 1) * m.buckets;
    return m;
}

static inline bool mover_needs_hashes(const struct mover *m) {
    return m->to_position != m->from.tag_position;
}

static inline void mover_put(const struct mover *m, uint64_t home, uint64_t entry) {
    region_add(m->to, m->buckets, home, 1);
    if (UNLIKELY(!m->free_words)) {
        table_place(m->to, m->buckets, home, entry);
        return;
    }
    uint64_t index = home;
    for (unsigned d = 0; d <= REACH_MAX && d < m->buckets; d++) {
        uint8_t *free_words =
            &m->free_words[bucket_wrap(index + m->buckets - m->first_free, m->buckets)];
        if (LIKELY(*free_words)) {
            entry_store(table_bucket(m->to, index), (unsigned)__builtin_ctz(*free_words), entry);
            *free_words &= (uint8_t)(*free_words - 1);
            if (d > 0 && d > bucket_reach(table_bucket(m->to, home)))
                bucket_set_reach(table_bucket(m->to, home), d);
            return;
        }
        index = bucket_wrap(index + 1, m->buckets);
    }
    table_place_away(m->to, m->buckets, home, entry);
}

static __attribute__((noinline)) void move_by_hash(const struct mover *m, uint64_t entry) {
    uint64_t hash = object_hash(entry_object(entry));
    entry &= ((uint64_t)1 << ENTRY_TAG_SHIFT) - 1;
    entry |= hash_tag(hash, m->to_position) << ENTRY_TAG_SHIFT;
    mover_put(m, hash_home(hash, m->buckets), entry);
}

static inline void mover_move(const struct mover *m, struct hash_range range, uint64_t entry) {
    unsigned __int128 place = (unsigned __int128)range.first * m->buckets;
    /* Does the range end in the next bucket? */
    if (UNLIKELY(mover_needs_hashes(m) || (uint64_t)place > UINT64_MAX - m->spread))
        move_by_hash(m, entry);
    else
        mover_put(m, (uint64_t)(place >> 64), entry);
}

static void prefetch_objects(const struct bucket *b) {
    for (unsigned mask = bucket_objects(b); mask; mask &= mask - 1)
        __builtin_prefetch(entry_object(word_load(b, (unsigned)__builtin_ctz(mask))));
}

static void copy_figures(struct table *to, const struct table *from) {
    word_relaxed(&to->first, HEADER_COUNT, word_load(&from->first, HEADER_COUNT));
    word_relaxed(&to->first, HEADER_VOLATILE, word_load(&from->first, HEADER_VOLATILE));
}

/* --- At once ---------------------------------------------------------------------------------- */

#define PREFETCH_BUCKETS 2

static struct table *rebuild_at_once(table_root *root, struct table *old, uint64_t buckets) {
    uint8_t free_words[TABLE_STEP_THRESHOLD_BUCKETS];
    struct table *t = table_make(buckets, true);
    struct mover m = mover_make(old, t);
    memset(free_words, 0xff, buckets);
    free_words[0] = HEADER_FREE_MASK;
    m.free_words = free_words;
    copy_figures(t, old);
    for (uint64_t index = 0; index < m.from.buckets; index++) {
        if (mover_needs_hashes(&m) && index + PREFETCH_BUCKETS < m.from.buckets)
            prefetch_objects(table_bucket(old, index + PREFETCH_BUCKETS));
        for (const struct bucket *b = table_bucket(old, index); b; b = bucket_link(b)) {
            for (unsigned mask = bucket_objects(b); mask; mask &= mask - 1) {
                uint64_t entry = word_load(b, (unsigned)__builtin_ctz(mask));
                mover_move(&m, entry_hashes(&m.from, index, entry), entry);
            }
        }
    }
    atomic_store_explicit(root, t, memory_order_release);
    table_retire_shell(old);
    return t;
}

/* --- Step by step ----------------------------------------------------------------------------- */

/* The homes that a step moves, and the buckets in which their keys may be. */
struct step {
    uint64_t from;
    uint64_t to;  /* exclusive */
    uint64_t end; /* of the buckets, exclusive; may pass the end of the table: wrap */
};

static struct step step_make(const struct table *old, uint64_t buckets, uint64_t from) {
    struct step s = {.from = from, .to = from + TABLE_STEP_BUCKETS};
    if (s.to > buckets)
        s.to = buckets;
    s.end = s.from + 1;
    for (uint64_t home = s.from; home < s.to; home++) {
        const struct bucket *overflow = bucket_link(table_bucket(old, home));
        if (overflow && bucket_link(overflow))
            s.to = home + 1; /* many keys: a step of its own */
        uint64_t end = home + home_reach(old, home, buckets) + 1;
        s.end = end > s.end ? end : s.end;
    }
    if (s.end > s.from + buckets)
        s.end = s.from + buckets;
    return s;
}

/* Does the step move this entry? Narrows the range to one hash if it must touch the object to
 * tell. */
static inline bool step_covers(const struct step *s, const struct tag_context *c, uint64_t entry,
                               struct hash_range *range) {
    uint64_t home = hash_home(range->first, c->buckets);
    if (UNLIKELY(home != hash_home(range->last, c->buckets))) {
        range->first = range->last = object_hash(entry_object(entry));
        home = hash_home(range->first, c->buckets);
    }
    return home >= s->from && home < s->to;
}

static void step_copy(const struct step *s, const struct table *old, const struct mover *m) {
    if (mover_needs_hashes(m))
        for (uint64_t i = s->from; i < s->end; i++)
            prefetch_objects(table_bucket(old, bucket_wrap(i, m->from.buckets)));
    for (uint64_t i = s->from; i < s->end; i++) {
        uint64_t index = bucket_wrap(i, m->from.buckets);
        for (const struct bucket *b = table_bucket(old, index); b; b = bucket_link(b)) {
            for (unsigned mask = bucket_objects(b); mask; mask &= mask - 1) {
                uint64_t entry = word_load(b, (unsigned)__builtin_ctz(mask));
                struct hash_range range = entry_hashes(&m->from, index, entry);
                if (step_covers(s, &m->from, entry, &range))
                    mover_move(m, range, entry);
            }
        }
    }
}

static void step_empty(const struct step *s, struct table *old, const struct tag_context *c) {
    for (uint64_t i = s->from; i < s->end; i++) {
        uint64_t index = bucket_wrap(i, c->buckets);
        struct bucket *pred = NULL;
        for (struct bucket *b = table_bucket(old, index); b; b = pred ? bucket_link(pred) : NULL) {
            for (unsigned mask = bucket_objects(b); mask; mask &= mask - 1) {
                unsigned word = (unsigned)__builtin_ctz(mask);
                uint64_t entry = word_load(b, word);
                struct hash_range range = entry_hashes(c, index, entry);
                if (!step_covers(s, c, entry, &range))
                    continue;
                entry_store(b, word, 0);
                region_add(old, c->buckets, hash_home(range.first, c->buckets), -1);
            }
            if (pred && bucket_objects(b) == 0)
                overflow_unlink(old, pred);
            else
                pred = b;
        }
    }
}

/* Sets the buckets of the new table to empty that keys below bound may need. */
static void initialise_below(struct table *t, struct table_rebuild *r, uint64_t last_hash) {
    uint64_t buckets = table_buckets(t);
    uint64_t done = atomic_load_explicit(&r->initialised, memory_order_relaxed);
    uint64_t needed = hash_home(last_hash, buckets) + 1 + REACH_MAX;
    if (last_hash == UINT64_MAX || needed > buckets)
        needed = buckets;
    if (done >= needed)
        return;
    for (uint64_t i = done; i < needed; i++)
        bucket_clear(table_bucket(t, i));
    /* Pairs with table_walk.c, which takes random buckets from below this number. */
    atomic_store_explicit(&r->initialised, needed, memory_order_release);
}

/* New buckets that a step usually fills, those within reach of them included. */
#define STEP_FREE_WORDS 32

/* Notes the free words of the new buckets for the hashes first..last, if these are not too many. */
static void mover_note_free(struct mover *m, uint64_t first, uint64_t last,
                            uint8_t free_words[STEP_FREE_WORDS]) {
    uint64_t from = hash_home(first, m->buckets);
    uint64_t count = hash_home(last, m->buckets) - from + 1 + REACH_MAX;
    if (count > m->buckets)
        count = m->buckets;
    if (count > STEP_FREE_WORDS)
        return;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t index = bucket_wrap(from + i, m->buckets);
        const struct bucket *b = table_bucket(m->to, index);
        unsigned link = bucket_link(b) ? 1u << BUCKET_LINK : 0;
        free_words[i] = (uint8_t)(bucket_free(b, index == 0) & ~link);
    }
    m->free_words = free_words;
    m->first_free = from;
}

void rebuild_step(struct table *t, struct table_rebuild *r) {
    struct table *old = r->old;
    struct mover m = mover_make(old, t);
    struct step s = step_make(old, m.from.buckets, r->next_old);
    bool last = s.to == m.from.buckets;
    uint64_t bound = last ? 0 : home_first_hash(s.to, m.from.buckets);
    uint8_t free_words[STEP_FREE_WORDS];
    initialise_below(t, r, bound - 1);
    mover_note_free(&m, atomic_load_explicit(&r->bound, memory_order_relaxed), bound - 1,
                    free_words);
    step_copy(&s, old, &m);
    r->next_old = s.to;
    /* From here on readers look for these keys in the new table. */
    if (last)
        word_release(&t->first, HEADER_REBUILD, 0);
    else
        atomic_store_explicit(&r->bound, bound, memory_order_release);
    step_empty(&s, old, &m.from);
    if (last) {
        table_retire_shell(old);
        epoch_retire(r, sizeof *r, memory_free);
    }
}

static struct table *rebuild_by_steps(table_root *root, struct table *old, uint64_t buckets) {
    struct table *t = table_make(buckets, false);
    struct table_rebuild *r = memory_alloc(sizeof *r);
    r->old = old;
    r->next_old = 0;
    atomic_store_explicit(&r->bound, 0, memory_order_relaxed);
    atomic_store_explicit(&r->initialised, 1, memory_order_relaxed);
    copy_figures(t, old);
    word_relaxed(&t->first, HEADER_REBUILD, (uint64_t)(uintptr_t)r);
    atomic_store_explicit(root, t, memory_order_release);
    rebuild_step(t, r);
    return t;
}

struct table *table_rebuild_to(table_root *root, struct table *t, uint64_t buckets) {
    ASSERT(table_rebuild_state(t) == NULL);
    if (buckets < TABLE_STEP_THRESHOLD_BUCKETS && table_buckets(t) < TABLE_STEP_THRESHOLD_BUCKETS)
        return rebuild_at_once(root, t, buckets);
    return rebuild_by_steps(root, t, buckets);
}

/* --- Letting go of arrays --------------------------------------------------------------------- */

static void shell_free(void *table) {
    struct table *t = table;
    uint64_t overflow = table_overflow_buckets(t);
    for (uint64_t index = 0; overflow > 0; index++) {
        ASSERT(index < table_buckets(t));
        for (struct bucket *o = bucket_link(table_bucket(t, index)); o; overflow--) {
            struct bucket *next = bucket_link(o);
            memory_free(o);
            o = next;
        }
    }
    memory_free(t);
}

void table_free_shell(void *table) {
    /* Looking for overflow buckets takes its time, and the allocator gives the pages of a large
     * array back at once, which takes milliseconds. */
    if (table_buckets(table) >= TABLE_STEP_THRESHOLD_BUCKETS * 4)
        background_submit(shell_free, table);
    else
        shell_free(table);
}

void table_retire_shell(struct table *t) {
    struct table_rebuild *r = table_rebuild_state(t);
    if (r) {
        table_retire_shell(r->old);
        epoch_retire(r, sizeof *r, memory_free);
    }
    epoch_retire(t, table_shell_bytes(t), table_free_shell);
}
