/* A model of a backlog for its tests: the stream as one string, and readers that check what their
 * cursors show against it. */
#ifndef SLOTWISE_TESTS_BACKLOG_MODEL_H
#define SLOTWISE_TESTS_BACKLOG_MODEL_H

#include <criterion/criterion.h>

#include "replication/backlog.h"
#include "replication/backlog_private.h"
#include "tests/unit/replication/streams.h"

#define FIRST_OFFSET 5000000007u
#define PIECES       8

struct model {
    struct backlog *backlog;
    char *stream; /* whose first byte has FIRST_OFFSET */
    char *ends;   /* 1: an entry ends behind this byte */
    size_t length, capacity;
    size_t guaranteed; /* so many bytes at the end must be there */
    size_t largest_block;
};

struct reader {
    struct model *model;
    struct backlog_cursor *cursor;
    struct frame_decoder *decoder; /* NULL: it reads plain bytes */
    uint64_t offset;               /* all before it has been compared */
    uint64_t started;
    int shown;
    struct iovec pieces[PIECES];
    char *copies[PIECES]; /* of what was shown: it must not change */
};

static inline void model_begin(struct model *model, size_t size, size_t capacity) {
    *model = (struct model){.backlog = backlog_create(size, FIRST_OFFSET),
                            .stream = malloc(capacity),
                            .ends = calloc(1, capacity),
                            .capacity = capacity};
}

static inline void model_end(struct model *model) {
    backlog_destroy(model->backlog);
    free(model->stream);
    free(model->ends);
}

static inline void model_append(struct model *model, const char *data, size_t length,
                                bool continued) {
    cr_assert(model->length + length <= model->capacity);
    memcpy(model->stream + model->length, data, length);
    model->length += length;
    model->guaranteed += length;
    if (model->guaranteed > model->backlog->size)
        model->guaranteed = model->backlog->size;
    model->ends[model->length - 1] = !continued;
    backlog_append(model->backlog, data, length, continued);
}

static inline void model_append_json(struct model *model, size_t bytes, uint64_t *state) {
    char entry[JSON_SET_MAX];
    for (size_t until = model->length + bytes; model->length < until;)
        model_append(model, entry, json_set(state, entry), false);
}

static inline void model_append_noise(struct model *model, size_t bytes, uint64_t *state) {
    static char entry[4096];
    for (size_t until = model->length + bytes; model->length < until;) {
        random_fill(state, entry, sizeof entry);
        model_append(model, entry, sizeof entry, false);
    }
}

/* --- What holds after every call -------------------------------------------------------------- */

static inline void check_readers(const struct backlog *b, const struct backlog_block *block) {
    unsigned readers = 0, plain = 0, frames = 0;
    for (const struct backlog_cursor *c = b->cursors; c; c = c->next) {
        readers += c->block == block;
        plain += c->block == block && (c->kind == BACKLOG_PLAIN || c->alone);
        frames += c->block == block && c->kind == BACKLOG_FRAMES;
    }
    cr_assert(readers == block->readers && plain == block->plain_readers &&
              frames == block->frame_readers);
}

static inline void check_block(const struct backlog *b, const struct backlog_block *block) {
    cr_assert_eq(block->cost, block_cost(block));
    cr_assert_eq(block->sealed, block != b->last);
    cr_assert(block->length <= block->capacity &&
              (block->length == block->capacity || !block->sealed));
    cr_assert(block->plain != NULL || block->compressed);
    cr_assert(block->plain == NULL || !block->compressed || block->plain_readers > 0);
    cr_assert(!block->compressed || block->frames.plain_bytes == block->length);
    size_t bytes = 0, count = 0;
    for (const struct backlog_frame *f = block->frames.first; f; f = f->next, count++)
        bytes += f->wire_bytes;
    cr_assert(bytes == block->frames.wire_bytes && count == block->frames.count);
    check_readers(b, block);
}

static inline void check_bounds(const struct model *model) {
    const struct backlog *b = model->backlog;
    cr_assert(b->retained == b->last || b->retained_bytes - b->retained->cost < b->size ||
              b->retained_plain_bytes - b->retained->length < b->size);
    /* A frame of noise takes 33 bytes more than it holds, a block a few hundred. */
    cr_assert_leq(b->retained_bytes, b->size + b->size / 16 + b->last->cost + model->largest_block);
    cr_assert_leq(model->guaranteed, b->end - b->first->offset);
}

static inline void model_check(struct model *model) {
    const struct backlog *b = model->backlog;
    size_t older = 0, retained = 0, plain = 0, blocks = 0, plain_blocks = 0, restored = 0;
    bool is_retained = false;
    uint64_t offset = b->first->offset;
    model->largest_block = 0;
    for (const struct backlog_block *block = b->first; block; block = block->next) {
        cr_assert_eq(block->offset, offset);
        cr_assert(block->next == NULL || block->next->sequence == block->sequence + 1);
        offset += block->length;
        is_retained |= block == b->retained;
        *(is_retained ? &retained : &older) += block->cost;
        plain += is_retained ? block->length : 0;
        plain_blocks += block->sealed && !block->compressed;
        restored += block->compressed && block->plain ? block->capacity : 0;
        blocks++;
        if (block->cost > model->largest_block)
            model->largest_block = block->cost;
        check_block(b, block);
    }
    cr_assert(offset == b->end && b->end == FIRST_OFFSET + model->length);
    cr_assert(older == b->older_bytes && retained == b->retained_bytes);
    cr_assert_eq(plain, b->retained_plain_bytes);
    cr_assert(blocks == b->blocks && plain_blocks == b->plain_blocks);
    cr_assert_eq(restored, b->restored_bytes);
    check_bounds(model);
    for (const struct backlog_cursor *c = b->cursors; c; c = c->next)
        cr_assert_eq(c->pinned_bytes, backlog_pinned_from(b, c->block));
}

/* --- Readers ---------------------------------------------------------------------------------- */

static inline bool reader_begin(struct reader *reader, struct model *model, enum backlog_kind kind,
                                uint64_t offset) {
    *reader = (struct reader){.model = model, .offset = offset, .started = offset};
    reader->cursor = backlog_cursor_open(model->backlog, kind, offset);
    if (reader->cursor == NULL)
        return false;
    if (kind == BACKLOG_FRAMES)
        reader->decoder = frame_decoder_create(offset);
    return true;
}

static inline void reader_forget(struct reader *reader) {
    for (int i = 0; i < reader->shown; i++)
        free(reader->copies[i]);
    reader->shown = 0;
}

static inline void reader_end(struct reader *reader) {
    reader_forget(reader);
    backlog_cursor_close(reader->cursor);
    frame_decoder_destroy(reader->decoder);
    reader->cursor = NULL;
}

/* Returns the bytes that it shows. */
static inline size_t reader_look(struct reader *reader, int max) {
    size_t bytes = 0;
    reader_forget(reader);
    reader->shown = backlog_cursor_peek(reader->cursor, reader->pieces, max);
    for (int i = 0; i < reader->shown; i++) {
        struct iovec *piece = &reader->pieces[i];
        cr_assert_gt(piece->iov_len, 0);
        reader->copies[i] = malloc(piece->iov_len);
        memcpy(reader->copies[i], piece->iov_base, piece->iov_len);
        bytes += piece->iov_len;
    }
    return bytes;
}

static inline void reader_compare(struct reader *reader, const char *data, size_t length) {
    size_t at = reader->offset - FIRST_OFFSET;
    cr_assert_leq(at + length, reader->model->length);
    cr_assert_eq(memcmp(data, reader->model->stream + at, length), 0);
    reader->offset += length;
}

static inline void reader_receive(struct reader *reader, const char *data, size_t length) {
    if (reader->decoder == NULL) {
        reader_compare(reader, data, length);
        return;
    }
    struct frame frame;
    size_t consumed;
    int result;
    while ((result = frame_decode(reader->decoder, data, length, &consumed, &frame)) > 0) {
        data += consumed;
        length -= consumed;
        cr_assert(reader->offset > reader->started || frame.flags & FRAME_RESTART);
        reader_compare(reader, frame.plain, frame.length);
        bool ends = reader->model->ends[reader->offset - FIRST_OFFSET - 1];
        cr_assert_eq(ends, !(frame.flags & FRAME_CONTINUED), "a frame says whether its entry ends");
    }
    cr_assert_eq(result, 0, "%s", frame_error_text(result));
}

/* Takes so many of the bytes that were shown; whatever happened since, they are what they were. */
static inline void reader_take(struct reader *reader, size_t bytes) {
    size_t left = bytes;
    for (int i = 0; i < reader->shown && left > 0; i++) {
        const struct iovec *piece = &reader->pieces[i];
        size_t length = left < piece->iov_len ? left : piece->iov_len;
        cr_assert_eq(memcmp(piece->iov_base, reader->copies[i], piece->iov_len), 0);
        reader_receive(reader, piece->iov_base, length);
        left -= length;
    }
    cr_assert_eq(left, 0);
    backlog_cursor_advance(reader->cursor, bytes);
    reader_forget(reader);
    cr_assert(backlog_cursor_offset(reader->cursor) <= reader->offset);
}

/* Reads all that there is. */
static inline void reader_drain(struct reader *reader) {
    size_t bytes;
    while ((bytes = reader_look(reader, PIECES)) > 0)
        reader_take(reader, bytes);
}

static inline void compress_all(struct backlog *backlog) {
    for (struct backlog_job *job; (job = backlog_job_take(backlog)) != NULL;) {
        backlog_job_run(job);
        backlog_job_give(job);
    }
}

#endif
