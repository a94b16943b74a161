/* List. Packed: a listpack (ENCODING_LISTPACK, or ENCODING_QUICKLIST where a limit is that small).
 * Large: a tree of deque leaves of about 4 KB (list_order.h). The name is ENCODING_LISTPACK or
 * ENCODING_QUICKLIST by Redis's limits (list-max-listpack-size), as list_grows and list_shrank find
 * it; the form goes by LIST_PACKED_MAX_BYTES.
 *
 * Under the token of the key's slot; packed ones (no OBJECT_POINTER) may be read under RCU alone.
 * visit functions of bodies also by who has the body lent. Changing functions take an open edit or
 * draft (collection.h) of this type. */
#ifndef SLOTWISE_ENGINE_TYPES_LIST_H
#define SLOTWISE_ENGINE_TYPES_LIST_H

#include "engine/types/collection.h"
#include "engine/types/type.h"

/* A larger listpack is made a body by the next change: a change of a packed one copies it. */
#define LIST_PACKED_MAX_BYTES 1024

extern const struct type list_type;

uint64_t list_count(const struct object *object);
/* From the position on, count elements, those that there are; backwards: towards the head. */
void list_visit_range(const struct object *object, uint64_t position, uint64_t count,
                      bool backwards, collection_visit *visit, void *context);
void list_visit(const struct object *object, collection_visit *visit, void *context);
void list_visit_body(const struct collection *body, collection_visit *visit, void *context);
/* A position below the count. */
void list_at(const struct object *object, uint64_t position, struct element *element);

/* As collection_edit_begin; the edit knows its count. */
void list_edit_begin(struct collection_edit *edit, struct change *change, unsigned database,
                     const struct key *key, struct object *object);
/* Positions are below the count. What the element points to is valid until the next change. */
void list_edit_at(const struct collection_edit *edit, uint64_t position, struct element *element);
void list_push(struct collection_edit *edit, bool head, const char *data, size_t length);
/* In front of the element at this position. */
void list_insert(struct collection_edit *edit, uint64_t position, const char *data, size_t length);
void list_replace(struct collection_edit *edit, uint64_t position, const char *data, size_t length);
/* All of them are there. */
void list_remove_range(struct collection_edit *edit, uint64_t position, uint64_t count);
/* Of those that equal at most limit, from the head or, backwards, from the tail. Returns how many
 * there were. */
uint64_t list_remove_equal(struct collection_edit *edit, const char *data, size_t length,
                           uint64_t limit, bool backwards);

/* The name, as the points of conversion are in Redis: before elements of so many bytes are added,
 * after some were removed, and of a list that was made at once (a draft). */
void list_grows(struct collection_edit *edit, size_t bytes, uint64_t count);
void list_shrank(struct collection_edit *edit);
void list_was_made(struct collection_edit *edit);

#endif
