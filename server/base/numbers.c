/* Numbers as text; see numbers.h for the rules. The shortest form of a double is in
 * engine/double_text.c. */
#include "server/base/numbers.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/double_text.h"
#include "engine/memory.h"

/* ---- parsing ---- */

/* Digits without a leading zero, at least one of them. */
static bool parse_magnitude(const char *text, size_t length, uint64_t *value) {
    uint64_t sum = 0;

    if (length == 0 || length > 20 || text[0] < '1' || text[0] > '9')
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        if (__builtin_mul_overflow(sum, (uint64_t)10, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(text[i] - '0'), &sum))
            return false;
    }
    *value = sum;
    return true;
}

bool number_parse_int64(const char *text, size_t length, int64_t *value) {
    uint64_t magnitude;

    if (length == 1 && text[0] == '0') {
        *value = 0;
        return true;
    }
    if (length > 0 && text[0] == '-') {
        if (!parse_magnitude(text + 1, length - 1, &magnitude) ||
            magnitude > (uint64_t)INT64_MAX + 1)
            return false;
        *value = (int64_t)(0 - magnitude);
        return true;
    }
    if (!parse_magnitude(text, length, &magnitude) || magnitude > INT64_MAX)
        return false;
    *value = (int64_t)magnitude;
    return true;
}

bool number_parse_uint64(const char *text, size_t length, uint64_t *value) {
    if (length == 1 && text[0] == '0') {
        *value = 0;
        return true;
    }
    return parse_magnitude(text, length, value);
}

bool number_parse_double(const char *text, size_t length, double *value) {
    char on_stack[256];
    char *copy = length < sizeof on_stack ? on_stack : memory_alloc(length + 1);
    char *end;

    /* strtod needs an end; the text comes from a network buffer and has none. */
    memcpy(copy, text, length);
    copy[length] = '\0';
    errno = 0;
    double parsed = strtod(copy, &end);
    bool valid = length > 0 && !isspace((unsigned char)copy[0]) && end == copy + length &&
                 !isnan(parsed) &&
                 !(errno == ERANGE && (isinf(parsed) || fpclassify(parsed) == FP_ZERO));
    if (copy != on_stack)
        memory_free(copy);
    if (valid)
        *value = parsed;
    return valid;
}

bool number_parse_long_double(const char *text, size_t length, long double *value) {
    char copy[NUMBER_LONG_DOUBLE_SIZE];
    char *end;

    if (length == 0 || length >= sizeof copy)
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    errno = 0;
    long double parsed = strtold(copy, &end);
    if (isspace((unsigned char)copy[0]) || end != copy + length || isnan(parsed) ||
        (errno == ERANGE && (isinf(parsed) || fpclassify(parsed) == FP_ZERO)))
        return false;
    *value = parsed;
    return true;
}

bool number_parse_memory(const char *text, uint64_t *bytes) {
    static const struct {
        const char *suffix;
        uint64_t factor;
    } units[] = {
        {"", 1},        {"b", 1},        {"k", 1000},       {"kb", 1 << 10},
        {"m", 1000000}, {"mb", 1 << 20}, {"g", 1000000000}, {"gb", 1 << 30},
    };
    char digits[128];
    size_t length = strspn(text, "0123456789");

    /* As in Redis: no digit at all is 0, and strtoull saturates beyond 64 bits. */
    if (length >= sizeof digits)
        return false;
    memcpy(digits, text, length);
    digits[length] = '\0';
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcasecmp(text + length, units[i].suffix) == 0) {
            *bytes = strtoull(digits, NULL, 10) * units[i].factor;
            return true;
        }
    }
    return false;
}

bool number_parse_percent(const char *text, size_t length, int64_t *percent) {
    int64_t parsed;

    if (length < 2 || text[length - 1] != '%' || !number_parse_int64(text, length - 1, &parsed) ||
        parsed < 0)
        return false;
    *percent = parsed;
    return true;
}

/* ---- writing ---- */

unsigned number_digits(uint64_t value) {
    static const uint64_t power[20] = {
        1ULL,
        10ULL,
        100ULL,
        1000ULL,
        10000ULL,
        100000ULL,
        1000000ULL,
        10000000ULL,
        100000000ULL,
        1000000000ULL,
        10000000000ULL,
        100000000000ULL,
        1000000000000ULL,
        10000000000000ULL,
        100000000000000ULL,
        1000000000000000ULL,
        10000000000000000ULL,
        100000000000000000ULL,
        1000000000000000000ULL,
        10000000000000000000ULL,
    };
    /* log10(2) is just above 1233/4096: the guess is right or one too low. */
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    unsigned guess = bits * 1233 >> 12;
    return guess + (guess < 20 && value >= power[guess] ? 1 : 0) + (value == 0 ? 1 : 0);
}

size_t number_write_uint64(char *out, uint64_t value) {
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233"
        "34353637383940414243444546474849505152535455565758596061626364656667"
        "6869707172737475767778798081828384858687888990919293949596979899";
    size_t length = number_digits(value);
    char *at = out + length;

    *at = '\0';
    while (value >= 100) {
        at -= 2;
        memcpy(at, pairs + value % 100 * 2, 2);
        value /= 100;
    }
    if (value >= 10)
        memcpy(out, pairs + value * 2, 2);
    else
        out[0] = (char)('0' + value);
    return length;
}

size_t number_write_int64(char *out, int64_t value) {
    if (value >= 0)
        return number_write_uint64(out, (uint64_t)value);
    out[0] = '-';
    return 1 + number_write_uint64(out + 1, 0 - (uint64_t)value);
}

size_t number_write_double(char *out, double value) {
    _Static_assert(NUMBER_DOUBLE_SIZE >= DOUBLE_TEXT_SIZE, "room for what is written");
    /* Whole numbers in half the range of int64_t are exact and cheap. */
    if (value != 0 && fabs(value) <= (double)(INT64_MAX / 2) && value == (double)(int64_t)value)
        return number_write_int64(out, (int64_t)value);
    return double_text_write(out, value);
}

size_t number_trim_zeros(char *text, size_t length) {
    if (memchr(text, '.', length) != NULL) {
        while (text[length - 1] == '0')
            length--;
        if (text[length - 1] == '.')
            length--;
    }
    text[length] = '\0';
    return length;
}

size_t number_write_long_double(char *out, long double value) {
    if (isnan(value)) {
        memcpy(out, "nan", 4);
        return 3;
    }
    if (isinf(value)) {
        strcpy(out, value > 0 ? "inf" : "-inf");
        return strlen(out);
    }
    /* 17 decimals and not more: rounding there hides the binary fraction of 0.1 and its kind. */
    int written = snprintf(out, NUMBER_LONG_DOUBLE_SIZE, "%.17Lf", value);
    size_t length = number_trim_zeros(out, (size_t)written);
    if (length == 2 && memcmp(out, "-0", 2) == 0) {
        memcpy(out, "0", 2);
        length = 1;
    }
    return length;
}
