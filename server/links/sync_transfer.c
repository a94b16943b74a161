/* See sync_transfer.h: the data set comes over the socket and goes into a file.
 *
 * It comes as $length and so many bytes, or, when the primary does not know how long it will be, as
 * $EOF:mark and bytes up to that mark of 40 random characters. */
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
#include "server/base/log.h"
#include "server/links/sync_private.h"
#include "server/links/sync_socket.h"

#define BUFFER_BYTES    ((size_t)64 * 1024)
#define FLUSH_BYTES     ((int64_t)8 * 1024 * 1024) /* so much is left to the disk at a time */
#define LINE_SIZE       1024
#define TEMPORARY_TRIES 5

struct transfer {
    struct sync *sync;
    int file;
    char path[64];
    int64_t received, flushed;
    char last[HISTORY_ID_LENGTH]; /* bytes that came last */
    char *buffer;
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
static bool read_head(struct sync *sync) {
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
    if (sync->by_mark) {
        memcpy(sync->mark, line + 5, HISTORY_ID_LENGTH);
        sync->size = 0;
        log_write(LOG_LEVEL_NOTICE,
                  "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to disk");
    } else {
        sync->size = strtoll(line + 1, NULL, 10);
        log_write(LOG_LEVEL_NOTICE,
                  "MASTER <-> REPLICA sync: receiving %lld bytes from master to disk",
                  (long long)sync->size);
    }
    return true;
}

static bool open_file(struct transfer *transfer) {
    for (int i = 0; i < TEMPORARY_TRIES; i++) {
        snprintf(transfer->path, sizeof transfer->path, "temp-%lld.%ld.rdb",
                 (long long)time(NULL) + i, (long)getpid());
        transfer->file = open(transfer->path, O_CREAT | O_RDWR | O_EXCL | O_CLOEXEC, 0644);
        if (transfer->file >= 0)
            return true;
    }
    log_write(LOG_LEVEL_WARNING,
              "Opening the temp file needed for MASTER <-> REPLICA synchronization: %s",
              strerror(errno));
    return false;
}

static bool write_all(struct transfer *transfer, size_t length) {
    const char *data = transfer->buffer;
    while (length > 0) {
        ssize_t n = write(transfer->file, data, length);
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

static void keep_last(struct transfer *transfer, size_t length) {
    size_t kept = sizeof transfer->last;
    if (length >= kept) {
        memcpy(transfer->last, transfer->buffer + length - kept, kept);
        return;
    }
    memmove(transfer->last, transfer->last + length, kept - length);
    memcpy(transfer->last + kept - length, transfer->buffer, length);
}

/* A little of it at a time goes to the disk, so that the end does not wait for all of it. */
static void flush_some(struct transfer *transfer) {
    if (transfer->received - transfer->flushed < FLUSH_BYTES)
        return;
    sync_file_range(transfer->file, transfer->flushed, transfer->received - transfer->flushed,
                    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE);
    transfer->flushed = transfer->received;
}

/* false: it is in the log. */
static bool receive_body(struct transfer *transfer) {
    struct sync *sync = transfer->sync;
    struct sync_progress *progress = sync->environment.progress;
    atomic_store(&progress->total_bytes, sync->size);
    atomic_store(&progress->received_bytes, 0);
    while (sync->by_mark || transfer->received < sync->size) {
        size_t wanted = BUFFER_BYTES;
        if (!sync->by_mark && sync->size - transfer->received < (int64_t)wanted)
            wanted = (size_t)(sync->size - transfer->received);
        ssize_t n = sync_read(sync, transfer->buffer, wanted);
        if (n <= 0) {
            tell_failure(sync, "I/O error trying to sync with MASTER");
            return false;
        }
        if (!write_all(transfer, (size_t)n))
            return false;
        transfer->received += n;
        atomic_store_explicit(&progress->received_bytes, transfer->received, memory_order_relaxed);
        atomic_fetch_add_explicit(&progress->all_bytes, (uint64_t)n, memory_order_relaxed);
        flush_some(transfer);
        keep_last(transfer, (size_t)n);
        if (sync->by_mark && memcmp(transfer->last, sync->mark, sizeof transfer->last) == 0)
            break;
    }
    if (sync->by_mark && ftruncate(transfer->file, transfer->received - HISTORY_ID_LENGTH) < 0) {
        log_write(LOG_LEVEL_WARNING,
                  "Error truncating the RDB file received from the master for SYNC: %s",
                  strerror(errno));
        return false;
    }
    return true;
}

/* The name must be on the disk too. */
static bool sync_folder(void) {
    int folder = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = folder >= 0 && (fsync(folder) == 0 || errno == EINVAL || errno == EBADF);
    if (folder >= 0)
        close(folder);
    return done;
}

static bool finish_file(struct transfer *transfer) {
    const char *name = transfer->sync->request.file;
    const char *problem = NULL;
    if (fsync(transfer->file) < 0)
        problem = "Failed trying to sync the temp DB to disk";
    else if (rename(transfer->path, name) < 0)
        problem = "Failed trying to rename the temp DB";
    else if (!sync_folder())
        problem = "Failed trying to sync DB directory";
    if (problem)
        log_write(LOG_LEVEL_WARNING, "%s in MASTER <-> REPLICA synchronization: %s", problem,
                  strerror(errno));
    else
        transfer->path[0] = '\0';
    return problem == NULL;
}

enum sync_result sync_receive(struct sync *sync) {
    struct transfer transfer = {.sync = sync, .file = -1};
    if (!read_head(sync))
        return SYNC_BROKEN;
    if (!open_file(&transfer))
        return SYNC_FAILED;
    transfer.buffer = memory_alloc(BUFFER_BYTES);
    bool received = receive_body(&transfer) && finish_file(&transfer);
    memory_free(transfer.buffer);
    close(transfer.file);
    if (transfer.path[0])
        unlink(transfer.path);
    return received ? SYNC_LOADED : SYNC_BROKEN;
}
