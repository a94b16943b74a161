/* List. Packed: a listpack (ENCODING_LISTPACK). Large: a tree of deque nodes of about 4 KB
 * (list_order.h); ENCODING_LISTPACK or ENCODING_QUICKLIST by Redis's limits.
 *
 * Under the token of the key's slot; packed ones (no OBJECT_POINTER) may be read under RCU alone.
 * visit functions of bodies also by who has the body lent. Changing functions take an open edit or
 * draft (collection.h) of this type. */
#ifndef SLOTWISE_ENGINE_TYPES_LIST_H
#define SLOTWISE_ENGINE_TYPES_LIST_H

#include "engine/types/collection.h"
#include "engine/types/type.h"

extern const struct type list_type;

uint64_t list_count(const struct object *object);
/* From the position on, count elements, those that there are; backwards: towards the head. */
void list_visit_range(const struct object *object, uint64_t position, uint64_t count,
                      bool backwards, collection_visit *visit, void *context);
void list_visit(const struct object *object, collection_visit *visit, void *context);
void list_visit_body(const struct collection *body, collection_visit *visit, void *context);
void list_at(const struct object *object, uint64_t position, struct element *element);

void list_push(struct collection_edit *edit, bool head, const char *data, size_t length);
/* The element at the end, then without it; what it points to is valid until the next change. */
void list_edit_at(const struct collection_edit *edit, uint64_t position, struct element *element);
void list_remove_range(struct collection_edit *edit, uint64_t position, uint64_t count);
void list_insert(struct collection_edit *edit, uint64_t position, const char *data, size_t length);
void list_replace(struct collection_edit *edit, uint64_t position, const char *data, size_t length);

#endif
