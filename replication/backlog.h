/* Backlog: the part of the replication stream that is kept, and what reads it.
 *
 * The stream is appended in whole entries and numbered by plain offsets (bytes before this one
 * since the history began; PSYNC asks for offset + 1). It lies in blocks, each of which restarts
 * the history of its frames (frame.h). The last block is open: it is plain bytes that grow. The
 * others are sealed, and are compressed as soon as somebody has time: a reader that wants frames,
 * or any thread that takes a job (backlog_compressor.h). Then their plain bytes go.
 *
 * repl-backlog-size bounds what is *retained*: blocks count as what they take in memory, so a
 * backlog of compressed blocks bridges more plain bytes than its size. The oldest block goes once
 * the others alone reach the size, in memory and in plain bytes: the backlog always bridges its
 * size, as that of stock servers does, and takes at most that, what its bookkeeping takes, and a
 * block.
 *
 * A cursor reads from an offset on and keeps the blocks from there to the end, whether they are
 * still retained or not. A plain cursor yields the stream as it is, for stock replicas; a frames
 * cursor yields frames, which are encoded once for all of them. What a cursor keeps beyond the
 * retained part is counted for it.
 *
 * Threads. One thread owns a backlog with its cursors (the link) and makes all calls but
 * backlog_job_run, which any thread may make for a job that it was handed. See backlog.c for
 * Algorithm / Ownership. */
#ifndef SLOTWISE_REPLICATION_BACKLOG_H
#define SLOTWISE_REPLICATION_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* A block has a sixteenth of the backlog's size in plain bytes, within these bounds. */
#define BACKLOG_BLOCK_MIN_BYTES ((size_t)16 * 1024)
#define BACKLOG_BLOCK_MAX_BYTES ((size_t)256 * 1024)

struct backlog;
struct backlog_cursor;
struct backlog_job;

/* An empty backlog whose first byte will have this offset. size_bytes: repl-backlog-size. */
struct backlog *backlog_create(size_t size_bytes, uint64_t offset);
/* Frees everything (on the background thread). No cursor is open. Jobs that are out stay valid and
 * are given back as ever. NULL is fine. */
void backlog_destroy(struct backlog *backlog);

/* Another size from now on. Shrinking lets old blocks go at once, but for a few dozen at a time:
 * backlog_trim or further appends free the rest. New blocks have the new block size. */
void backlog_resize(struct backlog *backlog, size_t size_bytes);
/* Frees some more of what nobody keeps any longer; true: there is more. From a timer, so that an
 * idle primary gets there as well. */
bool backlog_trim(struct backlog *backlog);

/* Appends an entry, or a piece of one: continued says that the entry goes on in the next append.
 * The bytes are copied. */
void backlog_append(struct backlog *backlog, const char *data, size_t length, bool continued);
/* What has been appended so far may end a frame that is shorter than a full one. To be called when
 * something has waited for long enough (0.5 ms). Costs nothing where no frames are read. */
void backlog_flush(struct backlog *backlog);

/* The first offset that can be read, and the one behind the last. Reading at the end is fine. */
uint64_t backlog_first_offset(const struct backlog *backlog);
uint64_t backlog_end_offset(const struct backlog *backlog);

/* --- Reading ---------------------------------------------------------------------------------- */

enum backlog_kind {
    BACKLOG_PLAIN,
    BACKLOG_FRAMES,
};

/* Reads from this offset on; NULL when it is not there (any more). Frames start with one that
 * restarts history and whose first plain byte has this offset. */
struct backlog_cursor *backlog_cursor_open(struct backlog *backlog, enum backlog_kind kind,
                                           uint64_t offset);
/* No piece that it has shown may be in use any more (a send that is under way). NULL is fine. */
void backlog_cursor_close(struct backlog_cursor *cursor);

/* Shows what is to be sent next: fills up to max pieces and returns how many, 0 for nothing. May
 * compress or decompress the block that the cursor is in. Each piece stays where it is and as it is
 * until the cursor has advanced over all of it; asking again shows at least the same bytes. Bytes
 * that wait for a flush are not shown to a frames cursor, nor are those of a block that a job has:
 * look again after a flush and after backlog_job_give. */
int backlog_cursor_peek(struct backlog_cursor *cursor, struct iovec *pieces, int max);
/* So many of the bytes shown have been sent. */
void backlog_cursor_advance(struct backlog_cursor *cursor, size_t bytes);

/* The plain offset that it has reached: of a frame that was sent in part its beginning. */
uint64_t backlog_cursor_offset(const struct backlog_cursor *cursor);
/* The bytes in memory that are kept for it (and for cursors before it) beyond what is retained
 * anyway. They count against client-output-buffer-limit replica. */
uint64_t backlog_cursor_pinned_bytes(const struct backlog_cursor *cursor);

/* --- Compression by others -------------------------------------------------------------------- */

/* Hands out the newest sealed block that is not compressed and that no frames cursor is in or comes
 * to next; NULL: there is none. Costs next to nothing while nothing has changed since. */
struct backlog_job *backlog_job_take(struct backlog *backlog);
/* Compresses it: about half a millisecond. Any one thread, without the owner's knowledge: the job
 * refers only to bytes that nobody changes or frees while it is out. */
void backlog_job_run(struct backlog_job *job);
/* Puts the result (or nothing, if it did not run) back and frees the job. On the owner's thread;
 * what the job's thread wrote must be visible there (a mailbox sees to that). The backlog may be
 * gone by then. */
void backlog_job_give(struct backlog_job *job);

/* --- Figures ---------------------------------------------------------------------------------- */

struct backlog_statistics {
    uint64_t size_bytes;
    uint64_t retained_bytes;       /* memory of what is retained */
    uint64_t retained_plain_bytes; /* and how many plain bytes that bridges */
    uint64_t pinned_bytes;         /* memory of older blocks that cursors keep */
    uint64_t cached_bytes; /* plain bytes for readers of compressed blocks, buffers to spare */
    uint64_t blocks;
    uint64_t plain_blocks; /* sealed and not compressed yet */
    /* Frames encoded since the backlog was created; each once, however many read it. */
    uint64_t frames;
    uint64_t frames_stored;
    uint64_t frames_plain_bytes;
    uint64_t frames_wire_bytes;
    /* Of these, encoded for one cursor alone, since it began in the middle of a block. */
    uint64_t frames_alone;
};
void backlog_get_statistics(const struct backlog *backlog, struct backlog_statistics *statistics);

#endif
