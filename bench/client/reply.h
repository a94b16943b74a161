/*
 * Reads the replies on one connection: counts them, checks their kinds, and, if asked, the values
 * in them.
 *
 * It keeps nothing of what it reads but an unfinished line, and accepts the bytes in any pieces.
 * RESP2 and RESP3, without pushes.
 */
#ifndef BENCH_CLIENT_REPLY_H
#define BENCH_CLIENT_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/client/workload.h"

#define REPLY_TEXT_BYTES 160

/* What has come back, for a whole thread. */
struct reply_stats {
    uint64_t replies;
    uint64_t errors;     /* error replies */
    uint64_t nils;       /* GETs that found nothing, and the like */
    uint64_t unexpected; /* of a kind that this command never returns */
    uint64_t values;     /* checked, under --verify */
    uint64_t mismatches; /* of them wrong */
    char first_error[REPLY_TEXT_BYTES];
};

struct reply_reader {
    const struct workload *workload;
    struct reply_stats *stats;
    uint64_t seed;      /* of the request that the next reply answers; set by the sender */
    uint64_t completed; /* replies */
    uint64_t bulk_left; /* bytes of the current bulk string, its line end included */
    uint64_t elements_left;
    const struct operation *operation;
    unsigned line_length;
    uint32_t value_index;
    const char *expected; /* under --verify, what the rest of the bulk string should be */
    size_t expected_left;
    bool matches;
    char line[REPLY_TEXT_BYTES];
};

/* A reader at the start of a connection. */
void reply_reader_init(struct reply_reader *reader, const struct workload *workload,
                       struct reply_stats *stats);

/* Takes what has arrived. 0, or -1 if it is no RESP (first_error then says what it was). */
int reply_read(struct reply_reader *reader, const char *data, size_t length);

#endif
