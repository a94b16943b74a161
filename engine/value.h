/* Value: what is done to a whole object, whatever its type: its memory, its copy, its end. Calls on
 * types/; nothing above needs to know which type it has before it. */
#ifndef SLOTWISE_ENGINE_VALUE_H
#define SLOTWISE_ENGINE_VALUE_H

#include "engine/types/type.h"

/* MEMORY USAGE, eviction. */
size_t object_total_bytes(const struct object *o);
/* A deep copy of the value under another key (COPY). */
struct object *object_duplicate(const struct object *o, const char *key, size_t key_length,
                                int64_t expiry_ms);

/* Never published. */
void object_free(struct object *o);

void object_retire_with_body(struct object *o);
/* Of an object that was published and now is not: freed after the grace periods. */
static inline void object_retire(struct object *o) {
    if (__builtin_expect(object_flags(o) & OBJECT_POINTER, 0))
        object_retire_with_body(o);
    else
        object_retire_shell(o);
}

#endif
