/* Listening sockets: bind, port, unixsocket; and whether a new connection may stay (maxclients,
 * protected mode). */
#ifndef SLOTWISE_SERVER_LISTEN_H
#define SLOTWISE_SERVER_LISTEN_H

#include <stdbool.h>

#include "server/clients/server.h"
#include "server/net/io.h"

/* Opens all sockets that the configuration asks for into server->listeners. An address that is in
 * use is tried for a second, since a server that was killed gives its own back late. 0, or a
 * negative errno after logging what failed. Before the workers start. */
int listen_open(struct server *server);
void listen_close(struct server *server);
/* Whoever connects from now on is refused by the kernel, also while a ring still holds the sockets.
 * Worker 0, as the server ends and before its connections do: who loses his and comes back at once
 * learns that nobody is here. */
void listen_refuse(struct server *server);
/* CONFIG SET bind/port, in an exclusive section: opens what after asks for, then closes what was
 * open. 0, or a negative errno with everything as it was. */
struct config;
int listen_change(struct server *server, const struct config *after);
/* Host names among the addresses of `bind`, which take time to look up: that is done before the
 * section, and server->names set inside. A name that is not among them is looked up when it is
 * needed. */
struct listen_names;
struct config_addresses;
/* NULL: there are none. Any thread. */
struct listen_names *listen_names_make(const struct server *server,
                                       const struct config_addresses *addresses);
/* Takes its time. Any thread. */
void listen_names_look_up(struct listen_names *names);
void listen_names_free(struct listen_names *names);
/* Worker 0 accepts for all. */
void listen_attach(struct server *server, struct io *io);
/* Worker 0, each turn's timers: takes over what listen_change did. */
void listen_update(struct server *server, struct io *io);
bool listen_is_tcp(const struct server *server, int listener_fd);
/* false: the connection was refused (with Redis's error text) and closed. Sets socket options;
 * counts it as a client. */
bool listen_admit(struct server *server, int fd, bool tcp);

#endif
