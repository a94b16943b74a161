/* RESP request parser: multibulk and inline commands out of a byte range, without copying.
 *
 * Two ways to read a command:
 *
 * - resp_parse has no state: it reads the command that starts at data, whole or not at all. A
 * command that has not arrived whole is read again from its start, which is cheap as long as it has
 * few arguments: how many bytes an argument has costs nothing.
 * - resp_parse_large keeps where it is, for commands with many arguments: MSET of a million keys in
 * 16 KiB packets is read once, not once per packet. It owns its argument vector, which grows with
 * what has arrived and not with what was announced. Switch to it when PARSE_INCOMPLETE tells
 * RESP_LARGE_ARGUMENTS or more complete arguments.
 *
 * Errors are Redis's texts under Redis's conditions, the odd ones too: a line ends at CR, the byte
 * behind it is not looked at; a NUL in a line that has not ended makes the line endless (it runs
 * into the 64 KiB limit); the two bytes behind a bulk are skipped unseen. Fuzzed
 * (tests/fuzz/fuzz_resp.c). No globals, any thread. */
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
    PARSE_COMMAND,    /* one command; argc may be 0 (empty line, "*0", "*-1"): skip it */
    PARSE_INCOMPLETE, /* more bytes are needed; consumed is 0 */
    PARSE_ERROR,      /* protocol error: reply error, close after reply */
    PARSE_ARGUMENTS,  /* resp_parse only: a whole command is there, but it has argc arguments, more
                         than  argv_capacity: call again with that room. argc is -1 when the scratch
                         buffer is missing */
};

struct parse_limits {
    int64_t bulk_length_max; /* proto-max-bulk-len */
    /* No password needed, or given. Else at most 10 arguments of 16384 bytes. Because AUTH changes
     * it, parse no further ahead than one command while it is false. */
    bool authenticated;
};

struct parse_output {
    enum parse_result result;
    size_t consumed; /* PARSE_COMMAND: bytes of this command; else 0 */
    int argc; /* PARSE_COMMAND; PARSE_ARGUMENTS: needed; PARSE_INCOMPLETE: complete ones so far */
    const char
        *error; /* PARSE_ERROR: whole text after '-', e.g. "ERR Protocol error: ..."; may point into
                   error_buffer, so it lives as long as this struct stays where it is */
    char error_buffer[64];
    /* PARSE_INCOMPLETE: at least this many more bytes must arrive before parsing again can tell
     * anything new, an error included (at least 1). It covers the rest of a big bulk, so that the
     * buffer can be sized once and a slow large command is not looked at for every packet. What was
     * announced need not come: do not allocate far ahead of what is there. */
    size_t missing_hint;
    bool was_inline;
};

/* A line (an inline command, a count) that has not ended after RESP_LINE_MAX bytes is an error:
 * Redis's PROTO_INLINE_MAX_SIZE. Redis looks after each read, so that a longer line passes if its
 * end came with the same read; here as well, up to RESP_LINE_END_MAX. */
#define RESP_LINE_MAX        (64 * 1024)
#define RESP_LINE_END_MAX    (RESP_LINE_MAX + 16 * 1024)
#define RESP_LARGE_ARGUMENTS 64

/* Reads the command at data. argv points into data, or into scratch for inline arguments with
 * quotes (scratch has at least length bytes and must live as long as argv; NULL: PARSE_ARGUMENTS
 * with argc -1 asks for it). */
void resp_parse(const char *data, size_t length, const struct parse_limits *limits,
                struct argument *argv, int argv_capacity, char *scratch,
                struct parse_output *output);

/* A multibulk command in progress. All zero: none. Owned by the connection, freed with
 * resp_parse_large_release. */
struct parse_large {
    struct argument *argv; /* while in progress, data is an offset into the command */
    int capacity;
    int argc_announced; /* 0: nothing in progress */
    int argc;           /* complete arguments */
    size_t offset; /* of the next argument's "$", or of its first byte when bulk_length is known */
    int64_t bulk_length; /* -1: its length has not been read */
};

/* Goes on with the command at data: the same bytes as in the last call (they may have moved) and
 * those that came since. After PARSE_COMMAND the arguments are large->argv[0..output->argc-1],
 * valid until the bytes move, the next call or the release; the next call starts a new command. The
 * command must begin with '*'. */
void resp_parse_large(struct parse_large *large, const char *data, size_t length,
                      const struct parse_limits *limits, struct parse_output *output);
/* Frees the vector; large is all zero again. */
void resp_parse_large_release(struct parse_large *large);

#endif
