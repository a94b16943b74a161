/* See string.h. Layout of strings: object.h. */
#include "engine/types/string.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/object_private.h"
#include "engine/types/string_value.h"

/* A blob that grows gets as much again, at most this much: appending is linear, waste bounded. */
#define BLOB_GROWTH_BYTES_MAX ((size_t)1024 * 1024)

/* --- Changing in place ------------------------------------------------------------------------ */

void string_set_integer(struct change *change, unsigned database, const struct key *key,
                        struct object *object, int64_t value, enum change_event event) {
    ASSERT(object_type(object) == OBJECT_STRING && object_encoding(object) == ENCODING_INT);
    change_before(change, database, key, object);
    object_set_integer(object, value);
    change_after(change, database, key, event);
}

/* A blob that nobody else sees, with room for length bytes. */
static struct blob *blob_for_length(struct object *object, size_t length) {
    const struct blob *blob = object_pointer(object);
    size_t capacity = length;
    if (capacity > blob->capacity)
        capacity += length < BLOB_GROWTH_BYTES_MAX ? length : BLOB_GROWTH_BYTES_MAX;
    return string_blob_writable(object, capacity);
}

/* content has room for the new length; its first old_length bytes are the old value. */
static void write_at(char *content, size_t old_length, size_t offset, const char *data,
                     size_t length) {
    if (offset > old_length)
        memset(content + old_length, 0, offset - old_length);
    memcpy(content + offset, data, length);
}

size_t string_write_range(struct change *change, unsigned database, const struct key *key,
                          struct object *object, size_t offset, const char *data, size_t length,
                          enum change_event event) {
    ASSERT(object_type(object) == OBJECT_STRING);
    char buffer[OBJECT_INTEGER_BUFFER], *content;
    size_t old_length, end = offset + length;
    const char *text = object_string(object, buffer, &old_length);
    size_t new_length = end > old_length ? end : old_length;
    if (object_needs_token(object)) {
        change_before(change, database, key, object);
        struct blob *blob = blob_for_length(object, new_length);
        write_at(blob->data, old_length, offset, data, length);
        blob->length = new_length;
        change_after(change, database, key, event);
        return new_length;
    }
    struct object *fresh = object_make_buffer(key->data, key->length, new_length,
                                              object_expiry(object), false, &content);
    memcpy(content, text, old_length);
    write_at(content, old_length, offset, data, length);
    keyspace_replace(change, database, key, object, fresh, event);
    return new_length;
}
