/* The connection to the primary of a replica: its commands are applied. It is an ordinary
 * connection of worker 0 but for its owner (conn.h): what comes is parsed into the batch and runs
 * there like anybody's commands, as links/replica.h wants it. */
#ifndef SLOTWISE_SERVER_PRIMARY_CONN_H
#define SLOTWISE_SERVER_PRIMARY_CONN_H

#include "server/links/replica.h"

struct server;

/* What replica.h calls. Before the workers start. */
struct primary_connection primary_conn_for(struct server *server);
/* The database that the stream has selected where it has been applied up to; 0 without a
 * connection. In an exclusive section. */
unsigned primary_conn_database(void);

#endif
