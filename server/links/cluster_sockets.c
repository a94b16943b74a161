/* See cluster_sockets.h. */
#include "server/links/cluster_sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/net/address.h"

#define INPUT_FIRST_BYTES (16 * 1024)
#define INPUT_KEPT_BYTES  (256 * 1024)
#define READS_PER_EVENT   16
#define PIECES_AT_ONCE    16
#define ACCEPTS_PER_EVENT 64

/* A packet on its way out. */
struct piece {
    struct piece *next;
    size_t length;
    uint8_t bytes[];
};

struct bus_link {
    struct cluster_link link; /* first */
    struct bus_link *next, *previous;
    int fd;
    bool dead;
    bool waits_for_room; /* EPOLLOUT is asked for */
    uint8_t *input;
    size_t input_used, input_room;
    struct piece *first, *last;
    size_t first_sent; /* bytes of the first piece that are gone */
};

static struct bus_link *bus_link_of(const struct cluster_link *link) {
    return (struct bus_link *)(uintptr_t)link; /* first member */
}

/* --- Listeners -------------------------------------------------------------------------------- */

int cluster_sockets_init(struct cluster_sockets *sockets) {
    *sockets = (struct cluster_sockets){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    return sockets->epoll_fd < 0 ? -errno : 0;
}

static int open_listener(const struct addrinfo *address, int backlog) {
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
    return fd;
}

static bool may_be_missing(int error) {
    return error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT || error == -EPROTONOSUPPORT;
}

int cluster_sockets_listen(struct cluster_sockets *sockets, const char *address, int port,
                           int backlog) {
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    char port_text[8];
    bool optional = address[0] == '-';
    const char *name = address + optional;
    if (strcmp(name, "*") == 0)
        hints.ai_family = AF_INET;
    else if (strcmp(name, "::*") == 0)
        hints.ai_family = AF_INET6;
    snprintf(port_text, sizeof port_text, "%d", port);
    int failed = getaddrinfo(hints.ai_family ? NULL : name, port_text, &hints, &found);
    int fd = failed ? -EADDRNOTAVAIL : open_listener(found, backlog);
    if (!failed)
        freeaddrinfo(found);
    if (fd < 0 && optional && may_be_missing(fd))
        return 0;
    if (fd >= 0 && sockets->listener_count < CLUSTER_LISTENERS_MAX) {
        sockets->listeners[sockets->listener_count++] = fd;
        return 0;
    }
    log_write(LOG_LEVEL_WARNING, "Warning: Could not create server TCP listening socket %s:%d: %s",
              name, port, failed ? gai_strerror(failed) : strerror(fd < 0 ? -fd : ENOSPC));
    if (fd >= 0)
        close(fd);
    return fd < 0 ? fd : -ENOSPC;
}

void cluster_sockets_accept(struct cluster_sockets *sockets, bool on) {
    if (sockets->accepts == on)
        return;
    sockets->accepts = on;
    for (unsigned i = 0; i < sockets->listener_count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &sockets->listeners[i]};
        epoll_ctl(sockets->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, sockets->listeners[i],
                  &event);
    }
}

void cluster_sockets_tick(struct cluster_sockets *sockets) {
    if (!sockets->accepting_paused)
        return;
    sockets->accepting_paused = false;
    cluster_sockets_accept(sockets, true);
}

/* --- Links ------------------------------------------------------------------------------------ */

static void watch(struct cluster_sockets *sockets, struct bus_link *link, int operation) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = link};
    if (!link->link.open || link->waits_for_room)
        event.events |= EPOLLOUT;
    epoll_ctl(sockets->epoll_fd, operation, link->fd, &event);
}

static void prepare_socket(int fd, int keepalive_s) {
    int one = 1, probes = 3, interval = keepalive_s / 3 > 0 ? keepalive_s / 3 : 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (keepalive_s <= 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &keepalive_s, sizeof keepalive_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static struct bus_link *make_link(struct cluster_sockets *sockets, int fd, bool inbound,
                                  uint64_t now_ms) {
    struct bus_link *link = memory_calloc(1, sizeof *link);
    link->fd = fd;
    link->link.inbound = link->link.open = inbound;
    link->link.created_ms = now_ms;
    link->link.owner = sockets;
    link->next = sockets->links;
    if (link->next)
        link->next->previous = link;
    sockets->links = link;
    sockets->link_count++;
    prepare_socket(fd, sockets->keepalive_s);
    watch(sockets, link, EPOLL_CTL_ADD);
    return link;
}

static void drop_pieces(struct cluster_sockets *sockets, struct bus_link *link) {
    while (link->first) {
        struct piece *piece = link->first;
        link->first = piece->next;
        sockets->buffer_bytes -= sizeof *piece + piece->length;
        memory_free(piece);
    }
    link->last = NULL;
}

void cluster_sockets_close(struct cluster_sockets *sockets, struct cluster_link *closed) {
    struct bus_link *link = bus_link_of(closed);
    ASSERT(!link->dead);
    link->dead = true;
    close(link->fd);
    link->fd = -1;
    if (link->next)
        link->next->previous = link->previous;
    if (link->previous)
        link->previous->next = link->next;
    else
        sockets->links = link->next;
    sockets->link_count--;
    drop_pieces(sockets, link);
    link->next = sockets->dead;
    sockets->dead = link;
}

void cluster_sockets_free_dead(struct cluster_sockets *sockets) {
    while (sockets->dead) {
        struct bus_link *link = sockets->dead;
        sockets->dead = link->next;
        sockets->buffer_bytes -= link->input_room;
        memory_free(link->input);
        memory_free(link);
    }
}

/* The peer has ended it: the cluster hears of it. */
static void end_link(struct cluster_sockets *sockets, struct bus_link *link) {
    cluster_on_link_end(sockets->cluster, &link->link);
    cluster_sockets_close(sockets, &link->link);
}

int cluster_sockets_descriptor(const struct cluster_link *link) {
    return bus_link_of(link)->fd;
}

/* An address as text; false: it is none. */
static bool parse_address(const char *text, uint16_t port, struct sockaddr_storage *address,
                          socklen_t *length) {
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)address;
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        *length = sizeof *in;
        return true;
    }
    if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        *length = sizeof *in6;
        return true;
    }
    return false;
}

static void use_source(int fd, const char *source, int family) {
    struct sockaddr_storage address;
    socklen_t length;
    int one = 1;
    if (!source || !parse_address(source, 0, &address, &length) || address.ss_family != family)
        return;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, length) < 0)
        log_write(LOG_LEVEL_DEBUG, "Cluster bus: cannot connect from %s: %s", source,
                  strerror(errno));
}

struct cluster_link *cluster_sockets_connect(struct cluster_sockets *sockets, const char *address,
                                             uint16_t port, const char *source, uint64_t now_ms) {
    struct sockaddr_storage target;
    socklen_t length;
    if (!parse_address(address, port, &target, &length)) {
        log_write(LOG_LEVEL_DEBUG, "Unable to connect to Cluster Node [%s]:%u -> not an address",
                  address, port);
        return NULL;
    }
    int fd = socket(target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        use_source(fd, source, target.ss_family);
        if (connect(fd, (struct sockaddr *)&target, length) == 0 || errno == EINPROGRESS)
            return &make_link(sockets, fd, false, now_ms)->link;
    }
    log_write(LOG_LEVEL_DEBUG, "Unable to connect to Cluster Node [%s]:%u -> %s", address, port,
              strerror(errno));
    if (fd >= 0)
        close(fd);
    return NULL;
}

/* --- Sending ---------------------------------------------------------------------------------- */

void cluster_sockets_send(struct cluster_sockets *sockets, struct cluster_link *to,
                          const void *bytes, size_t length) {
    struct bus_link *link = bus_link_of(to);
    struct piece *piece = memory_alloc(sizeof *piece + length);
    ASSERT(!link->dead);
    piece->next = NULL;
    piece->length = length;
    memcpy(piece->bytes, bytes, length);
    if (link->last)
        link->last->next = piece;
    else
        link->first = piece;
    link->last = piece;
    to->unsent_bytes += length;
    sockets->buffer_bytes += sizeof *piece + length;
    sockets->unsent = true;
}

static void note_sent(struct cluster_sockets *sockets, struct bus_link *link, size_t sent) {
    link->link.unsent_bytes -= sent;
    while (sent > 0) {
        struct piece *piece = link->first;
        size_t left = piece->length - link->first_sent;
        if (sent < left) {
            link->first_sent += sent;
            return;
        }
        sent -= left;
        link->first_sent = 0;
        link->first = piece->next;
        if (!link->first)
            link->last = NULL;
        sockets->buffer_bytes -= sizeof *piece + piece->length;
        memory_free(piece);
    }
}

/* false: the link has ended. */
static bool flush_link(struct cluster_sockets *sockets, struct bus_link *link) {
    while (link->first) {
        struct iovec pieces[PIECES_AT_ONCE];
        struct msghdr message = {.msg_iov = pieces};
        size_t skip = link->first_sent;
        for (struct piece *piece = link->first; piece && message.msg_iovlen < PIECES_AT_ONCE;
             piece = piece->next, skip = 0)
            pieces[message.msg_iovlen++] =
                (struct iovec){piece->bytes + skip, piece->length - skip};
        ssize_t n = sendmsg(link->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            log_write(LOG_LEVEL_DEBUG, "I/O error writing to node link: %s", strerror(errno));
            end_link(sockets, link);
            return false;
        }
        if (n < 0)
            break;
        note_sent(sockets, link, (size_t)n);
    }
    bool waits = link->first != NULL;
    if (waits != link->waits_for_room) {
        link->waits_for_room = waits;
        watch(sockets, link, EPOLL_CTL_MOD);
    }
    return true;
}

void cluster_sockets_flush(struct cluster_sockets *sockets) {
    while (sockets->unsent) {
        sockets->unsent = false; /* the end of a link may make others send */
        for (struct bus_link *link = sockets->links, *next; link; link = next) {
            next = link->next;
            if (!link->first || !link->link.open || link->waits_for_room)
                continue;
            if (!flush_link(sockets, link))
                next = sockets->links; /* others may have gone with it */
        }
    }
}

/* --- Receiving -------------------------------------------------------------------------------- */

static void make_room(struct cluster_sockets *sockets, struct bus_link *link, size_t room) {
    if (link->input_room >= room && link->input_room <= INPUT_KEPT_BYTES)
        return;
    sockets->buffer_bytes += room - link->input_room;
    link->input = memory_realloc(link->input, room);
    link->input_room = room;
}

/* All whole packets that are there. false: the link is gone. */
static bool take_packets(struct cluster_sockets *sockets, struct bus_link *link) {
    size_t at = 0;
    while (link->input_used - at >= WIRE_PREFIX_BYTES) {
        int64_t length = wire_length(link->input + at);
        if (length < (int64_t)WIRE_PREFIX_BYTES || length > (int64_t)WIRE_MAX_BYTES) {
            struct address peer = address_of_peer(link->fd);
            char name[ADDRESS_TEXT_BYTES];
            address_text(&peer, name, sizeof name);
            log_write(LOG_LEVEL_WARNING,
                      "Bad message length or signature received on the Cluster bus from %s.", name);
            end_link(sockets, link);
            return false;
        }
        if (link->input_used - at < (size_t)length)
            break;
        if (!cluster_on_packet(sockets->cluster, &link->link, link->input + at, (size_t)length))
            return false;
        if (link->dead)
            return false;
        at += (size_t)length;
    }
    link->input_used -= at;
    if (at > 0)
        memmove(link->input, link->input + at, link->input_used);
    return true;
}

static void receive(struct cluster_sockets *sockets, struct bus_link *link) {
    for (unsigned i = 0; i < READS_PER_EVENT; i++) {
        size_t room = link->input_room;
        if (link->input_used == room || room == 0)
            make_room(sockets, link, room ? room * 2 : INPUT_FIRST_BYTES);
        size_t wanted = link->input_room - link->input_used;
        ssize_t n = recv(link->fd, link->input + link->input_used, wanted, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            log_write(LOG_LEVEL_DEBUG, "I/O error reading from node link: %s",
                      n == 0 ? "connection closed" : strerror(errno));
            end_link(sockets, link);
            return;
        }
        link->input_used += (size_t)n;
        if (!take_packets(sockets, link))
            return;
        if ((size_t)n < wanted)
            break;
    }
    if (link->input_room > INPUT_KEPT_BYTES && link->input_used <= INPUT_FIRST_BYTES) {
        sockets->buffer_bytes -= link->input_room - INPUT_FIRST_BYTES;
        link->input = memory_realloc(link->input, INPUT_FIRST_BYTES);
        link->input_room = INPUT_FIRST_BYTES;
    }
}

/* A connection that was being made is there, or is not. */
static void connected(struct cluster_sockets *sockets, struct bus_link *link) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        log_write(LOG_LEVEL_VERBOSE, "Connection with Node at the other end of a bus link: %s",
                  strerror(error));
        end_link(sockets, link);
        return;
    }
    link->link.open = true;
    watch(sockets, link, EPOLL_CTL_MOD);
    if (link->first)
        sockets->unsent = true;
    cluster_on_connected(sockets->cluster, &link->link);
}

static void accept_some(struct cluster_sockets *sockets, int listener, uint64_t now_ms) {
    for (unsigned i = 0; i < ACCEPTS_PER_EVENT; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS)) {
            log_write(LOG_LEVEL_VERBOSE, "Error accepting cluster node: %s", strerror(errno));
            sockets->accepting_paused = true;
            cluster_sockets_accept(sockets, false);
        }
        if (fd < 0)
            return;
        struct bus_link *link = make_link(sockets, fd, true, now_ms);
        cluster_on_accepted(sockets->cluster, &link->link);
    }
}

void cluster_sockets_event(struct cluster_sockets *sockets, void *what, uint32_t events,
                           uint64_t now_ms) {
    for (unsigned i = 0; i < sockets->listener_count; i++)
        if (what == &sockets->listeners[i]) {
            accept_some(sockets, sockets->listeners[i], now_ms);
            return;
        }
    struct bus_link *link = what;
    if (!link->dead && !link->link.open && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
        connected(sockets, link);
    else if (!link->dead && (events & EPOLLOUT) && !flush_link(sockets, link))
        return;
    if (!link->dead && link->link.open && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
        receive(sockets, link);
}

void cluster_sockets_destroy(struct cluster_sockets *sockets) {
    while (sockets->links)
        cluster_sockets_close(sockets, &sockets->links->link);
    cluster_sockets_free_dead(sockets);
    for (unsigned i = 0; i < sockets->listener_count; i++)
        close(sockets->listeners[i]);
    if (sockets->epoll_fd >= 0)
        close(sockets->epoll_fd);
}
