/* Set. Packed: an intset or a listpack. Large: a tree of members (members.h); any of
 * ENCODING_INTSET, ENCODING_LISTPACK and ENCODING_HASHTABLE by Redis's limits.
 *
 * Under the token of the key's slot; packed ones (no OBJECT_POINTER) may be read under RCU alone.
 * visit functions of bodies also by who has the body lent. Changing functions take an open edit or
 * draft (collection.h) of this type. */
#ifndef SLOTWISE_ENGINE_TYPES_SET_H
#define SLOTWISE_ENGINE_TYPES_SET_H

#include "engine/types/collection.h"
#include "engine/types/type.h"

extern const struct type set_type;

uint64_t set_count(const struct object *object);
bool set_has(const struct object *object, const char *member, size_t length);
bool set_has_element(const struct object *object, const struct element *member);
void set_visit(const struct object *object, collection_visit *visit, void *context);
void set_visit_body(const struct collection *body, collection_visit *visit, void *context);
uint64_t set_scan(const struct object *object, uint64_t cursor, uint64_t count,
                  collection_visit *visit, void *context); /* as hash_scan */
void set_at(const struct object *object, uint64_t position, struct element *member);

/* The encoding that a new set gets whose first member is this (Redis: intset for an integer). */
enum object_encoding set_encoding_for(const char *member, size_t length);
/* The same of one that is about to get so many, some of which may be equal. */
enum object_encoding set_encoding_for_many(const char *member, size_t length, uint64_t count);
/* The set would be too large for its encoding if it got so many at once. */
bool set_expects_hashtable(const struct collection_edit *edit, uint64_t count);
/* A change must follow. */
void set_become_hashtable(struct collection_edit *edit);

bool set_add(struct collection_edit *edit, const char *member, size_t length);    /* true: new */
bool set_remove(struct collection_edit *edit, const char *member, size_t length); /* true: was */
bool set_edit_has(const struct collection_edit *edit, const char *member, size_t length);
void set_edit_at(const struct collection_edit *edit, uint64_t position, struct element *member);
void set_edit_visit(const struct collection_edit *edit, collection_visit *visit, void *context);
bool set_add_element(struct collection_edit *edit, const struct element *member);
/* It may be an element of this very set. */
bool set_remove_element(struct collection_edit *edit, const struct element *member);

#endif
