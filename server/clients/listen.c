/* See listen.h. Opening and closing on the main thread or in exclusive sections; admitting on
 * worker 0. */
#include "server/clients/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/memory.h"
#include "server/base/log.h"
#include "server/config/config.h"
#include "server/net/address.h"

enum { START_PATIENCE_MS = 1000 };

static int add_listener(struct server *server, int fd, bool tcp) {
    if (server->listener_count == SERVER_LISTENERS_MAX) {
        close(fd);
        return -ENOSPC;
    }
    server->listeners[server->listener_count++] = (struct listener){fd, tcp};
    return 0;
}

static int open_address(struct server *server, const struct addrinfo *address, int backlog) {
    int one = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (address->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, backlog) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return add_listener(server, fd, true);
}

/* --- Names ------------------------------------------------------------------------------------ */

struct looked_up {
    char *name;
    int failed; /* getaddrinfo's result; of a name that was found: 0 */
    struct addrinfo *found;
};

struct listen_names {
    const struct server *server;
    size_t count;
    struct looked_up of[CONFIG_ADDRESSES_MAX];
};

/* "*" and "::*" stand for all addresses of a family. */
static int look_up(const char *name, const char *port, int flags, struct addrinfo **found) {
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV | flags,
                             .ai_socktype = SOCK_STREAM};
    if (strcmp(name, "*") == 0)
        hints.ai_family = AF_INET;
    else if (strcmp(name, "::*") == 0)
        hints.ai_family = AF_INET6;
    return getaddrinfo(hints.ai_family ? NULL : name, port, &hints, found);
}

static bool is_host_name(const char *name) {
    struct addrinfo *found;
    if (look_up(name, "0", AI_NUMERICHOST, &found) != 0)
        return true;
    freeaddrinfo(found);
    return false;
}

struct listen_names *listen_names_make(const struct server *server,
                                       const struct config_addresses *addresses) {
    struct listen_names *names = NULL;
    for (size_t i = 0; i < addresses->count; i++) {
        const char *name = addresses->address[i] + (addresses->address[i][0] == '-');
        if (!is_host_name(name))
            continue;
        if (!names)
            names = memory_calloc(1, sizeof *names);
        names->server = server;
        names->of[names->count++].name = memory_strdup(name);
    }
    return names;
}

void listen_names_look_up(struct listen_names *names) {
    for (size_t i = 0; i < names->count; i++) {
        usleep(atomic_load(&names->server->lookup_delay_ms) * 1000);
        names->of[i].failed = look_up(names->of[i].name, "0", 0, &names->of[i].found);
    }
}

void listen_names_free(struct listen_names *names) {
    for (size_t i = 0; i < names->count; i++) {
        if (names->of[i].found)
            freeaddrinfo(names->of[i].found);
        memory_free(names->of[i].name);
    }
    memory_free(names);
}

static const struct looked_up *looked_up_before(const struct server *server, const char *name) {
    for (size_t i = 0; server->names && i < server->names->count; i++)
        if (strcmp(server->names->of[i].name, name) == 0)
            return &server->names->of[i];
    return NULL;
}

static void set_port(struct sockaddr *address, int port) {
    if (address->sa_family == AF_INET)
        ((struct sockaddr_in *)(void *)address)->sin_port = htons((uint16_t)port);
    else if (address->sa_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = htons((uint16_t)port);
}

/* --- Opening and closing ---------------------------------------------------------------------- */

static void log_failure(const char *name, int port, const char *what, const char *reason) {
    log_write(LOG_LEVEL_WARNING,
              "Warning: Could not create server TCP listening socket %s:%d: %s%s", name, port, what,
              reason);
}

/* The kernel takes an io_uring down after its process has ended, and with it the listener that an
 * accept waits on: who starts a server at once where another was killed finds the address in use
 * for some milliseconds more. */
static int open_address_when_free(struct server *server, const struct addrinfo *address,
                                  int backlog, unsigned *patience_ms) {
    int error;
    while ((error = open_address(server, address, backlog)) == -EADDRINUSE && *patience_ms > 0) {
        usleep(1000);
        --*patience_ms;
    }
    return error;
}

static int open_name(struct server *server, const char *name, int port, int backlog,
                     unsigned *patience_ms) {
    const struct looked_up *before = looked_up_before(server, name);
    struct addrinfo *found = before ? before->found : NULL;
    int failed = before ? before->failed : look_up(name, "0", 0, &found);
    if (failed) {
        log_failure(name, port, "", gai_strerror(failed));
        return failed == EAI_FAMILY || failed == EAI_NONAME ? -EADDRNOTAVAIL : -EINVAL;
    }
    set_port(found->ai_addr, port);
    int error = open_address_when_free(server, found, backlog, patience_ms);
    if (!before)
        freeaddrinfo(found);
    if (error)
        log_failure(name, port, "bind: ", strerror(-error));
    return error;
}

/* An address that this machine cannot have at all is skipped when it is marked with '-' (as the
 * default ones are). */
static bool is_optional_error(int error) {
    return error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT || error == -EPROTONOSUPPORT ||
           error == -ESOCKTNOSUPPORT || error == -EPFNOSUPPORT || error == -ENOPROTOOPT;
}

static int open_tcp(struct server *server, const struct config *config, unsigned patience_ms) {
    unsigned before = server->listener_count;
    for (size_t i = 0; i < config->bind.count; i++) {
        const char *name = config->bind.address[i];
        bool optional = name[0] == '-';
        int error = open_name(server, name + optional, (int)config->port, (int)config->tcp_backlog,
                              &patience_ms);
        if (error && !(optional && is_optional_error(error)))
            return error;
    }
    if (config->bind.count > 0 && server->listener_count == before)
        return -EADDRNOTAVAIL;
    return 0;
}

static int open_unix(struct server *server, const struct config *config) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(config->unixsocket) >= sizeof address.sun_path) {
        log_write(LOG_LEVEL_WARNING, "Failed opening Unix socket: bind: path too long");
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, config->unixsocket);
    unlink(config->unixsocket);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, (int)config->tcp_backlog) < 0) {
        int error = -errno;
        log_write(LOG_LEVEL_WARNING, "Failed opening Unix socket: bind: %s", strerror(-error));
        close(fd);
        return error;
    }
    if (config->unixsocketperm)
        chmod(config->unixsocket, (mode_t)config->unixsocketperm);
    snprintf(server->unix_socket, sizeof server->unix_socket, "%s", config->unixsocket);
    return add_listener(server, fd, false);
}

int listen_open(struct server *server) {
    const struct config *config = config_current();
    if (config->port != 0) {
        int error = open_tcp(server, config, START_PATIENCE_MS);
        if (error) {
            log_write(LOG_LEVEL_WARNING, "Failed listening on port %d (TCP), aborting.",
                      (int)config->port);
            return error;
        }
    }
    int error = config->unixsocket ? open_unix(server, config) : 0;
    if (!error && server->listener_count == 0) {
        log_write(LOG_LEVEL_WARNING, "Configured to not listen anywhere, exiting.");
        return -EINVAL;
    }
    return error;
}

static void stop_listening(const struct listener *listeners, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (listeners[i].tcp)
            shutdown(listeners[i].fd, SHUT_RDWR);
}

static void listen_again(const struct listener *listeners, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (listeners[i].tcp)
            listen(listeners[i].fd, (int)config_current()->tcp_backlog);
}

/* The old sockets stop listening, so that the same address may be bound again, and listen again if
 * the new ones fail. The ring of worker 0 is its own: it lets go of the old ones itself when it
 * sees listeners_changed. */
int listen_change(struct server *server, const struct config *after) {
    struct listener old[SERVER_LISTENERS_MAX];
    unsigned old_count = server->listener_count;
    memcpy(old, server->listeners, sizeof old);
    server->listener_count = 0;
    stop_listening(old, old_count);
    int error = after->port != 0 ? open_tcp(server, after, 0) : 0;
    if (error) {
        for (unsigned i = 0; i < server->listener_count; i++)
            close(server->listeners[i].fd);
        memcpy(server->listeners, old, sizeof old);
        server->listener_count = old_count;
        listen_again(old, old_count);
        return error;
    }
    for (unsigned i = 0; i < old_count; i++) {
        if (!old[i].tcp)
            add_listener(server, old[i].fd, false);
        else if (server->retired_listener_count < SERVER_LISTENERS_MAX)
            server->retired_listeners[server->retired_listener_count++] = old[i].fd;
    }
    atomic_store(&server->listeners_changed, true);
    return 0;
}

void listen_update(struct server *server, struct io *io) {
    if (!atomic_exchange(&server->listeners_changed, false))
        return;
    for (unsigned i = 0; i < server->retired_listener_count; i++) {
        io_unlisten(io, server->retired_listeners[i]);
        close(server->retired_listeners[i]);
    }
    server->retired_listener_count = 0;
    for (unsigned i = 0; i < server->listener_count; i++)
        if (server->listeners[i].tcp)
            io_listen(io, server->listeners[i].fd);
}

void listen_close(struct server *server) {
    for (unsigned i = 0; i < server->listener_count; i++) {
        if (!server->listeners[i].tcp)
            unlink(server->unix_socket);
        close(server->listeners[i].fd);
    }
    server->listener_count = 0;
}

void listen_refuse(struct server *server) {
    for (unsigned i = 0; i < server->listener_count; i++)
        shutdown(server->listeners[i].fd, SHUT_RDWR);
}

void listen_attach(struct server *server, struct io *io) {
    for (unsigned i = 0; i < server->listener_count; i++) {
        int error = io_listen(io, server->listeners[i].fd);
        if (error)
            log_write(LOG_LEVEL_WARNING, "Cannot accept connections: %s", strerror(-error));
    }
}

bool listen_is_tcp(const struct server *server, int listener_fd) {
    for (unsigned i = 0; i < server->listener_count; i++)
        if (server->listeners[i].fd == listener_fd)
            return server->listeners[i].tcp;
    return true;
}

/* --- Admission -------------------------------------------------------------------------------- */

static void refuse(int fd, const char *text) {
    ssize_t n = send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n;
    close(fd);
}

static void set_keepalive(int fd, int seconds) {
    int one = 1, interval = seconds / 3 > 0 ? seconds / 3 : 1, probes = 3;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static const char protected_mode_error[] =
    "-DENIED Redis is running in protected mode because protected mode is enabled and no password "
    "is set for the "
    "default user. In this mode connections are only accepted from the loopback interface. If you "
    "want to connect "
    "from external computers to Redis you may adopt one of the following solutions: 1) Just "
    "disable protected mode "
    "sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting "
    "to Redis from the "
    "same host the server is running, however MAKE SURE Redis is not publicly accessible from "
    "internet if you do so. "
    "Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the "
    "protected mode by "
    "editing the Redis configuration file, and setting the protected mode option to 'no', and then "
    "restarting the "
    "server. 3) If you started the server manually just for testing, restart it with the "
    "'--protected-mode no' "
    "option. 4) Set up an authentication password for the default user. NOTE: You only need to do "
    "one of the above "
    "things in order for the server to start accepting connections from the outside.\r\n";

static void log_accepted(int fd, bool tcp) {
    if (!tcp) {
        log_write(LOG_LEVEL_VERBOSE, "Accepted connection to %s", config_current()->unixsocket);
        return;
    }
    char host[ADDRESS_TEXT_BYTES];
    struct address peer = address_of_peer(fd);
    address_host_text(&peer, host, sizeof host);
    log_write(LOG_LEVEL_VERBOSE, "Accepted %s:%u", host, peer.port);
}

static bool comes_from_here(int fd) {
    struct address peer = address_of_peer(fd);
    return address_is_loopback(&peer);
}

bool listen_admit(struct server *server, int fd, bool tcp) {
    const struct config *config = config_current();
    if (atomic_load(&server->client_count) >= config->maxclients) {
        atomic_fetch_add(&server->rejected_connections, 1);
        refuse(fd, "-ERR max number of clients reached\r\n");
        return false;
    }
    bool open = !config->requirepass;
    if (tcp && config->protected_mode && open && !comes_from_here(fd)) {
        atomic_fetch_add(&server->rejected_connections, 1);
        refuse(fd, protected_mode_error);
        return false;
    }
    if (tcp) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (config->tcp_keepalive > 0)
            set_keepalive(fd, (int)config->tcp_keepalive);
    }
    atomic_fetch_add(&server->client_count, 1);
    atomic_fetch_add(&server->accepted, 1);
    if (log_enabled(LOG_LEVEL_VERBOSE))
        log_accepted(fd, tcp);
    return true;
}
