/* Type: what the engine asks of a value without knowing what it is. Each type of values is one
 * struct type, in a file of its own in types/, below the keyspace: it knows no key space, no log
 * and no RESP. A type that has no functions yet is known by its name only; there are no objects of
 * it.
 *
 * Functions take a value that does not change meanwhile: under the token of the key's slot, in an
 * exclusive section, or of an object that was never published. */
#ifndef SLOTWISE_ENGINE_TYPES_TYPE_H
#define SLOTWISE_ENGINE_TYPES_TYPE_H

#include "engine/object.h"

/* A part of a value; the bytes live as long as the value does not change. */
typedef void element_visit(void *context, const char *data, size_t length);

struct type {
    const char *name; /* as TYPE shows it */
    /* As OBJECT ENCODING shows it. */
    const char *(*encoding_name)(const struct object *object);
    /* All that the value consists of, in its order; of a string the string. */
    void (*visit)(const struct object *object, element_visit *visit, void *context);

    /* Of a value that lies behind a pointer (OBJECT_POINTER). */

    /* Memory of what the pointer leads to. Constant time. */
    size_t (*body_bytes)(const struct object *object);
    /* A deep copy of it. */
    void *(*body_copy)(const struct object *object);
    /* Frees it; what takes long is left to the background thread. */
    void (*body_free)(struct object *object);
    /* When the first part of it expires, unix time in ms. Only of object_has_field_times. */
    int64_t (*next_expiry)(const struct object *object);
};

extern const struct type *const object_types[OBJECT_TYPES]; /* by enum object_type */
static inline const struct type *type_of(const struct object *o) {
    return object_types[object_type(o)];
}

#endif
