/* See primary_conn.h. All on worker 0, but for drop.
 *
 * Offsets. An entry that has run counts by the bytes that it came in, before anything else can run:
 * whoever stops all threads finds an offset that fits the data. What is queued by MULTI counts when
 * EXEC has run, and goes on to our own replicas then, so these get whole transactions only.
 *
 * Frames are decoded as their commands are run, a turn's share at a time: a few of them may hold
 * hundreds of times their size. What has come and is not decoded is kept as it is. Where there are
 * several workers and more has come than little, pieces of some frames together are applied on all
 * of them (apply.h). */
#include "server/clients/primary_conn.h"

#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/exclusive.h"
#include "replication/frame.h"
#include "server/base/log.h"
#include "server/base/text.h"
#include "server/clients/apply.h"
#include "server/clients/batch.h"
#include "server/clients/conn_events.h"
#include "server/clients/input.h"
#include "server/clients/server.h"
#include "server/config/config.h"
#include "server/dispatch/call.h"
#include "server/dispatch/dispatch.h"

#define ERROR_SHOWN_MAX 4096
#define KEPT_STOP_BYTES (128 * 1024)

/* The process has one. Worker 0, or exclusive. */
static struct {
    struct server *server;
    struct conn *conn;             /* NULL: there is none */
    struct text queued;            /* bytes of a transaction whose EXEC has not run */
    bool broken;                   /* what came was no stream of commands */
    struct frame_decoder *decoder; /* NULL: the stream comes as it is */
    struct text kept;              /* frames that wait to be decoded, but for kept_used bytes */
    size_t kept_used;
    struct apply *apply; /* NULL: none was needed yet, or there is one worker */
    struct text plain;   /* decoded and not given, but for plain_used bytes */
    size_t plain_used;
} primary;

/* --- What is applied -------------------------------------------------------------------------- */

/* For INFO. */
static void note_received(struct conn *conn, const struct batch_entry *entry) {
    struct server *server = primary.server;
    uint64_t applied =
        atomic_load_explicit(&server->replication.history.offset, memory_order_relaxed);
    atomic_store_explicit(&server->replica.received_offset,
                          applied + primary.queued.length +
                              (size_t)(conn->source_end - entry->start),
                          memory_order_relaxed);
}

static void count(struct conn *conn, const struct batch_entry *entry) {
    struct replication *replication = &primary.server->replication;
    struct text *queued = &primary.queued;
    size_t length = (size_t)(entry->end - entry->start);
    COUNTER_ADD(primary.server->replica.stream_bytes, length);
    note_received(conn, entry);
    if (conn->session.in_multi || queued->length > 0)
        text_append(queued, entry->start, length);
    if (conn->session.in_multi)
        return;
    if (queued->length > 0) {
        replication_feed_raw(replication, queued->data, queued->length);
        text_clear(queued);
    } else {
        replication_feed_raw(replication, entry->start, length);
    }
}

/* The first error in what was replied since the mark, up to size - 1 bytes of it. */
static void first_error(const struct reply *reply, struct reply_mark mark, char *text,
                        size_t size) {
    const struct output_block *block = mark.last ? mark.last : reply->first;
    const char *from = mark.last ? mark.cursor : NULL;
    size_t length = 0;
    bool line_begins = true, found = false;
    for (; block; block = block->next, from = NULL) {
        const char *end = block == reply->last ? reply->cursor : block->data + block->length;
        for (const char *at = from ? from : block->data; at < end; at++) {
            if (found && (*at == '\r' || length + 1 == size))
                goto out;
            if (found)
                text[length++] = *at;
            else if (line_begins && *at == '-')
                found = true;
            line_begins = *at == '\n';
        }
    }
out:
    text[length] = '\0';
}

/* Whether a command that fails here, and has not there, ends the process. */
static bool is_fatal(void) {
    const struct config *config = config_current();
    return config->replica_read_only &&
           config->propagation_error_behavior != CONFIG_PROPAGATION_IGNORE;
}

static void tell_error(const char *text, const struct command *command) {
    log_write(LOG_LEVEL_WARNING,
              "== CRITICAL == This replica is sending an error to its master: '-%s' after "
              "processing the command '%s'",
              text, command ? command->name : "<unknown>");
    COUNTER_ADD(primary.server->replica.stream_errors, 1);
    if (is_fatal()) {
        log_write(LOG_LEVEL_WARNING,
                  "Guru Meditation: This replica panicked sending an error to its master after "
                  "processing the command '%s'",
                  command ? command->name : "<unknown>");
        abort();
    }
}

static bool asks_for_ack(const struct call *call) {
    return call->argc > 2 && call->argv[1].length == strlen("getack") &&
           argument_is(&call->argv[1], "getack") && call->command &&
           strcmp(call->command->name, "replconf") == 0;
}

/* Replies are nobody's; the errors among them are told in the log. */
static enum dispatch_result run(struct conn *conn, struct batch_entry *entry, int next_slot) {
    struct execution *execution = &conn->loop->execution;
    struct reply_mark mark = reply_mark(&conn->reply);
    enum dispatch_result result = dispatch_apply(execution, &conn->wait, &entry->call, next_slot);
    if (result == DISPATCH_PARKED || conn != primary.conn)
        return result;
    if (UNLIKELY(conn->reply.errors != mark.errors)) {
        char text[ERROR_SHOWN_MAX];
        execution_give_back(execution); /* no token is held over a system call */
        first_error(&conn->reply, mark, text, sizeof text);
        tell_error(text, conn->session.last_command);
    }
    reply_rewind(&conn->reply, mark);
    if (UNLIKELY(result == DISPATCH_CLOSE))
        return result;
    if (UNLIKELY(asks_for_ack(&entry->call)))
        replica_acknowledge(&primary.server->replica); /* of what came before */
    count(conn, entry);
    return result;
}

/* --- Its end ---------------------------------------------------------------------------------- */

static void broken(struct conn *conn, const char *error) {
    if (conn != primary.conn)
        return;
    log_write(LOG_LEVEL_WARNING,
              "Protocol error (%s) from the master: the connection is closed and the cached master "
              "is discarded.",
              error);
    primary.broken = true;
}

static void forget(void) {
    primary.conn = NULL;
    text_free(&primary.queued);
    text_free(&primary.kept);
    text_free(&primary.plain);
    primary.kept_used = primary.plain_used = 0;
    frame_decoder_destroy(primary.decoder);
    primary.decoder = NULL;
}

static void ending(struct conn *conn) {
    if (conn != primary.conn)
        return;
    forget();
    if (!conn->loop->leaving)
        replica_lost(&primary.server->replica, conn->session.database, !primary.broken);
}

/* --- Frames ----------------------------------------------------------------------------------- */

static size_t plain_left(void) {
    return primary.plain.length - primary.plain_used;
}

/* Decodes up to a piece of the stream into primary.plain or, where nobody applies pieces, runs what
 * comes out where it is. Returns how many bytes that has used up. */
static size_t decode(struct conn *conn, const char *data, size_t length) {
    size_t used = 0;
    while (used < length && conn == primary.conn && conn->state == CONN_IDLE &&
           primary.plain.length < APPLY_MAX_BYTES) {
        struct frame frame;
        size_t consumed;
        if (conn->in_batch) { /* its entries lie where the next frame may go */
            batch_run(conn->loop);
            continue;
        }
        int result = frame_decode(primary.decoder, data + used, length - used, &consumed, &frame);
        if (result < 0 && primary.plain.length > 0)
            return used; /* what came before is applied first; it will say so again */
        if (result < 0) {
            broken(conn, frame_error_text(result));
            conn_close(conn);
            return length;
        }
        used += consumed;
        if (result > 0 && primary.apply)
            text_append(&primary.plain, frame.plain, frame.length);
        else if (result > 0)
            conn_take_input(conn, frame.plain, frame.length);
    }
    return used;
}

static void count_piece(const char *data, size_t length) {
    COUNTER_ADD(primary.server->replica.stream_bytes, length);
    replication_feed_raw(&primary.server->replication, data, length);
}

/* Applies a piece of what is decoded on all workers if it is worth that. Returns how much is to be
 * run one after the other before the next. */
static size_t give_piece(struct conn *conn) {
    struct server *server = primary.server;
    if (!primary.apply || plain_left() < APPLY_MIN_BYTES || conn_query_bytes(conn) > 0)
        return plain_left();
    exclusive_point(); /* in a section the connection may be dropped */
    if (conn != primary.conn || conn->state != CONN_IDLE)
        return 0;
    struct apply_result result = apply_run(
        primary.apply, conn, primary.plain.data + primary.plain_used, plain_left(), count_piece);
    primary.plain_used += result.used;
    conn->spent += result.used;
    COUNTER_ADD(server->replica.shared_commands, result.commands);
    if (result.used > 0)
        atomic_store_explicit(&server->replica.received_offset,
                              atomic_load(&server->replication.history.offset) + plain_left(),
                              memory_order_relaxed);
    if (UNLIKELY(result.error != NULL))
        tell_error(result.error, result.failed);
    return result.alone;
}

/* Runs what is in primary.plain, as far as the turn's share goes. */
static void give(struct conn *conn) {
    while (conn == primary.conn && conn->state == CONN_IDLE && plain_left() > 0) {
        if (conn->in_batch) { /* what is in the batch comes before */
            batch_run(conn->loop);
            continue;
        }
        if (input_turn_is_over(conn)) {
            conn_become(conn, CONN_READY);
            return;
        }
        size_t length = give_piece(conn);
        if (length == 0)
            continue;
        const char *data = primary.plain.data + primary.plain_used;
        primary.plain_used += length;
        conn_take_input(conn, data, length);
    }
}

/* Decodes and runs by turns, while what comes out is taken. Returns how many bytes that has used
 * up. */
static size_t advance(struct conn *conn, const char *data, size_t length) {
    size_t used = 0;
    for (;;) {
        give(conn);
        if (conn != primary.conn || conn->state != CONN_IDLE || used == length)
            return used;
        if (conn->in_batch) { /* its entries lie in primary.plain */
            batch_run(conn->loop);
            continue;
        }
        text_clear(&primary.plain);
        primary.plain_used = 0;
        used += decode(conn, data + used, length - used);
    }
}

static void receive_frames(struct conn *conn, const char *data, size_t length) {
    struct text *kept = &primary.kept;
    if (conn != primary.conn)
        return;
    size_t used = kept->length > 0 || plain_left() > 0 ? 0 : advance(conn, data, length);
    if (used == length || conn != primary.conn)
        return;
    if (primary.kept_used > kept->length / 2) { /* what is moved is less than what has gone */
        kept->length -= primary.kept_used;
        memmove(kept->data, kept->data + primary.kept_used, kept->length);
        primary.kept_used = 0;
    }
    text_append(kept, data + used, length - used);
    if (kept->length - primary.kept_used > KEPT_STOP_BYTES)
        io_receive_stop(conn->loop->io, &conn->io);
}

/* What was kept is out of reach meanwhile: what is decoded may end the connection. */
static void decode_kept(struct conn *conn) {
    struct text kept = primary.kept;
    size_t used = primary.kept_used;
    if (conn != primary.conn)
        return;
    primary.kept = (struct text){0};
    primary.kept_used = 0;
    used += advance(conn, kept.data ? kept.data + used : NULL, kept.length - used);
    if (conn == primary.conn && used < kept.length) {
        primary.kept = kept;
        primary.kept_used = used;
    } else {
        text_free(&kept);
    }
}

static const struct conn_owner owner = {.run = run, .broken = broken, .ending = ending};
static const struct conn_owner owner_of_frames = {.run = run,
                                                  .receive = receive_frames,
                                                  .go_on = decode_kept,
                                                  .broken = broken,
                                                  .ending = ending};

/* --- What replica.h calls --------------------------------------------------------------------- */

static void open_connection(void *context, int fd, unsigned database, bool frames) {
    struct server *server = context;
    struct conn *conn = conn_create(server->loops[0], fd, true);
    ASSERT(!primary.conn);
    atomic_fetch_add(&server->client_count, 1);
    conn->owner = frames ? &owner_of_frames : &owner;
    if (frames)
        primary.decoder = frame_decoder_create(atomic_load(&server->replication.history.offset));
    if (frames && !primary.apply)
        primary.apply = apply_create(server);
    conn->session.applies = true;
    conn->session.authenticated = true;
    conn->session.database = database;
    primary.conn = conn;
    primary.broken = false;
    conn_arrive(conn);
}

static unsigned drop_connection(void *context) {
    struct conn *conn = primary.conn;
    (void)context;
    ASSERT(conn);
    conn->unexecuted =
        NULL; /* nothing of it runs any more, and its bytes may go with the decoder */
    forget();
    conn_ask_to_end(conn);
    return conn->session.database;
}

static void close_connection(void *context) {
    (void)context;
    if (primary.conn)
        conn_close(primary.conn);
}

static uint64_t last_received_ms(void *context) {
    (void)context;
    return primary.conn->last_active_ms;
}

static void send_bytes(void *context, const char *data, size_t length) {
    (void)context;
    struct conn *conn = primary.conn;
    if (!conn)
        return;
    reply_raw(&conn->reply, data, length);
    conn_mark_dirty(conn);
}

struct primary_connection primary_conn_for(struct server *server) {
    primary.server = server;
    return (struct primary_connection){open_connection,  drop_connection, close_connection,
                                       last_received_ms, send_bytes,      server};
}

unsigned primary_conn_database(void) {
    return primary.conn ? primary.conn->session.database : 0;
}
