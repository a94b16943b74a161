/* Sorted set. Packed: a listpack of members and scores in order (ENCODING_LISTPACK). Large: two
 * trees, of members with their scores (members.h) and of members by score (score_order.h);
 * ENCODING_LISTPACK or ENCODING_SKIPLIST by Redis's limits.
 *
 * Under the token of the key's slot; packed ones (no OBJECT_POINTER) may be read under RCU alone.
 * visit functions of bodies also by who has the body lent. Changing functions take an open edit or
 * draft (collection.h) of this type. */
#ifndef SLOTWISE_ENGINE_TYPES_ZSET_H
#define SLOTWISE_ENGINE_TYPES_ZSET_H

#include "engine/types/collection.h"
#include "engine/types/type.h"

extern const struct type zset_type;

uint64_t zset_count(const struct object *object);
bool zset_score(const struct object *object, const char *member, size_t length, double *score);
/* Ascending by score, then by member. */
void zset_visit(const struct object *object, collection_visit *visit, void *context);
void zset_visit_body(const struct collection *body, collection_visit *visit, void *context);
uint64_t zset_scan(const struct object *object, uint64_t cursor, uint64_t count,
                   collection_visit *visit, void *context); /* as hash_scan, in no order */

/* Adds it or changes its score; true: it is new. The score is not NaN. */
bool zset_put(struct collection_edit *edit, const char *member, size_t length, double score);
bool zset_remove(struct collection_edit *edit, const char *member, size_t length);
bool zset_edit_score(const struct collection_edit *edit, const char *member, size_t length,
                     double *score);

#endif
