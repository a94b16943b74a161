/* See sync.h. The thread, and the handshake.
 *
 * Ownership. The thread owns the attempt until it posts its end; from then on whoever started it
 * does. Who cancels it sets cancelled under the lock and forgets it: a cancelled thread never
 * posts, and frees the attempt itself. The socket is closed under the lock too, so that a
 * cancellation never shuts down a descriptor that has become somebody else's. */
#include "server/links/sync.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "engine/exclusive.h"
#include "engine/memory.h"
#include "replication/psync.h"
#include "server/base/log.h"
#include "server/links/sync_load.h"
#include "server/links/sync_private.h"
#include "server/links/sync_socket.h"
#include "server/links/sync_transfer.h"
#include "server/persistence/persistence.h"

#define LINE_SIZE 1024

#define SEND(sync, ...) sync_send_command((sync), (const char *const[]){__VA_ARGS__, NULL})

/* --- The handshake ---------------------------------------------------------------------------- */

static bool receive_reply(struct sync *sync, char line[LINE_SIZE]) {
    if (sync_read_line(sync, line, LINE_SIZE))
        return true;
    if (!sync_is_cancelled(sync))
        log_write(LOG_LEVEL_WARNING,
                  sync->timed_out ? "Timeout connecting to the MASTER..."
                                  : "Master did not respond to command during SYNC handshake");
    return false;
}

static bool begins(const char *line, const char *word) {
    return strncmp(line, word, strlen(word)) == 0;
}

static bool ping(struct sync *sync) {
    char line[LINE_SIZE];
    if (!SEND(sync, "PING") || !receive_reply(sync, line))
        return false;
    if (line[0] != '+' && !begins(line, "-NOAUTH") && !begins(line, "-NOPERM") &&
        !begins(line, "-ERR operation not permitted")) {
        log_write(LOG_LEVEL_WARNING, "Error reply to PING from master: '%s'", line);
        return false;
    }
    log_write(LOG_LEVEL_NOTICE, "Master replied to PING, replication can continue...");
    return true;
}

/* What older primaries may not know. */
static bool receive_optional(struct sync *sync, const char *what) {
    char line[LINE_SIZE];
    if (!receive_reply(sync, line))
        return false;
    if (line[0] == '-')
        log_write(LOG_LEVEL_NOTICE, "(Non critical) Master does not understand REPLCONF %s: %s",
                  what, line);
    return true;
}

static bool introduce(struct sync *sync) {
    const struct sync_request *request = &sync->request;
    char port[16], line[LINE_SIZE];
    snprintf(port, sizeof port, "%d", request->announced_port);
    bool sent = (!request->password || sync_send_auth(sync)) &&
                SEND(sync, "REPLCONF", "listening-port", port);
    if (request->announced_address)
        sent = sent && SEND(sync, "REPLCONF", "ip-address", request->announced_address);
    if (!sent || !SEND(sync, "REPLCONF", "capa", "eof", "capa", "psync2", "capa", PSYNC_FRAMES_NAME,
                       "capa", PSYNC_BLOCKS_NAME))
        return false;
    if (request->password) {
        if (!receive_reply(sync, line))
            return false;
        if (line[0] == '-') {
            log_write(LOG_LEVEL_WARNING, "Unable to AUTH to MASTER: %s", line);
            return false;
        }
    }
    return receive_optional(sync, "listening-port") &&
           (!request->announced_address || receive_optional(sync, "ip-address")) &&
           receive_optional(sync, "capa");
}

/* --- PSYNC ------------------------------------------------------------------------------------ */

static void write_log(const struct psync_log *log) {
    for (int i = 0; i < log->count; i++)
        log_write(log->lines[i].level == PSYNC_LOG_WARNING ? LOG_LEVEL_WARNING : LOG_LEVEL_NOTICE,
                  "%s", log->lines[i].text);
}

static bool ask(struct sync *sync, const char *cached_id) {
    const char *id;
    int64_t offset;
    struct psync_log log;
    char text[32];
    psync_ask(cached_id, (int64_t)sync->request.offset, &id, &offset, &log);
    write_log(&log);
    snprintf(text, sizeof text, "%lld", (long long)offset);
    return sync->request.failover ? SEND(sync, "PSYNC", id, text, "FAILOVER")
                                  : SEND(sync, "PSYNC", id, text);
}

static enum psync_outcome psync(struct sync *sync) {
    const char *cached_id = sync->request.may_continue ? sync->request.id : NULL;
    char line[LINE_SIZE];
    struct psync_reply reply;
    if (!ask(sync, cached_id)) {
        sync_set_answer(sync, SYNC_NOT_ASKED);
        return PSYNC_TRY_LATER;
    }
    do { /* empty lines only keep the connection alive */
        bool replied = sync_read_line(sync, line, sizeof line);
        if (!replied && sync_is_cancelled(sync))
            return PSYNC_TRY_LATER;
        if (!replied && sync->timed_out) {
            log_write(LOG_LEVEL_WARNING, "Timeout connecting to the MASTER...");
            return PSYNC_TRY_LATER;
        }
        psync_read_reply(replied ? line : NULL, cached_id, &reply);
    } while (reply.outcome == PSYNC_WAIT);
    write_log(&reply.log);
    bool accepted = reply.outcome == PSYNC_CONTINUE || reply.outcome == PSYNC_FULL;
    if (sync->request.failover && !accepted) {
        sync_set_answer(sync, SYNC_REFUSED);
        return PSYNC_TRY_LATER;
    }
    sync->frames = reply.frames;
    if (reply.id[0] != '\0') /* else an id that nobody has: the next attempt is not continued */
        memcpy(sync->id, reply.id, HISTORY_ID_LENGTH);
    if (reply.offset >= 0)
        sync->offset = (uint64_t)reply.offset;
    return reply.outcome;
}

/* The stream goes on. Another id: the primary has begun a new history, which ours is part of. */
static void adopt_id(void *context) {
    struct sync *sync = context;
    struct replication *replication = sync->environment.replication;
    if (sync_is_cancelled(sync))
        return;
    unsigned effects = place_continued(&replication->place, &replication->history, sync->id);
    replication_act(replication, effects);
    if (effects && replication->serving.changed)
        replication->serving.changed(replication->serving.context);
}

/* The data set, by way of a file or straight from the socket. */
static enum sync_result receive(struct sync *sync) {
    bool by_file = !sync->request.from_socket;
    struct transfer *transfer = transfer_begin(sync, by_file ? "disk" : "parser");
    if (!transfer)
        return SYNC_BROKEN;
    enum sync_result result = by_file ? transfer_to_file(transfer, sync->request.file)
                                      : sync_load_transfer(sync, transfer);
    transfer_free(transfer);
    if (by_file && result == SYNC_LOADED)
        result = sync_load_file(sync, sync->request.file);
    return result;
}

static enum sync_result synchronize(struct sync *sync) {
    if (!sync_connect(sync))
        return SYNC_FAILED;
    log_write(LOG_LEVEL_NOTICE, "Non blocking connect for SYNC fired the event.");
    sync_set_link(sync, REPLICATION_LINK_HANDSHAKE);
    sync_note_io(sync);
    if (!ping(sync) || !introduce(sync))
        return SYNC_FAILED;
    switch (psync(sync)) {
    case PSYNC_CONTINUE:
        exclusive_run_blocking(adopt_id, sync);
        sync_set_answer(sync, SYNC_ACCEPTED);
        sync->database = sync->request.database;
        log_write(LOG_LEVEL_NOTICE,
                  "MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
        return SYNC_CONTINUED;
    case PSYNC_FULL:
        sync_set_answer(sync, SYNC_ACCEPTED);
        break;
    case PSYNC_NOT_SUPPORTED:
        log_write(LOG_LEVEL_NOTICE, "Retrying with SYNC...");
        if (!sync_send(sync, "SYNC\r\n", 6)) {
            log_write(LOG_LEVEL_WARNING, "I/O error writing to MASTER: %s", sync->error);
            return SYNC_FAILED;
        }
        break;
    case PSYNC_TRY_LATER:
    case PSYNC_WAIT:
        return SYNC_FAILED;
    }
    sync_set_link(sync, REPLICATION_LINK_TRANSFER);
    return receive(sync);
}

/* --- The thread ------------------------------------------------------------------------------- */

static void free_attempt(struct sync *sync) {
    if (sync->fd >= 0)
        close(sync->fd);
    memory_free((char *)(uintptr_t)sync->request.host);
    memory_free((char *)(uintptr_t)sync->request.source_address);
    memory_free((char *)(uintptr_t)sync->request.user);
    memory_free((char *)(uintptr_t)sync->request.password);
    memory_free((char *)(uintptr_t)sync->request.announced_address);
    memory_free((char *)(uintptr_t)sync->request.file);
    pthread_mutex_destroy(&sync->lock);
    memory_free(sync);
}

static void ended(struct message *message) {
    struct sync *sync = (struct sync *)(void *)message;
    pthread_mutex_lock(&sync->lock); /* the thread has let go of it */
    bool cancelled = sync->cancelled;
    pthread_mutex_unlock(&sync->lock);
    if (cancelled)
        sync_free(sync);
    else
        sync->environment.ended(sync, sync->environment.context);
}

static void *thread_main(void *context) {
    struct sync *sync = context;
    pthread_setname_np(pthread_self(), "sync");
    sync->result = synchronize(sync);
    if (sync->result == SYNC_FAILED || sync->result == SYNC_BROKEN)
        sync_close(sync);
    pthread_mutex_lock(&sync->lock);
    bool cancelled = sync->cancelled;
    if (!cancelled) {
        sync->posted = true;
        mailbox_post(sync->environment.mailbox, &sync->message);
    }
    pthread_mutex_unlock(&sync->lock);
    if (cancelled)
        free_attempt(sync);
    return NULL;
}

static const char *copy_bytes(const char *text, size_t length) {
    char *copy = text ? memory_alloc(length + 1) : NULL;
    return copy ? memcpy(copy, text, length + 1) : NULL;
}

static const char *copy_text(const char *text) {
    return text ? memory_strdup(text) : NULL;
}

struct sync *sync_start(const struct sync_request *request,
                        const struct sync_environment *environment) {
    struct sync *sync = memory_calloc(1, sizeof *sync);
    struct history unknown;
    sync->request = *request;
    sync->request.host = copy_text(request->host);
    sync->request.source_address = copy_text(request->source_address);
    sync->request.user = copy_bytes(request->user, request->user_length);
    sync->request.password = copy_bytes(request->password, request->password_length);
    sync->request.announced_address = copy_text(request->announced_address);
    sync->request.file = copy_text(request->file);
    sync->environment = *environment;
    sync->message.run = ended;
    sync->timeout_ms = request->timeout_ms;
    sync->fd = -1;
    sync->resolving = true;
    history_init(&unknown);
    memcpy(sync->id, unknown.id, sizeof sync->id); /* until the primary has told its own */
    pthread_mutex_init(&sync->lock, NULL);
    atomic_store(&environment->progress->link, REPLICATION_LINK_CONNECTING);
    int error = pthread_create(&sync->thread, NULL, thread_main, sync);
    if (error == 0)
        return sync;
    log_write(LOG_LEVEL_WARNING, "Unable to connect to MASTER: %s", strerror(error));
    free_attempt(sync);
    return NULL;
}

void sync_cancel(struct sync *sync) {
    pthread_mutex_lock(&sync->lock);
    sync->cancelled = true;
    if (sync->fd >= 0)
        shutdown(sync->fd, SHUT_RDWR);
    if (!sync->posted) /* else its message comes, and it is joined then */
        pthread_detach(sync->thread);
    pthread_mutex_unlock(&sync->lock);
}

void sync_set_timeout(struct sync *sync, int64_t timeout_ms) {
    atomic_store(&sync->timeout_ms, timeout_ms);
}

void sync_stop(struct sync *sync) {
    pthread_mutex_lock(&sync->lock);
    atomic_store(&sync->stopping, true);
    atomic_store(&sync->environment.persistence->progress.stop, true);
    bool resolving = sync->resolving; /* that may take as long as it likes */
    sync->cancelled = resolving;
    if (sync->fd >= 0)
        shutdown(sync->fd, SHUT_RDWR);
    if (resolving)
        pthread_detach(sync->thread);
    pthread_mutex_unlock(&sync->lock);
    if (!resolving)
        sync_free(sync);
}

/* --- The end ---------------------------------------------------------------------------------- */

enum sync_result sync_result(const struct sync *sync) {
    return sync->result;
}

int sync_take_socket(struct sync *sync, unsigned *database, bool *wants_ack) {
    const struct timeval none = {0};
    int fd = sync->fd;
    sync->fd = -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    *database = sync->database;
    *wants_ack = sync->by_mark;
    return fd;
}

bool sync_gets_frames(const struct sync *sync) {
    return sync->frames;
}

void sync_free(struct sync *sync) {
    pthread_join(sync->thread, NULL);
    free_attempt(sync);
}
