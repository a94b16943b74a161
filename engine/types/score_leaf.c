/* See score_leaf.h. */
#include "engine/types/score_leaf.h"

#include "engine/memory.h"

#define SMALL_COUNT  8  /* a leaf of fewer is merged with a neighbour ... */
#define MERGED_COUNT 24 /* ... if both have no more than this */
#define MERGED_BYTES 1500

/* How many elements have a lower score. The comparisons are multiplied with, since a processor
 * cannot predict branches that depend on them. */
static unsigned lower_score(const struct tree_leaf *leaf, uint64_t order) {
    unsigned lower = 0, n = leaf->count;
    while (n > 1) {
        unsigned half = n / 2;
        lower += half * (score_code_order(score_leaf_code(leaf, lower + half - 1)) < order);
        n -= half;
    }
    return lower + (score_code_order(score_leaf_code(leaf, lower)) < order);
}

unsigned score_leaf_find(const struct tree_leaf *leaf, uint64_t order,
                         const struct score_sought *sought, bool *equal) {
    unsigned low = lower_score(leaf, order), high = low;
    *equal = false;
    if (!sought->data)
        return low;
    while (high < leaf->count && score_code_order(score_leaf_code(leaf, high)) == order)
        high++;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        size_t length;
        const char *member = score_leaf_member(leaf, middle, &length);
        int compared = score_compare_members(member, length, sought->data, sought->length);
        *equal |= compared == 0;
        if (compared < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* --- Making leaves ---------------------------------------------------------------------------- */

/* In which bytes the codes differ. */
struct format {
    uint64_t common;
    unsigned width, zeros;
};

static struct format format_of(const uint64_t *codes, unsigned count) {
    uint64_t differing = 0;
    for (unsigned i = 1; i < count; i++)
        differing |= codes[i] ^ codes[0];
    struct format format = {codes[0], 0, 0};
    if (differing == 0)
        return format;
    format.zeros = (unsigned)__builtin_ctzll(differing) / 8;
    format.width = 8 - (unsigned)__builtin_clzll(differing) / 8 - format.zeros;
    uint64_t mask = format.width == 8 ? ~(uint64_t)0 : ((uint64_t)1 << 8 * format.width) - 1;
    format.common &= ~(mask << 8 * format.zeros);
    return format;
}

static void codes_read(const struct tree_leaf *leaf, unsigned from, unsigned count, uint64_t *out) {
    for (unsigned i = 0; i < count; i++)
        out[i] = score_leaf_code(leaf, from + i);
}

/* Of so many bytes, with all that the memory has in any case. */
static struct tree_leaf *leaf_alloc(size_t bytes) {
    size_t whole = memory_object_bytes(sizeof(struct tree_leaf) + bytes);
    struct tree_leaf *leaf = tree_leaf_make(whole - sizeof(struct tree_leaf));
    leaf->bytes = (uint16_t)bytes;
    return leaf;
}

/* A leaf for these codes, with room for so many bytes of members; lengths and members are the
 * caller's to write. */
static struct tree_leaf *leaf_make(const uint64_t *codes, unsigned count, size_t member_bytes) {
    struct format format = format_of(codes, count);
    size_t bytes = SCORE_HEADER_BYTES + count * (format.width + 1) + member_bytes;
    struct tree_leaf *leaf = leaf_alloc(bytes);
    leaf->count = (uint16_t)count;
    memcpy(leaf->data, &format.common, 8);
    leaf->data[SCORE_AT_WIDTH] = (uint8_t)format.width;
    leaf->data[SCORE_AT_ZEROS] = (uint8_t)format.zeros;
    leaf->data[SCORE_AT_BLOBS] = 0;
    leaf->data[SCORE_AT_NEWEST] = SCORE_NEWEST_NONE;
    for (unsigned i = 0; i < count; i++)
        score_code_store(leaf->data + SCORE_HEADER_BYTES + i * format.width, codes[i], format.width,
                         format.zeros);
    return leaf;
}

/* A leaf from leaf_make, on the way to its lengths and members. */
struct filling {
    struct tree_leaf *leaf;
    uint8_t *length;
    char *member;
};

static inline struct filling filling_of(struct tree_leaf *leaf) {
    uint8_t *lengths = (uint8_t *)score_leaf_lengths(leaf);
    return (struct filling){leaf, lengths, (char *)lengths + leaf->count};
}

/* Elements first .. first + count of another leaf; they are not referred to once more. */
static void fill_part(struct filling *filling, const struct tree_leaf *leaf, unsigned first,
                      unsigned count) {
    size_t begin = score_members_before(leaf, first);
    size_t bytes = score_members_before(leaf, first + count) - begin;
    const uint8_t *lengths = score_leaf_lengths(leaf) + first;
    memcpy(filling->length, lengths, count);
    memcpy(filling->member, score_leaf_members(leaf) + begin, bytes);
    for (unsigned i = 0; UNLIKELY(leaf->data[SCORE_AT_BLOBS] != 0) && i < count; i++)
        filling->leaf->data[SCORE_AT_BLOBS] += lengths[i] == SCORE_OUTSIDE;
    filling->length += count;
    filling->member += bytes;
}

static struct tree_leaf *leaf_part(const struct tree_leaf *leaf, unsigned first, unsigned count) {
    uint64_t codes[SCORE_LEAF_MAX + 1];
    codes_read(leaf, first, count, codes);
    size_t bytes = score_members_before(leaf, first + count) - score_members_before(leaf, first);
    struct filling filling = filling_of(leaf_make(codes, count, bytes));
    fill_part(&filling, leaf, first, count);
    return filling.leaf;
}

/* --- The kind --------------------------------------------------------------------------------- */

typedef void blob_work(struct blob *blob, void *context);

static void each_blob(const struct tree_leaf *leaf, blob_work *work, void *context) {
    if (LIKELY(leaf->data[SCORE_AT_BLOBS] == 0))
        return;
    const uint8_t *lengths = score_leaf_lengths(leaf);
    const char *place = score_leaf_members(leaf);
    for (unsigned i = 0; i < leaf->count; i++) {
        if (lengths[i] == SCORE_OUTSIDE)
            work(blob_at(place), context);
        place += score_place_bytes(lengths[i]);
    }
}

static void lend_blob(struct blob *blob, void *context) {
    (void)context;
    blob_lend(blob);
}
static void return_blob(struct blob *blob, void *context) {
    (void)context;
    blob_return(blob);
}
static void add_blob_bytes(struct blob *blob, void *context) {
    *(size_t *)context += blob_bytes(blob);
}

static void leaf_acquire(const struct tree_leaf *leaf) {
    each_blob(leaf, lend_blob, NULL);
}
static void leaf_release(const struct tree_leaf *leaf) {
    each_blob(leaf, return_blob, NULL);
}
size_t score_leaf_outside_bytes(const struct tree_leaf *leaf) {
    size_t bytes = 0;
    each_blob(leaf, add_blob_bytes, &bytes);
    return bytes;
}

static struct tree_key leaf_first(const struct tree_leaf *leaf) {
    size_t length;
    const char *member = score_member_get(leaf, 0, score_leaf_members(leaf), &length);
    return (struct tree_key){score_code_order(score_leaf_code(leaf, 0)),
                             score_member_prefix(member, length)};
}

static int leaf_compare(const void *context, const struct tree_leaf *leaf) {
    const struct score_sought *sought = context;
    if (!sought->data)
        return -1;
    size_t length;
    const char *member = score_member_get(leaf, 0, score_leaf_members(leaf), &length);
    return score_compare_members(sought->data, sought->length, member, length);
}

static bool leaf_is_large(const struct tree_leaf *leaf) {
    return leaf->count > SCORE_LEAF_MAX || (leaf->bytes > SCORE_LEAF_MAX_BYTES && leaf->count > 1);
}

/* In the middle; where the newest element is the last or the first one, others are likely to follow
 * it there, and the part that they do not come to is left fuller. */
static struct tree_leaf *leaf_split(struct tree_leaf **place) {
    struct tree_leaf *leaf = *place;
    unsigned count = leaf->count, newest = leaf->data[SCORE_AT_NEWEST], lower = count / 2;
    if (newest == count - 1)
        lower = count * 3 / 4;
    else if (newest == 0)
        lower = (count + 3) / 4;
    struct tree_leaf *upper = leaf_part(leaf, lower, count - lower);
    *place = leaf_part(leaf, 0, lower);
    tree_leaf_free(leaf);
    return upper;
}

static bool leaf_is_small(const struct tree_leaf *leaf) {
    return leaf->count < SMALL_COUNT;
}

static struct tree_leaf *leaf_merge(const struct tree_leaf *left, const struct tree_leaf *right) {
    unsigned count = left->count + right->count;
    if (count > MERGED_COUNT || left->bytes + right->bytes > MERGED_BYTES)
        return NULL;
    uint64_t codes[SCORE_LEAF_MAX];
    codes_read(left, 0, left->count, codes);
    codes_read(right, 0, right->count, codes + left->count);
    size_t bytes =
        score_members_before(left, left->count) + score_members_before(right, right->count);
    struct filling filling = filling_of(leaf_make(codes, count, bytes));
    fill_part(&filling, left, 0, left->count);
    fill_part(&filling, right, 0, right->count);
    leaf_acquire(filling.leaf);
    return filling.leaf;
}

static void leaf_check(const struct tree_leaf *leaf) {
    unsigned width = score_leaf_width(leaf), blobs = 0;
    ASSERT(leaf->count > 0 && leaf->count <= SCORE_LEAF_MAX);
    ASSERT(leaf->bytes <= leaf->capacity && leaf->begin == 0);
    ASSERT(width <= 8 && leaf->data[SCORE_AT_ZEROS] + width <= 8);
    ASSERT(leaf->bytes <= SCORE_LEAF_MAX_BYTES || leaf->count == 1);
    ASSERT(score_leaf_members(leaf) + score_members_before(leaf, leaf->count) ==
           (const char *)leaf->data + leaf->bytes);
    size_t previous_length = 0;
    const char *previous = NULL;
    for (unsigned i = 0; i < leaf->count; i++) {
        size_t length;
        const char *member = score_leaf_member(leaf, i, &length);
        bool outside = score_leaf_lengths(leaf)[i] == SCORE_OUTSIDE;
        ASSERT(outside == (length > SCORE_INLINE_MAX));
        blobs += outside;
        uint64_t here = score_code_order(score_leaf_code(leaf, i));
        uint64_t before = i > 0 ? score_code_order(score_leaf_code(leaf, i - 1)) : 0;
        ASSERT(before < here || (before == here && score_compare_members(previous, previous_length,
                                                                         member, length) < 0));
        previous = member;
        previous_length = length;
    }
    ASSERT(leaf->data[SCORE_AT_BLOBS] == blobs);
}

const struct tree_kind score_order = {
    .key_words = 2,
    .first = leaf_first,
    .compare = leaf_compare,
    .is_large = leaf_is_large,
    .split = leaf_split,
    .is_small = leaf_is_small,
    .merge = leaf_merge,
    .acquire = leaf_acquire,
    .release = leaf_release,
    .outside_bytes = score_leaf_outside_bytes,
    .check = leaf_check,
};

/* --- Changing --------------------------------------------------------------------------------- */

static void item_write(uint8_t *place, const struct score_item *item) {
    if (UNLIKELY(item->blob != NULL))
        memcpy(place, &item->blob, sizeof item->blob);
    else
        memcpy(place, item->member, item->length);
}

void score_leaf_insert(struct tree_leaf *leaf, unsigned index, const struct score_item *item) {
    unsigned width = score_leaf_width(leaf), count = leaf->count;
    size_t size = score_item_bytes(item), before = score_members_before(leaf, index);
    size_t rest = score_members_before(leaf, count) - before;
    uint8_t *codes = leaf->data + SCORE_HEADER_BYTES, *lengths = codes + count * width;
    uint8_t *members = lengths + count;
    memmove(members + width + 1 + before + size, members + before, rest);
    memmove(members + width + 1, members, before);
    memmove(lengths + width + index + 1, lengths + index, count - index);
    memmove(lengths + width, lengths, index);
    memmove(codes + (index + 1) * width, codes + index * width, (count - index) * width);
    score_code_store(codes + index * width, item->code, width, leaf->data[SCORE_AT_ZEROS]);
    lengths[width + index] = item->length;
    item_write(members + width + 1 + before, item);
    leaf->count = (uint16_t)(count + 1);
    leaf->bytes = (uint16_t)(leaf->bytes + width + 1 + size);
    leaf->data[SCORE_AT_BLOBS] += item->blob != NULL;
    leaf->data[SCORE_AT_NEWEST] = (uint8_t)index;
}

static void fill_item(struct filling *filling, const struct score_item *item) {
    *filling->length++ = item->length;
    item_write((uint8_t *)filling->member, item);
    filling->member += score_item_bytes(item);
    filling->leaf->data[SCORE_AT_BLOBS] += item->blob != NULL;
}

/* The columns as they are, each with a gap for the new element. */
static struct tree_leaf *leaf_with_fitting(const struct tree_leaf *leaf, unsigned index,
                                           const struct score_item *item) {
    unsigned width = score_leaf_width(leaf), count = leaf->count;
    size_t before = SCORE_HEADER_BYTES + index * width, behind = (count - index) * width;
    struct tree_leaf *made = leaf_alloc(leaf->bytes + width + 1u + score_item_bytes(item));
    made->count = (uint16_t)(count + 1);
    memcpy(made->data, leaf->data, before);
    memcpy(made->data + before + width, leaf->data + before, behind);
    made->data[SCORE_AT_BLOBS] = 0;
    score_code_store(made->data + before, item->code, width, leaf->data[SCORE_AT_ZEROS]);
    struct filling filling = filling_of(made);
    fill_part(&filling, leaf, 0, index);
    fill_item(&filling, item);
    fill_part(&filling, leaf, index, count - index);
    leaf_acquire(leaf);
    made->data[SCORE_AT_NEWEST] = (uint8_t)index;
    return made;
}

struct tree_leaf *score_leaf_with(const struct tree_leaf *leaf, unsigned index,
                                  const struct score_item *item) {
    if (LIKELY(leaf && score_leaf_fits(leaf, item->code)))
        return leaf_with_fitting(leaf, index, item);
    uint64_t codes[SCORE_LEAF_MAX + 1];
    unsigned count = leaf ? leaf->count : 0;
    size_t bytes = score_item_bytes(item);
    if (leaf) {
        codes_read(leaf, 0, index, codes);
        codes_read(leaf, index, count - index, codes + index + 1);
        bytes += score_members_before(leaf, count);
    }
    codes[index] = item->code;
    struct filling filling = filling_of(leaf_make(codes, count + 1, bytes));
    if (leaf)
        fill_part(&filling, leaf, 0, index);
    fill_item(&filling, item);
    if (leaf) {
        fill_part(&filling, leaf, index, count - index);
        leaf_acquire(leaf);
    }
    filling.leaf->data[SCORE_AT_NEWEST] = (uint8_t)index;
    return filling.leaf;
}

void score_leaf_remove(struct tree_leaf *leaf, unsigned first, unsigned removed) {
    unsigned width = score_leaf_width(leaf), count = leaf->count, rest = count - first - removed;
    size_t begin = score_members_before(leaf, first),
           end = score_members_before(leaf, first + removed);
    size_t behind = score_members_before(leaf, count) - end;
    uint8_t *codes = leaf->data + SCORE_HEADER_BYTES, *lengths = codes + count * width;
    uint8_t *members = lengths + count;
    for (unsigned i = first; i < first + removed; i++)
        leaf->data[SCORE_AT_BLOBS] -= lengths[i] == SCORE_OUTSIDE;
    memmove(codes + first * width, codes + (first + removed) * width, rest * width);
    size_t shift = (size_t)removed * width;
    memmove(lengths - shift, lengths, first);
    memmove(lengths - shift + first, lengths + first + removed, rest);
    shift += removed;
    memmove(members - shift, members, begin);
    memmove(members - shift + begin, members + end, behind);
    leaf->count = (uint16_t)(count - removed);
    leaf->bytes = (uint16_t)(leaf->bytes - shift - (end - begin));
    leaf->data[SCORE_AT_NEWEST] = SCORE_NEWEST_NONE;
}

struct tree_leaf *score_leaf_without(const struct tree_leaf *leaf, unsigned first,
                                     unsigned removed) {
    uint64_t codes[SCORE_LEAF_MAX];
    unsigned count = leaf->count, left = count - removed, end = first + removed;
    if (left == 0)
        return tree_leaf_make(SCORE_HEADER_BYTES);
    codes_read(leaf, 0, first, codes);
    codes_read(leaf, end, count - end, codes + first);
    size_t bytes = score_members_before(leaf, first) + score_members_before(leaf, count) -
                   score_members_before(leaf, end);
    struct filling filling = filling_of(leaf_make(codes, left, bytes));
    fill_part(&filling, leaf, 0, first);
    fill_part(&filling, leaf, end, count - end);
    filling.leaf->data[SCORE_AT_NEWEST] = SCORE_NEWEST_NONE;
    leaf_acquire(filling.leaf);
    return filling.leaf;
}

void score_leaf_return_blobs(const struct tree_leaf *leaf, unsigned first, unsigned count) {
    if (LIKELY(leaf->data[SCORE_AT_BLOBS] == 0))
        return;
    const char *place = score_leaf_members(leaf) + score_members_before(leaf, first);
    for (unsigned i = first; i < first + count; i++) {
        uint8_t length = score_leaf_lengths(leaf)[i];
        if (length == SCORE_OUTSIDE)
            blob_return(blob_at(place));
        place += score_place_bytes(length);
    }
}
