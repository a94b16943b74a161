/* The sockets of the cluster bus: listeners, links, their buffers and queues.
 *
 * One epoll instance, waited on by the bus's thread. All else happens under the lock of the bus, on
 * whatever thread has it: links are made, written to and closed by whoever runs the cluster's
 * machine. Only the bus's thread reads, and only it frees a link, after the events that it has
 * fetched have been handled; so a closed link is marked dead first.
 *
 *   connect() --> connecting --writable--> open --close(), end, error--> dead --> freed
 *   accept() ------------------------------^
 *
 * What comes is read into a buffer that grows with what has come (not with what a length promises),
 * at most to the largest packet; bytes that are no packet end the link. What is sent waits in a
 * queue of copies until the end of the batch. */
#ifndef SLOTWISE_SERVER_CLUSTER_SOCKETS_H
#define SLOTWISE_SERVER_CLUSTER_SOCKETS_H

#include "cluster/cluster.h"

#define CLUSTER_LISTENERS_MAX 16

struct bus_link;

/* Under the lock of the bus, unless noted. */
struct cluster_sockets {
    int epoll_fd; /* set once */
    int listeners[CLUSTER_LISTENERS_MAX];
    unsigned listener_count;
    bool accepts;          /* the listeners are in the epoll instance */
    bool accepting_paused; /* no descriptor was left; again with the next tick */
    struct cluster *cluster;
    struct bus_link *links; /* all that are not dead */
    struct bus_link *dead;  /* to be freed by the bus's thread */
    unsigned link_count;
    bool unsent; /* some link has something new in its queue */
    uint64_t buffer_bytes;
    int keepalive_s;
};

/* 0 or a negative errno. */
int cluster_sockets_init(struct cluster_sockets *sockets);
/* Listens on this address ("*", "::*", a leading '-': it need not exist). 0, or a negative errno
 * that has been logged. Main thread. */
int cluster_sockets_listen(struct cluster_sockets *sockets, const char *address, int port,
                           int backlog);
void cluster_sockets_destroy(struct cluster_sockets *sockets);

/* From here on whoever connects is accepted. */
void cluster_sockets_accept(struct cluster_sockets *sockets, bool on);
/* Ten times a second. */
void cluster_sockets_tick(struct cluster_sockets *sockets);

/* What cluster_callbacks wants; now_ms: its clock. */
struct cluster_link *cluster_sockets_connect(struct cluster_sockets *sockets, const char *address,
                                             uint16_t port, const char *source, uint64_t now_ms);
void cluster_sockets_send(struct cluster_sockets *sockets, struct cluster_link *link,
                          const void *bytes, size_t length);
void cluster_sockets_close(struct cluster_sockets *sockets, struct cluster_link *link);
int cluster_sockets_descriptor(const struct cluster_link *link);

/* The bus's thread: handles what the epoll instance told of this (data.ptr; not NULL). */
void cluster_sockets_event(struct cluster_sockets *sockets, void *what, uint32_t events,
                           uint64_t now_ms);
/* The bus's thread: sends what waits to be, as much as the kernel takes. */
void cluster_sockets_flush(struct cluster_sockets *sockets);
/* The bus's thread, when no event that was fetched is left. */
void cluster_sockets_free_dead(struct cluster_sockets *sockets);

#endif
