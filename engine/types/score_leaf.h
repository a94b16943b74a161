/* A leaf of the score order: how it is read, and the steps in which it is changed. For
 * score_order.h, which says who may do so.
 *
 * Of a leaf's scores, as unsigned numbers of the same order, only those bytes are stored in which
 * they differ (scores that lie side by side nearly always have most of their bytes in common):
 *
 *   struct tree_leaf | what all have in common (8) | width, zeros, blobs, newest (1 each) |
 *   score[count], width bytes each | length[count] | members, one after the other
 *
 * A score is the common part with its width bytes at place `zeros` (bytes, from the lowest). A
 * member of more than SCORE_INLINE_MAX bytes lies outside in a counted blob; its length is
 * SCORE_OUTSIDE, and the blob's address is in the member's place. newest is the index of the
 * element that came last, for splits: where elements come in order, leaves are left fuller. */
#ifndef SLOTWISE_ENGINE_TYPES_SCORE_LEAF_H
#define SLOTWISE_ENGINE_TYPES_SCORE_LEAF_H

#include <string.h>

#include "engine/assert.h"
#include "engine/blob.h"
#include "engine/types/listpack.h"
#include "engine/types/tree.h"

/* No more than this, but for a single element. */
#define SCORE_LEAF_MAX       32
#define SCORE_LEAF_MAX_BYTES 2000

#define SCORE_INLINE_MAX 127
#define SCORE_OUTSIDE    255

extern const struct tree_kind score_order;

#define SCORE_AT_WIDTH      8
#define SCORE_AT_ZEROS      9
#define SCORE_AT_BLOBS      10
#define SCORE_AT_NEWEST     11
#define SCORE_HEADER_BYTES  12
#define SCORE_ADDRESS_BYTES 8
#define SCORE_NEWEST_NONE   255 /* unknown: a split is in the middle */

#define SCORE_SIGN       ((uint64_t)1 << 63)
#define SCORE_MINUS_ZERO (SCORE_SIGN - 1) /* what -0 is stored as, right before 0 */

/* What is sought: a member of some score. data NULL: before all members of it. */
struct score_sought {
    const char *data;
    size_t length;
};

/* --- Numbers ---------------------------------------------------------------------------------- */

static inline uint64_t score_load(const void *place) {
    uint64_t value;
    memcpy(&value, place, 8);
    return value;
}

/* Of the same order as scores, but -0 and 0 differ: to be stored. */
static inline uint64_t score_code(double score) {
    uint64_t bits = score_load(&score);
    return bits & SCORE_SIGN ? ~bits : bits | SCORE_SIGN;
}

static inline double score_of_code(uint64_t code) {
    uint64_t bits = code & SCORE_SIGN ? code & ~SCORE_SIGN : ~code;
    double score;
    memcpy(&score, &bits, 8);
    return score;
}

/* To be compared. */
static inline uint64_t score_code_order(uint64_t code) {
    return code + (code == SCORE_MINUS_ZERO);
}

/* The first eight bytes, big endian, zeros behind a shorter one. */
static inline uint64_t score_member_prefix(const char *member, size_t length) {
    uint64_t value = 0;
    memcpy(&value, member, length < 8 ? length : 8);
    return __builtin_bswap64(value);
}

/* --- Reading a leaf --------------------------------------------------------------------------- */

static inline unsigned score_leaf_width(const struct tree_leaf *leaf) {
    return leaf->data[SCORE_AT_WIDTH];
}
static inline const uint8_t *score_leaf_lengths(const struct tree_leaf *leaf) {
    return leaf->data + SCORE_HEADER_BYTES + leaf->count * score_leaf_width(leaf);
}
static inline size_t score_place_bytes(uint8_t length) {
    return length == SCORE_OUTSIDE ? SCORE_ADDRESS_BYTES : length;
}

/* What of a code is stored in width bytes; the eight bytes that end with them are in the leaf,
 * since its header comes before them. */
static inline uint64_t score_leaf_code(const struct tree_leaf *leaf, unsigned index) {
    unsigned width = score_leaf_width(leaf);
    if (UNLIKELY(width == 0))
        return score_load(leaf->data);
    uint64_t value = score_load(leaf->data + SCORE_HEADER_BYTES + (index + 1) * width - 8);
    return score_load(leaf->data) | value >> (64 - 8 * width) << 8 * leaf->data[SCORE_AT_ZEROS];
}

static inline void score_code_store(uint8_t *place, uint64_t code, unsigned width, unsigned zeros) {
    uint64_t value = code >> 8 * zeros;
    memcpy(place, &value, width);
}

/* Sum of the first n lengths: what comes before the nth member. Eight at a time; the lengths are
 * preceded by at least eight other bytes, and so can be read from their end. */
static inline size_t score_members_before(const struct tree_leaf *leaf, unsigned n) {
    const uint8_t *lengths = score_leaf_lengths(leaf);
    if (UNLIKELY(leaf->data[SCORE_AT_BLOBS] != 0)) {
        size_t sum = 0;
        for (unsigned i = 0; i < n; i++)
            sum += score_place_bytes(lengths[i]);
        return sum;
    }
    const uint64_t even = 0x00ff00ff00ff00ffu;
    uint64_t lanes = 0, eight;
    for (; n >= 8; n -= 8) {
        eight = score_load(lengths + n - 8);
        lanes += (eight & even) + (eight >> 8 & even);
    }
    if (n > 0) {
        eight = score_load(lengths + n - 8) >> 8 * (8 - n);
        lanes += (eight & even) + (eight >> 8 & even);
    }
    return lanes * 0x0001000100010001u >> 48;
}

static inline const char *score_leaf_members(const struct tree_leaf *leaf) {
    return (const char *)score_leaf_lengths(leaf) + leaf->count;
}

static inline struct blob *blob_at(const char *place) {
    struct blob *blob;
    memcpy(&blob, place, sizeof blob);
    return blob;
}

/* place: where the member lies in the leaf. */
static inline const char *score_member_get(const struct tree_leaf *leaf, unsigned index,
                                           const char *place, size_t *length) {
    *length = score_leaf_lengths(leaf)[index];
    if (LIKELY(*length != SCORE_OUTSIDE))
        return place;
    const struct blob *blob = blob_at(place);
    *length = blob->length;
    return blob->data;
}

static inline const char *score_leaf_member(const struct tree_leaf *leaf, unsigned index,
                                            size_t *length) {
    return score_member_get(leaf, index,
                            score_leaf_members(leaf) + score_members_before(leaf, index), length);
}

/* Of a member that lies outside. */
static inline struct blob *score_leaf_blob(const struct tree_leaf *leaf, unsigned index) {
    ASSERT(score_leaf_lengths(leaf)[index] == SCORE_OUTSIDE);
    return blob_at(score_leaf_members(leaf) + score_members_before(leaf, index));
}

static inline int score_compare_members(const char *a, size_t a_length, const char *b,
                                        size_t b_length) {
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

/* --- Changing a leaf -------------------------------------------------------------------------- */

/* An element as it is put into a leaf. */
struct score_item {
    uint64_t code;
    struct blob *blob; /* the member lies there; NULL: member, inline */
    const char *member;
    uint8_t length;
};

static inline size_t score_item_bytes(const struct score_item *item) {
    return score_place_bytes(item->length);
}

/* The leaf's way to store codes is good for this one too. */
static inline bool score_leaf_fits(const struct tree_leaf *leaf, uint64_t code) {
    unsigned width = score_leaf_width(leaf);
    uint64_t mask = width == 8 ? ~(uint64_t)0
                    : width == 0
                        ? 0
                        : (((uint64_t)1 << 8 * width) - 1) << 8 * leaf->data[SCORE_AT_ZEROS];
    return (code & ~mask) == score_load(leaf->data);
}

/* The first element that is not before the sought one, of that order; the leaf's count if there is
 * none. equal: it is the sought one. */
unsigned score_leaf_find(const struct tree_leaf *leaf, uint64_t order,
                         const struct score_sought *sought, bool *equal);

/* Into a leaf that is nobody else's, has the room and stores codes in a way that is good for this
 * one. The element's blob is the leaf's afterwards. */
void score_leaf_insert(struct tree_leaf *leaf, unsigned index, const struct score_item *item);
/* Elements first .. first + removed out of a leaf that is nobody else's. Lets go of no blobs. */
void score_leaf_remove(struct tree_leaf *leaf, unsigned first, unsigned removed);
void score_leaf_return_blobs(const struct tree_leaf *leaf, unsigned first, unsigned count);

/* New leaves that refer to what is in them once more: of a leaf's elements and one more (leaf NULL:
 * of that alone; its blob is the new leaf's); without some, of count 0 if nothing is left. */
struct tree_leaf *score_leaf_with(const struct tree_leaf *leaf, unsigned index,
                                  const struct score_item *item);
struct tree_leaf *score_leaf_without(const struct tree_leaf *leaf, unsigned first,
                                     unsigned removed);
size_t score_leaf_outside_bytes(const struct tree_leaf *leaf);

#endif
