/* All connections of the process, for CLIENT LIST and CLIENT KILL: those that the workers have and
 * those that are on their way from one worker to another. In an exclusive section. */
#ifndef SLOTWISE_SERVER_CONNECTIONS_H
#define SLOTWISE_SERVER_CONNECTIONS_H

#include "server/base/text.h"
#include "server/clients/conn.h"
#include "server/clients/server.h"

/* In the order in which they came, without those that are being closed. Free with memory_free. */
struct conn **connections_collect(const struct server *server, size_t *count);
/* NULL: there is none. connections: as connections_collect made it. */
struct conn *connections_find(struct conn *const *connections, size_t count, uint64_t id);
/* A line of CLIENT LIST, with its end of line. arguments (NULL if it runs none): of the command
 * that it runs now. */
void connections_describe(struct text *text, const struct conn *conn, const struct call *running);
/* Ends it: it runs no more commands and its worker closes it at once. */
void connections_kill(struct conn *conn);

#endif
