/* Hash: fields with values. Packed: a listpack of fields and values in the order in which they came
 * (ENCODING_LISTPACK). Large: a tree of members (members.h), ENCODING_LISTPACK or
 * ENCODING_HASHTABLE by Redis's limits, or their variants for hashes whose fields have times to
 * live. Such times are kept in trees beside the fields (field_times.h). Functions here know no
 * clock: a field whose time is over is there until it is removed (hash_field_expiry.h).
 *
 * Under the token of the key's slot; packed ones (no OBJECT_POINTER) may be read under RCU alone.
 * visit functions of bodies also by who has the body lent. Changing functions take an open edit or
 * draft (collection.h) of this type. */
#ifndef SLOTWISE_ENGINE_TYPES_HASH_H
#define SLOTWISE_ENGINE_TYPES_HASH_H

#include "engine/types/collection.h"
#include "engine/types/type.h"

extern const struct type hash_type;

uint64_t hash_count(const struct object *object);
bool hash_get(const struct object *object, const char *field, size_t length, struct element *value);
/* The type's order. */
void hash_visit(const struct object *object, collection_visit *visit, void *context);
void hash_visit_body(const struct collection *body, collection_visit *visit, void *context);
/* HSCAN: everything behind the cursor, about count fields; the next cursor, 0 at the end. What is
 * not a hash table by its encoding: all at once, as in Redis. Cursors are below 2^53. */
uint64_t hash_scan(const struct object *object, uint64_t cursor, uint64_t count,
                   collection_visit *visit, void *context);
/* The field at a position below the count, in the type's order: uniform if the position is. */
void hash_at(const struct object *object, uint64_t position, struct element *field,
             struct element *value);

/* So many fields are about to be put, some of which may be there, the longest part of so many
 * bytes: as Redis does, what would be too large by these numbers becomes a hash table before. A put
 * must follow. */
void hash_expect(struct collection_edit *edit, uint64_t fields, size_t longest);
/* true: the field is new. It has no time to live afterwards. */
bool hash_put(struct collection_edit *edit, const char *field, size_t field_length,
              const char *value, size_t value_length);
/* The same; the time to live of a field that is there stays. */
bool hash_put_keeping_time(struct collection_edit *edit, const char *field, size_t field_length,
                           const char *value, size_t value_length);
bool hash_edit_get(const struct collection_edit *edit, const char *field, size_t length,
                   struct element *value);
/* false: there was none. */
bool hash_remove(struct collection_edit *edit, const char *field, size_t length);

/* --- Times to live of fields, unix time in ms, 0 to FIELD_TIME_MAX (field_times.h) ------------ */

/* The field is there. */
void hash_set_time(struct collection_edit *edit, const char *field, size_t length, int64_t time_ms);
/* false: it had none. */
bool hash_clear_time(struct collection_edit *edit, const char *field, size_t length);
/* false: it has none. */
bool hash_edit_time(const struct collection_edit *edit, const char *field, size_t length,
                    int64_t *time_ms);

#endif
