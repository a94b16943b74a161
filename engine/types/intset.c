/* See intset.h. */
#include "engine/types/intset.h"

#include <string.h>

#include "engine/assert.h"

/* The narrowest width that takes it. */
static size_t width_for(int64_t integer) {
    if (integer >= INT16_MIN && integer <= INT16_MAX)
        return sizeof(int16_t);
    return integer >= INT32_MIN && integer <= INT32_MAX ? sizeof(int32_t) : sizeof(int64_t);
}

static inline size_t width_of(const uint8_t *intset) {
    uint32_t width;
    memcpy(&width, intset, sizeof width);
    return width;
}

static inline int64_t load(const uint8_t *intset, size_t width, size_t index) {
    const uint8_t *from = intset + INTSET_HEADER_BYTES + index * width;
    if (width == sizeof(int16_t)) {
        int16_t narrow;
        memcpy(&narrow, from, sizeof narrow);
        return narrow;
    }
    if (width == sizeof(int32_t)) {
        int32_t middle;
        memcpy(&middle, from, sizeof middle);
        return middle;
    }
    int64_t wide;
    memcpy(&wide, from, sizeof wide);
    return wide;
}

static void store(uint8_t *intset, size_t width, size_t index, int64_t integer) {
    memcpy(intset + INTSET_HEADER_BYTES + index * width, &integer, width);
}

static void header_write(uint8_t *intset, size_t width, size_t count) {
    uint32_t header[2] = {(uint32_t)width, (uint32_t)count};
    memcpy(intset, header, sizeof header);
}

/* --- Reading ---------------------------------------------------------------------------------- */

size_t intset_count(const uint8_t *intset) {
    uint32_t count;
    memcpy(&count, intset + sizeof count, sizeof count);
    return count;
}

size_t intset_bytes(const uint8_t *intset) {
    return INTSET_HEADER_BYTES + intset_count(intset) * width_of(intset);
}

int64_t intset_at(const uint8_t *intset, size_t index) {
    ASSERT(index < intset_count(intset));
    return load(intset, width_of(intset), index);
}

bool intset_find(const uint8_t *intset, int64_t integer, size_t *index) {
    size_t width = width_of(intset), low = 0, high = intset_count(intset);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int64_t there = load(intset, width, middle);
        if (there == integer) {
            *index = middle;
            return true;
        }
        if (there < integer)
            low = middle + 1;
        else
            high = middle;
    }
    *index = low;
    return false;
}

bool intset_is_sound(const uint8_t *bytes, size_t length, bool deep) {
    if (length < INTSET_HEADER_BYTES)
        return false;
    size_t width = width_of(bytes), count = intset_count(bytes);
    if (width != sizeof(int16_t) && width != sizeof(int32_t) && width != sizeof(int64_t))
        return false;
    if (!count || length != INTSET_HEADER_BYTES + count * width)
        return false;
    if (!deep)
        return true;
    for (size_t i = 1; i < count; i++)
        if (load(bytes, width, i - 1) >= load(bytes, width, i))
            return false;
    return true;
}

/* --- Changing --------------------------------------------------------------------------------- */

void intset_clear(struct listpack_buffer *buffer) {
    listpack_buffer_reserve(buffer, INTSET_HEADER_BYTES);
    header_write(buffer->bytes, sizeof(int16_t), 0);
}

bool intset_add(struct listpack_buffer *buffer, int64_t integer) {
    size_t old_width = width_of(buffer->bytes), count = intset_count(buffer->bytes);
    size_t width = width_for(integer), index;
    if (width > old_width) {
        /* It is larger or smaller than all that is there. */
        index = integer < 0 ? 0 : count;
    } else {
        width = old_width;
        if (intset_find(buffer->bytes, integer, &index))
            return false;
    }
    listpack_buffer_reserve(buffer, INTSET_HEADER_BYTES + (count + 1) * width);
    uint8_t *intset = buffer->bytes;
    if (width > old_width) {
        /* From the end: what is written lies behind all that is still to be read. */
        size_t shift = integer < 0;
        for (size_t i = count; i-- > 0;)
            store(intset, width, i + shift, load(intset, old_width, i));
    } else {
        uint8_t *place = intset + INTSET_HEADER_BYTES + index * width;
        memmove(place + width, place, (count - index) * width);
    }
    store(intset, width, index, integer);
    header_write(intset, width, count + 1);
    return true;
}

bool intset_remove(struct listpack_buffer *buffer, int64_t integer) {
    size_t index, width = width_of(buffer->bytes), count = intset_count(buffer->bytes);
    if (!intset_find(buffer->bytes, integer, &index))
        return false;
    uint8_t *place = buffer->bytes + INTSET_HEADER_BYTES + index * width;
    memmove(place, place + width, (count - index - 1) * width);
    header_write(buffer->bytes, width, count - 1);
    return true;
}
