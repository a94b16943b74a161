/* See conn_events.h. */
#include "server/clients/conn_events.h"

#include <string.h>
#include <sys/socket.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/clients/batch.h"
#include "server/clients/input.h"
#include "server/clients/replica_conn.h"
#include "server/clients/server.h"
#include "server/config/config.h"

/* --- Going on --------------------------------------------------------------------------------- */

void conn_go_on(struct conn *conn) {
    struct loop *loop = conn->loop;
    ASSERT(conn->state == CONN_IDLE && !conn->in_batch);
    conn->spent = 0; /* at least one command of those that waited */
    input_parse_kept(conn);
    if (conn->in_batch)
        batch_run(loop);
    if (conn->state == CONN_PARKED)
        return;
    /* Nothing of it waits any more, so nothing is held for it, whatever became of the command. */
    if (conn->wait.state != WAIT_NONE && !wait_is_waiting(&conn->wait))
        wait_end(&conn->wait);
    if (UNLIKELY(conn->owner && conn->owner->go_on) && conn->state == CONN_IDLE) {
        conn->owner->go_on(conn);
        if (conn->in_batch)
            batch_run(loop);
    }
    if (conn->state != CONN_IDLE)
        return;
    if (conn->end_of_input)
        conn_close_after_reply(conn);
    else if (LIKELY(!conn->held))
        io_receive_start(loop->io, &conn->io);
}

/* A wait has ended: the command runs again. */
static void resumed(struct wait *wait) {
    struct conn *conn = (struct conn *)(void *)((char *)wait - offsetof(struct conn, wait));
    if (conn->state == CONN_PARKED) {
        conn_become(conn, CONN_IDLE);
        if (conn->session.kill_requested)
            conn_close(conn);
        else
            conn_go_on(conn);
    } else {
        ASSERT(conn->state == CONN_CLOSING || conn->state == CONN_CLOSED);
        conn_free_if_done(conn);
    }
}

/* --- Beginning -------------------------------------------------------------------------------- */

static void session_peer_text(const struct session *session, char *text, size_t size) {
    const struct conn *conn = conn_of_session((struct session *)(uintptr_t)session);
    conn_address_text(&conn->peer, text, size);
}

struct conn *conn_create(struct loop *loop, int fd, bool tcp) {
    struct conn *conn = memory_calloc(1, sizeof *conn);
    struct server *server = loop->server;
    conn->io.fd = fd;
    conn->peer = tcp ? address_of_peer(fd) : (struct address){.family = AF_UNIX};
    conn->local = tcp ? address_of_local(fd) : (struct address){.family = AF_UNIX};
    conn->loop = loop;
    conn->state = CONN_MOVING;
    reply_init(&conn->reply);
    session_init(&conn->session, 0, !config_current()->requirepass);
    conn->session.peer_text = session_peer_text;
    conn->session.is_local = address_is_loopback(&conn->peer);
    conn->last_active_ms = clock_monotonic_us() / 1000;
    wait_init(&conn->wait, &loop->mailbox, resumed);
    conn->session.id = client_list_add(&server->clients, conn);
    return conn;
}

void conn_arrive(struct conn *conn) {
    struct loop *loop = conn->loop;
    conn->move_target = NULL;
    conn->wait.mailbox = &loop->mailbox;
    conn->previous = NULL;
    conn->next = loop->connections;
    if (conn->next)
        conn->next->previous = conn;
    loop->connections = conn;
    loop->connection_count++;
    conn_become(conn, CONN_IDLE);
    int error = io_attach(loop->io, &conn->io);
    if (error)
        log_write(LOG_LEVEL_WARNING, "Cannot attach a client's socket: %s", strerror(-error));
    if (error || loop->leaving || conn->session.kill_requested)
        conn_close(conn);
    else
        replica_conn_settle(conn);
    if (conn->state == CONN_IDLE)
        conn_go_on(conn);
}

/* --- Bytes ------------------------------------------------------------------------------------ */

static void received_end(struct conn *conn, int64_t length) {
    conn->end_of_input = true;
    if (length < 0) {
        conn_close(conn);
        return;
    }
    /* Half-closed: whatever was sent before is still answered. */
    if (conn->state == CONN_IDLE)
        conn_close_after_reply(conn);
    else
        conn_end_waiting(conn);
}

void conn_receive(struct conn *conn, const char *data, int64_t length) {
    struct loop *loop = conn->loop;
    if (UNLIKELY(conn->in_batch))
        batch_run(loop); /* its entries point into the query buffer, perhaps */
    if (UNLIKELY(conn->state >= CONN_CLOSING))
        return;
    if (UNLIKELY(length <= 0)) {
        received_end(conn, length);
        return;
    }
    conn->last_active_ms = loop->now_ms;
    COUNTER_ADD(loop->received_bytes, (uint64_t)length);
    COUNTER_ADD(loop->reads, 1);
    if (UNLIKELY(conn->state == CONN_DRAINING))
        return;
    if (UNLIKELY(conn->owner && conn->owner->receive)) {
        conn->owner->receive(conn, data, (size_t)length);
        return;
    }
    if (LIKELY(conn->state == CONN_IDLE && conn_query_bytes(conn) == 0)) {
        input_parse(conn, data, (size_t)length);
        return;
    }
    conn_keep_input(conn, data, (size_t)length);
    if (conn->state == CONN_IDLE)
        input_parse_kept(conn);
}

void conn_take_input(struct conn *conn, const char *data, size_t length) {
    if (conn->in_batch)
        batch_run(conn->loop); /* its entries point into the query buffer */
    if (conn->state >= CONN_DRAINING)
        return;
    if (LIKELY(conn->state == CONN_IDLE && conn_query_bytes(conn) == 0)) {
        input_parse(conn, data, length);
        return;
    }
    conn_keep_input(conn, data, length);
    if (conn->state == CONN_IDLE)
        input_parse_kept(conn);
}

/* --- Moving ----------------------------------------------------------------------------------- */

bool conn_any_moving(struct server *server) {
    return atomic_load(&server->moving_clients) > 0;
}

static void arrive(struct message *message) {
    struct conn *conn = (struct conn *)(void *)((char *)message - offsetof(struct conn, message));
    struct server *server = conn->loop->server;
    conn_arrive(conn);
    atomic_fetch_sub(&server->moving_clients, 1); /* it is in the loop's list now */
}

void conn_send(struct conn *conn, struct loop *target) {
    conn->loop = target;
    atomic_fetch_add(&target->server->moving_clients, 1);
    conn->message.run = arrive;
    mailbox_post(&target->mailbox, &conn->message);
}

void conn_detached(struct conn *conn) {
    if (conn->state != CONN_DETACHING)
        return; /* it was closed meanwhile: conn_closed comes */
    if (atomic_load(&conn->loop->server->stopping)) {
        conn_close(conn); /* the other loop may have ended */
        return;
    }
    conn_unlink(conn);
    conn_become(conn, CONN_MOVING);
    conn_send(conn, conn->move_target);
}
