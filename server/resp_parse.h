/* RESP request parser: multibulk and inline commands out of a byte range, without copying.
 *
 * Pure function over (bytes, state): no allocation except the argument vector given by the caller. Errors are
 * Redis's texts. Fuzzed (tests/fuzz/fuzz_resp.c). */
#ifndef SLOTWISE_SERVER_RESP_PARSE_H
#define SLOTWISE_SERVER_RESP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct argument {
    const char *data;
    size_t length;
};

enum parse_result {
    PARSE_COMMAND,    /* one command; argc may be 0 (empty line, "*0"): skip it */
    PARSE_INCOMPLETE, /* more bytes are needed; *consumed is 0 or skips what is complete */
    PARSE_ERROR,      /* protocol error: reply error, close after reply */
    PARSE_ARGUMENTS,  /* argc is more than argv_capacity: call again with needed room */
};

struct parse_limits {
    int64_t bulk_length_max;      /* proto-max-bulk-len */
    bool authenticated;           /* else: at most 10 arguments of 16384 bytes, Redis's texts */
};

struct parse_output {
    enum parse_result result;
    size_t consumed;      /* bytes of this command */
    int argc;             /* PARSE_ARGUMENTS: needed */
    const char *error;    /* PARSE_ERROR: whole text after '-', e.g. "ERR Protocol error: ..." */
    char error_buffer[64];
    /* PARSE_INCOMPLETE: at least this many more bytes are needed before parsing again is of use (0: unknown);
     * for a big bulk the whole rest of it, so that the buffer can be sized and a slow large command is not parsed
     * from its start for every packet. */
    size_t missing_hint;
    bool was_inline;
};

/* Inline arguments with quotes need unescaping: unescaped text is written to scratch (at least length bytes,
 * may be NULL: then PARSE_INCOMPLETE is never returned for it but PARSE_ARGUMENTS with argc -1 asks for it). */
void resp_parse(const char *data, size_t length, const struct parse_limits *limits, struct argument *argv,
                int argv_capacity, char *scratch, struct parse_output *output);

#endif
