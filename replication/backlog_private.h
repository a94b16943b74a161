/* Private to backlog*.c: the list of blocks, and cursors. Run by: the owner of the backlog. */
#ifndef SLOTWISE_REPLICATION_BACKLOG_PRIVATE_H
#define SLOTWISE_REPLICATION_BACKLOG_PRIVATE_H

#include "replication/backlog.h"
#include "replication/backlog_block.h"
#include "replication/frame.h"

/* --- The list (backlog.c) --------------------------------------------------------------------- */

#define BACKLOG_SPARES 4

struct backlog {
    size_t size, block_bytes;
    struct backlog_block *first, *last; /* last is the open one */
    struct backlog_block *retained;     /* the first retained one; those before it are kept by
                                         * cursors, or wait to be freed */
    uint64_t end;
    uint64_t flushed; /* offset: bytes before it may end a frame */
    bool in_entry;    /* what was appended last goes on */
    size_t retained_bytes, older_bytes;
    uint64_t retained_plain_bytes;
    size_t restored_bytes; /* plain bytes of compressed blocks */
    size_t blocks, plain_blocks;
    bool work_is_possible; /* false: backlog_job_take would find nothing */
    struct backlog_cursor *cursors;
    struct frame_encoder *encoder;  /* for the frames that all share */
    struct backlog_block *encoding; /* the block whose history it has; NULL: none */
    char *spares[BACKLOG_SPARES];   /* buffers of block_bytes */
    unsigned spare_count;
    struct backlog_statistics counted; /* the counters of frames */
};

/* A frame encoded for one cursor alone. */
struct backlog_alone {
    struct frame_encoder *encoder;
    size_t wire_bytes; /* 0: none */
    size_t plain_end;
    char wire[FRAME_WIRE_MAX];
};

struct backlog_cursor {
    struct backlog *backlog;
    struct backlog_cursor *next, *previous;
    enum backlog_kind kind;
    struct backlog_block *block;
    size_t position; /* plain bytes of the block that are behind it */
    size_t sent;     /* bytes of the frame at position that are behind it */
    /* The frame that ends at position; NULL: the position is 0. Not used while `alone`. */
    struct backlog_frame *passed;
    struct backlog_alone *alone; /* it began in the middle of the block: its frames are its own */
    uint64_t pinned_bytes;       /* cost of the blocks from its own up to the first retained one */
};

/* Follows a change of what the block costs. */
void backlog_account(struct backlog *backlog, struct backlog_block *block);
/* Encodes what there is for frames that all share; nothing while a job has the block. */
void backlog_encode(struct backlog *backlog, struct backlog_block *block);
/* Makes sure that the plain bytes are there; they stay while plain_readers says so. */
void backlog_need_plain(struct backlog *backlog, struct backlog_block *block);
/* What the older blocks from this one on cost. */
uint64_t backlog_pinned_from(const struct backlog *backlog, const struct backlog_block *block);
/* Enters a block at a position (pinned_bytes is the caller's to set); leaves it for good, which may
 * free blocks. */
void backlog_enter(struct backlog_cursor *cursor, struct backlog_block *block, size_t position);
void backlog_leave(struct backlog_cursor *cursor);
/* A cursor at the end of a sealed block goes on in the next one. */
void backlog_move_on(struct backlog_cursor *cursor);
/* It reads the frames that all share from here on. */
void backlog_join(struct backlog_cursor *cursor);

#endif
