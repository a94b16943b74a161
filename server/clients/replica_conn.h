/* The connections of replicas: how links/replica_link.h reaches its connection, and what a
 * connection does for its link. On the connection's thread. */
#ifndef SLOTWISE_SERVER_REPLICA_CONN_H
#define SLOTWISE_SERVER_REPLICA_CONN_H

#include "server/clients/conn.h"
#include "server/links/replica_link.h"

extern const struct replica_connection replica_connection;

/* After a command of it, and when it arrives: worker 0 is where it has to be. */
void replica_conn_settle(struct conn *conn);

#endif
