/* Cursors of the backlog: what a link sends next. Run by: the owner of the backlog.
 *
 * A cursor lies in one block and shows only what is in it; having advanced over all of a sealed
 * block it is in the next. A frames cursor is in one of two states:
 *
 *                open at the start of a block
 *                             |
 *                             v
 *     +------- shared: the frames of the block, which are encoded once <----+
 *     |              ^                                                      |
 *     |              | next block, or caught up with the shared frames      |
 *     |              | (backlog_join)                                       |
 *     |            alone: frames encoded for this cursor, the first         |
 *     |              ^    restarts history                                  |
 *     |              |                                                      |
 *     |     open in the middle of a block                                   |
 *     +-------------------------- next block -------------------------------+
 */
#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "replication/backlog_private.h"

static struct backlog_block *find_block(const struct backlog *backlog, uint64_t offset) {
    struct backlog_block *block = backlog->last;
    while (block->offset > offset)
        block = block->previous;
    return block;
}

static struct backlog_alone *alone_create(void) {
    struct backlog_alone *alone = memory_alloc(sizeof *alone);
    alone->encoder = frame_encoder_create();
    alone->wire_bytes = 0;
    return alone;
}

struct backlog_cursor *backlog_cursor_open(struct backlog *backlog, enum backlog_kind kind,
                                           uint64_t offset) {
    if (offset < backlog_first_offset(backlog) || offset > backlog->end)
        return NULL;
    struct backlog_block *block = find_block(backlog, offset);
    struct backlog_cursor *cursor = memory_calloc(1, sizeof *cursor);
    cursor->backlog = backlog;
    cursor->kind = kind;
    if (kind == BACKLOG_FRAMES && offset > block->offset)
        cursor->alone = alone_create();
    backlog_enter(cursor, block, (size_t)(offset - block->offset));
    cursor->pinned_bytes = backlog_pinned_from(backlog, block);
    cursor->next = backlog->cursors;
    if (cursor->next != NULL)
        cursor->next->previous = cursor;
    backlog->cursors = cursor;
    return cursor;
}

void backlog_cursor_close(struct backlog_cursor *cursor) {
    if (cursor == NULL)
        return;
    if (cursor->previous != NULL)
        cursor->previous->next = cursor->next;
    else
        cursor->backlog->cursors = cursor->next;
    if (cursor->next != NULL)
        cursor->next->previous = cursor->previous;
    backlog_leave(cursor);
    memory_free(cursor);
}

/* --- Looking ---------------------------------------------------------------------------------- */

static int show(struct iovec *piece, const char *data, size_t length) {
    *piece = (struct iovec){.iov_base = (char *)data, .iov_len = length};
    return 1;
}

static int peek_plain(struct backlog_cursor *cursor, struct iovec *pieces) {
    struct backlog_block *block = cursor->block;
    if (cursor->position == block->length)
        return 0;
    backlog_need_plain(cursor->backlog, block);
    return show(pieces, block->plain + cursor->position, block->length - cursor->position);
}

static int peek_shared(struct backlog_cursor *cursor, struct iovec *pieces, int max) {
    struct backlog_block *block = cursor->block;
    backlog_encode(cursor->backlog, block);
    if (block->frames.plain_bytes == cursor->position)
        return 0;
    struct backlog_frame *frame = cursor->passed ? cursor->passed->next : block->frames.first;
    int shown = 0;
    for (size_t sent = cursor->sent; frame != NULL && shown < max; frame = frame->next, sent = 0)
        shown += show(&pieces[shown], frame->wire + sent, frame->wire_bytes - sent);
    return shown;
}

/* The next frame for this cursor alone; false: there is none yet. It ends where the shared frames
 * end if those have not got to the next cut. */
static bool encode_alone(struct backlog_cursor *cursor) {
    struct backlog_block *block = cursor->block;
    const struct backlog_frames *shared = &block->frames;
    uint64_t flushed = cursor->backlog->flushed;
    bool continued;
    size_t to =
        block_next_cut(block, cursor->position,
                       flushed > block->offset ? (size_t)(flushed - block->offset) : 0, &continued);
    if (cursor->position < shared->plain_bytes && (to == 0 || shared->plain_bytes < to)) {
        to = shared->plain_bytes;
        continued = frame_flags(shared->last->wire) & FRAME_CONTINUED;
    }
    if (to == 0)
        return false;
    backlog_need_plain(cursor->backlog, block);
    struct backlog_alone *alone = cursor->alone;
    alone->wire_bytes =
        frame_encode(alone->encoder, block->plain + cursor->position, to - cursor->position,
                     block->offset + cursor->position, continued, alone->wire);
    alone->plain_end = to;
    cursor->backlog->counted.frames_alone++;
    return true;
}

static int peek_alone(struct backlog_cursor *cursor, struct iovec *pieces, int max) {
    struct backlog_block *block = cursor->block;
    struct backlog_alone *alone = cursor->alone;
    if (alone->wire_bytes == 0) {
        backlog_encode(cursor->backlog, block);
        if (cursor->position == block->frames.plain_bytes && block->job == NULL) {
            backlog_join(cursor);
            return peek_shared(cursor, pieces, max);
        }
        if (!encode_alone(cursor))
            return 0;
    }
    return show(pieces, alone->wire + cursor->sent, alone->wire_bytes - cursor->sent);
}

int backlog_cursor_peek(struct backlog_cursor *cursor, struct iovec *pieces, int max) {
    ASSERT(max > 0);
    if (cursor->kind == BACKLOG_PLAIN)
        return peek_plain(cursor, pieces);
    return cursor->alone ? peek_alone(cursor, pieces, max) : peek_shared(cursor, pieces, max);
}

/* --- Advancing -------------------------------------------------------------------------------- */

static void advance_shared(struct backlog_cursor *cursor, size_t bytes) {
    while (bytes > 0) {
        struct backlog_frame *frame =
            cursor->passed ? cursor->passed->next : cursor->block->frames.first;
        ASSERT(frame != NULL);
        size_t left = frame->wire_bytes - cursor->sent;
        if (bytes < left) {
            cursor->sent += bytes;
            return;
        }
        bytes -= left;
        cursor->sent = 0;
        cursor->passed = frame;
        cursor->position = frame->plain_end;
    }
}

static void advance_alone(struct backlog_cursor *cursor, size_t bytes) {
    struct backlog_alone *alone = cursor->alone;
    ASSERT(bytes <= alone->wire_bytes - cursor->sent);
    cursor->sent += bytes;
    if (cursor->sent == alone->wire_bytes) {
        cursor->sent = alone->wire_bytes = 0;
        cursor->position = alone->plain_end;
    }
}

void backlog_cursor_advance(struct backlog_cursor *cursor, size_t bytes) {
    if (bytes == 0)
        return;
    if (cursor->kind == BACKLOG_PLAIN) {
        ASSERT(bytes <= cursor->block->length - cursor->position);
        cursor->position += bytes;
    } else if (cursor->alone) {
        advance_alone(cursor, bytes);
    } else {
        advance_shared(cursor, bytes);
    }
    if (cursor->sent == 0) {
        backlog_move_on(cursor);
        backlog_trim(cursor->backlog);
    }
}

uint64_t backlog_cursor_offset(const struct backlog_cursor *cursor) {
    return cursor->block->offset + cursor->position;
}

uint64_t backlog_cursor_pinned_bytes(const struct backlog_cursor *cursor) {
    return cursor->pinned_bytes;
}
