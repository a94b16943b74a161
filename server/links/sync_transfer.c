/* See sync_transfer.h: the data set comes over the socket.
 *
 * It comes as $length and so many bytes, or, when the primary does not know how long it will be, as
 * $EOF:mark and bytes up to that mark of 40 random characters. From a primary of the same make it
 * comes in LZ4 blocks (replication/rdb_block.h), of which nobody else sees anything: what is handed
 * on is the RDB. Nothing behind the last block is taken from the socket. */
#include "server/links/sync_transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/memory.h"
#include "replication/psync.h"
#include "replication/rdb_block.h"
#include "server/base/log.h"
#include "server/links/sync_private.h"
#include "server/links/sync_socket.h"

#define BUFFER_BYTES    ((size_t)64 * 1024)
#define FLUSH_BYTES     ((int64_t)8 * 1024 * 1024) /* so much is left to the disk at a time */
#define LINE_SIZE       1024
#define TEMPORARY_TRIES 5

struct transfer {
    struct sync *sync;
    int64_t received; /* without what is held back */
    bool over;
    bool corrupt; /* it is not what a primary sends */
    /* What has come and is not handed on: [begin, end). What may be the mark is held back. */
    size_t begin, end;
    char *buffer;    /* BUFFER_BYTES, or one block opened */
    char *payload;   /* of a block */
    uint64_t opened; /* plain bytes of the blocks so far */
};

static void tell_failure(struct sync *sync, const char *what) {
    if (sync_is_cancelled(sync))
        return;
    if (sync->timed_out)
        log_write(LOG_LEVEL_WARNING,
                  "Timeout receiving bulk data from MASTER... If the problem persists try to set "
                  "the 'repl-timeout' parameter in redis.conf to a larger value.");
    else
        log_write(LOG_LEVEL_WARNING, "%s: %s", what, sync->error);
}

/* The line that announces it. Empty lines only keep the connection alive. */
static bool read_head(struct sync *sync, const char *destination) {
    char line[LINE_SIZE];
    do {
        if (!sync_read_line(sync, line, sizeof line)) {
            tell_failure(sync, "I/O error reading bulk count from MASTER");
            return false;
        }
    } while (line[0] == '\0');
    if (line[0] == '-') {
        log_write(LOG_LEVEL_WARNING, "MASTER aborted replication with an error: %s", line + 1);
        return false;
    }
    if (line[0] != '$') {
        log_write(LOG_LEVEL_WARNING,
                  "Bad protocol from MASTER, the first byte is not '$' (we received '%s'), are you "
                  "sure the host and port are right?",
                  line);
        return false;
    }
    sync->by_mark = strncmp(line + 1, "EOF:", 4) == 0 && strlen(line + 5) >= HISTORY_ID_LENGTH;
    sync->blocks = strcmp(line + 1, PSYNC_BLOCKS_NAME) == 0;
    if (sync->blocks) {
        sync->size = 0;
        log_write(LOG_LEVEL_NOTICE,
                  "MASTER <-> REPLICA sync: receiving streamed RDB from master in LZ4 blocks to %s",
                  destination);
    } else if (sync->by_mark) {
        memcpy(sync->mark, line + 5, HISTORY_ID_LENGTH);
        sync->size = 0;
        log_write(LOG_LEVEL_NOTICE,
                  "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to %s",
                  destination);
    } else {
        sync->size = strtoll(line + 1, NULL, 10);
        log_write(LOG_LEVEL_NOTICE,
                  "MASTER <-> REPLICA sync: receiving %lld bytes from master to %s",
                  (long long)sync->size, destination);
    }
    return true;
}

struct transfer *transfer_begin(struct sync *sync, const char *destination) {
    struct sync_progress *progress = sync->environment.progress;
    if (!read_head(sync, destination))
        return NULL;
    struct transfer *transfer = memory_calloc(1, sizeof *transfer);
    transfer->sync = sync;
    transfer->buffer = memory_alloc(sync->blocks ? RDB_BLOCK_PLAIN_MAX : BUFFER_BYTES);
    if (sync->blocks)
        transfer->payload = memory_alloc(RDB_BLOCK_PLAIN_MAX);
    else
        transfer->over = !sync->by_mark && sync->size <= 0;
    atomic_store(&progress->total_bytes, sync->size);
    atomic_store(&progress->received_bytes, 0);
    return transfer;
}

void transfer_free(struct transfer *transfer) {
    memory_free(transfer->buffer);
    memory_free(transfer->payload);
    memory_free(transfer);
}

uint64_t transfer_bytes(const struct transfer *transfer) {
    const struct sync *sync = transfer->sync;
    return sync->by_mark || sync->blocks ? RDB_SIZE_UNKNOWN : (uint64_t)sync->size;
}

static bool receive(struct transfer *transfer, void *data, size_t length, size_t *count) {
    struct sync *sync = transfer->sync;
    struct sync_progress *progress = sync->environment.progress;
    ssize_t n = sync_read(sync, data, length);
    if (n <= 0) {
        tell_failure(sync, "I/O error trying to sync with MASTER");
        return false;
    }
    *count = (size_t)n;
    transfer->received += n;
    atomic_store_explicit(&progress->received_bytes, transfer->received, memory_order_relaxed);
    atomic_fetch_add_explicit(&progress->all_bytes, (uint64_t)n, memory_order_relaxed);
    return true;
}

/* --- Bytes as they are ------------------------------------------------------------------------ */

/* What may be handed on now. */
static size_t ready_bytes(const struct transfer *transfer) {
    size_t there = transfer->end - transfer->begin;
    if (!transfer->sync->by_mark)
        return there;
    return there > HISTORY_ID_LENGTH ? there - HISTORY_ID_LENGTH : 0;
}

/* More bytes. false: they do not come, which is in the log. */
static bool fill(struct transfer *transfer) {
    const struct sync *sync = transfer->sync;
    size_t count;
    memmove(transfer->buffer, transfer->buffer + transfer->begin, transfer->end - transfer->begin);
    transfer->end -= transfer->begin;
    transfer->begin = 0;
    size_t wanted = BUFFER_BYTES - transfer->end;
    if (!sync->by_mark && sync->size - transfer->received < (int64_t)wanted)
        wanted = (size_t)(sync->size - transfer->received);
    if (!receive(transfer, transfer->buffer + transfer->end, wanted, &count))
        return false;
    transfer->end += count;
    if (sync->by_mark)
        transfer->over = transfer->end >= HISTORY_ID_LENGTH &&
                         memcmp(transfer->buffer + transfer->end - HISTORY_ID_LENGTH, sync->mark,
                                HISTORY_ID_LENGTH) == 0;
    else
        transfer->over = transfer->received == sync->size;
    return true;
}

/* --- Blocks ----------------------------------------------------------------------------------- */

static bool receive_all(struct transfer *transfer, char *data, size_t length) {
    size_t count;
    for (size_t done = 0; done < length; done += count)
        if (!receive(transfer, data + done, length - done, &count))
            return false;
    return true;
}

static bool tell_corrupt(struct transfer *transfer, int error) {
    transfer->corrupt = true;
    log_write(LOG_LEVEL_WARNING, "Corrupt snapshot from MASTER, at byte %lld: %s",
              (long long)transfer->received, rdb_block_error_text(error));
    return false;
}

/* The next block, opened. All of the one before has been handed on. */
static bool fill_block(struct transfer *transfer) {
    char header[RDB_BLOCK_HEADER_BYTES];
    struct rdb_block block;
    if (!receive_all(transfer, header, sizeof header))
        return false;
    int error = rdb_block_read_header(header, &block);
    if (error)
        return tell_corrupt(transfer, error);
    if (!receive_all(transfer, transfer->payload, block.payload_bytes))
        return false;
    error = rdb_block_open(&block, transfer->payload, transfer->opened, transfer->buffer);
    if (error)
        return tell_corrupt(transfer, error);
    transfer->begin = 0;
    transfer->end = block.plain_bytes;
    transfer->opened += block.plain_bytes;
    transfer->over = block.flags & RDB_BLOCK_LAST;
    return true;
}

/* --- What is handed on ------------------------------------------------------------------------ */

bool transfer_await(struct transfer *transfer) {
    while (ready_bytes(transfer) == 0 && !transfer->over)
        if (!(transfer->payload ? fill_block(transfer) : fill(transfer)))
            return false;
    return true;
}

ssize_t transfer_read(void *context, void *data, size_t room) {
    struct transfer *transfer = context;
    if (!transfer_await(transfer))
        return -EIO;
    size_t n = ready_bytes(transfer);
    n = n < room ? n : room;
    memcpy(data, transfer->buffer + transfer->begin, n);
    transfer->begin += n;
    return (ssize_t)n;
}

enum sync_result transfer_failure(const struct transfer *transfer) {
    return transfer->corrupt ? SYNC_FAILED : SYNC_BROKEN;
}

bool transfer_finish(struct transfer *transfer) {
    char rest[64];
    ssize_t n;
    while ((n = transfer_read(transfer, rest, sizeof rest)) > 0)
        continue; /* nothing that a reader needs */
    return n == 0;
}

/* --- Into a file ------------------------------------------------------------------------------ */

struct file {
    int fd;
    char path[64];
    int64_t written, flushed;
};

static bool open_file(struct file *file) {
    for (int i = 0; i < TEMPORARY_TRIES; i++) {
        snprintf(file->path, sizeof file->path, "temp-%lld.%ld.rdb", (long long)time(NULL) + i,
                 (long)getpid());
        file->fd = open(file->path, O_CREAT | O_RDWR | O_EXCL | O_CLOEXEC, 0644);
        if (file->fd >= 0)
            return true;
    }
    log_write(LOG_LEVEL_WARNING,
              "Opening the temp file needed for MASTER <-> REPLICA synchronization: %s",
              strerror(errno));
    return false;
}

static bool write_all(struct file *file, const char *data, size_t length) {
    file->written += (int64_t)length;
    while (length > 0) {
        ssize_t n = write(file->fd, data, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            log_write(LOG_LEVEL_WARNING,
                      "Write error or short write writing to the DB dump file needed for MASTER "
                      "<-> REPLICA synchronization: %s",
                      n < 0 ? strerror(errno) : "short write");
            return false;
        }
        data += n;
        length -= (size_t)n;
    }
    return true;
}

/* A little of it at a time goes to the disk, so that the end does not wait for all of it. */
static void flush_some(struct file *file) {
    if (file->written - file->flushed < FLUSH_BYTES)
        return;
    sync_file_range(file->fd, file->flushed, file->written - file->flushed,
                    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE);
    file->flushed = file->written;
}

static bool copy_all(struct transfer *transfer, struct file *file) {
    char *buffer = memory_alloc(BUFFER_BYTES);
    ssize_t n;
    bool fine = true;
    while (fine && (n = transfer_read(transfer, buffer, BUFFER_BYTES)) != 0) {
        fine = n > 0 && write_all(file, buffer, (size_t)n);
        flush_some(file);
    }
    memory_free(buffer);
    return fine;
}

/* The name must be on the disk too. */
static bool sync_folder(void) {
    int folder = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = folder >= 0 && (fsync(folder) == 0 || errno == EINVAL || errno == EBADF);
    if (folder >= 0)
        close(folder);
    return done;
}

static bool finish_file(struct file *file, const char *name) {
    const char *problem = NULL;
    if (fsync(file->fd) < 0)
        problem = "Failed trying to sync the temp DB to disk";
    else if (rename(file->path, name) < 0)
        problem = "Failed trying to rename the temp DB";
    else if (!sync_folder())
        problem = "Failed trying to sync DB directory";
    if (problem)
        log_write(LOG_LEVEL_WARNING, "%s in MASTER <-> REPLICA synchronization: %s", problem,
                  strerror(errno));
    else
        file->path[0] = '\0';
    return problem == NULL;
}

enum sync_result transfer_to_file(struct transfer *transfer, const char *name) {
    struct file file = {.fd = -1};
    if (!open_file(&file))
        return SYNC_FAILED;
    bool received = copy_all(transfer, &file) && finish_file(&file, name);
    close(file.fd);
    if (file.path[0])
        unlink(file.path);
    return received ? SYNC_LOADED : transfer_failure(transfer);
}
