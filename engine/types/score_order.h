/* Score order: the members of a large sorted set by score, then by their bytes, in a tree of leaves
 * of up to SCORE_LEAF_MAX. Positions count from the lowest.
 *
 * -0 and 0 are equal, and each is read as it was written. NaN is no score.
 *
 * Under the token of the key's slot, or by who has the tree alone (tree.h). */
#ifndef SLOTWISE_ENGINE_TYPES_SCORE_ORDER_H
#define SLOTWISE_ENGINE_TYPES_SCORE_ORDER_H

#include "engine/types/score_leaf.h"

/* --- Changing --------------------------------------------------------------------------------- */

/* The member is not in the order. Of more than SCORE_INLINE_MAX bytes it is to lie in a blob: in
 * this one, which is lent, if there is one, else in a new one. */
void score_order_add(struct tree *order, double score, const char *member, size_t length,
                     struct blob *blob);
/* The member is there with this score. */
void score_order_remove(struct tree *order, double score, const char *member, size_t length);
/* The member, which is there with the old score, gets the new one. */
void score_order_move(struct tree *order, double old_score, double new_score, const char *member,
                      size_t length);
/* count elements from a position on, all of which are there. */
void score_order_remove_range(struct tree *order, uint64_t position, uint64_t count);

/* --- Positions -------------------------------------------------------------------------------- */

/* How many elements come before this one, whether or not it is there. */
uint64_t score_order_rank(const struct tree *order, double score, const char *member,
                          size_t length);
/* How many elements have a lower score; with equal: a lower score or this one. */
uint64_t score_order_below(const struct tree *order, double score, bool equal);
/* How many elements come before this member in a set in which all have the same score; with equal:
 * the member itself too. In other sets the result is some position. */
uint64_t score_order_before(const struct tree *order, const char *member, size_t length,
                            bool equal);

/* Where a member of this score is or would be. */
struct score_place {
    const struct tree *order;
    double score;
    const char *member;
    size_t length;
};
/* These are about to be looked for: fetched together, so that the waits for memory overlap. n is at
 * most SCORE_PLACES_MAX. Nothing depends on it. */
#define SCORE_PLACES_MAX 16
void score_order_fetch(const struct score_place *places, unsigned n);

/* --- Walking ---------------------------------------------------------------------------------- */

/* An element. Valid until the tree changes. */
struct score_cursor {
    const struct tree *order;
    struct tree_path path;
    unsigned index;     /* in the leaf */
    const char *member; /* as it lies in the leaf */
};

/* position is below the count. */
void score_cursor_at(struct score_cursor *cursor, const struct tree *order, uint64_t position);
/* false: there is none, and the cursor is as it was. */
bool score_cursor_next(struct score_cursor *cursor);
bool score_cursor_previous(struct score_cursor *cursor);
double score_cursor_get(const struct score_cursor *cursor, struct element *member);

#endif
