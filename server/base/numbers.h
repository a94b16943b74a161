/* Numbers as text, with the exact rules of Redis 7.2: what is accepted decides between a value and
 * an error reply, and what is written is seen byte for byte by clients. Pure functions, any thread.
 *
 * Parsers return false and leave *value alone when the text is no number in range. */
#ifndef SLOTWISE_SERVER_NUMBERS_H
#define SLOTWISE_SERVER_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMBER_INT64_SIZE       21   /* "-9223372036854775808" and its NUL */
#define NUMBER_DOUBLE_SIZE      32   /* any double from number_write_double and its NUL */
#define NUMBER_LONG_DOUBLE_SIZE 5120 /* the largest long double with 17 decimals and its NUL */

/* Strict decimal: optional '-', no spaces, no '+', no leading zeros, no "-0". So the number written
 * back gives the same text, which is what lets a string be stored as an integer. */
bool number_parse_int64(const char *text, size_t length, int64_t *value);
bool number_parse_uint64(const char *text, size_t length, uint64_t *value);

/* As strtod and strtold accept ("1e3", "inf", "0x1p3" too), but no leading space, no NaN, nothing
 * behind the number, no overflow and no underflow to zero. Long doubles of 5120 bytes and more are
 * refused, as in Redis. */
bool number_parse_double(const char *text, size_t length, double *value);
bool number_parse_long_double(const char *text, size_t length, long double *value);

/* "100", "1k" (1000), "1kb" (1024), m, mb, g, gb, b; case does not matter; no sign, no fraction. As
 * in Redis no digits are a 0 and a product beyond 64 bits wraps around. text ends with a NUL. */
bool number_parse_memory(const char *text, uint64_t *bytes);
/* "10%" gives 10; not negative. */
bool number_parse_percent(const char *text, size_t length, int64_t *percent);

/* Writers put a NUL behind the text and return its length without it. out has room for
 * NUMBER_*_SIZE bytes of the type in question. */
unsigned number_digits(uint64_t value);
size_t number_write_int64(char *out, int64_t value);
size_t number_write_uint64(char *out, uint64_t value);

/* A double in RESP3, in sorted set scores and wherever Redis prints one: integers plainly, all else
 * with the fewest digits that read back as the same double; "inf", "-inf", "nan", "-0". */
size_t number_write_double(char *out, double value);

/* INCRBYFLOAT and its kind: 17 decimals, trailing zeros trimmed, never an exponent. */
size_t number_write_long_double(char *out, long double value);

/* Cuts trailing zeros behind a decimal point, and the point if nothing is left behind it. */
size_t number_trim_zeros(char *text, size_t length);

#endif
