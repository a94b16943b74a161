/* Sorted set. Packed: a listpack of members and scores in order (ENCODING_LISTPACK). Large: two
 * trees, of members with their scores (members.h) and of members by score (score_order.h);
 * ENCODING_LISTPACK or ENCODING_SKIPLIST by Redis's limits.
 *
 * Elements have positions, from 0, ascending by score and then by member. All ranges (by score, by
 * member, by rank) are ranges of positions.
 *
 * As in Redis a set that is ENCODING_LISTPACK knows no -0: it becomes 0 when it is put there.
 *
 * Under the token of the key's slot; packed ones (no OBJECT_POINTER) may be read under RCU alone.
 * visit functions of bodies also by who has the body lent. Changing functions take an open edit or
 * draft (collection.h) of this type. */
#ifndef SLOTWISE_ENGINE_TYPES_ZSET_H
#define SLOTWISE_ENGINE_TYPES_ZSET_H

#include "engine/types/collection.h"
#include "engine/types/type.h"

extern const struct type zset_type;

/* --- Reading ---------------------------------------------------------------------------------- */

uint64_t zset_count(const struct object *object);
bool zset_score(const struct object *object, const char *member, size_t length, double *score);
/* Where the member is; false: it is not there. */
bool zset_rank(const struct object *object, const char *member, size_t length, uint64_t *position,
               double *score);
/* The number of elements whose score is below this one; with equal: below or equal. */
uint64_t zset_below(const struct object *object, double score, bool equal);
/* The number of elements before this member, where all have the same score; with equal: the member
 * itself too. */
uint64_t zset_before(const struct object *object, const char *member, size_t length, bool equal);
/* The element at a position below the count. */
void zset_at(const struct object *object, uint64_t position, struct element *member, double *score);

/* count elements from a position on, all of which are there; backwards: downwards from there. */
void zset_visit_range(const struct object *object, uint64_t position, uint64_t count,
                      bool backwards, collection_visit *visit, void *context);
/* Ascending by score, then by member. */
void zset_visit(const struct object *object, collection_visit *visit, void *context);
void zset_visit_body(const struct collection *body, collection_visit *visit, void *context);
uint64_t zset_scan(const struct object *object, uint64_t cursor, uint64_t count,
                   collection_visit *visit, void *context); /* as hash_scan, in no order */

/* ASSERTs that both trees, or the packed bytes, are right and have the same elements. */
void zset_check(const struct object *object);

/* --- Changing --------------------------------------------------------------------------------- */

/* A new set, or one to which so many elements are about to be added, the first one of this length:
 * the encoding that Redis chooses before it adds them. */
enum object_encoding zset_encoding_for(uint64_t elements, size_t first_length);
void zset_expect(struct collection_edit *edit, uint64_t elements);

/* Adds it or changes its score; true: it is new. The score is not NaN. */
bool zset_put(struct collection_edit *edit, const char *member, size_t length, double score);
/* The same for who has looked (zset_edit_score). old: its score; NULL: it is not there. */
void zset_set(struct collection_edit *edit, const char *member, size_t length, const double *old,
              double score);
bool zset_remove(struct collection_edit *edit, const char *member, size_t length);
/* count elements from a position on, all of which are there. */
void zset_remove_range(struct collection_edit *edit, uint64_t position, uint64_t count);
bool zset_edit_score(const struct collection_edit *edit, const char *member, size_t length,
                     double *score);
/* As it is now. */
void zset_edit_visit(const struct collection_edit *edit, collection_visit *visit, void *context);

#endif
