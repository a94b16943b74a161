/* Private to table*.c: the layout of a table and the primitives on entries and buckets.
 *
 * A table is one array of 64-byte buckets, eight words each. There is no header beside it: the
 * first five words of bucket 0 are the header, and a word of the header never has the OBJECT bit,
 * so that a reader needs no special case for it. A table of three keys is one bucket.
 *
 *   entry:  63..48 tag | 47..3 pointer | bit 2 REACH | bit 1 VOLATILE | bit 0 OBJECT
 *   header: REBUILD, GEOMETRY, COUNT, VOLATILE, OVERFLOW (words 0..4 of bucket 0)
 *
 * A table of TABLE_STEP_THRESHOLD_BUCKETS or more has its region counts behind the last bucket: how
 * many keys have their home in each TABLE_REGION_BUCKETS buckets, 32 bits each.
 *
 * An empty entry has neither OBJECT nor a pointer. Word 7 without OBJECT but with a pointer is a
 * link to an overflow bucket, which extends the capacity of the bucket that it hangs on; its tag is
 * the length of the chain from there on (at least that, and LINK_CHAIN_MAX at most). REACH
 * exists only in words 5, 6 and 7: together a number from 0 to 7 (enum below).
 *
 * See table.c for the essay. Every word is written by the token's holder only, and read by
 * anyone. */
#ifndef SLOTWISE_ENGINE_TABLE_BUCKET_H
#define SLOTWISE_ENGINE_TABLE_BUCKET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/assert.h"
#include "engine/object.h"
#include "engine/table_root.h"

#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__) && !defined(SLOTWISE_TSAN)
#define TABLE_SIMD 1
#include <emmintrin.h>
#endif

#define BUCKET_BYTES   64
#define BUCKET_ENTRIES 8
#define BUCKET_LINK    (BUCKET_ENTRIES - 1) /* the word that may be a link */

#define ENTRY_OBJECT    ((uint64_t)1)
#define ENTRY_VOLATILE  ((uint64_t)2)
#define ENTRY_REACH     ((uint64_t)4)
#define ENTRY_POINTER   ((uint64_t)0x0000fffffffffff8)
#define ENTRY_TAG_SHIFT 48

/* The furthest bucket after its home in which a key may live. A home whose reach is REACH_MAX may
 * also have overflow buckets. */
#define REACH_MAX 7

enum table_header_word {
    HEADER_REBUILD,  /* struct table_rebuild *: a step-wise rebuild into this table is under way */
    HEADER_GEOMETRY, /* buckets << 32 | tag position << 8; never changes */
    HEADER_COUNT,    /* keys << 1 */
    HEADER_VOLATILE, /* keys with the VOLATILE tag << 1 */
    HEADER_OVERFLOW, /* overflow buckets << 16 | longest chain ever << 1 */
    HEADER_WORDS
};
#define HEADER_FREE_MASK                                                                           \
    (0xffu & ~((1u << HEADER_WORDS) - 1)) /* what bucket 0 has left for entries */

struct bucket {
    _Alignas(BUCKET_BYTES) _Atomic uint64_t word[BUCKET_ENTRIES];
};
_Static_assert(sizeof(struct bucket) == BUCKET_BYTES, "a bucket is one cache line");

struct table {
    struct bucket first; /* and the others after it */
};

/* Buckets that a region count is for; the last region of a table has the rest, too. */
#define TABLE_REGION_BUCKETS 64
/* A table does not shrink so far that a region would have more keys than this for each bucket: its
 * keys need not be spread evenly (who deletes in the order of a SCAN leaves those with large
 * hashes, close together). */
#define TABLE_DENSEST_KEYS   12

/* Of a step-wise rebuild; hangs on the new table. Keys whose hash is below bound live in the new
 * table. */
struct table_rebuild {
    struct table *old;
    _Atomic uint64_t bound;
    _Atomic uint64_t initialised; /* buckets of the new table that have been set to empty */
    uint64_t next_old;            /* bound as a bucket of the old table; writer only */
};

/* --- Geometry --------------------------------------------------------------------------------- */

static inline uint64_t word_load(const struct bucket *b, unsigned i) {
    return atomic_load_explicit(&b->word[i], memory_order_relaxed);
}
static inline uint64_t word_acquire(const struct bucket *b, unsigned i) {
    return atomic_load_explicit(&b->word[i], memory_order_acquire);
}
static inline void word_release(struct bucket *b, unsigned i, uint64_t value) {
    atomic_store_explicit(&b->word[i], value, memory_order_release);
}
static inline void word_relaxed(struct bucket *b, unsigned i, uint64_t value) {
    atomic_store_explicit(&b->word[i], value, memory_order_relaxed);
}

static inline uint64_t table_geometry(const struct table *t) {
    return word_load(&t->first, HEADER_GEOMETRY);
}
static inline uint64_t geometry_buckets(uint64_t geometry) {
    return geometry >> 32;
}
static inline unsigned geometry_tag_position(uint64_t geometry) {
    return (geometry >> 8) & 63;
}
static inline uint64_t table_buckets(const struct table *t) {
    return geometry_buckets(table_geometry(t));
}
static inline struct bucket *table_bucket(const struct table *t, uint64_t index) {
    return (struct bucket *)t + index;
}
static inline uint64_t hash_home(uint64_t hash, uint64_t buckets) {
    return (uint64_t)(((unsigned __int128)hash * buckets) >> 64);
}
/* The smallest hash whose home is this bucket (index < buckets). */
static inline uint64_t home_first_hash(uint64_t index, uint64_t buckets) {
    return (uint64_t)((((unsigned __int128)index << 64) + buckets - 1) / buckets);
}
static inline uint64_t bucket_wrap(uint64_t index, uint64_t buckets) {
    return index >= buckets ? index - buckets : index;
}
static inline struct table_rebuild *table_rebuild_state(const struct table *t) {
    return (struct table_rebuild *)(uintptr_t)word_acquire(&t->first, HEADER_REBUILD);
}
/* Lines behind the last bucket for the region counts. */
static inline uint64_t region_lines(uint64_t buckets) {
    return buckets < TABLE_STEP_THRESHOLD_BUCKETS
               ? 0
               : buckets / TABLE_REGION_BUCKETS / (BUCKET_BYTES / sizeof(uint32_t)) + 1;
}
static inline _Atomic uint32_t *region_counts(const struct table *t, uint64_t buckets) {
    return (_Atomic uint32_t *)table_bucket(t, buckets);
}
static inline uint64_t region_count(const struct table *t, uint64_t buckets, uint64_t region) {
    return atomic_load_explicit(&region_counts(t, buckets)[region], memory_order_relaxed);
}
static inline uint64_t region_of(uint64_t home, uint64_t buckets) {
    uint64_t region = home / TABLE_REGION_BUCKETS, last = buckets / TABLE_REGION_BUCKETS - 1;
    return region < last ? region : last;
}
/* A key with this home came or went. */
static inline void region_add(struct table *t, uint64_t buckets, uint64_t home, int change) {
    if (UNLIKELY(buckets >= TABLE_STEP_THRESHOLD_BUCKETS)) {
        uint64_t region = region_of(home, buckets);
        atomic_store_explicit(&region_counts(t, buckets)[region],
                              (uint32_t)region_count(t, buckets, region) + (uint32_t)change,
                              memory_order_relaxed);
    }
}
/* The table in which a key of this hash lives. */
static inline struct table *rebuild_side(struct table *t, const struct table_rebuild *r,
                                         uint64_t hash) {
    return hash < atomic_load_explicit(&r->bound, memory_order_acquire) ? t : r->old;
}

/* --- Entries ---------------------------------------------------------------------------------- */

static inline struct object *entry_object(uint64_t entry) {
    return (struct object *)(uintptr_t)(entry & ENTRY_POINTER);
}
static inline uint64_t entry_tag(uint64_t entry) {
    return entry >> ENTRY_TAG_SHIFT;
}
static inline uint64_t hash_tag(uint64_t hash, unsigned tag_position) {
    return (hash >> tag_position) & 0xffff;
}
static inline uint64_t entry_make(struct object *o, uint64_t tag) {
    ASSERT(((uintptr_t)o & ~ENTRY_POINTER) == 0);
    return (uint64_t)(uintptr_t)o | tag << ENTRY_TAG_SHIFT |
           (object_is_volatile(o) ? ENTRY_VOLATILE : 0) | ENTRY_OBJECT;
}
/* Publishes: what the entry points to is complete for whoever sees it. Keeps the bucket's REACH
 * bit. */
static inline void entry_store(struct bucket *b, unsigned i, uint64_t entry) {
    word_release(b, i, (entry & ~ENTRY_REACH) | (word_load(b, i) & ENTRY_REACH));
}

/* --- Buckets ---------------------------------------------------------------------------------- */

/* Which entries may have this tag: bit 2i+1 for word i. A hint for readers: the word is loaded
 * again, as an atomic, before it is used. That is why the vector loads, which the language does not
 * count as atomic, do no harm: a word that changes meanwhile gives a false hit (the key decides) or
 * a false miss (the slot's word decides). */
#define MATCH_INDEX(mask) ((unsigned)__builtin_ctz(mask) >> 1)
#define MATCH_ALL         0xaaaau
static inline unsigned bucket_match(const struct bucket *b, uint64_t tag) {
#ifdef TABLE_SIMD
    const __m128 *v = (const __m128 *)b;
    __m128i key = _mm_set1_epi16((short)tag);
    /* the high halves of words 0-3 and of words 4-7 */
    __m128i low = _mm_castps_si128(_mm_shuffle_ps(v[0], v[1], 0xdd));
    __m128i high = _mm_castps_si128(_mm_shuffle_ps(v[2], v[3], 0xdd));
    __m128i equal = _mm_packs_epi16(_mm_cmpeq_epi16(low, key), _mm_cmpeq_epi16(high, key));
    return (unsigned)_mm_movemask_epi8(equal) & MATCH_ALL;
#else
    unsigned mask = 0;
    for (unsigned i = 0; i < BUCKET_ENTRIES; i++)
        mask |= (unsigned)(entry_tag(word_load(b, i)) == tag) << (2 * i + 1);
    return mask;
#endif
}

/* Which words are objects: bit i for word i. */
static inline unsigned bucket_objects(const struct bucket *b) {
#ifdef TABLE_SIMD
    const __m128 *v = (const __m128 *)b;
    /* the low halves; bit 0 becomes the sign */
    __m128i low = _mm_slli_epi32(_mm_castps_si128(_mm_shuffle_ps(v[0], v[1], 0x88)), 31);
    __m128i high = _mm_slli_epi32(_mm_castps_si128(_mm_shuffle_ps(v[2], v[3], 0x88)), 31);
    return (unsigned)_mm_movemask_ps(_mm_castsi128_ps(low)) |
           (unsigned)_mm_movemask_ps(_mm_castsi128_ps(high)) << 4;
#else
    unsigned mask = 0;
    for (unsigned i = 0; i < BUCKET_ENTRIES; i++)
        mask |= (unsigned)(word_load(b, i) & ENTRY_OBJECT) << i;
    return mask;
#endif
}

/* The overflow bucket that hangs on b, NULL if none. */
static inline struct bucket *bucket_link(const struct bucket *b) {
    uint64_t word = word_acquire(b, BUCKET_LINK);
    return word & ENTRY_OBJECT ? NULL : (struct bucket *)(uintptr_t)(word & ENTRY_POINTER);
}

#define LINK_CHAIN_MAX 0x7fff /* what the header's word has room for, too */
static inline uint64_t link_make(const struct bucket *o, uint64_t chain) {
    uint64_t tag = chain < LINK_CHAIN_MAX ? chain : LINK_CHAIN_MAX;
    return (uint64_t)(uintptr_t)o | tag << ENTRY_TAG_SHIFT;
}
static inline uint64_t link_chain(const struct bucket *b) {
    return word_load(b, BUCKET_LINK) >> ENTRY_TAG_SHIFT;
}

/* Words that an entry may be put into: bit i for word i. */
static inline unsigned bucket_free(const struct bucket *b, bool has_header) {
    unsigned mask = ~bucket_objects(b) & (has_header ? HEADER_FREE_MASK : 0xff);
    if (UNLIKELY(mask == 1u << BUCKET_LINK) && bucket_link(b))
        mask = 0; /* callers take the lowest: a link matters only when it is the only one */
    return mask;
}

static inline unsigned bucket_reach(const struct bucket *b) {
    return (unsigned)((word_load(b, 5) & ENTRY_REACH) >> 2 | (word_load(b, 6) & ENTRY_REACH) >> 1 |
                      (word_load(b, 7) & ENTRY_REACH));
}
static inline bool bucket_reaches_on(const struct bucket *b) {
    return (word_load(b, 5) | word_load(b, 6) | word_load(b, 7)) & ENTRY_REACH;
}
void bucket_set_reach(struct bucket *b, unsigned reach);

/* Keys of home `home` live in buckets home .. home + this, around the end of the table. */
static inline uint64_t home_reach(const struct table *t, uint64_t home, uint64_t buckets) {
    uint64_t reach = bucket_reach(table_bucket(t, home));
    return reach < buckets ? reach : buckets - 1;
}

/* Everything about a bucket that narrows down the hash of an entry in it. */
struct hash_range {
    uint64_t first;
    uint64_t last;
};
struct tag_context {
    uint64_t buckets;
    uint64_t width;        /* of a bucket in hash space, rounded down */
    unsigned tag_position; /* of the tag in the hash; above it are 48 - tag_position bits */
};
static inline struct tag_context tag_context_of(const struct table *t) {
    uint64_t geometry = table_geometry(t);
    uint64_t buckets = geometry_buckets(geometry);
    return (struct tag_context){buckets, buckets == 1 ? UINT64_MAX : (uint64_t)(-1) / buckets,
                                geometry_tag_position(geometry)};
}
/* The hashes that an entry in bucket `index` (or its overflow) can have. The bits above the tag
 * follow from the place: its home is at most REACH_MAX buckets before it, and tag_position_for sees
 * to it that this window is narrower than the period of those bits. */
static inline struct hash_range entry_hashes(const struct tag_context *c, uint64_t index,
                                             uint64_t entry) {
    unsigned above = ENTRY_TAG_SHIFT - c->tag_position;
    uint64_t first = entry_tag(entry) << c->tag_position;
    uint64_t below = ((uint64_t)1 << c->tag_position) - 1;
    if (above) {
        uint64_t back = REACH_MAX + 1; /* one more for the rounding of width */
        uint64_t start = (index >= back ? index - back : index + c->buckets - back) * c->width;
        uint64_t period = (uint64_t)1 << (64 - above);
        first |= start & ~(period - 1);
        if ((first | below) < start)
            first += period;
    }
    return (struct hash_range){first, first | below};
}

/* --- Whole tables ----------------------------------------------------------------------------- */

unsigned tag_position_for(uint64_t buckets);
/* This many buckets or as many more as the allocator's size class has room for. */
uint64_t buckets_rounded(uint64_t buckets);
uint64_t table_capacity(uint64_t buckets); /* keys that it takes before it grows */
/* Allocates and writes the header; buckets 1.. are set to empty when zero is true. */
struct table *table_make(uint64_t buckets, bool zero);
void bucket_clear(struct bucket *b);
/* Puts an entry in its home, near it, or into an overflow bucket. Does not count it. */
void table_place_away(struct table *t, uint64_t buckets, uint64_t home, uint64_t entry);
static inline void table_place(struct table *t, uint64_t buckets, uint64_t home, uint64_t entry) {
    struct bucket *b = table_bucket(t, home);
    unsigned mask = bucket_free(b, home == 0);
    if (LIKELY(mask))
        entry_store(b, (unsigned)__builtin_ctz(mask), entry);
    else
        table_place_away(t, buckets, home, entry);
}
/* Takes the link at pred to an overflow bucket without entries away and retires that. */
void overflow_unlink(struct table *t, struct bucket *pred);
uint64_t table_overflow_buckets(const struct table *t);
size_t table_shell_bytes(const struct table *t);     /* the array and its overflow buckets */
uint64_t table_longest_chain(const struct table *t); /* ever; LINK_CHAIN_MAX: or more */

#endif
