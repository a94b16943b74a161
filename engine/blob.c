/* See blob.h. Any thread; the count alone is shared. */
#include "engine/blob.h"

#include "engine/memory.h"

struct blob *blob_make(size_t length, size_t capacity) {
    struct blob *blob = memory_alloc(sizeof *blob + capacity);
    atomic_init(&blob->references, 1);
    blob->reserved = 0;
    blob->length = length;
    blob->capacity = capacity;
    return blob;
}

struct blob *blob_lend(struct blob *blob) {
    atomic_fetch_add_explicit(&blob->references, 1, memory_order_relaxed);
    return blob;
}

void blob_return(struct blob *blob) {
    /* release: our use is over before the last holder frees; acquire: the last one sees all that.
     */
    if (atomic_fetch_sub_explicit(&blob->references, 1, memory_order_acq_rel) == 1)
        memory_free_sized(blob, sizeof *blob + blob->capacity);
}

size_t blob_bytes(const struct blob *blob) {
    return memory_class_bytes(sizeof *blob + blob->capacity);
}
