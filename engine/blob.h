/* Blob: the bytes of a string larger than OBJECT_EMBED_MAX_BYTES, counted, so that replies send
 * them from where they are. Changed in place under the token of the key's slot unless it is lent
 * (types/string_value.h). */
#ifndef SLOTWISE_ENGINE_BLOB_H
#define SLOTWISE_ENGINE_BLOB_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct blob {
    _Atomic uint32_t references; /* 1 for the object, 1 for each pending output */
    uint32_t reserved;
    size_t length;
    size_t capacity;
    char data[];
};

/* Of one reference; the content is not initialised. */
struct blob *blob_make(size_t length, size_t capacity);
struct blob *blob_lend(struct blob *blob); /* under the token; any thread may return it */
void blob_return(struct blob *blob);       /* the last one frees it */
/* What it takes in memory. */
size_t blob_bytes(const struct blob *blob);

#endif
