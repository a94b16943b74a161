/* See replica_conn.h. */
#include "server/clients/replica_conn.h"

#include "server/clients/server.h"

static void wake(struct session *session) {
    conn_mark_dirty(conn_of_session(session));
}

static void close_connection(struct session *session) {
    conn_close(conn_of_session(session));
}

static size_t unsent_bytes(const struct session *session) {
    const struct conn *conn = conn_of_session((struct session *)(uintptr_t)session);
    return conn_unsent_bytes(conn);
}

static uint64_t heard_ms(const struct session *session) {
    return conn_of_session((struct session *)(uintptr_t)session)->last_active_ms;
}

const struct replica_connection replica_connection = {wake, close_connection, unsent_bytes,
                                                      heard_ms};

void replica_conn_settle(struct conn *conn) {
    struct server *server = conn->loop->server;
    struct replica_link *link = conn->session.replica;
    if (!link || !link->attached || link->at_home || conn->state >= CONN_DETACHING)
        return;
    conn->io.bulk = true;
    if (conn->loop == server->loops[0]) {
        conn->move_target = NULL; /* it was to go elsewhere, perhaps */
        primary_welcome(&server->primary, link);
    } else {
        conn->move_target = server->loops[0]; /* as soon as it is quiet */
    }
}
