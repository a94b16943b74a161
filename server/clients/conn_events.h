/* What happens to a connection: it comes, receives, goes on after a wait or a turn, moves. On its
 * thread. */
#ifndef SLOTWISE_SERVER_CONN_EVENTS_H
#define SLOTWISE_SERVER_CONN_EVENTS_H

#include "server/clients/conn.h"

/* A connection in MOVING, in no list: for conn_arrive or conn_send. */
struct conn *conn_create(struct loop *loop, int fd, bool tcp);
/* It begins, or goes on, on conn->loop. */
void conn_arrive(struct conn *conn);
/* Hands over a connection in MOVING that is in no list; it belongs to the target from here on. */
void conn_send(struct conn *conn, struct loop *target);
/* Somebody is on the way between two loops. */
bool conn_any_moving(struct server *server);
/* Goes on with what is in the query buffer: after a wait, a turn, a move. */
void conn_go_on(struct conn *conn);

/* Callbacks of the backend; the others are in conn.h. */
/* Bytes of commands, for an owner that makes them out of what it receives. They stay where they are
 * while it is in the batch. */
void conn_take_input(struct conn *conn, const char *data, size_t length);
void conn_receive(struct conn *conn, const char *data, int64_t length);
void conn_detached(struct conn *conn);

#endif
