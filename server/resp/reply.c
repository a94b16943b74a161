/* Reply builder and the pool of output blocks; see reply.h.
 *
 * Invariants of a chain: the last block is the only one that is written to, as long as
 * reply->cursor is not NULL; its length is cursor - data and its length field is stale. All other
 * blocks have a valid length. A block with a blob has no bytes of its own and is never written to.
 *
 * Blocks come from the pool of the thread that writes and go back to the pool of the thread that
 * has sent them; a pool belongs to its thread alone. */
#include "server/resp/reply.h"

#include <stdarg.h>
#include <stdio.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "server/base/numbers.h"
#include "server/resp/error_statistics.h"

#define BLOCK_CAPACITY    (OUTPUT_BLOCK_BYTES - sizeof(struct output_block))
#define POOL_BLOCKS_MAX   2048 /* 32 MiB a thread, for a moment: many hear the same message */
#define POOL_BLOCKS_IDLE  4
#define RESERVE_MAX       4096
#define HEADER_MAX        24          /* "*18446744073709551615\r\n" */
#define LARGE_BLOCK_BYTES (64 * 1024) /* more than that at once gets a block of its size */
#define LEND_BYTES_MIN    (8 * 1024) /* copying less is cheaper than a piece of its own in writev */

/* --- Pool ------------------------------------------------------------------------------------- */

static _Thread_local struct output_block *pool;
static _Thread_local unsigned pool_count;

static struct output_block *block_new(size_t capacity) {
    struct output_block *block = pool;
    if (LIKELY(capacity <= BLOCK_CAPACITY)) {
        capacity = BLOCK_CAPACITY;
        if (LIKELY(block != NULL)) {
            pool = block->next;
            pool_count--;
        } else {
            block = memory_alloc(OUTPUT_BLOCK_BYTES);
        }
    } else {
        ASSERT(capacity <= UINT32_MAX);
        block = memory_alloc(sizeof(*block) + capacity);
    }
    block->next = NULL;
    block->blob = NULL;
    block->data = block->bytes;
    block->capacity = (uint32_t)capacity;
    block->length = 0;
    return block;
}

void output_blocks_free(struct output_block *blocks) {
    while (blocks != NULL) {
        struct output_block *block = blocks;
        blocks = block->next;
        if (block->blob != NULL) {
            blob_return(block->blob);
            memory_free(block);
        } else if (block->capacity != BLOCK_CAPACITY || pool_count >= POOL_BLOCKS_MAX) {
            memory_free(block);
        } else {
            block->next = pool;
            pool = block;
            pool_count++;
        }
    }
}

static void pool_shrink(unsigned keep) {
    while (pool_count > keep) {
        struct output_block *block = pool;
        pool = block->next;
        pool_count--;
        memory_free(block);
    }
}

void output_pool_thread_exit(void) {
    pool_shrink(0);
}

void output_pool_trim(void) {
    pool_shrink(POOL_BLOCKS_IDLE);
}

/* --- Chain ------------------------------------------------------------------------------------ */

void reply_init(struct reply *reply) {
    *reply = (struct reply){.resp = 2};
}

void reply_clear(struct reply *reply) {
    output_blocks_free(reply_take(reply));
}

static size_t last_length(const struct reply *reply) {
    if (reply->cursor != NULL)
        return (size_t)(reply->cursor - reply->last->data);
    return reply->last != NULL ? reply->last->length : 0;
}

size_t reply_pending_bytes(const struct reply *reply) {
    return reply->closed_bytes + last_length(reply);
}

/* Ends the last block and puts this one behind it. */
static void append_block(struct reply *reply, struct output_block *block) {
    if (reply->last != NULL) {
        reply->last->length = last_length(reply);
        reply->closed_bytes += reply->last->length;
        reply->last->next = block;
    } else {
        reply->first = block;
    }
    reply->last = block;
    if (block->blob == NULL) {
        reply->cursor = block->bytes;
        reply->end = block->bytes + block->capacity;
    } else {
        reply->cursor = reply->end = NULL;
    }
}

char *reply_reserve_slow(struct reply *reply, size_t n) {
    if (reply->discard)
        return NULL;
    ASSERT(n <= RESERVE_MAX);
    append_block(reply, block_new(0));
    return reply->cursor;
}

struct output_block *reply_take(struct reply *reply) {
    struct output_block *first = reply->first;
    if (reply->last != NULL)
        reply->last->length = last_length(reply);
    reply->first = reply->last = NULL;
    reply->cursor = reply->end = NULL;
    reply->closed_bytes = 0;
    return first;
}

struct reply_mark reply_mark(const struct reply *reply) {
    return (struct reply_mark){.last = reply->last,
                               .cursor = reply->cursor,
                               .closed_bytes = reply->closed_bytes,
                               .errors = reply->errors};
}

void reply_rewind(struct reply *reply, struct reply_mark mark) {
    if (UNLIKELY(reply->errors != mark.errors)) {
        error_statistics_undo(reply->errors - mark.errors);
        reply->errors = mark.errors;
    }
    if (LIKELY(reply->last == mark.last)) {
        reply->cursor = mark.cursor;
        return;
    }
    struct output_block *behind = reply->first;
    if (mark.last != NULL) {
        behind = mark.last->next;
        mark.last->next = NULL;
    } else {
        reply->first = NULL;
    }
    output_blocks_free(behind);
    reply->last = mark.last;
    reply->cursor = mark.cursor;
    reply->end = mark.cursor != NULL ? mark.last->bytes + mark.last->capacity : NULL;
    reply->closed_bytes = mark.closed_bytes;
}

void reply_raw(struct reply *reply, const char *data, size_t length) {
    if (reply->discard)
        return;
    while (length > 0) {
        size_t room = (size_t)(reply->end - reply->cursor);
        if (room == 0) {
            append_block(reply, block_new(length > LARGE_BLOCK_BYTES ? length : 0));
            continue;
        }
        size_t n = length < room ? length : room;
        memcpy(reply->cursor, data, n);
        reply->cursor += n;
        data += n;
        length -= n;
    }
}

/* --- Lines ------------------------------------------------------------------------------------ */

static inline char *write_crlf(char *out) {
    memcpy(out, "\r\n", 2);
    return out + 2;
}

/* prefix, number, CR LF. Returns behind it. */
static inline char *write_line(char *out, char prefix, uint64_t number) {
    *out++ = prefix;
    if (LIKELY(number < 10)) {
        *out++ = (char)('0' + number);
    } else if (LIKELY(number < 100)) {
        *out++ = (char)('0' + number / 10);
        *out++ = (char)('0' + number % 10);
    } else {
        out += number_write_uint64(out, number);
    }
    return write_crlf(out);
}

static void reply_line(struct reply *reply, char prefix, uint64_t number) {
    char *out = reply_reserve(reply, HEADER_MAX);
    if (out != NULL)
        reply->cursor = write_line(out, prefix, number);
}

/* prefix, text, CR LF. */
static void reply_text_line(struct reply *reply, char prefix, const char *text, size_t length) {
    if (UNLIKELY(length > RESERVE_MAX - 3)) {
        reply_raw(reply, &prefix, 1);
        reply_raw(reply, text, length);
        reply_raw(reply, "\r\n", 2);
        return;
    }
    char *out = reply_reserve(reply, length + 3);
    if (out == NULL)
        return;
    *out = prefix;
    memcpy(out + 1, text, length);
    reply->cursor = write_crlf(out + 1 + length);
}

void reply_ok(struct reply *reply) {
    char *out = reply_reserve(reply, 5);
    if (out == NULL)
        return;
    memcpy(out, "+OK\r\n", 5);
    reply->cursor = out + 5;
}

void reply_status(struct reply *reply, const char *text) {
    reply_text_line(reply, '+', text, strlen(text));
}

void reply_integer(struct reply *reply, int64_t value) {
    if (LIKELY(value >= 0)) {
        reply_line(reply, ':', (uint64_t)value);
        return;
    }
    char text[NUMBER_INT64_SIZE];
    reply_text_line(reply, ':', text, number_write_int64(text, value));
}

/* --- Errors ----------------------------------------------------------------------------------- */

/* Writes to text. */
void reply_error_bytes(struct reply *reply, const char *text, size_t length) {
    reply->errors++;
    error_statistics_count(text, length);
    reply_text_line(reply, '-', text, length);
}

static void reply_error_text(struct reply *reply, char *text, size_t length) {
    while (length > 0 && (text[length - 1] == '\r' || text[length - 1] == '\n'))
        length--;
    for (size_t i = 0; i < length; i++)
        if (text[i] == '\r' || text[i] == '\n')
            text[i] = ' ';
    reply_error_bytes(reply, text, length);
}

void reply_error(struct reply *reply, const char *text) {
    reply_error_format(reply, "%s", text);
}

void reply_error_format(struct reply *reply, const char *format, ...) {
    char few[512], *text = few;
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(few, sizeof(few), format, arguments);
    ASSERT(length >= 0);
    if ((size_t)length >= sizeof(few)) {
        text = memory_alloc((size_t)length + 1);
        vsnprintf(text, (size_t)length + 1, format, again);
    }
    va_end(again);
    va_end(arguments);
    reply_error_text(reply, text, (size_t)length);
    if (text != few)
        memory_free(text);
}

/* --- Bulks ------------------------------------------------------------------------------------ */

void reply_bulk(struct reply *reply, const char *data, size_t length) {
    if (UNLIKELY(length > RESERVE_MAX - HEADER_MAX - 2)) {
        reply_line(reply, '$', length);
        reply_raw(reply, data, length);
        reply_raw(reply, "\r\n", 2);
        return;
    }
    char *out = reply_reserve(reply, HEADER_MAX + length + 2);
    if (out == NULL)
        return;
    out = write_line(out, '$', length);
    memcpy(out, data, length);
    reply->cursor = write_crlf(out + length);
}

void reply_bulk_text(struct reply *reply, const char *text) {
    reply_bulk(reply, text, strlen(text));
}

void reply_bulk_integer(struct reply *reply, int64_t value) {
    char text[NUMBER_INT64_SIZE];
    reply_bulk(reply, text, number_write_int64(text, value));
}

void reply_blob(struct reply *reply, struct blob *blob, size_t from) {
    if (blob->length - from < LEND_BYTES_MIN) {
        reply_raw(reply, blob->data + from, blob->length - from);
        return;
    }
    if (reply->discard)
        return;
    struct output_block *block = memory_alloc(sizeof(*block));
    *block = (struct output_block){
        .blob = blob_lend(blob), .data = blob->data + from, .length = blob->length - from};
    append_block(reply, block);
}

void reply_bulk_blob(struct reply *reply, struct blob *blob) {
    if (blob->length < LEND_BYTES_MIN) {
        reply_bulk(reply, blob->data, blob->length);
        return;
    }
    reply_line(reply, '$', blob->length);
    reply_blob(reply, blob, 0);
    reply_raw(reply, "\r\n", 2);
}

void reply_bulk_object(struct reply *reply, const struct object *object) {
    if (UNLIKELY(object_needs_token(object))) {
        reply_bulk_blob(reply, object_pointer(object));
        return;
    }
    if (object_encoding(object) == ENCODING_INT) {
        reply_bulk_integer(reply, object_integer(object));
        return;
    }
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length;
    const char *data = object_string(object, buffer, &length);
    reply_bulk(reply, data, length);
}

static void verbatim_begin(struct reply *reply, const char *kind, size_t length) {
    char prefix[4] = {kind[0], kind[1], kind[2], ':'};
    reply_line(reply, '=', length + 4);
    reply_raw(reply, prefix, sizeof(prefix));
}

void reply_verbatim(struct reply *reply, const char *kind, const char *data, size_t length) {
    if (reply->resp == 2) {
        reply_bulk(reply, data, length);
        return;
    }
    verbatim_begin(reply, kind, length);
    reply_raw(reply, data, length);
    reply_raw(reply, "\r\n", 2);
}

/* Puts the chain of one reply behind that of another. */
static void append_chain(struct reply *reply, struct reply *from) {
    if (from->last == NULL)
        return;
    if (reply->last != NULL) {
        reply->last->length = last_length(reply);
        reply->closed_bytes += reply->last->length;
        reply->last->next = from->first;
    } else {
        reply->first = from->first;
    }
    reply->closed_bytes += from->closed_bytes;
    reply->last = from->last;
    reply->cursor = from->cursor;
    reply->end = from->end;
    from->first = from->last = NULL;
    from->cursor = from->end = NULL;
    from->closed_bytes = 0;
}

void reply_verbatim_move(struct reply *reply, const char *kind, struct reply *text) {
    if (reply->discard) {
        reply_clear(text);
        return;
    }
    size_t length = reply_pending_bytes(text);
    if (reply->resp == 2)
        reply_line(reply, '$', length);
    else
        verbatim_begin(reply, kind, length);
    append_chain(reply, text);
    reply_raw(reply, "\r\n", 2);
}

/* --- Null, boolean, numbers of RESP3 ---------------------------------------------------------- */

void reply_null(struct reply *reply) {
    if (reply->resp == 2)
        reply_literal(reply, "$-1\r\n");
    else
        reply_literal(reply, "_\r\n");
}

void reply_null_array(struct reply *reply) {
    if (reply->resp == 2)
        reply_literal(reply, "*-1\r\n");
    else
        reply_literal(reply, "_\r\n");
}

void reply_boolean(struct reply *reply, bool value) {
    if (reply->resp == 2)
        reply_integer(reply, value);
    else
        reply_raw(reply, value ? "#t\r\n" : "#f\r\n", 4);
}

void reply_double(struct reply *reply, double value) {
    char text[NUMBER_DOUBLE_SIZE];
    size_t length = number_write_double(text, value);
    if (reply->resp == 2)
        reply_bulk(reply, text, length);
    else
        reply_text_line(reply, ',', text, length);
}

void reply_big_number(struct reply *reply, const char *digits) {
    if (reply->resp == 2)
        reply_bulk_text(reply, digits);
    else
        reply_text_line(reply, '(', digits, strlen(digits));
}

/* --- Aggregates ------------------------------------------------------------------------------- */

void reply_array(struct reply *reply, size_t n) {
    reply_line(reply, '*', n);
}

void reply_empty_array(struct reply *reply) {
    reply_line(reply, '*', 0);
}

void reply_map(struct reply *reply, size_t n) {
    if (reply->resp == 2)
        reply_line(reply, '*', n * 2);
    else
        reply_line(reply, '%', n);
}

void reply_set(struct reply *reply, size_t n) {
    reply_line(reply, reply->resp == 2 ? '*' : '~', n);
}

void reply_push(struct reply *reply, size_t n) {
    reply_line(reply, reply->resp == 2 ? '*' : '>', n);
}

/* The elements go to a block of their own that begins with HEADER_MAX free bytes; the header is
 * written so that it ends where the elements begin, and the block then starts with it. */
struct reply_deferred reply_deferred_begin(struct reply *reply) {
    if (reply->discard)
        return (struct reply_deferred){NULL};
    struct output_block *block = block_new(0);
    append_block(reply, block);
    block->data = reply->cursor = block->bytes + HEADER_MAX;
    return (struct reply_deferred){block};
}

static void deferred_end(struct reply *reply, struct reply_deferred deferred, char prefix,
                         size_t n) {
    struct output_block *block = deferred.block;
    if (block == NULL)
        return;
    ASSERT(block->data == block->bytes + HEADER_MAX);
    char header[HEADER_MAX];
    size_t length = (size_t)(write_line(header, prefix, n) - header);
    memcpy(block->bytes + HEADER_MAX - length, header, length);
    block->data -= length;
    if (block != reply->last) {
        block->length += length;
        reply->closed_bytes += length;
    }
}

void reply_deferred_array(struct reply *reply, struct reply_deferred deferred, size_t n) {
    deferred_end(reply, deferred, '*', n);
}

void reply_deferred_map(struct reply *reply, struct reply_deferred deferred, size_t n) {
    if (reply->resp == 2)
        deferred_end(reply, deferred, '*', n * 2);
    else
        deferred_end(reply, deferred, '%', n);
}

void reply_deferred_set(struct reply *reply, struct reply_deferred deferred, size_t n) {
    deferred_end(reply, deferred, reply->resp == 2 ? '*' : '~', n);
}
