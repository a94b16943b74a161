/* Reply builder: RESP2/RESP3 into a chain of output blocks.
 *
 * Owned by one connection and used by its worker only. A reply is written where it will be sent
 * from; blocks come from the worker's pool when the first byte is written and go back when they
 * have been sent, so that an idle connection has none. reply_mark / reply_rewind undo what a
 * command has written: an optimistic read that does not validate, a handler that needs the token
 * after all. A blob (string over 16 KiB) is lent, not copied. */
#ifndef SLOTWISE_SERVER_REPLY_H
#define SLOTWISE_SERVER_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/object.h"

#define OUTPUT_BLOCK_BYTES (16 * 1024) /* whole allocation, header included */

struct output_block {
    struct output_block *next;
    struct blob *blob; /* not NULL: data points into the lent blob */
    const char *data;  /* first unsent byte */
    uint32_t capacity; /* of bytes[]; 0 for a blob */
    uint32_t reserved;
    size_t length; /* unsent bytes */
    char bytes[];
};

struct reply {
    char *cursor; /* where the next byte goes in the last block; NULL (end too): no block to write
                     to */
    char *end;
    struct output_block *first, *last;
    size_t closed_bytes; /* bytes in all blocks but the last */
    uint8_t resp;        /* 2 or 3; may be set between commands */
    bool discard;    /* CLIENT REPLY OFF/SKIP: what is written is dropped; may be set at any time */
    uint64_t errors; /* error replies written so far (commandstats failed_calls) */
};

/* Also undoes the error statistics of what is rewound. A mark is void after reply_take and
 * reply_clear. */
struct reply_mark {
    struct output_block *last;
    char *cursor;
    size_t closed_bytes;
    uint64_t errors;
};

void reply_init(struct reply *reply);
void reply_clear(struct reply *reply); /* gives all blocks back */
size_t reply_pending_bytes(const struct reply *reply);
struct reply_mark reply_mark(const struct reply *reply);
void reply_rewind(struct reply *reply, struct reply_mark mark);
/* Takes the chain for sending: the reply is empty afterwards. */
struct output_block *reply_take(struct reply *reply);
void output_blocks_free(struct output_block *blocks);
void output_pool_thread_exit(void); /* frees this thread's pooled blocks */
void output_pool_trim(void);        /* idle turn: keeps only a few */

/* Room for n contiguous bytes (n <= 4096): write there and set reply->cursor behind it. NULL:
 * replies are discarded, write nothing. */
char *reply_reserve_slow(struct reply *reply, size_t n);
static inline char *reply_reserve(struct reply *reply, size_t n) {
    if (__builtin_expect((size_t)(reply->end - reply->cursor) >= n && !reply->discard, 1))
        return reply->cursor;
    return reply_reserve_slow(reply, n);
}

void reply_raw(struct reply *reply, const char *data, size_t length);
#define reply_literal(reply, text) reply_raw((reply), (text), sizeof(text) - 1)
void reply_ok(struct reply *reply);
void reply_status(struct reply *reply, const char *text); /* +text */
/* "-text": text begins with its code ("ERR ..."). CR and LF at its end are cut, inside they become
 * spaces. Counts the error by its code (error_statistics.h) on this thread, discarded or not. */
void reply_error(struct reply *reply, const char *text);
void reply_error_format(struct reply *reply, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same of length bytes without line breaks, for errors that many commands get. */
void reply_error_bytes(struct reply *reply, const char *text, size_t length);
void reply_integer(struct reply *reply, int64_t value);
void reply_bulk(struct reply *reply, const char *data, size_t length);
void reply_bulk_text(struct reply *reply, const char *text);
void reply_bulk_integer(struct reply *reply, int64_t value); /* $n decimal */
/* The string value of an object as a bulk; lends its blob (then the caller holds the token). */
void reply_bulk_object(struct reply *reply, const struct object *object);
/* The blob as a bulk; lent if it is large. The caller has a reference, or the token. */
void reply_bulk_blob(struct reply *reply, struct blob *blob);
/* The bytes of a blob from one on, as they are; lent if they are many. The caller has a reference.
 */
void reply_blob(struct reply *reply, struct blob *blob, size_t from);
void reply_null(struct reply *reply);       /* $-1 or _ */
void reply_null_array(struct reply *reply); /* *-1 or _ */
void reply_array(struct reply *reply, size_t n);
void reply_map(struct reply *reply, size_t n); /* RESP2: array of 2n */
void reply_set(struct reply *reply, size_t n); /* RESP2: array */
void reply_push(struct reply *reply, size_t n);
void reply_boolean(struct reply *reply, bool value); /* RESP2: integer */
void reply_double(struct reply *reply, double value);
/* kind: three characters, "txt". RESP2: bulk. */
void reply_verbatim(struct reply *reply, const char *kind, const char *data, size_t length);
/* The same of what has been written to `text`, which is empty afterwards: for long texts that come
 * about in pieces. Copies nothing. */
void reply_verbatim_move(struct reply *reply, const char *kind, struct reply *text);
void reply_big_number(struct reply *reply, const char *digits);
void reply_empty_array(struct reply *reply);

/* An aggregate whose length is known only when its elements have been written: begin, write them,
 * then say which aggregate it was and of how many. Every begin needs its end (or a rewind to before
 * it). May be nested. */
struct reply_deferred {
    struct output_block *block; /* its bytes begin with room for the header; NULL: discarded */
};
struct reply_deferred reply_deferred_begin(struct reply *reply);
void reply_deferred_array(struct reply *reply, struct reply_deferred deferred, size_t n);
void reply_deferred_map(struct reply *reply, struct reply_deferred deferred, size_t n);
void reply_deferred_set(struct reply *reply, struct reply_deferred deferred, size_t n);

/* Texts used by many. */
#define ERROR_SYNTAX       "ERR syntax error"
#define ERROR_WRONG_TYPE   "WRONGTYPE Operation against a key holding the wrong kind of value"
#define ERROR_NOT_INTEGER  "ERR value is not an integer or out of range"
#define ERROR_NOT_FLOAT    "ERR value is not a valid float"
#define ERROR_NO_SUCH_KEY  "ERR no such key"
#define ERROR_OUT_OF_RANGE "ERR index out of range"

#endif
