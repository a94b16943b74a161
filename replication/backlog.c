/* The backlog: a list of blocks, oldest first. Run by: its owner.
 *
 * Algorithm. The last block is open and takes what is appended; when it is full it is sealed and
 * another one follows. A sealed block is *compressed* when frames cover it; then its plain bytes go
 * unless somebody reads them. Three parts of the list:
 *
 *     first ... | retained ... | last
 *     older     | retained     | open (retained as well)
 *
 * Appending moves `retained` on while the blocks behind the first retained one reach the size
 * alone. Older blocks are there for cursors; those from the front that nobody is in are freed, a
 * few at a time. A block counts with what it costs (block_cost), and every change of that goes
 * through backlog_account: to the sum of the retained ones, or to the older ones and to the cursors
 * that keep them. So what a cursor pins is known at any moment without a walk.
 *
 * Frames that all cursors share are encoded when the first of them looks, in order, each once. A
 * cursor that begins in the middle of a block has no history there: it encodes frames for itself up
 * to where the shared ones have got to, and joins there, where they restart history once more, or
 * at the next block, which restarts it anyway. When frames were flushed so often that a block is
 * finely cut, its frames go with their last reader, and it is compressed again as a whole: small
 * frames cost more memory than they save.
 *
 * Ownership. All of this belongs to one thread. A cursor in a block keeps it and all behind it. A
 * job that is out keeps the plain bytes of its block and nothing else (backlog_block.c); while it
 * is out no shared frames of that block are made or shown, so that its result can always be taken.
 */
#include "replication/backlog.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/background.h"
#include "engine/memory.h"
#include "replication/backlog_private.h"

#define FREED_PER_CALL 32

_Static_assert(2 * (BACKLOG_BLOCK_MAX_BYTES / BACKLOG_FRAME_PLAIN_MAX) + 3 < BACKLOG_CUTS_MAX,
               "the cuts of the largest block have room");

static size_t block_bytes_for(size_t size) {
    size_t bytes = size / 16;
    return bytes < BACKLOG_BLOCK_MIN_BYTES   ? BACKLOG_BLOCK_MIN_BYTES
           : bytes > BACKLOG_BLOCK_MAX_BYTES ? BACKLOG_BLOCK_MAX_BYTES
                                             : bytes;
}

static bool is_older(const struct backlog *backlog, const struct backlog_block *block) {
    return block->sequence < backlog->retained->sequence;
}

/* --- Buffers of plain bytes ------------------------------------------------------------------- */

static char *buffer_get(struct backlog *backlog, size_t capacity) {
    if (capacity == backlog->block_bytes && backlog->spare_count > 0)
        return backlog->spares[--backlog->spare_count];
    return memory_alloc(capacity);
}

static void buffer_put(struct backlog *backlog, char *buffer, size_t capacity) {
    if (capacity == backlog->block_bytes && backlog->spare_count < BACKLOG_SPARES)
        backlog->spares[backlog->spare_count++] = buffer;
    else
        memory_free(buffer);
}

/* Lets go of the plain bytes if the frames are enough. */
static void plain_put(struct backlog *backlog, struct backlog_block *block) {
    if (!block->compressed || block->plain_readers > 0 || block->plain == NULL)
        return;
    if (backlog->encoding == block)
        backlog->encoding = NULL;
    buffer_put(backlog, block->plain, block->capacity);
    block->plain = NULL;
    backlog->restored_bytes -= block->capacity;
}

void backlog_need_plain(struct backlog *backlog, struct backlog_block *block) {
    ASSERT(block->plain_readers > 0);
    if (block->plain != NULL)
        return;
    block_restore_plain(block, buffer_get(backlog, block->capacity));
    backlog->restored_bytes += block->capacity;
}

/* --- Accounting ------------------------------------------------------------------------------- */

static void pin(struct backlog *backlog, const struct backlog_block *block, int64_t bytes) {
    backlog->older_bytes += (size_t)bytes;
    for (struct backlog_cursor *cursor = backlog->cursors; cursor; cursor = cursor->next)
        if (cursor->block != NULL && cursor->block->sequence <= block->sequence)
            cursor->pinned_bytes += (uint64_t)bytes;
}

void backlog_account(struct backlog *backlog, struct backlog_block *block) {
    int64_t change = (int64_t)block_cost(block) - (int64_t)block->cost;
    block->cost += (size_t)change;
    if (is_older(backlog, block))
        pin(backlog, block, change);
    else
        backlog->retained_bytes += (size_t)change;
}

static void count_frames(struct backlog *backlog, const struct backlog_frames *before,
                         const struct backlog_frames *after) {
    struct backlog_statistics *counted = &backlog->counted;
    counted->frames += after->count - before->count;
    counted->frames_stored += after->stored - before->stored;
    counted->frames_plain_bytes += after->plain_bytes - before->plain_bytes;
    counted->frames_wire_bytes += after->wire_bytes - before->wire_bytes;
}

/* --- Retaining and freeing -------------------------------------------------------------------- */

static void free_first(struct backlog *backlog) {
    struct backlog_block *block = backlog->first;
    ASSERT(block != backlog->retained);
    backlog->first = block->next;
    backlog->first->previous = NULL;
    backlog->older_bytes -= block->cost;
    backlog->blocks--;
    if (block->sealed && !block->compressed)
        backlog->plain_blocks--;
    if (backlog->encoding == block)
        backlog->encoding = NULL;
    size_t capacity = block->capacity;
    char *buffer = block_destroy(block);
    if (buffer != NULL)
        buffer_put(backlog, buffer, capacity);
}

static inline bool may_retain_less(const struct backlog *backlog) {
    const struct backlog_block *block = backlog->retained;
    return block != backlog->last && backlog->retained_bytes - block->cost >= backlog->size &&
           backlog->retained_plain_bytes - block->length >= backlog->size;
}

static void retain_less(struct backlog *backlog) {
    while (may_retain_less(backlog)) {
        struct backlog_block *block = backlog->retained;
        backlog->retained = block->next;
        backlog->retained_bytes -= block->cost;
        backlog->retained_plain_bytes -= block->length;
        pin(backlog, block, (int64_t)block->cost);
    }
}

bool backlog_trim(struct backlog *backlog) {
    retain_less(backlog);
    for (int i = 0; i < FREED_PER_CALL; i++) {
        if (backlog->first == backlog->retained || backlog->first->readers > 0)
            return false;
        free_first(backlog);
    }
    return backlog->first != backlog->retained && backlog->first->readers == 0;
}

/* --- Frames that all share -------------------------------------------------------------------- */

/* Looks whether the frames are now all that has to be kept of it. */
static void look_whether_compressed(struct backlog *backlog, struct backlog_block *block) {
    if (!block->sealed || block->compressed || block->job != NULL ||
        block->frames.plain_bytes < block->length || block_is_finely_cut(block))
        return;
    block->compressed = true;
    backlog->plain_blocks--;
    backlog->restored_bytes += block->capacity;
    plain_put(backlog, block);
}

void backlog_encode(struct backlog *backlog, struct backlog_block *block) {
    if (block->compressed || block->job != NULL || block->frames.plain_bytes == block->length)
        return;
    struct backlog_frames before = block->frames;
    size_t flushed =
        backlog->flushed > block->offset ? (size_t)(backlog->flushed - block->offset) : 0;
    bool continued;
    size_t to;
    while ((to = block_next_cut(block, block->frames.plain_bytes, flushed, &continued)) != 0) {
        if (backlog->encoding != block)
            frame_encoder_restart(backlog->encoder);
        backlog->encoding = block;
        block_encode(block, backlog->encoder, to, continued);
    }
    count_frames(backlog, &before, &block->frames);
    look_whether_compressed(backlog, block);
    backlog_account(backlog, block);
    backlog_trim(backlog); /* the block has a reader, so it stays */
}

/* --- Appending -------------------------------------------------------------------------------- */

static void open_block(struct backlog *backlog) {
    uint64_t sequence = backlog->last == NULL ? 0 : backlog->last->sequence + 1;
    struct backlog_block *block = block_create(
        backlog->end, sequence, buffer_get(backlog, backlog->block_bytes), backlog->block_bytes);
    block->backlog = backlog;
    block->previous = backlog->last;
    if (backlog->last != NULL)
        backlog->last->next = block;
    else
        backlog->first = backlog->retained = block;
    backlog->last = block;
    backlog->blocks++;
    backlog_account(backlog, block);
}

/* The open block is full. */
static void seal(struct backlog *backlog) {
    struct backlog_block *block = backlog->last;
    open_block(backlog);
    block->sealed = true;
    backlog->plain_blocks++;
    backlog->work_is_possible = true;
    look_whether_compressed(backlog, block);
    backlog_account(backlog, block);
    for (struct backlog_cursor *cursor = backlog->cursors; cursor; cursor = cursor->next)
        if (cursor->block == block)
            backlog_move_on(cursor);
}

/* An entry that ends no frame and no block, as most do. */
static inline bool append_short(struct backlog *backlog, const char *data, size_t length) {
    struct backlog_block *block = backlog->last;
    if (!block_append_short(block, data, length))
        return false;
    backlog->end += length;
    backlog->retained_plain_bytes += length;
    backlog->retained_bytes += length; /* as backlog_account: the open block is always retained */
    block->cost += length;
    if (UNLIKELY(may_retain_less(backlog) || backlog->first != backlog->retained))
        backlog_trim(backlog);
    return true;
}

void backlog_append(struct backlog *backlog, const char *data, size_t length, bool continued) {
    if (LIKELY(!backlog->in_entry && !continued) && LIKELY(append_short(backlog, data, length)))
        return;
    bool starts = !backlog->in_entry;
    while (length > 0) {
        if (backlog->last->length == backlog->last->capacity)
            seal(backlog);
        struct backlog_block *block = backlog->last;
        size_t taken = block_append(block, data, length, starts, continued);
        data += taken;
        length -= taken;
        starts = false;
        backlog->end += taken;
        backlog->retained_plain_bytes += taken;
        backlog_account(backlog, block);
        backlog_trim(backlog);
    }
    backlog->in_entry = continued;
    backlog->last->cuts.ends_in_entry = continued;
}

void backlog_flush(struct backlog *backlog) {
    backlog->flushed = backlog->end;
}

/* --- Cursors in blocks ------------------------------------------------------------------------ */

void backlog_enter(struct backlog_cursor *cursor, struct backlog_block *block, size_t position) {
    ASSERT(cursor->block == NULL && cursor->sent == 0);
    cursor->block = block;
    cursor->position = position;
    cursor->passed = NULL;
    block->readers++;
    if (cursor->kind == BACKLOG_FRAMES)
        block->frame_readers++;
    if (cursor->kind == BACKLOG_PLAIN || cursor->alone != NULL)
        block->plain_readers++;
}

static void stop_being_alone(struct backlog_cursor *cursor) {
    frame_encoder_destroy(cursor->alone->encoder);
    memory_free(cursor->alone);
    cursor->alone = NULL;
}

void backlog_join(struct backlog_cursor *cursor) {
    struct backlog_block *block = cursor->block;
    ASSERT(cursor->position == block->frames.plain_bytes && block->job == NULL);
    cursor->passed = block->frames.last;
    cursor->backlog->encoding = NULL; /* the next shared frame restarts history */
    stop_being_alone(cursor);
    block->plain_readers--;
    plain_put(cursor->backlog, block);
}

/* Leaves the block without looking whether blocks can be freed. */
static void leave(struct backlog_cursor *cursor) {
    struct backlog *backlog = cursor->backlog;
    struct backlog_block *block = cursor->block;
    block->readers--;
    if (cursor->kind == BACKLOG_FRAMES)
        block->frame_readers--;
    if (cursor->kind == BACKLOG_PLAIN || cursor->alone != NULL)
        block->plain_readers--;
    if (cursor->alone != NULL)
        stop_being_alone(cursor);
    cursor->block = NULL;
    backlog->work_is_possible = true;
    if (block->sealed && !block->compressed && block->frame_readers == 0 &&
        block_is_finely_cut(block)) {
        if (backlog->encoding == block)
            backlog->encoding = NULL;
        block_free_frames(block);
        backlog_account(backlog, block);
    }
    plain_put(backlog, block);
}

void backlog_leave(struct backlog_cursor *cursor) {
    leave(cursor);
    cursor->sent = 0;
    cursor->pinned_bytes = 0;
    backlog_trim(cursor->backlog);
}

void backlog_move_on(struct backlog_cursor *cursor) {
    struct backlog *backlog = cursor->backlog;
    struct backlog_block *block = cursor->block;
    if (!block->sealed || cursor->position < block->length)
        return;
    if (is_older(backlog, block)) {
        ASSERT(cursor->pinned_bytes >= block->cost);
        cursor->pinned_bytes -= block->cost;
    }
    leave(cursor);
    backlog_enter(cursor, block->next, 0);
}

uint64_t backlog_pinned_from(const struct backlog *backlog, const struct backlog_block *block) {
    uint64_t bytes = 0;
    for (; is_older(backlog, block); block = block->next)
        bytes += block->cost;
    return bytes;
}

/* --- Jobs ------------------------------------------------------------------------------------- */

/* Not one that a reader of frames is in, since it makes them, and not the next one, since that
 * reader would wait for the job. */
static bool is_work(const struct backlog_block *block) {
    return !block->compressed && block->job == NULL && block->frame_readers == 0 &&
           (block->previous == NULL || block->previous->frame_readers == 0);
}

/* The newest first: a reader that catches up comes to it last. */
static struct backlog_block *find_work(const struct backlog *backlog) {
    struct backlog_block *block = backlog->last->previous;
    for (size_t left = backlog->plain_blocks; left > 0; block = block->previous) {
        if (is_work(block))
            return block;
        left -= !block->compressed;
    }
    return NULL;
}

struct backlog_job *backlog_job_take(struct backlog *backlog) {
    struct backlog_block *found = backlog->work_is_possible ? find_work(backlog) : NULL;
    backlog->work_is_possible = found != NULL;
    if (found == NULL)
        return NULL;
    if (backlog->encoding == found)
        backlog->encoding = NULL;
    block_free_frames(found);
    backlog_account(backlog, found);
    return block_job_create(found);
}

void backlog_job_run(struct backlog_job *job) {
    block_job_run(job);
}

void backlog_job_give(struct backlog_job *job) {
    struct backlog_block *block = block_job_block(job);
    if (block == NULL) {
        block_job_destroy(job);
        return;
    }
    struct backlog *backlog = block->backlog;
    struct backlog_frames before = block->frames;
    if (block_job_finish(block)) {
        count_frames(backlog, &before, &block->frames);
        look_whether_compressed(backlog, block);
        ASSERT(block->compressed);
    }
    backlog->work_is_possible = true;
    backlog_account(backlog, block);
    backlog_trim(backlog);
}

/* --- Set-up and figures ----------------------------------------------------------------------- */

struct backlog *backlog_create(size_t size_bytes, uint64_t offset) {
    struct backlog *backlog = memory_calloc(1, sizeof *backlog);
    backlog->size = size_bytes;
    backlog->block_bytes = block_bytes_for(size_bytes);
    backlog->end = offset;
    backlog->encoder = frame_encoder_create();
    open_block(backlog);
    return backlog;
}

static void free_spares(struct backlog *backlog) {
    while (backlog->spare_count > 0)
        memory_free(backlog->spares[--backlog->spare_count]);
}

static void release(void *argument) {
    struct backlog *backlog = argument;
    for (struct backlog_block *block = backlog->first, *next; block != NULL; block = next) {
        next = block->next;
        memory_free(block_destroy(block));
    }
    free_spares(backlog);
    frame_encoder_destroy(backlog->encoder);
    memory_free(backlog);
}

void backlog_destroy(struct backlog *backlog) {
    if (backlog == NULL)
        return;
    ASSERT(backlog->cursors == NULL);
    for (struct backlog_block *block = backlog->first; block != NULL; block = block->next)
        if (block->job != NULL)
            block_job_orphan(block);
    background_submit(release, backlog);
}

void backlog_resize(struct backlog *backlog, size_t size_bytes) {
    backlog->size = size_bytes;
    if (backlog->block_bytes != block_bytes_for(size_bytes))
        free_spares(backlog);
    backlog->block_bytes = block_bytes_for(size_bytes);
    backlog_trim(backlog);
}

uint64_t backlog_first_offset(const struct backlog *backlog) {
    return backlog->first->offset;
}

uint64_t backlog_end_offset(const struct backlog *backlog) {
    return backlog->end;
}

void backlog_get_statistics(const struct backlog *backlog, struct backlog_statistics *statistics) {
    *statistics = backlog->counted;
    statistics->size_bytes = backlog->size;
    statistics->retained_bytes = backlog->retained_bytes;
    statistics->retained_plain_bytes = backlog->retained_plain_bytes;
    statistics->pinned_bytes = backlog->older_bytes;
    statistics->cached_bytes =
        backlog->restored_bytes + backlog->spare_count * backlog->block_bytes;
    statistics->blocks = backlog->blocks;
    statistics->plain_blocks = backlog->plain_blocks;
}
