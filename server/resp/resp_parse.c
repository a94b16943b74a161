/* RESP request parser; see resp_parse.h. Invariants: reads no byte at or behind data + length; argv
 * entries of resp_parse_large are offsets until the command is complete. */
#include "server/resp/resp_parse.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"

#define LINE_BYTES_MIN           2 /* "\r\n", which is an error */
#define UNAUTHENTICATED_ARGC_MAX 10
#define UNAUTHENTICATED_BULK_MAX 16384
#define LARGE_CAPACITY_FIRST     256

/* --- Lines ------------------------------------------------------------------------------------ */

/* Strict decimal as Redis reads counts: no '+', no leading zeros, no "-0", within 64 bits. */
static bool parse_count(const char *text, size_t length, int64_t *value) {
    bool negative = length > 0 && text[0] == '-';
    size_t i = negative;
    if (length == i || length > 20)
        return false;
    if (text[i] == '0') {
        *value = 0;
        return length == 1;
    }
    uint64_t number = 0;
    for (; i < length; i++) {
        unsigned digit = (unsigned)(unsigned char)text[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, digit, &number))
            return false;
    }
    if (number > (uint64_t)INT64_MAX + negative)
        return false;
    *value = negative ? (int64_t)(0 - number) : (int64_t)number;
    return true;
}

/* The byte (CR or LF) that ends the line at p, or NULL: it has not arrived, is too far away, or a
 * NUL comes before it. */
static const char *find_line_end(const char *p, const char *end, char byte) {
    size_t length = (size_t)(end - p);
    if (length > RESP_LINE_END_MAX)
        length = RESP_LINE_END_MAX;
    const char *line_end = memchr(p, byte, length);
    if (line_end != NULL && memchr(p, '\0', (size_t)(line_end - p)) != NULL)
        return NULL;
    return line_end;
}

/* As find_line_end for a CR, with at least one more byte behind it (which may be anything);
 * *too_long tells whether waiting is hopeless. */
static const char *find_cr(const char *p, const char *end, bool *too_long) {
    const char *line_end = find_line_end(p, end, '\r');
    *too_long = line_end == NULL && end - p > RESP_LINE_MAX;
    return line_end != NULL && end - line_end >= 2 ? line_end : NULL;
}

static void fail(struct parse_output *output, const char *error) {
    output->result = PARSE_ERROR;
    output->error = error;
}

static void need_more(struct parse_output *output, int argc, size_t missing) {
    output->result = PARSE_INCOMPLETE;
    output->argc = argc;
    output->missing_hint = missing > 0 ? missing : 1;
}

/* --- Multibulk: the pieces both ways of parsing share ----------------------------------------- */

/* "*N\r\n" at data. True: *argc is 1 or more and *next behind the line. False: output tells. */
static bool read_header(const char *data, const char *end, const struct parse_limits *limits,
                        int *argc, const char **next, struct parse_output *output) {
    int64_t n;
    bool too_long;
    const char *line_end = find_cr(data, end, &too_long);
    if (line_end == NULL) {
        if (too_long)
            fail(output, "ERR Protocol error: too big mbulk count string");
        else
            need_more(output, 0, 1);
        return false;
    }
    if (!parse_count(data + 1, (size_t)(line_end - data - 1), &n) || n > INT_MAX) {
        fail(output, "ERR Protocol error: invalid multibulk length");
        return false;
    }
    if (n > UNAUTHENTICATED_ARGC_MAX && !limits->authenticated) {
        fail(output, "ERR Protocol error: unauthenticated multibulk length");
        return false;
    }
    *next = line_end + 2;
    if (n <= 0) {
        output->result = PARSE_COMMAND;
        output->consumed = (size_t)(*next - data);
        return false;
    }
    *argc = (int)n;
    return true;
}

/* "$N\r\n" at *p, which moves behind it. False: output tells. done arguments are complete. */
static bool read_bulk_line(const char **p, const char *end, const struct parse_limits *limits,
                           int done, int64_t *bulk_length, struct parse_output *output) {
    int64_t n;
    bool too_long;
    /* The end of the line comes first, then what it begins with: Redis waits for it even if the '$'
     * is wrong. */
    const char *line_end = find_cr(*p, end, &too_long);
    if (line_end == NULL) {
        if (too_long)
            fail(output, "ERR Protocol error: too big bulk count string");
        else
            need_more(output, done, end - *p < LINE_BYTES_MIN ? LINE_BYTES_MIN - (end - *p) : 1);
        return false;
    }
    if (**p != '$') {
        snprintf(output->error_buffer, sizeof(output->error_buffer),
                 "ERR Protocol error: expected '$', got '%c'", **p);
        fail(output, output->error_buffer);
        return false;
    }
    if (!parse_count(*p + 1, (size_t)(line_end - *p - 1), &n) || n < 0 ||
        n > limits->bulk_length_max) {
        fail(output, "ERR Protocol error: invalid bulk length");
        return false;
    }
    if (n > UNAUTHENTICATED_BULK_MAX && !limits->authenticated) {
        fail(output, "ERR Protocol error: unauthenticated bulk length");
        return false;
    }
    *bulk_length = n;
    *p = line_end + 2;
    return true;
}

/* Bytes that must still come when a bulk of this length begins at p; then the line of the next, if
 * there is one, tells something new. */
static size_t missing_of_bulk(const char *p, const char *end, int64_t bulk_length, bool last) {
    size_t needed = (size_t)bulk_length + 2 + (last ? 0 : LINE_BYTES_MIN);
    return needed - (size_t)(end - p);
}

/* A bulk length of one to three digits, the common case; at least six bytes are there. Returns the
 * bytes of "$N\r\n", or 0: not that simple. */
static inline size_t short_bulk_length(const char *p, int64_t *bulk_length) {
    unsigned a = (unsigned)(uint8_t)p[1] - '0', b = (unsigned)(uint8_t)p[2] - '0';
    if (p[0] != '$' || a > 9)
        return 0;
    if (p[2] == '\r') {
        *bulk_length = a;
        return 4;
    }
    if (a == 0 || b > 9)
        return 0;
    if (p[3] == '\r') {
        *bulk_length = a * 10 + b;
        return 5;
    }
    unsigned c = (unsigned)(uint8_t)p[3] - '0';
    if (c > 9 || p[4] != '\r')
        return 0;
    *bulk_length = a * 100 + b * 10 + c;
    return 6;
}

/* read_bulk_line, the common case inline. */
static inline bool next_bulk(const char **p, const char *end, const struct parse_limits *limits,
                             int done, int64_t *bulk_length, struct parse_output *output) {
    if (LIKELY(end - *p >= 6)) {
        size_t line = short_bulk_length(*p, bulk_length);
        if (LIKELY(line != 0 && *bulk_length <= limits->bulk_length_max)) {
            *p += line;
            return true;
        }
    }
    return read_bulk_line(p, end, limits, done, bulk_length, output);
}

/* --- Multibulk without state ------------------------------------------------------------------ */

static void parse_multibulk(const char *data, const char *end, const struct parse_limits *limits,
                            struct argument *argv, int argv_capacity, struct parse_output *output) {
    const char *p;
    int argc;
    if (LIKELY(end - data >= 4 && data[2] == '\r' && data[1] >= '1' && data[1] <= '9')) {
        argc = data[1] - '0';
        p = data + 4;
    } else if (!read_header(data, end, limits, &argc, &p, output)) {
        return;
    }
    for (int i = 0; i < argc; i++) {
        int64_t bulk_length;
        if (!next_bulk(&p, end, limits, i, &bulk_length, output))
            return;
        if (UNLIKELY(end - p < bulk_length + 2)) {
            need_more(output, i, missing_of_bulk(p, end, bulk_length, i + 1 == argc));
            return;
        }
        if (LIKELY(i < argv_capacity)) {
            argv[i].data = p;
            argv[i].length = (size_t)bulk_length;
        }
        p += bulk_length + 2;
    }
    output->argc = argc;
    if (UNLIKELY(argc > argv_capacity)) {
        output->result = PARSE_ARGUMENTS;
        return;
    }
    output->result = PARSE_COMMAND;
    output->consumed = (size_t)(p - data);
}

/* --- Inline commands -------------------------------------------------------------------------- */

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that the escape at p (a backslash) stands for; *next is behind it. p + 1 is within the
 * line. */
static char unescape(const char *p, const char *end, const char **next) {
    if (p[1] == 'x' && end - p >= 4 && hex_value(p[2]) >= 0 && hex_value(p[3]) >= 0) {
        *next = p + 4;
        return (char)(hex_value(p[2]) * 16 + hex_value(p[3]));
    }
    *next = p + 2;
    switch (p[1]) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return p[1];
    }
}

/* The quoted text that begins behind its quote at p, unescaped to *out. Returns behind the closing
 * quote, or NULL: it is not closed, or not followed by a space or the end. */
static const char *read_quoted(const char *p, const char *end, char quote, char **out) {
    while (p < end && *p != quote) {
        if (*p == '\\' && p + 1 < end && (quote == '"' || p[1] == '\'')) {
            if (quote == '"') {
                *(*out)++ = unescape(p, end, &p);
            } else {
                *(*out)++ = '\'';
                p += 2;
            }
        } else {
            *(*out)++ = *p++;
        }
    }
    if (p >= end || (p + 1 < end && !is_space(p[1])))
        return NULL;
    return p + 1;
}

/* One word at p (no space), unescaped to *out; a word ends with its first closing quote. NULL:
 * quotes do not balance. */
static const char *read_word(const char *p, const char *end, char **out) {
    for (; p < end && *p != ' ' && *p != '\n' && *p != '\r' && *p != '\t'; p++) {
        if (*p == '"' || *p == '\'')
            return read_quoted(p + 1, end, *p, out);
        *(*out)++ = *p;
    }
    return p;
}

/* Splits a line without quotes: arguments point into it. Returns how many there are; stores those
 * that fit. */
static int split_plain(const char *p, const char *end, struct argument *argv, int argv_capacity) {
    int argc = 0;
    for (;;) {
        while (p < end && is_space(*p))
            p++;
        if (p == end)
            return argc;
        const char *word = p;
        while (p < end && *p != ' ' && *p != '\n' && *p != '\r' && *p != '\t')
            p++;
        if (argc < argv_capacity)
            argv[argc] = (struct argument){word, (size_t)(p - word)};
        argc++;
    }
}

/* The same with quotes; -1: they do not balance. */
static int split_quoted(const char *p, const char *end, struct argument *argv, int argv_capacity,
                        char *scratch) {
    int argc = 0;
    for (;;) {
        while (p < end && is_space(*p))
            p++;
        if (p == end)
            return argc;
        char *word = scratch;
        p = read_word(p, end, &scratch);
        if (p == NULL)
            return -1;
        if (argc < argv_capacity)
            argv[argc] = (struct argument){word, (size_t)(scratch - word)};
        argc++;
    }
}

static void parse_inline(const char *data, const char *end, struct argument *argv,
                         int argv_capacity, char *scratch, struct parse_output *output) {
    output->was_inline = true;
    const char *newline = find_line_end(data, end, '\n');
    if (newline == NULL) {
        if (end - data > RESP_LINE_MAX)
            fail(output, "ERR Protocol error: too big inline request");
        else
            need_more(output, 0, 1);
        return;
    }
    const char *line_end = newline > data && newline[-1] == '\r' ? newline - 1 : newline;
    size_t line_length = (size_t)(line_end - data);
    bool quotes = memchr(data, '"', line_length) != NULL || memchr(data, '\'', line_length) != NULL;
    if (quotes && scratch == NULL) {
        output->result = PARSE_ARGUMENTS;
        output->argc = -1;
        return;
    }
    int argc = quotes ? split_quoted(data, line_end, argv, argv_capacity, scratch)
                      : split_plain(data, line_end, argv, argv_capacity);
    if (argc < 0) {
        fail(output, "ERR Protocol error: unbalanced quotes in request");
        return;
    }
    output->argc = argc;
    if (argc > argv_capacity) {
        output->result = PARSE_ARGUMENTS;
        return;
    }
    output->result = PARSE_COMMAND;
    output->consumed = (size_t)(newline + 1 - data);
}

void resp_parse(const char *data, size_t length, const struct parse_limits *limits,
                struct argument *argv, int argv_capacity, char *scratch,
                struct parse_output *output) {
    output->consumed = 0;
    output->argc = 0;
    output->error = NULL;
    output->missing_hint = 0;
    output->was_inline = false;
    if (UNLIKELY(length == 0))
        need_more(output, 0, 1);
    else if (LIKELY(data[0] == '*'))
        parse_multibulk(data, data + length, limits, argv, argv_capacity, output);
    else
        parse_inline(data, data + length, argv, argv_capacity, scratch, output);
}

/* --- Large multibulk commands ----------------------------------------------------------------- */

static void grow(struct parse_large *large) {
    int wanted = large->capacity < LARGE_CAPACITY_FIRST / 2 ? LARGE_CAPACITY_FIRST
                 : large->capacity < INT_MAX / 2            ? large->capacity * 2
                                                            : INT_MAX;
    if (wanted > large->argc_announced)
        wanted = large->argc_announced;
    large->argv = memory_realloc(large->argv, (size_t)wanted * sizeof(*large->argv));
    large->capacity = wanted;
}

/* Reads arguments as far as they have arrived. True: all are there. */
static bool read_arguments(struct parse_large *large, const char *data, const char *end,
                           const struct parse_limits *limits, struct parse_output *output) {
    const char *p = data + large->offset;
    while (large->argc < large->argc_announced) {
        if (large->bulk_length < 0) {
            int64_t bulk_length;
            if (!next_bulk(&p, end, limits, large->argc, &bulk_length, output))
                return false;
            large->bulk_length = bulk_length;
            large->offset = (size_t)(p - data);
        }
        if (end - p < large->bulk_length + 2) {
            need_more(output, large->argc,
                      missing_of_bulk(p, end, large->bulk_length,
                                      large->argc + 1 == large->argc_announced));
            return false;
        }
        if (large->argc == large->capacity)
            grow(large);
        large->argv[large->argc++] =
            (struct argument){(const char *)(uintptr_t)(p - data), (size_t)large->bulk_length};
        p += large->bulk_length + 2;
        large->offset = (size_t)(p - data);
        large->bulk_length = -1;
    }
    return true;
}

void resp_parse_large(struct parse_large *large, const char *data, size_t length,
                      const struct parse_limits *limits, struct parse_output *output) {
    const char *end = data + length;
    output->consumed = 0;
    output->argc = 0;
    output->error = NULL;
    output->missing_hint = 0;
    output->was_inline = false;
    if (length == 0) {
        need_more(output, 0, 1);
        return;
    }
    ASSERT(data[0] == '*' && large->offset <= length);
    if (large->argc_announced == 0) {
        const char *next;
        int argc;
        if (!read_header(data, end, limits, &argc, &next, output))
            return;
        large->argc_announced = argc;
        large->argc = 0;
        large->offset = (size_t)(next - data);
        large->bulk_length = -1;
    }
    if (!read_arguments(large, data, end, limits, output))
        return;
    for (int i = 0; i < large->argc; i++)
        large->argv[i].data = data + (uintptr_t)large->argv[i].data;
    output->result = PARSE_COMMAND;
    output->argc = large->argc;
    output->consumed = large->offset;
    large->argc_announced = 0;
    large->offset = 0;
}

void resp_parse_large_release(struct parse_large *large) {
    memory_free(large->argv);
    *large = (struct parse_large){0};
}
