/* Blocks of the backlog: plain bytes, the frames made of them, and the jobs that make them. Private
 * to backlog*.c. Run by: the owner of the backlog, except for block_job_run; see backlog_block.c.
 */
#ifndef SLOTWISE_REPLICATION_BACKLOG_BLOCK_H
#define SLOTWISE_REPLICATION_BACKLOG_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/frame.h"

struct backlog;
struct backlog_job;

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
/* Takes a whole entry if it ends neither a frame nor the block. false: it does. */
bool block_append_short(struct backlog_block *block, const char *data, size_t length);
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
/* Makes the frames, which are the job's until it is finished: any one thread. */
void block_job_run(struct backlog_job *job);
/* Takes the result over if there is one and frees the job; true: there was one. The block is still
 * there. */
bool block_job_finish(struct backlog_block *block);
/* The block (and its backlog) goes; the job then frees the plain bytes itself. */
void block_job_orphan(struct backlog_block *block);
/* NULL: the block is gone. */
struct backlog_block *block_job_block(const struct backlog_job *job);
/* Frees an orphaned job. */
void block_job_destroy(struct backlog_job *job);

#endif
