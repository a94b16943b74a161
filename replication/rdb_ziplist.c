/* See rdb_ziplist.h. The first byte of a ziplist's encoding:
 *
 *   00xxxxxx           string of up to 63 bytes
 *   01xxxxxx +1        string; length of 14 bits
 *   10xxxxxx +4        string; length of 32 bits
 *   0xc0 0xd0 0xe0     integer of 2, 4 or 8 bytes
 *   0xf0               of 3 bytes
 *   0xf1 to 0xfd       0 to 12
 *   0xfe               of 1 byte
 */
#include "replication/rdb_ziplist.h"

#include <string.h>

#define END_MARK       0xff
#define LONG_LENGTH    0xfe /* four bytes with the length follow */
#define ZIPLIST_HEADER 10
#define COUNT_UNKNOWN  0xffff
#define STRING_MASK    0xc0
#define STRING_6BIT    0x00
#define STRING_14BIT   0x40
#define INTEGERS       0xc0 /* from here on */
#define INTEGER_16BIT  0xc0
#define INTEGER_32BIT  0xd0
#define INTEGER_64BIT  0xe0
#define INTEGER_24BIT  0xf0
#define INTEGER_SMALL  0xf1 /* 0; the next ones up to 0xfd */
#define INTEGER_8BIT   0xfe

static uint32_t load_32(const uint8_t *from) {
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static uint32_t load_32_big_endian(const uint8_t *from) {
    return __builtin_bswap32(load_32(from));
}

static uint16_t load_16(const uint8_t *from) {
    uint16_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

/* --- Ziplists --------------------------------------------------------------------------------- */

/* The integer of this encoding, with its bytes from there on. Returns how many they are, or
 * SIZE_MAX: they are not all there, or there is no such encoding. */
static size_t integer_read(uint8_t encoding, const uint8_t *from, size_t room, int64_t *integer) {
    size_t width = encoding == INTEGER_8BIT    ? 1
                   : encoding == INTEGER_16BIT ? 2
                   : encoding == INTEGER_24BIT ? 3
                   : encoding == INTEGER_32BIT ? 4
                   : encoding == INTEGER_64BIT ? 8
                                               : 0;
    if (width == 0) {
        *integer = encoding - INTEGER_SMALL;
        return encoding > INTEGER_24BIT && encoding < INTEGER_8BIT ? 0 : SIZE_MAX;
    }
    if (room < width)
        return SIZE_MAX;
    uint64_t bits = 0;
    memcpy((uint8_t *)&bits + sizeof bits - width, from, width);
    *integer = (int64_t)bits >> 8 * (sizeof bits - width);
    return width;
}

/* The element behind the length of the entry before. Returns its bytes, or SIZE_MAX. */
static size_t element_read(const uint8_t *from, size_t room, struct element *element) {
    *element = (struct element){0};
    if (room < 1)
        return SIZE_MAX;
    uint8_t first = from[0];
    if (first >= INTEGERS) {
        size_t width = integer_read(first, from + 1, room - 1, &element->integer);
        return width == SIZE_MAX ? SIZE_MAX : 1 + width;
    }
    size_t head = (first & STRING_MASK) == STRING_6BIT    ? 1
                  : (first & STRING_MASK) == STRING_14BIT ? 2
                                                          : 5;
    if (room < head)
        return SIZE_MAX;
    size_t length = head == 1   ? first
                    : head == 2 ? (size_t)(first & 0x3f) << 8 | from[1]
                                : load_32_big_endian(from + 1);
    if (room - head < length)
        return SIZE_MAX;
    element->data = (const char *)from + head;
    element->length = length;
    return head + length;
}

bool rdb_ziplist_visit(const uint8_t *bytes, size_t length, rdb_element_visit *visit,
                       void *context) {
    if (length < ZIPLIST_HEADER + 1 || load_32(bytes) != length || bytes[length - 1] != END_MARK)
        return false;
    size_t end = length - 1, at = ZIPLIST_HEADER, last = 0, before = 0, count = 0;
    while (at < end && bytes[at] != END_MARK) {
        size_t head = bytes[at] < LONG_LENGTH ? 1 : 5;
        if (end - at < head || (head == 1 ? bytes[at] : load_32(bytes + at + 1)) != before)
            return false;
        struct element element;
        size_t size = element_read(bytes + at + head, end - at - head, &element);
        if (size == SIZE_MAX || !visit(context, &element))
            return false;
        last = at;
        before = head + size;
        at += before;
        count++;
    }
    size_t counted = load_16(bytes + 8), tail = load_32(bytes + 4);
    return at == end && (count > 0 ? tail == last : tail <= end) &&
           (counted == COUNT_UNKNOWN || counted == count);
}

/* --- Zipmaps ---------------------------------------------------------------------------------- */

/* A length; moves on behind it. false: it is not all there. */
static bool length_read(const uint8_t *bytes, size_t end, size_t *at, size_t *length) {
    size_t head = bytes[*at] < LONG_LENGTH ? 1 : 5;
    if (end - *at < head)
        return false;
    *length = head == 1 ? bytes[*at] : load_32(bytes + *at + 1);
    *at += head;
    return true;
}

/* A name and its value; moves on behind them. */
static bool pair_read(const uint8_t *bytes, size_t end, size_t *at, struct element pair[2]) {
    for (unsigned i = 0; i < 2; i++) {
        size_t length, unused = 0;
        if (*at >= end || !length_read(bytes, end, at, &length))
            return false;
        if (i == 1) {
            if (*at == end)
                return false;
            unused = bytes[(*at)++];
        }
        if (end - *at < length + unused)
            return false;
        pair[i] = (struct element){.data = (const char *)bytes + *at, .length = length};
        *at += length + unused;
    }
    return true;
}

bool rdb_zipmap_visit(const uint8_t *bytes, size_t length, rdb_element_visit *visit,
                      void *context) {
    if (length < 2 || bytes[length - 1] != END_MARK)
        return false;
    size_t end = length - 1, at = 1, count = 0;
    while (at < end && bytes[at] != END_MARK) {
        struct element pair[2];
        if (!pair_read(bytes, end, &at, pair) || !visit(context, &pair[0]) ||
            !visit(context, &pair[1]))
            return false;
        count++;
    }
    return at == end && count > 0 && (bytes[0] == LONG_LENGTH || bytes[0] == count);
}
