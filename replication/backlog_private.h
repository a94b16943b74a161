/* Private to backlog*.c: blocks, the list of them, and cursors. Run by: the owner of the backlog;
 * a job's input by whoever has the job (backlog_block.c). */
#ifndef SLOTWISE_REPLICATION_BACKLOG_PRIVATE_H
#define SLOTWISE_REPLICATION_BACKLOG_PRIVATE_H

#include "replication/backlog.h"
#include "replication/frame.h"

/* --- Blocks (backlog_block.c) ----------------------------------------------------------------- */

/* A frame as it goes over the wire. Never changed or moved once it is there. */
struct backlog_frame {
    struct backlog_frame *next;
    uint32_t plain_end; /* in its block */
    uint32_t wire_bytes;
    char wire[];
};

struct backlog_frames {
    struct backlog_frame *first, *last;
    size_t count;
    size_t bytes;       /* they take in memory */
    size_t wire_bytes;  /* of these, what goes over the wire */
    size_t stored;      /* how many are stored frames */
    size_t plain_bytes; /* encoded so far: the frames cover the block up to here */
};

/* A frame with all its bookkeeping takes no more than an allocation of FRAME_PLAIN_MAX. */
#define BACKLOG_FRAME_PLAIN_MAX                                                                    \
    (FRAME_PLAIN_MAX - FRAME_HEADER_BYTES - sizeof(struct backlog_frame))

/* Where frames end when a block is encoded as a whole: at ends of entries, or within an entry that
 * is longer than a frame. Two that follow each other are more than BACKLOG_FRAME_PLAIN_MAX apart
 * together, which bounds their number. */
#define BACKLOG_CUTS_MAX      40
#define BACKLOG_CUT_CONTINUED 0x80000000u
struct backlog_cuts {
    unsigned count;
    uint32_t at[BACKLOG_CUTS_MAX]; /* ascending; BACKLOG_CUT_CONTINUED: within an entry */
    bool ends_in_entry;            /* at the end of the block an entry goes on */
};

struct backlog_block {
    struct backlog_block *next, *previous;
    struct backlog *backlog;
    uint64_t sequence; /* one more than that of the block before it */
    uint64_t offset;   /* of its first byte */
    size_t length;     /* plain bytes in it */
    size_t capacity;
    char *plain; /* NULL: only the frames are kept. Bytes that are there do not change or move. */
    bool sealed;
    bool compressed;        /* sealed, and the frames are all that has to be kept */
    unsigned readers;       /* cursors in it */
    unsigned plain_readers; /* of these, who needs plain bytes */
    unsigned frame_readers; /* of these, who reads frames, its own or those of all */
    size_t cost;            /* as accounted last: backlog_account */
    struct backlog_cuts cuts;
    struct backlog_frames frames;
    struct backlog_job *job; /* it is being compressed */
};

/* An empty open block; buffer: capacity bytes that become its own. */
struct backlog_block *block_create(uint64_t offset, uint64_t sequence, char *buffer,
                                   size_t capacity);
/* Nobody is in it. A job that is out keeps the plain bytes. Returns the buffer of plain bytes
 * (NULL: none), which is the caller's now. */
char *block_destroy(struct backlog_block *block);
/* Takes as much as there is room for, returns how much; starts: an entry begins here. continues:
 * behind all of data the entry goes on. */
size_t block_append(struct backlog_block *block, const char *data, size_t length, bool starts,
                    bool continues);
/* The end of the next frame that starts at `from`; 0: there is none yet. What lies before
 * `flushed` need not wait for a full frame: the open block then ends in a shorter one. */
size_t block_next_cut(const struct backlog_block *block, size_t from, size_t flushed,
                      bool *continued);
/* Encodes the next frame of the shared ones, [frames.plain_bytes, to). */
void block_encode(struct backlog_block *block, struct frame_encoder *encoder, size_t to,
                  bool continued);
void block_free_frames(struct backlog_block *block);
/* So many frames for so few bytes that it is better compressed again as a whole. */
bool block_is_finely_cut(const struct backlog_block *block);
/* Makes the plain bytes from the frames, in buffer (length bytes at least), which becomes its own.
 */
void block_restore_plain(struct backlog_block *block, char *buffer);
/* What it takes in memory as far as it counts: plain bytes that are there for readers only do not.
 */
size_t block_cost(const struct backlog_block *block);

struct backlog_job *block_job_create(struct backlog_block *block);
/* Takes the result over if there is one and frees the job; true: there was one. The block is still
 * there. */
bool block_job_finish(struct backlog_block *block);
/* The block (and its backlog) goes; the job then frees the plain bytes itself. */
void block_job_orphan(struct backlog_block *block);
/* NULL: the block is gone. */
struct backlog_block *block_job_block(const struct backlog_job *job);
/* Frees an orphaned job. */
void block_job_destroy(struct backlog_job *job);

/* --- The list (backlog.c) --------------------------------------------------------------------- */

#define BACKLOG_SPARES 4

struct backlog {
    size_t size, block_bytes;
    struct backlog_block *first, *last; /* last is the open one */
    struct backlog_block *retained;     /* the first retained one; those before it are kept by
                                         * cursors, or wait to be freed */
    uint64_t valid_from;
    uint64_t end;
    uint64_t flushed; /* offset: bytes before it may end a frame */
    bool in_entry;    /* what was appended last goes on */
    size_t retained_bytes, older_bytes;
    uint64_t retained_plain_bytes;
    size_t restored_bytes; /* plain bytes of compressed blocks */
    size_t blocks, plain_blocks;
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
