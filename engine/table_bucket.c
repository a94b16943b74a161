/* See table_bucket.h: the making of arrays, their sizes, and where an entry is put. Run by the
 * token's holder, or by whoever owns a table that is not published yet. */
#include "engine/table_bucket.h"

#include <string.h>

#include "engine/epoch.h"
#include "engine/memory.h"

/* --- Geometry --------------------------------------------------------------------------------- */

/* Between 16 and 128 buckets per value of the bits above the tag: at least 16, so that the window
 * in which a key of a bucket may have its home (REACH_MAX + 2 buckets) tells those bits; at most
 * 128, so that within a bucket the tag still has 9 bits that differ. Constant over a factor of 8 in
 * size: only then must a rebuild hash every key. */
unsigned tag_position_for(uint64_t buckets) {
    if (buckets < 128)
        return ENTRY_TAG_SHIFT;
    unsigned log = 63 - (unsigned)__builtin_clzll(buckets);
    return ENTRY_TAG_SHIFT - (log - 4) / 3 * 3;
}

uint64_t table_capacity(uint64_t buckets) {
    uint64_t entries = buckets * BUCKET_ENTRIES;
    return entries - entries / 10 - (buckets == 1 ? HEADER_WORDS : HEADER_WORDS - 1);
}

uint64_t buckets_rounded(uint64_t buckets) {
    uint64_t bytes = memory_class_bytes((buckets + region_lines(buckets)) * BUCKET_BYTES);
    uint64_t lines = bytes / BUCKET_BYTES, rounded = lines - region_lines(lines);
    ASSERT(rounded <= UINT32_MAX);
    return rounded > buckets ? rounded : buckets;
}

void bucket_clear(struct bucket *b) {
    for (unsigned i = 0; i < BUCKET_ENTRIES; i++)
        word_relaxed(b, i, 0);
}

struct table *table_make(uint64_t buckets, bool zero) {
    uint64_t lines = region_lines(buckets);
    struct table *t = memory_alloc_aligned(BUCKET_BYTES, (buckets + lines) * BUCKET_BYTES);
    /* Plain stores are fine: nobody else knows it yet. */
    memset(t, 0, zero ? buckets * BUCKET_BYTES : BUCKET_BYTES);
    memset(table_bucket(t, buckets), 0, lines * BUCKET_BYTES);
    word_relaxed(&t->first, HEADER_GEOMETRY,
                 buckets << 32 | (uint64_t)tag_position_for(buckets) << 8);
    return t;
}

/* --- Figures ---------------------------------------------------------------------------------- */

uint64_t table_overflow_buckets(const struct table *t) {
    return word_load(&t->first, HEADER_OVERFLOW) >> 16;
}

uint64_t table_longest_chain(const struct table *t) {
    return (word_load(&t->first, HEADER_OVERFLOW) & 0xffff) >> 1;
}

/* chain_length: of the chain to which it was added; at most LINK_CHAIN_MAX counts. */
static void overflow_add(struct table *t, int64_t buckets, uint64_t chain_length) {
    uint64_t longest = table_longest_chain(t);
    longest = chain_length > longest ? chain_length : longest;
    longest = longest < LINK_CHAIN_MAX ? longest : LINK_CHAIN_MAX;
    uint64_t count = table_overflow_buckets(t) + (uint64_t)buckets;
    word_relaxed(&t->first, HEADER_OVERFLOW, count << 16 | longest << 1);
}

size_t table_shell_bytes(const struct table *t) {
    uint64_t buckets = table_buckets(t);
    return (buckets + region_lines(buckets) + table_overflow_buckets(t)) * BUCKET_BYTES;
}

/* --- Placing ---------------------------------------------------------------------------------- */

void bucket_set_reach(struct bucket *b, unsigned reach) {
    for (unsigned i = 0; i < 3; i++) {
        uint64_t word = word_load(b, 5 + i);
        uint64_t bit = (reach >> i & 1) * ENTRY_REACH;
        if ((word & ENTRY_REACH) != bit)
            word_release(b, 5 + i, word ^ ENTRY_REACH);
    }
}

static struct bucket *overflow_make(void) {
    struct bucket *o = memory_alloc_aligned(BUCKET_BYTES, sizeof *o);
    bucket_clear(o);
    return o;
}

/* All buckets within reach are full. The home's reach is REACH_MAX from here on, which tells
 * readers to look at the overflow of the home itself, too. Only the first bucket of a chain has
 * room, so that this costs the same however long the chain is. */
static __attribute__((noinline)) void place_overflow(struct table *t, uint64_t home,
                                                     uint64_t entry) {
    struct bucket *head = table_bucket(t, home);
    struct bucket *first = bucket_link(head);
    bucket_set_reach(head, REACH_MAX);
    unsigned mask = first ? bucket_free(first, false) : 0;
    if (mask) {
        entry_store(first, (unsigned)__builtin_ctz(mask), entry);
        return;
    }
    /* The new bucket comes first in the chain. If it is the only one, its link takes the place of
     * an entry, which moves first. That it may be of another home does no harm: whoever looks into
     * a bucket looks into its overflow. */
    struct bucket *o = overflow_make();
    word_relaxed(o, 0, entry);
    uint64_t chain = first ? link_chain(head) + 1 : 1;
    word_relaxed(o, first ? BUCKET_LINK : 1, word_load(head, BUCKET_LINK) & ~ENTRY_REACH);
    overflow_add(t, 1, chain);
    entry_store(head, BUCKET_LINK, link_make(o, chain));
}

void table_place_away(struct table *t, uint64_t buckets, uint64_t home, uint64_t entry) {
    struct bucket *b = table_bucket(t, home);
    uint64_t furthest = buckets <= REACH_MAX ? buckets - 1 : REACH_MAX;
    for (uint64_t d = 1; d <= furthest; d++) {
        uint64_t index = bucket_wrap(home + d, buckets);
        struct bucket *near = table_bucket(t, index);
        unsigned mask = bucket_free(near, index == 0);
        if (mask) {
            entry_store(near, (unsigned)__builtin_ctz(mask), entry);
            if (d > bucket_reach(b))
                bucket_set_reach(b, (unsigned)d);
            return;
        }
    }
    place_overflow(t, home, entry);
}

static void bucket_destroy(void *bucket) {
    memory_free(bucket);
}

void overflow_unlink(struct table *t, struct bucket *pred) {
    struct bucket *o = bucket_link(pred);
    ASSERT(o && bucket_objects(o) == 0);
    entry_store(pred, BUCKET_LINK, bucket_link(o) ? word_load(o, BUCKET_LINK) : 0);
    overflow_add(t, -1, 0);
    epoch_retire(o, BUCKET_BYTES, bucket_destroy);
}
