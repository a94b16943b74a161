/* The RESP parser on arbitrary bytes.
 *
 * The first byte of the input chooses limits and the size of pieces, the rest is what a client
 * sends. Checked: no byte outside the input is touched (each call gets a copy of exactly its size),
 * arguments lie within the input or the scratch buffer, parsing goes forward, the hint of missing
 * bytes never skips what would have told something, and the resumable parser agrees with the one
 * without state. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "server/resp/resp_parse.h"

#define ARGUMENTS 24

static struct parse_limits limits;

static bool is_within(const struct argument *argument, const char *data, size_t length) {
    return argument->data >= data && argument->data <= data + length &&
           argument->length <= (size_t)(data + length - argument->data);
}

/* What the resumable parser says to the same bytes, handed over in pieces. */
static void check_large(const char *data, size_t length, size_t piece,
                        const struct parse_output *expected) {
    struct parse_large large = {0};
    struct parse_output out;
    size_t n = 0;
    do {
        n = n + piece < length ? n + piece : length;
        char *copy = malloc(n);
        memcpy(copy, data, n);
        resp_parse_large(&large, copy, n, &limits, &out);
        for (int i = 0; out.result == PARSE_COMMAND && i < out.argc; i++)
            ASSERT(is_within(&large.argv[i], copy, n));
        free(copy);
    } while (out.result == PARSE_INCOMPLETE && n < length);
    ASSERT(large.capacity == 0 || (size_t)large.capacity <= 512 + length);
    /* A line that is endless for now may have ended when all bytes were there at once. */
    if (length <= RESP_LINE_MAX) {
        enum parse_result same =
            expected->result == PARSE_ARGUMENTS ? PARSE_COMMAND : expected->result;
        ASSERT(out.result == same);
        if (same == PARSE_ERROR)
            ASSERT(strcmp(out.error, expected->error) == 0);
        if (expected->result == PARSE_COMMAND)
            ASSERT(out.argc == expected->argc && out.consumed == expected->consumed);
    }
    resp_parse_large_release(&large);
}

/* Fewer bytes than the hint asks for must tell nothing new. */
static void check_hint(const char *data, size_t length, size_t start) {
    struct parse_output out;
    struct argument argv[ARGUMENTS];
    char *scratch = malloc(length + 1);
    resp_parse(data, start, &limits, argv, ARGUMENTS, scratch, &out);
    if (out.result == PARSE_INCOMPLETE) {
        size_t enough = out.missing_hint <= length - start ? start + out.missing_hint : length + 1;
        ASSERT(out.missing_hint > 0);
        for (size_t n = start; n < enough && n <= length; n += 1 + (enough - start) / 8) {
            resp_parse(data, n, &limits, argv, ARGUMENTS, scratch, &out);
            ASSERT(out.result == PARSE_INCOMPLETE);
        }
    }
    free(scratch);
}

/* Parses one command; returns the bytes it took, 0 when there is no further one. */
static size_t parse_one(const char *data, size_t length, size_t piece) {
    struct argument argv[ARGUMENTS];
    struct parse_output out;
    char *copy = malloc(length), *scratch = malloc(length);
    memcpy(copy, data, length);
    resp_parse(copy, length, &limits, argv, ARGUMENTS, scratch, &out);
    if (out.result == PARSE_COMMAND) {
        ASSERT(out.consumed > 0 && out.consumed <= length);
        ASSERT(out.argc >= 0 && out.argc <= ARGUMENTS);
        for (int i = 0; i < out.argc; i++)
            ASSERT(is_within(&argv[i], copy, out.consumed) || is_within(&argv[i], scratch, length));
    } else {
        ASSERT(out.consumed == 0);
    }
    if (out.result == PARSE_ARGUMENTS)
        ASSERT(out.argc > ARGUMENTS && (size_t)out.argc <= length);
    if (*data == '*')
        check_large(data, length, piece, &out);
    check_hint(data, length, length / 2);
    size_t consumed = out.result == PARSE_COMMAND ? out.consumed : 0;
    free(copy);
    free(scratch);
    return consumed;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 2)
        return 0;
    const char *data = (const char *)bytes + 1;
    size_t length = size - 1, consumed;
    limits.authenticated = bytes[0] & 1;
    limits.bulk_length_max = bytes[0] & 2 ? 512ll * 1024 * 1024 : 20;
    size_t piece = 1 + (size_t)(bytes[0] >> 2);
    while (length > 0 && (consumed = parse_one(data, length, piece)) > 0) {
        data += consumed;
        length -= consumed;
    }
    return 0;
}
