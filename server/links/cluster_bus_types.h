/* What the parts of the cluster bus share (cluster_bus.c, cluster_duties.c). */
#ifndef SLOTWISE_SERVER_CLUSTER_BUS_TYPES_H
#define SLOTWISE_SERVER_CLUSTER_BUS_TYPES_H

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "cluster/cluster.h"
#include "server/dispatch/pause.h"
#include "server/dispatch/wait.h"
#include "server/links/cluster_sockets.h"
#include "server/links/cluster_store.h"
#include "server/links/primary.h"
#include "server/links/replica.h"

struct execution;
struct cluster_duty;

/* The process around it. */
struct cluster_bus_surroundings {
    struct keyspace *keyspace;
    struct replication *replication;
    struct replica *replica;
    struct primary *primary;
    struct pause *pause;
    struct mailbox *mailbox; /* of worker 0; set when it starts */
    /* Of worker 0, on which duties run. */
    struct execution *(*execution)(void *context);
    /* Any thread: those that a pause or the lease held back are looked at again. */
    void (*resume)(void *context);
    /* Under the lock of the bus: another node has published this. The bytes are copied. */
    void (*message)(void *context, const void *channel, size_t channel_length, const void *message,
                    size_t message_length, bool sharded);
    void *context;
};

/* What worker 0 does for the cluster, in the order in which it was asked to (cluster_duties.h). */
struct cluster_duties {
    struct cluster_duty *first, *last; /* under the lock of the bus */
    bool posted;                       /* under the lock of the bus: message is under way */
    bool ended;                        /* worker 0 */
    struct message message;
    struct wait wait;             /* worker 0: for patience */
    struct cluster_duty *current; /* worker 0 */
};

struct cluster_bus {
    pthread_mutex_t lock;    /* "the lock of the bus": the machine, and all that is marked so */
    struct cluster *cluster; /* under the lock */
    struct cluster_bus_surroundings around;
    struct cluster_sockets sockets; /* under the lock, see there */
    struct cluster_store store;
    struct cluster_duties duties;
    pthread_t thread;
    int wake_fd;
    bool started, open;    /* under the lock; open: the data are there, so it takes part */
    _Atomic bool stopping; /* by the main thread */
    unsigned role_duties;  /* changes of the role that worker 0 has not made yet; under the lock */
    uint64_t lease_until_ms;    /* that the machine told last; under the lock */
    uint32_t drop_packet_types; /* of DEBUG; exclusive */
    char *texts[4];             /* those of the cluster's configuration; under the lock */
    char *source_address;       /* under the lock */
    uint16_t bus_port;          /* set once */
};

/* The bus's thread has something to do. */
static inline void cluster_bus_wake(struct cluster_bus *bus) {
    uint64_t one = 1;
    ssize_t n = write(bus->wake_fd, &one, sizeof one);
    (void)n;
}

/* Takes the lock; the cluster may be asked, and told. Never across a wait. Any thread. */
static inline struct cluster *cluster_bus_enter(struct cluster_bus *bus) {
    pthread_mutex_lock(&bus->lock);
    return bus->cluster;
}

/* Gives it back. changed: what follows from what was told is done first. */
static inline void cluster_bus_leave(struct cluster_bus *bus, bool changed) {
    if (changed)
        cluster_before_wait(bus->cluster);
    bool wake = bus->started && (changed || bus->sockets.unsent || bus->sockets.dead);
    pthread_mutex_unlock(&bus->lock);
    if (wake)
        cluster_bus_wake(bus);
}

#endif
