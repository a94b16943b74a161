/* The state of a connection, its output, what is kept of its input, and its end: see conn.h. What
 * happens to it: conn_events.c; bytes become commands: input.c; commands run: batch.c. */
#include "server/clients/conn.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/clients/server.h"
#include "server/config/config.h"
#include "server/dispatch/dispatch.h"
#include "server/dispatch/lease_gate.h"

/* --- States ----------------------------------------------------------------------------------- */

#define QUERY_STOP_BYTES (128 * 1024)
#define ANSWERED_MAX     8 /* of a turn: the kernel takes 0.1 ms to close one */

#define TO(state) (1u << CONN_##state)

static const uint16_t next_states[CONN_STATES] = {
    [CONN_IDLE] = TO(READY) | TO(PARKED) | TO(DETACHING) | TO(DRAINING) | TO(CLOSING),
    [CONN_READY] = TO(IDLE) | TO(CLOSING),
    [CONN_PARKED] = TO(IDLE) | TO(CLOSING),
    [CONN_DETACHING] = TO(MOVING) | TO(CLOSING),
    [CONN_MOVING] = TO(IDLE),
    [CONN_DRAINING] = TO(CLOSING),
    [CONN_CLOSING] = TO(CLOSED),
};

static void ready_append(struct loop *loop, struct conn *conn) {
    conn->next_ready = NULL;
    if (loop->ready_last)
        loop->ready_last->next_ready = conn;
    else
        loop->ready_first = conn;
    loop->ready_last = conn;
    loop->ready_count++;
}

static void ready_remove(struct loop *loop, struct conn *conn) {
    struct conn **link = &loop->ready_first, *previous = NULL;
    while (*link != conn) {
        ASSERT(*link);
        previous = *link;
        link = &previous->next_ready;
    }
    *link = conn->next_ready;
    if (loop->ready_last == conn)
        loop->ready_last = previous;
    loop->ready_count--;
}

void conn_become(struct conn *conn, enum conn_state state) {
    ASSERT(next_states[conn->state] & (1u << state));
    if (conn->state == CONN_READY)
        ready_remove(conn->loop, conn);
    conn->state = (uint8_t)state;
    switch (state) {
    case CONN_READY:
        ready_append(conn->loop, conn);
        break;
    case CONN_PARKED:
        ASSERT(wait_is_waiting(&conn->wait));
        break;
    case CONN_DETACHING:
    case CONN_MOVING:
        ASSERT(conn->wait.state == WAIT_NONE && !conn->in_batch && !conn->dirty &&
               !conn->io.output_first && !conn->io.sending);
        break;
    default:
        break;
    }
}

/* --- Beginning -------------------------------------------------------------------------------- */

/* --- Bytes ------------------------------------------------------------------------------------ */

static void count_sent(struct conn *conn) {
    COUNTER_ADD(conn->loop->sent_bytes, conn->io.sent_bytes - conn->sent_counted);
    conn->sent_counted = conn->io.sent_bytes;
}

void conn_drained(struct conn *conn, int error) {
    if (conn->state >= CONN_CLOSING)
        return;
    count_sent(conn);
    if (error || conn->state == CONN_DRAINING)
        conn_close(conn);
    else if (UNLIKELY(conn->move_target != NULL))
        conn_try_move(conn);
}

void conn_mark_dirty(struct conn *conn) {
    if (conn->dirty)
        return;
    conn->dirty = true;
    conn->next_dirty = conn->loop->dirty;
    conn->loop->dirty = conn;
}

/* Redis's client-output-buffer-limit of its class, but for replicas. */
static bool over_output_limit(struct conn *conn) {
    const struct config_output_limit *limit =
        &config_current()
             ->client_output_buffer_limit
             .of[conn->session.subscriptions ? CONFIG_CLIENT_PUBSUB : CONFIG_CLIENT_NORMAL];
    if (LIKELY((limit->hard_bytes == 0 && limit->soft_bytes == 0) || conn_is_replica(conn)))
        return false;
    size_t pending = conn->owner ? 0 : conn->io.output_bytes;
    bool over = limit->hard_bytes && pending >= limit->hard_bytes;
    if (limit->soft_bytes && pending >= limit->soft_bytes) {
        uint64_t now_ms = clock_monotonic_us() / 1000;
        if (!conn->output_soft_since_ms)
            conn->output_soft_since_ms = now_ms;
        over = over || now_ms - conn->output_soft_since_ms > (uint64_t)limit->soft_seconds * 1000;
    } else {
        conn->output_soft_since_ms = 0;
    }
    if (over) {
        log_write(
            LOG_LEVEL_WARNING,
            "Client id=%llu scheduled to be closed ASAP for overcoming of output buffer limits.",
            (unsigned long long)conn->session.id);
        atomic_fetch_add(&conn->loop->server->output_limit_disconnections, 1);
    }
    return over;
}

/* What the link of a replica has to send. false: the connection is to be closed. */
static bool fill_from_link(struct conn *conn) {
    struct replica_link *link = conn->session.replica;
    const struct command *command = conn->session.last_command;
    if (link->attached && reply_pending_bytes(&conn->reply) > 0) {
        /* It would be taken for a part of the stream, of which nothing is there yet. */
        log_write(LOG_LEVEL_WARNING,
                  "Replica generated a reply to command '%s', disconnecting it: %s",
                  command ? command->name : "<unknown>", link->name);
        return false;
    }
    return !link->at_home || replica_link_fill(link, &conn->reply, conn_unsent_bytes(conn));
}

/* Nothing more is read from it meanwhile. In the middle of a batch it is flushed again later. */
static void hold(struct conn *conn) {
    if (conn->dirty)
        return;
    conn->dirty = conn->held = true;
    conn->next_dirty = conn->loop->held;
    conn->loop->held = conn;
    if (conn->state == CONN_IDLE)
        io_receive_stop(conn->loop->io, &conn->io);
}

static bool may_acknowledge(struct conn *conn) {
    switch (lease_gate_look(conn->session.unacknowledged)) {
    case LEASE_GATE_OPEN:
        conn->session.unacknowledged = 0;
        return true;
    case LEASE_GATE_HELD:
        hold(conn);
        return false;
    case LEASE_GATE_LOST:
        break;
    }
    log_write(LOG_LEVEL_VERBOSE, "Closing a client whose last writes may be lost with the slots.");
    reply_clear(&conn->reply);
    conn_close(conn);
    return false;
}

void conn_release_held(struct loop *loop) {
    struct conn *conn = loop->held;
    uint32_t reign = lease_gate_mark();
    if (lease_gate_look(reign) == LEASE_GATE_HELD && loop->held_reign == reign && !loop->leaving)
        return;
    loop->held_reign = reign;
    loop->held = NULL;
    for (struct conn *next; conn; conn = next) {
        next = conn->next_dirty;
        conn->dirty = conn->held = false;
        conn_flush(conn);
        if (!conn->held && conn->state == CONN_IDLE && !conn->end_of_input)
            io_receive_start(loop->io, &conn->io);
        conn_free_if_done(conn);
    }
}

void conn_flush(struct conn *conn) {
    if (conn->state >= CONN_CLOSING) {
        reply_clear(&conn->reply);
        return;
    }
    struct loop *loop = conn->loop;
    if (UNLIKELY(conn->session.unacknowledged != 0) && !may_acknowledge(conn))
        return;
    if (UNLIKELY(conn->session.replica != NULL) && !fill_from_link(conn)) {
        reply_clear(&conn->reply);
        conn_close(conn);
        return;
    }
    if (LIKELY(!conn->io.output_first))
        conn->output_turn = loop->turn;
    else
        loop->client_eviction.unsent_bytes += conn->io.output_bytes; /* nobody has read it yet */
    io_queue(&conn->io, reply_take(&conn->reply));
    if (LIKELY(conn->io.output_first && !conn->io.sending)) /* a flush of nothing is no write */
        COUNTER_ADD(loop->writes, 1);
    io_flush(loop->io, &conn->io);
    count_sent(conn);
    if (over_output_limit(conn) || (conn->state == CONN_DRAINING && !conn->io.output_first))
        conn_close(conn);
    else if (UNLIKELY(conn->move_target != NULL))
        conn_try_move(conn);
}

/* --- Going on --------------------------------------------------------------------------------- */

/* --- Moving ----------------------------------------------------------------------------------- */

void conn_try_move(struct conn *conn) {
    /* Subscribers stay: the loop's tables point to them. */
    if (conn->move_target == conn->loop || conn->owner || conn->session.subscriptions)
        conn->move_target = NULL;
    if (!conn->move_target || conn->state != CONN_IDLE || conn->in_batch || conn->dirty ||
        conn->asked || conn->end_of_input || conn->io.output_first || conn->io.sending ||
        conn->session.kill_requested || reply_pending_bytes(&conn->reply) > 0)
        return; /* tried again when its output has been sent, and by conn_look_after */
    reply_clear(&conn->reply);
    conn_become(conn, CONN_DETACHING);
    io_detach(conn->loop->io, &conn->io);
}

void conn_unlink(struct conn *conn) {
    struct loop *loop = conn->loop;
    if (loop->look_next == conn)
        loop->look_next = conn->next;
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        loop->connections = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    conn->next = conn->previous = NULL;
    loop->connection_count--;
}

/* --- Input that is kept ----------------------------------------------------------------------- */

void conn_large_end(struct conn *conn) {
    if (!conn->large)
        return;
    resp_parse_large_release(conn->large);
    memory_free(conn->large);
    conn->large = NULL;
}

void conn_keep_input(struct conn *conn, const char *data, size_t length) {
    query_append(&conn->query, data, length);
    if (conn_query_bytes(conn) > QUERY_STOP_BYTES && conn->state != CONN_IDLE)
        io_receive_stop(conn->loop->io, &conn->io);
    if (conn_query_bytes(conn) <= config_current()->client_query_buffer_limit || conn->owner)
        return;
    log_write(
        LOG_LEVEL_WARNING,
        "Closing client that reached max query buffer length: id=%llu (qbuf initial bytes: %zu)",
        (unsigned long long)conn->session.id, conn_query_bytes(conn));
    conn_close(conn);
}

void conn_batch_done(struct conn *conn) {
    struct query_buffer *query = &conn->query;
    const char *unexecuted = conn->unexecuted;
    conn->unexecuted = NULL;
    bool in_query = conn->source_is_query;
    if (UNLIKELY(unexecuted != NULL)) {
        conn_large_end(conn); /* what was parsed behind it is forgotten with it */
        query->needed = 0;
        if (in_query) {
            query_drop(query, (size_t)(unexecuted - query->data));
        } else {
            /* An incomplete end that was kept already is part of it. */
            query->begin = query->parsed = query->end = 0;
            conn_keep_input(conn, unexecuted, (size_t)(conn->source_end - unexecuted));
        }
    } else if (in_query && query->parsed > query->begin) {
        query_drop(query, query->parsed);
    }
}

/* --- Ending ----------------------------------------------------------------------------------- */

void conn_close_after_reply(struct conn *conn) {
    if (conn->state >= CONN_DRAINING)
        return;
    ASSERT(conn->state == CONN_IDLE);
    conn_become(conn, CONN_DRAINING);
    io_receive_stop(conn->loop->io, &conn->io);
    conn_mark_dirty(conn); /* the flush closes it when nothing is left to send */
}

void conn_close(struct conn *conn) {
    if (conn->state >= CONN_CLOSING)
        return;
    conn_become(conn, CONN_CLOSING);
    if (UNLIKELY(conn->owner != NULL))
        conn->owner->ending(conn);
    if (UNLIKELY(conn->session.subscriptions != NULL))
        conn->session.unsubscribe(&conn->session);
    session_cancel_unfinished(&conn->session);
    wait_cancel(&conn->wait); /* or its message comes */
    io_close(conn->loop->io, &conn->io);
}

void conn_end_waiting(struct conn *conn) {
    const struct unfinished *unfinished = conn->session.unfinished;
    if (conn->state == CONN_PARKED && conn->end_of_input && unfinished &&
        unfinished->ends_with_input)
        conn_close(conn);
}

void conn_closed(struct conn *conn) {
    conn_become(conn, CONN_CLOSED);
    conn_free_if_done(conn);
}

void conn_free_if_done(struct conn *conn) {
    if (conn->state != CONN_CLOSED || conn->dirty || conn->in_batch || conn->asked ||
        wait_is_waiting(&conn->wait) ||
        !dispatch_forget(&conn->loop->execution, &conn->wait, &conn->session))
        return;
    wait_end(&conn->wait);
    if (conn->session.replica)
        primary_forget(&conn->loop->server->primary, conn->session.replica);
    if (UNLIKELY(conn->session.imports_slots))
        slot_imports_session_ended(&conn->loop->server->slot_imports, conn->session.id);
    conn_unlink(conn);
    client_list_remove(&conn->loop->server->clients, conn->session.id);
    atomic_fetch_sub(&conn->loop->server->client_count, 1);
    reply_clear(&conn->reply);
    memory_free(conn->query.data);
    conn_large_end(conn);
    session_destroy(&conn->session);
    memory_free_sized(conn, sizeof *conn);
}

void conn_look_after(struct conn *conn, uint64_t timeout_ms) {
    if (conn->state >= CONN_CLOSING || (conn->owner && !conn->session.kill_requested))
        return;
    if (conn->io.sent_bytes != conn->sent_seen) { /* a client that downloads is not idle */
        conn->sent_seen = conn->io.sent_bytes;
        conn->last_active_ms = conn->loop->now_ms;
    }
    if (conn->session.kill_requested) {
        conn_close(conn);
    } else if (conn_is_replica(conn)) {
        conn_try_move(conn);
    } else if (timeout_ms && conn->loop->now_ms - conn->last_active_ms > timeout_ms &&
               conn->state != CONN_PARKED) {
        log_write(LOG_LEVEL_VERBOSE, "Closing idle client");
        conn_close(conn);
    } else if (over_output_limit(conn)) {
        conn_close(conn);
    } else if (conn->move_target) {
        conn_try_move(conn);
    }
}

/* --- What others ask ------------------------------------------------------------------------- */

/* The list is written in exclusive sections and by its loop. One that leaves the loop, or is on its
 * way, is looked at where it arrives. */
static void ask(struct conn *conn) {
    struct loop *loop = conn->loop;
    if (!conn->asked && conn->state != CONN_DETACHING && conn->state != CONN_MOVING) {
        conn->asked = true;
        conn->next_asked = loop->asked;
        loop->asked = conn;
    }
    loop_call_attention(loop);
}

void conn_ask_to_end(struct conn *conn) {
    ASSERT(conn->state < CONN_CLOSING);
    conn->session.kill_requested = true;
    session_cancel_unfinished(&conn->session); /* nothing that comes now is for it */
    ask(conn);
}

void conn_ask_to_move(struct conn *conn, struct loop *target) {
    if (conn->state >= CONN_DETACHING || conn_is_replica(conn))
        return;
    conn->move_target = target;
    ask(conn);
}

bool conn_answer_asked(struct loop *loop) {
    for (unsigned i = 0; i < ANSWERED_MAX && loop->asked; i++) {
        struct conn *conn = loop->asked;
        loop->asked = conn->next_asked;
        conn->asked = false;
        conn_look_after(conn, 0);
        conn_free_if_done(conn);
    }
    return loop->asked == NULL;
}

/* --- What it is ------------------------------------------------------------------------------- */

void conn_incomplete_bytes(const struct conn *conn, size_t *arguments, size_t *rest) {
    const struct parse_limits limits = {INT64_MAX, true};
    const struct query_buffer *query = &conn->query;
    struct parse_large parsed = {0};
    struct parse_output output;
    *arguments = 0;
    *rest = query->end - query->begin;
    /* What waits behind a command that waits has not begun. */
    if (conn->state != CONN_IDLE || query->parsed != query->begin || *rest == 0 ||
        query->data[query->begin] != '*')
        return;
    if (conn->large) { /* many; what they are announced by is counted with them */
        *arguments = conn->large->offset;
        *rest -= conn->large->offset;
        return;
    }
    resp_parse_large(&parsed, query->data + query->begin, *rest, &limits, &output);
    if (output.result == PARSE_INCOMPLETE) {
        for (int i = 0; i < parsed.argc; i++)
            *arguments += parsed.argv[i].length;
        *rest -= parsed.offset;
    }
    resp_parse_large_release(&parsed);
}

size_t conn_memory_bytes(const struct conn *conn) {
    const struct session *session = &conn->session;
    return sizeof *conn + conn->query.capacity + conn->io.output_bytes +
           reply_pending_bytes(&conn->reply) + session->transaction.bytes +
           session->transaction.capacity * sizeof *session->transaction.commands +
           session->watched_bytes;
}

void conn_address_text(const struct address *address, char *text, size_t size) {
    const char *path = config_current()->unixsocket;
    if (address_is_unix(address))
        snprintf(text, size, "%s:0", path ? path : "");
    else
        address_text(address, text, size);
}

bool conn_address_parse(const char *text, size_t length, struct address *address) {
    char path[PATH_MAX];
    *address = (struct address){.family = AF_UNIX};
    conn_address_text(address, path, sizeof path);
    return (strlen(path) == length && memcmp(path, text, length) == 0) ||
           address_parse(text, length, address);
}
