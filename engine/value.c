/* See value.h. */
#include "engine/value.h"

#include "engine/epoch.h"
#include "engine/memory.h"
#include "engine/types/string_value.h"

/* Those of collections are above the keyspace, which is above this: hence weak references, as in
 * the table of commands. Nobody has objects of a type that is not linked in. */
extern const struct type list_type __attribute__((weak)), set_type __attribute__((weak)),
    hash_type __attribute__((weak)), zset_type __attribute__((weak));

static const struct type stream = {.name = "stream"}, module = {.name = "module"};

const struct type *const object_types[OBJECT_TYPES] = {
    [OBJECT_STRING] = &string_type, [OBJECT_LIST] = &list_type, [OBJECT_SET] = &set_type,
    [OBJECT_ZSET] = &zset_type,     [OBJECT_HASH] = &hash_type, [OBJECT_STREAM] = &stream,
    [OBJECT_MODULE] = &module,
};

size_t object_total_bytes(const struct object *o) {
    size_t bytes = memory_object_bytes(object_shell_bytes(o));
    if (object_needs_token(o))
        bytes += type_of(o)->body_bytes(o);
    return bytes;
}

struct object *object_duplicate(const struct object *o, const char *key, size_t key_length,
                                int64_t expiry_ms) {
    struct object *copy = object_remake(o, key, key_length, expiry_ms);
    if (object_needs_token(o))
        atomic_init(object_body(copy), (int64_t)(intptr_t)type_of(o)->body_copy(o));
    return copy;
}

void object_free(struct object *o) {
    if (object_needs_token(o))
        type_of(o)->body_free(o);
    object_free_shell(o);
}

static void free_job(void *o) {
    object_free(o);
}

void object_retire_with_body(struct object *o) {
    epoch_retire(o, object_total_bytes(o), free_job);
}
