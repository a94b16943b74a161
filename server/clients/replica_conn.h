/* The connections of replicas: how links/replica_link.h reaches its connection, and what a
 * connection does for its link. On the connection's thread. */
#ifndef SLOTWISE_SERVER_REPLICA_CONN_H
#define SLOTWISE_SERVER_REPLICA_CONN_H

#include "server/clients/conn.h"
#include "server/links/replica_link.h"

extern const struct replica_connection replica_connection;

/* It belongs to a replica that gets the stream, or waits for it. */
static inline bool conn_is_replica(const struct conn *conn) {
    return __builtin_expect(conn->session.replica != NULL, 0) && conn->session.replica->attached;
}

/* After a command of it, and when it arrives: worker 0 is where it has to be. */
void replica_conn_settle(struct conn *conn);
/* Before its replies are sent: what its link has to send. */
void replica_conn_fill(struct conn *conn);
/* Its session ends. */
void replica_conn_forget(struct conn *conn);

#endif
