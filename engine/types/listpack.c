/* See listpack.h. The first byte of an entry tells how its content is written:
 *
 *   0xxxxxxx           integer, 0 to 127
 *   10xxxxxx           string of up to 63 bytes
 *   110xxxxx +1        integer of 13 bits
 *   1110xxxx +1        string of up to 4095 bytes; the high bits of the length come first
 *   0xf0 +4            string; length little endian
 *   0xf1 to 0xf4       integer of 2, 3, 4 or 8 bytes, little endian
 *   0xff               no entry: the end
 *
 * Encoding, length and content are the entry's body. Behind it comes the body's length in groups of
 * seven bits, the highest group first; all but the first byte have their top bit set, so that it
 * can be read from the end.
 */
#include "engine/types/listpack.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/integer.h"
#include "engine/memory.h"

#define END_MARK       0xff
#define COUNT_UNKNOWN  0xffff
#define LENGTH_MAX     5 /* bytes of the length behind a body */
#define STRING_6BIT    0x80
#define INTEGER_13BIT  0xc0
#define STRING_12BIT   0xe0
#define STRING_32BIT   0xf0
#define INTEGER_16BIT  0xf1
#define INTEGER_24BIT  0xf2
#define INTEGER_32BIT  0xf3
#define INTEGER_64BIT  0xf4
#define LENGTH_6BIT    63
#define LENGTH_12BIT   4095
#define HEADER_COUNT   4 /* where the number of entries lies */
#define BUFFER_INITIAL 256

/* --- Elements --------------------------------------------------------------------------------- */

const char *element_text(const struct element *element, char room[LISTPACK_INTEGER_ROOM],
                         size_t *length) {
    if (!element->data)
        return integer_text(element->integer, room + LISTPACK_INTEGER_ROOM, length);
    *length = element->length;
    return element->data;
}

bool element_equals(const struct element *element, const char *data, size_t length) {
    if (element->data)
        return element->length == length && memcmp(element->data, data, length) == 0;
    int64_t integer;
    return integer_parse(data, length, &integer) && integer == element->integer;
}

struct element element_make(const char *data, size_t length) {
    int64_t integer;
    if (integer_parse(data, length, &integer))
        return (struct element){.length = length, .integer = integer};
    return (struct element){.data = data ? data : "", .length = length};
}

/* --- One entry -------------------------------------------------------------------------------- */

static inline uint32_t load_32(const uint8_t *from) {
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline uint16_t load_16(const uint8_t *from) {
    uint16_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

/* Bytes of the body. 0: no such encoding. */
static inline size_t body_bytes(const uint8_t *entry) {
    uint8_t first = entry[0];
    if (first < STRING_6BIT)
        return 1;
    if (first < INTEGER_13BIT)
        return 1 + (size_t)(first & LENGTH_6BIT);
    if (first < STRING_12BIT)
        return 2;
    if (first < STRING_32BIT)
        return 2 + ((size_t)(first & 15) << 8 | entry[1]);
    switch (first) {
    case STRING_32BIT:
        return 5 + (size_t)load_32(entry + 1);
    case INTEGER_16BIT:
        return 3;
    case INTEGER_24BIT:
        return 4;
    case INTEGER_32BIT:
        return 5;
    case INTEGER_64BIT:
        return 9;
    default:
        return 0;
    }
}

/* Bytes of the length behind a body of so many. Redis's bounds, which are one below what would fit.
 */
static inline size_t length_bytes(size_t body) {
    if (body <= 127)
        return 1;
    return body < 16383 ? 2 : body < 2097151 ? 3 : body < 268435455 ? 4 : 5;
}

/* Writes the length behind the body; returns where the entry ends. */
static uint8_t *length_write(uint8_t *place, size_t body) {
    size_t bytes = length_bytes(body);
    for (size_t i = 0; i < bytes; i++)
        place[i] = (uint8_t)((body >> 7 * (bytes - 1 - i) & 127) | (i ? 128 : 0));
    return place + bytes;
}

size_t listpack_entry_size(const uint8_t *entry) {
    size_t body = body_bytes(entry);
    return body + length_bytes(body);
}

const uint8_t *listpack_entry_before(const uint8_t *end) {
    size_t body = 0;
    unsigned shift = 0;
    const uint8_t *place = end;
    do {
        place--;
        body |= (size_t)(*place & 127) << shift;
        shift += 7;
    } while (*place & 128 && shift < 7 * LENGTH_MAX);
    return place - body;
}

void listpack_get(const uint8_t *entry, struct element *element) {
    uint8_t first = entry[0];
    element->data = NULL;
    element->length = 0;
    element->blob = NULL;
    if (first < STRING_6BIT) {
        element->integer = first;
    } else if (first < INTEGER_13BIT) {
        element->data = (const char *)entry + 1;
        element->length = first & LENGTH_6BIT;
    } else if (first < STRING_12BIT) {
        int32_t bits = (first & 31) << 8 | entry[1];
        element->integer = bits >= 1 << 12 ? bits - (1 << 13) : bits;
    } else if (first < STRING_32BIT) {
        element->data = (const char *)entry + 2;
        element->length = (size_t)(first & 15) << 8 | entry[1];
    } else if (first == STRING_32BIT) {
        element->data = (const char *)entry + 5;
        element->length = load_32(entry + 1);
    } else if (first == INTEGER_16BIT) {
        element->integer = (int16_t)load_16(entry + 1);
    } else if (first == INTEGER_24BIT) {
        element->integer =
            (int32_t)((uint32_t)load_16(entry + 1) << 8 | (uint32_t)entry[3] << 24) >> 8;
    } else if (first == INTEGER_32BIT) {
        element->integer = (int32_t)load_32(entry + 1);
    } else {
        memcpy(&element->integer, entry + 1, sizeof element->integer);
    }
}

/* The body that an element gets. */
static size_t element_body_bytes(const struct element *element) {
    if (element->data)
        return element->length + (element->length <= LENGTH_6BIT    ? 1
                                  : element->length <= LENGTH_12BIT ? 2
                                                                    : 5);
    int64_t n = element->integer;
    if (n >= 0 && n <= 127)
        return 1;
    if (n >= -4096 && n <= 4095)
        return 2;
    if (n >= INT16_MIN && n <= INT16_MAX)
        return 3;
    if (n >= -(1 << 23) && n < 1 << 23)
        return 4;
    return n >= INT32_MIN && n <= INT32_MAX ? 5 : 9;
}

static uint8_t *string_write(uint8_t *place, const char *data, size_t length) {
    if (length <= LENGTH_6BIT) {
        *place++ = (uint8_t)(STRING_6BIT | length);
    } else if (length <= LENGTH_12BIT) {
        *place++ = (uint8_t)(STRING_12BIT | length >> 8);
        *place++ = (uint8_t)length;
    } else {
        uint32_t bytes = (uint32_t)length;
        *place++ = STRING_32BIT;
        memcpy(place, &bytes, sizeof bytes);
        place += sizeof bytes;
    }
    if (length)
        memcpy(place, data, length);
    return place + length;
}

static uint8_t *integer_write(uint8_t *place, int64_t integer, size_t body) {
    static const uint8_t firsts[] = {
        [3] = INTEGER_16BIT, [4] = INTEGER_24BIT, [5] = INTEGER_32BIT, [9] = INTEGER_64BIT};
    uint64_t bits = (uint64_t)integer;
    if (body == 1) {
        place[0] = (uint8_t)bits;
    } else if (body == 2) {
        place[0] = (uint8_t)(INTEGER_13BIT | (bits >> 8 & 31));
        place[1] = (uint8_t)bits;
    } else {
        place[0] = firsts[body];
        memcpy(place + 1, &bits, body - 1);
    }
    return place + body;
}

/* body: element_body_bytes. */
static uint8_t *element_write(uint8_t *place, const struct element *element, size_t body) {
    uint8_t *end = element->data ? string_write(place, element->data, element->length)
                                 : integer_write(place, element->integer, body);
    return length_write(end, body);
}

size_t listpack_element_bytes(const struct element *element) {
    size_t body = element_body_bytes(element);
    return body + length_bytes(body);
}

uint8_t *listpack_element_write(uint8_t *place, const struct element *element) {
    return element_write(place, element, element_body_bytes(element));
}

size_t listpack_entry_bytes(const char *data, size_t length) {
    struct element element = element_make(data, length);
    return listpack_element_bytes(&element);
}

uint8_t *listpack_entry_write(uint8_t *place, const char *data, size_t length) {
    struct element element = element_make(data, length);
    return listpack_element_write(place, &element);
}

/* --- Reading ---------------------------------------------------------------------------------- */

size_t listpack_bytes(const uint8_t *listpack) {
    return load_32(listpack);
}

static inline const uint8_t *end_mark(const uint8_t *listpack) {
    return listpack + listpack_bytes(listpack) - 1;
}

size_t listpack_count(const uint8_t *listpack) {
    size_t count = load_16(listpack + HEADER_COUNT);
    if (count != COUNT_UNKNOWN)
        return count;
    const uint8_t *end = end_mark(listpack), *entry = listpack + LISTPACK_HEADER_BYTES;
    for (count = 0; entry < end; count++)
        entry += listpack_entry_size(entry);
    return count;
}

const uint8_t *listpack_first(const uint8_t *listpack) {
    const uint8_t *entry = listpack + LISTPACK_HEADER_BYTES;
    return *entry == END_MARK ? NULL : entry;
}

const uint8_t *listpack_last(const uint8_t *listpack) {
    return listpack_previous(listpack, end_mark(listpack));
}

const uint8_t *listpack_next(const uint8_t *listpack, const uint8_t *entry) {
    (void)listpack; /* a sound one ends with a mark that begins no entry */
    entry += listpack_entry_size(entry);
    return *entry == END_MARK ? NULL : entry;
}

const uint8_t *listpack_previous(const uint8_t *listpack, const uint8_t *entry) {
    return entry == listpack + LISTPACK_HEADER_BYTES ? NULL : listpack_entry_before(entry);
}

const uint8_t *listpack_at(const uint8_t *listpack, int64_t index) {
    size_t known = load_16(listpack + HEADER_COUNT);
    if (known != COUNT_UNKNOWN) {
        int64_t count = (int64_t)known;
        if (index < -count || index >= count)
            return NULL;
        /* From the nearer end. */
        if (index > count / 2)
            index -= count;
        else if (index < -(count / 2))
            index += count;
    }
    const uint8_t *entry;
    if (index >= 0) {
        entry = listpack_first(listpack);
        while (entry && index-- > 0)
            entry = listpack_next(listpack, entry);
    } else {
        entry = listpack_last(listpack);
        while (entry && ++index < 0)
            entry = listpack_previous(listpack, entry);
    }
    return entry;
}

const uint8_t *listpack_find(const uint8_t *listpack, const uint8_t *entry, const char *data,
                             size_t length, unsigned skip) {
    if (!entry)
        return NULL;
    const uint8_t *end = end_mark(listpack);
    int64_t sought = 0;
    bool is_integer = integer_parse(data, length, &sought);
    while (entry < end) {
        uint8_t first = *entry;
        if (first >= STRING_6BIT && first < INTEGER_13BIT) {
            /* Most entries: names, which differ at their end sooner than at their beginning. */
            size_t bytes = first & LENGTH_6BIT;
            if (bytes == length && (!bytes || (entry[bytes] == (uint8_t)data[bytes - 1] &&
                                               memcmp(entry + 1, data, bytes) == 0)))
                return entry;
            entry += bytes + 2;
        } else {
            struct element element;
            listpack_get(entry, &element);
            if (element.data ? element.length == length && memcmp(element.data, data, length) == 0
                             : is_integer && element.integer == sought)
                return entry;
            entry += listpack_entry_size(entry);
        }
        for (unsigned left = skip; left && entry < end; left--)
            entry += listpack_entry_size(entry);
    }
    return NULL;
}

/* Bytes of the entry if it is whole within so many; else 0. */
static size_t whole_entry_bytes(const uint8_t *entry, size_t room) {
    size_t head = entry[0] == STRING_32BIT ? 5 : 2; /* what body_bytes reads */
    if (room < head)
        return 0;
    size_t body = body_bytes(entry), behind = length_bytes(body);
    if (!body || room < body + behind)
        return 0;
    uint8_t expected[LENGTH_MAX];
    length_write(expected, body);
    return memcmp(entry + body, expected, behind) == 0 ? body + behind : 0;
}

bool listpack_is_sound(const uint8_t *bytes, size_t length, bool deep) {
    if (length < LISTPACK_EMPTY_BYTES || listpack_bytes(bytes) != length ||
        bytes[length - 1] != END_MARK)
        return false;
    if (!deep)
        return true;
    size_t count = 0, at = LISTPACK_HEADER_BYTES;
    for (size_t entry; at < length - 1; at += entry, count++) {
        entry = whole_entry_bytes(bytes + at, length - 1 - at);
        if (!entry)
            return false;
    }
    size_t counted = load_16(bytes + HEADER_COUNT);
    return counted == COUNT_UNKNOWN || counted == count;
}

/* --- Building and changing -------------------------------------------------------------------- */

void listpack_buffer_reserve(struct listpack_buffer *buffer, size_t bytes) {
    if (bytes <= buffer->capacity)
        return;
    size_t capacity = buffer->capacity ? buffer->capacity : BUFFER_INITIAL;
    while (capacity < bytes)
        capacity *= 2;
    buffer->bytes = memory_realloc(buffer->bytes, capacity);
    buffer->capacity = capacity;
}

void listpack_clear(struct listpack_buffer *buffer) {
    static const uint8_t empty[LISTPACK_EMPTY_BYTES] = {
        LISTPACK_EMPTY_BYTES, 0, 0, 0, 0, 0, END_MARK};
    listpack_assign(buffer, empty, sizeof empty);
}

void listpack_assign(struct listpack_buffer *buffer, const uint8_t *bytes, size_t length) {
    listpack_buffer_reserve(buffer, length);
    memcpy(buffer->bytes, bytes, length);
}

void listpack_buffer_free(struct listpack_buffer *buffer) {
    memory_free(buffer->bytes);
    *buffer = (struct listpack_buffer){0};
}

/* old bytes at this offset become room for fresh ones, and the header says so. added: entries more
 * or less. */
static uint8_t *splice(struct listpack_buffer *buffer, size_t at, size_t old, size_t fresh,
                       int64_t added) {
    size_t before = listpack_bytes(buffer->bytes), after = before - old + fresh;
    ASSERT(at >= LISTPACK_HEADER_BYTES && at + old < before && after <= LISTPACK_BYTES_MAX);
    listpack_buffer_reserve(buffer, after);
    uint8_t *place = buffer->bytes + at;
    if (fresh != old)
        memmove(place + fresh, place + old, before - at - old);
    uint32_t total = (uint32_t)after;
    memcpy(buffer->bytes, &total, sizeof total);
    size_t count = load_16(buffer->bytes + HEADER_COUNT);
    if (count != COUNT_UNKNOWN) {
        count += (size_t)added;
        uint16_t stored = (uint16_t)(count < COUNT_UNKNOWN ? count : COUNT_UNKNOWN);
        memcpy(buffer->bytes + HEADER_COUNT, &stored, sizeof stored);
    }
    return place;
}

static size_t put(struct listpack_buffer *buffer, size_t at, size_t old,
                  const struct element *element) {
    size_t body = element_body_bytes(element);
    uint8_t *place = splice(buffer, at, old, body + length_bytes(body), old ? 0 : 1);
    return (size_t)(element_write(place, element, body) - buffer->bytes);
}

size_t listpack_insert(struct listpack_buffer *buffer, size_t at, const char *data, size_t length) {
    struct element element = element_make(data, length);
    return put(buffer, at, 0, &element);
}

size_t listpack_insert_integer(struct listpack_buffer *buffer, size_t at, int64_t integer) {
    struct element element = {.integer = integer};
    return put(buffer, at, 0, &element);
}

void listpack_append(struct listpack_buffer *buffer, const char *data, size_t length) {
    listpack_insert(buffer, listpack_bytes(buffer->bytes) - 1, data, length);
}

void listpack_append_integer(struct listpack_buffer *buffer, int64_t integer) {
    listpack_insert_integer(buffer, listpack_bytes(buffer->bytes) - 1, integer);
}

void listpack_prepend(struct listpack_buffer *buffer, const char *data, size_t length) {
    listpack_insert(buffer, LISTPACK_HEADER_BYTES, data, length);
}

void listpack_delete(struct listpack_buffer *buffer, size_t at, size_t count) {
    const uint8_t *begin = buffer->bytes + at, *end = begin;
    int64_t deleted = 0;
    for (; count && *end != END_MARK; count--, deleted++)
        end += listpack_entry_size(end);
    if (deleted)
        splice(buffer, at, (size_t)(end - begin), 0, -deleted);
}

size_t listpack_replace(struct listpack_buffer *buffer, size_t at, const char *data,
                        size_t length) {
    struct element element = element_make(data, length);
    return put(buffer, at, listpack_entry_size(buffer->bytes + at), &element);
}
