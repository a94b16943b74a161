/* Blocks of the backlog: plain bytes, the frames made of them, and the jobs that make them. Run by:
 * the owner of the backlog, except for block_job_run.
 *
 * Ownership. A job is made of what never changes: the plain bytes of a sealed block, and a copy of
 * where to cut them. While it is out the block keeps its plain bytes; if the block has to go, the
 * job inherits them. Its frames are its own until it is given back. So the two threads share
 * nothing that is written, and the hand-over (a mailbox, both ways) orders the rest. */
#include "replication/backlog_block.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"

#define APPEND_AHEAD_BYTES 512

struct backlog_job {
    struct backlog_block *block; /* NULL: it is gone, plain is ours. The owner's thread only. */
    char *plain;
    size_t length;
    uint64_t offset;
    struct backlog_cuts cuts;
    struct backlog_frames frames;
};

/* --- Cuts ------------------------------------------------------------------------------------- */

/* The end of the next coarse frame after `from`, or 0. */
static size_t next_cut(const struct backlog_cuts *cuts, size_t from, bool *continued) {
    for (unsigned i = 0; i < cuts->count; i++) {
        size_t at = cuts->at[i] & ~BACKLOG_CUT_CONTINUED;
        if (at > from) {
            *continued = cuts->at[i] & BACKLOG_CUT_CONTINUED;
            return at;
        }
    }
    return 0;
}

static void cut(struct backlog_block *block, bool continued) {
    struct backlog_cuts *cuts = &block->cuts;
    ASSERT(cuts->count < BACKLOG_CUTS_MAX);
    cuts->at[cuts->count++] = (uint32_t)block->length | (continued ? BACKLOG_CUT_CONTINUED : 0);
}

static size_t last_cut(const struct backlog_cuts *cuts) {
    return cuts->count == 0 ? 0 : cuts->at[cuts->count - 1] & ~BACKLOG_CUT_CONTINUED;
}

bool block_append_short(struct backlog_block *block, const char *data, size_t length) {
    size_t pending = block->length - last_cut(&block->cuts);
    if (block->capacity - block->length < length || pending + length > BACKLOG_FRAME_PLAIN_MAX)
        return false;
    char *to = block->plain + block->length;
    memcpy(to, data, length);
    __builtin_prefetch(to + APPEND_AHEAD_BYTES, 1);
    block->length += length;
    block->cuts.ends_in_entry = false;
    return true;
}

size_t block_append(struct backlog_block *block, const char *data, size_t length, bool starts,
                    bool continues) {
    size_t taken =
        block->capacity - block->length < length ? block->capacity - block->length : length;
    size_t pending = block->length - last_cut(&block->cuts);
    if (starts && pending > 0 && pending + length > BACKLOG_FRAME_PLAIN_MAX) {
        cut(block, false);
        pending = 0;
    }
    for (size_t done = 0, piece; done < taken; done += piece) {
        if (pending == BACKLOG_FRAME_PLAIN_MAX) {
            cut(block, !starts || done > 0);
            pending = 0;
        }
        size_t room = BACKLOG_FRAME_PLAIN_MAX - pending;
        piece = taken - done < room ? taken - done : room;
        memcpy(block->plain + block->length, data + done, piece);
        block->length += piece;
        pending += piece;
    }
    block->cuts.ends_in_entry = continues || taken < length;
    return taken;
}

size_t block_next_cut(const struct backlog_block *block, size_t from, size_t flushed,
                      bool *continued) {
    size_t to = next_cut(&block->cuts, from, continued);
    if (to == 0 && from < block->length && (block->sealed || flushed > from)) {
        to = block->length;
        *continued = block->cuts.ends_in_entry;
    }
    return to;
}

/* --- Frames ----------------------------------------------------------------------------------- */

/* Encodes [frames->plain_bytes, to) of the plain bytes as one more frame. */
static void add_frame(struct backlog_frames *frames, struct frame_encoder *encoder,
                      const char *plain, uint64_t offset, size_t to, bool continued) {
    char wire[FRAME_WIRE_MAX];
    size_t from = frames->plain_bytes;
    size_t bytes = frame_encode(encoder, plain + from, to - from, offset + from, continued, wire);
    struct backlog_frame *frame = memory_alloc(sizeof *frame + bytes);
    frame->next = NULL;
    frame->plain_end = (uint32_t)to;
    frame->wire_bytes = (uint32_t)bytes;
    memcpy(frame->wire, wire, bytes);
    if (frames->last != NULL)
        frames->last->next = frame;
    else
        frames->first = frame;
    frames->last = frame;
    frames->count++;
    frames->bytes += memory_class_bytes(sizeof *frame + bytes);
    frames->wire_bytes += bytes;
    frames->stored += (frame_flags(wire) & FRAME_STORED) != 0;
    frames->plain_bytes = to;
}

static void free_frames(struct backlog_frames *frames) {
    for (struct backlog_frame *frame = frames->first, *next; frame != NULL; frame = next) {
        next = frame->next;
        memory_free(frame);
    }
    *frames = (struct backlog_frames){0};
}

void block_encode(struct backlog_block *block, struct frame_encoder *encoder, size_t to,
                  bool continued) {
    ASSERT(block->plain != NULL && block->job == NULL);
    add_frame(&block->frames, encoder, block->plain, block->offset, to, continued);
}

void block_free_frames(struct backlog_block *block) {
    free_frames(&block->frames);
}

bool block_is_finely_cut(const struct backlog_block *block) {
    return block->frames.count > 4 * ((size_t)block->cuts.count + 1);
}

void block_restore_plain(struct backlog_block *block, char *buffer) {
    size_t length = 0, history = 0;
    for (const struct backlog_frame *frame = block->frames.first; frame; frame = frame->next) {
        unsigned flags = frame_flags(frame->wire);
        if (flags & FRAME_RESTART)
            history = 0;
        int bytes = frame_open(frame->wire, frame->wire_bytes, block->offset + length, history,
                               buffer + length, block->length - length);
        ASSERT(bytes > 0);
        length += (size_t)bytes;
        history = flags & FRAME_STORED ? 0 : history + (size_t)bytes;
    }
    ASSERT(length == block->length && block->plain == NULL);
    block->plain = buffer;
}

/* --- Blocks ----------------------------------------------------------------------------------- */

struct backlog_block *block_create(uint64_t offset, uint64_t sequence, char *buffer,
                                   size_t capacity) {
    struct backlog_block *block = memory_calloc(1, sizeof *block);
    block->offset = offset;
    block->sequence = sequence;
    block->plain = buffer;
    block->capacity = capacity;
    return block;
}

char *block_destroy(struct backlog_block *block) {
    ASSERT(block->readers == 0);
    if (block->job != NULL)
        block_job_orphan(block);
    char *buffer = block->plain;
    free_frames(&block->frames);
    memory_free(block);
    return buffer;
}

size_t block_cost(const struct backlog_block *block) {
    /* Of the open block what is in it: it counts as it grows. */
    size_t plain = block->compressed ? 0 : block->sealed ? block->capacity : block->length;
    return sizeof *block + plain + block->frames.bytes;
}

/* --- Jobs ------------------------------------------------------------------------------------- */

struct backlog_job *block_job_create(struct backlog_block *block) {
    ASSERT(block->sealed && block->plain != NULL && block->job == NULL);
    struct backlog_job *job = memory_alloc(sizeof *job);
    job->block = block;
    job->plain = block->plain;
    job->length = block->length;
    job->offset = block->offset;
    job->cuts = block->cuts;
    job->frames = (struct backlog_frames){0};
    return block->job = job;
}

void block_job_run(struct backlog_job *job) {
    struct frame_encoder *encoder = frame_encoder_create();
    while (job->frames.plain_bytes < job->length) {
        bool continued;
        size_t to = next_cut(&job->cuts, job->frames.plain_bytes, &continued);
        if (to == 0) {
            to = job->length;
            continued = job->cuts.ends_in_entry;
        }
        add_frame(&job->frames, encoder, job->plain, job->offset, to, continued);
    }
    frame_encoder_destroy(encoder);
}

bool block_job_finish(struct backlog_block *block) {
    struct backlog_job *job = block->job;
    bool done = job->frames.plain_bytes == job->length;
    ASSERT(job->block == block && block->frames.count == 0);
    if (done)
        block->frames = job->frames;
    block->job = NULL;
    memory_free(job);
    return done;
}

void block_job_orphan(struct backlog_block *block) {
    ASSERT(block->job->plain == block->plain);
    block->job->block = NULL;
    block->job = NULL;
    block->plain = NULL;
}

struct backlog_block *block_job_block(const struct backlog_job *job) {
    return job->block;
}

void block_job_destroy(struct backlog_job *job) {
    ASSERT(job->block == NULL);
    free_frames(&job->frames);
    memory_free(job->plain);
    memory_free(job);
}
