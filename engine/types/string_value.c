/* See string_value.h. Layout of strings: object.h. */
#include "engine/types/string_value.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/background.h"
#include "engine/memory.h"

#define BACKGROUND_BYTES (256 * 1024) /* larger blobs are freed on the background thread */

static const char *encoding_name(const struct object *o) {
    static const char *const names[] = {
        [ENCODING_INT] = "int", [ENCODING_EMBSTR] = "embstr", [ENCODING_RAW] = "raw"};
    ASSERT(object_encoding(o) <= ENCODING_RAW);
    return names[object_encoding(o)];
}

static void visit_bytes(const struct object *o, element_visit *visit, void *context) {
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length;
    const char *value = object_string(o, buffer, &length);
    visit(context, value, length);
}

/* --- Blobs ------------------------------------------------------------------------------------ */

static size_t body_bytes(const struct object *o) {
    return blob_bytes(object_pointer(o));
}

static void *body_copy(const struct object *o) {
    const struct blob *blob = object_pointer(o);
    struct blob *copy = blob_make(blob->length, blob->length);
    memcpy(copy->data, blob->data, blob->length);
    return copy;
}

static void return_job(void *pointer) {
    struct blob *blob = pointer;
    int64_t bytes = (int64_t)blob_bytes(blob);
    blob_return(blob);
    memory_freeing_add(-bytes);
}

static void body_free(struct object *o) {
    struct blob *blob = object_pointer(o);
    if (blob->capacity < BACKGROUND_BYTES) {
        blob_return(blob);
        return;
    }
    memory_freeing_add((int64_t)blob_bytes(blob));
    background_submit(return_job, blob);
}

struct blob *string_blob_writable(struct object *o, size_t capacity) {
    ASSERT(object_needs_token(o) && object_type(o) == OBJECT_STRING);
    struct blob *blob = object_pointer(o);
    /* Only the token's holder lends, so 1 cannot become 2 here. */
    bool lent = atomic_load_explicit(&blob->references, memory_order_acquire) > 1;
    if (!lent && blob->capacity >= capacity)
        return blob;
    if (capacity < blob->length)
        capacity = blob->length;
    struct blob *fresh;
    if (lent) {
        fresh = blob_make(blob->length, capacity);
        memcpy(fresh->data, blob->data, blob->length);
        blob_return(blob);
    } else {
        fresh = memory_realloc(blob, sizeof *blob + capacity);
        fresh->capacity = capacity;
    }
    atomic_store_explicit(object_body(o), (int64_t)(intptr_t)fresh, memory_order_release);
    return fresh;
}

const struct type string_type = {
    .name = "string",
    .encoding_name = encoding_name,
    .visit = visit_bytes,
    .body_bytes = body_bytes,
    .body_copy = body_copy,
    .body_free = body_free,
};
