/* Integers as text, by Redis's strict rule: optional '-', no spaces, no '+', no leading zeros, no
 * "-0". So the number written back gives the same text, which is what lets a string be stored as an
 * integer. Pure functions, any thread. */
#ifndef SLOTWISE_ENGINE_INTEGER_H
#define SLOTWISE_ENGINE_INTEGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INTEGER_TEXT_MAX 20 /* "-9223372036854775808" */

/* false: no integer, and *value means nothing. */
static inline bool integer_parse(const char *text, size_t length, int64_t *value) {
    if (length == 0 || length > INTEGER_TEXT_MAX)
        return false;
    size_t i = 0;
    bool negative = text[0] == '-';
    if (negative && ++i == length)
        return false;
    if (text[i] == '0') {
        *value = 0;
        return length == 1;
    }
    uint64_t magnitude = 0;
    for (; i < length; i++) {
        unsigned digit = (unsigned)(text[i] - '0');
        if (digit > 9 || __builtin_mul_overflow(magnitude, 10, &magnitude) ||
            __builtin_add_overflow(magnitude, digit, &magnitude))
            return false;
    }
    if (magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

/* The text, written in front of end, where there is room for INTEGER_TEXT_MAX; no terminator. */
static inline char *integer_text(int64_t value, char *end, size_t *length) {
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    char *text = end;
    do {
        *--text = (char)('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude);
    if (value < 0)
        *--text = '-';
    *length = (size_t)(end - text);
    return text;
}

#endif
