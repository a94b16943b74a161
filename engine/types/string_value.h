/* String values: what the engine needs to know of them (type.h), and their blobs. */
#ifndef SLOTWISE_ENGINE_TYPES_STRING_VALUE_H
#define SLOTWISE_ENGINE_TYPES_STRING_VALUE_H

#include "engine/types/type.h"

extern const struct type string_type;

/* The object's blob, not lent to anybody and with room for capacity bytes (copied or grown if need
 * be, and the object's body updated); its length is unchanged. Under the token; who calls it has
 * called change_before and will call change_after. */
struct blob *string_blob_writable(struct object *o, size_t capacity);

#endif
