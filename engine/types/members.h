/* Members: a set of byte strings, each with or without a value, in a tree of leaves of up to
 * MEMBERS_LEAF_MAX in the order of their hashes. What large hashes (value: bytes), large sets (no
 * value) and large sorted sets (value: the score, 8 bytes) have their members in.
 *
 * Under the token of the key's slot, or by who has the tree alone (tree.h). The hash is table_hash
 * of the member. Members that are given to functions may lie in the tree itself. */
#ifndef SLOTWISE_ENGINE_TYPES_MEMBERS_H
#define SLOTWISE_ENGINE_TYPES_MEMBERS_H

#include "engine/types/collection.h"

#define MEMBERS_LEAF_MAX       24
#define MEMBERS_LEAF_BYTES_MAX 4096 /* a leaf of two or more with more than this is split too */
#define MEMBERS_INLINE_MAX     127

/* Members with scores: the blobs of long members are counted elsewhere (zset.h). */
extern const struct tree_kind members_without_values, members_with_values, members_with_scores;

/* value may be NULL; points into the tree. Members with scores: 8 bytes, not aligned. */
bool members_find(const struct tree *members, const char *member, size_t length,
                  struct element *value);
/* The blob of a member that is there and has more than MEMBERS_INLINE_MAX bytes. */
struct blob *members_blob(const struct tree *members, const char *member, size_t length);
/* true: it is new; else its value is replaced. */
bool members_put(struct tree *members, const char *member, size_t length, const char *value,
                 size_t value_length);
/* false: there was none. */
bool members_remove(struct tree *members, const char *member, size_t length);
/* In the tree's order; visit is given scores if members have scores, else values if they have them.
 */
void members_visit(const struct tree *members, collection_visit *visit, void *context);
/* HSCAN and its kind: all members behind the cursor, a leaf at a time, until about count have been
 * visited; returns the next cursor, 0 at the end. What is in the tree all the time between cursor 0
 * and the end is visited, whatever comes and goes meanwhile. Below 2^53. */
uint64_t members_scan(const struct tree *members, uint64_t cursor, uint64_t count,
                      collection_visit *visit, void *context);
/* Members that are about to be looked for are fetched together: their waits for memory overlap. n
 * is at most MEMBERS_AHEAD. Nothing depends on it. */
#define MEMBERS_AHEAD     16
#define MEMBERS_AHEAD_MIN ((uint64_t)1 << 20) /* bytes of a tree for which it is worth the work */
struct members_sought {
    const struct tree *members;
    const char *data;
    size_t length;
    bool changes; /* it may be put: then the whole leaf is needed */
    /* Of members with scores, set by members_fetch: where the score of what most likely is this
     * member lies. NULL: there is none such. */
    const uint8_t *score;
};
void members_fetch(struct members_sought *sought, unsigned n);
/* The member at a position below the tree's count. value may be NULL. */
void members_at(const struct tree *members, uint64_t position, struct element *member,
                struct element *value);

#endif
