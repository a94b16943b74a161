/* See listpack.h. */
#include "engine/types/listpack.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"

/* --- Building and changing -------------------------------------------------------------------- */

static void buffer_room(struct listpack_buffer *buffer, size_t bytes) {
    if (bytes <= buffer->capacity)
        return;
    size_t capacity = buffer->capacity ? buffer->capacity : 256;
    while (capacity < bytes)
        capacity *= 2;
    buffer->bytes = memory_realloc(buffer->bytes, capacity);
    buffer->capacity = capacity;
}

void listpack_clear(struct listpack_buffer *buffer) {
    static const uint8_t empty[LISTPACK_EMPTY_BYTES] = {LISTPACK_EMPTY_BYTES, 0, 0, 0, 0, 0, 0xff};
    listpack_assign(buffer, empty, sizeof empty);
}

void listpack_assign(struct listpack_buffer *buffer, const uint8_t *bytes, size_t length) {
    buffer_room(buffer, length);
    memcpy(buffer->bytes, bytes, length);
}

void listpack_buffer_free(struct listpack_buffer *buffer) {
    memory_free(buffer->bytes);
    *buffer = (struct listpack_buffer){0};
}
