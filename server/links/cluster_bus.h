/* The cluster bus: the cluster's pure machine (cluster/cluster.h) on sockets, files and clocks.
 *
 * Threads. A thread of its own waits for the sockets of the bus, reads packets and ticks the
 * machine; it never runs commands. CLUSTER commands ask and change the machine on their workers.
 * Both hold "the lock of the bus" meanwhile, for microseconds; nothing waits under it. What takes
 * longer goes elsewhere: files to the store's thread (cluster_store.h), roles and keys to worker 0
 * (cluster_duties.h), slot maps that were replaced to the background thread, which waits for the
 * grace period. The bus's thread is no RCU reader: it uses nothing that others publish.
 *
 * Order of locks: an exclusive section or a command, then the lock of the bus, then those of the
 * store, the background queue and a mailbox, which hold nothing else. */
#ifndef SLOTWISE_SERVER_CLUSTER_BUS_H
#define SLOTWISE_SERVER_CLUSTER_BUS_H

#include "server/links/cluster_bus_types.h"

struct config;

/* Locks and reads the file of the cluster, listens, publishes the first slot map and, if this node
 * is a replica, makes the server one. Before the workers start. 0, or -1: it has been logged, and
 * the process must not start. */
int cluster_bus_create(const struct cluster_bus_surroundings *around, const struct config *config,
                       struct cluster_bus **bus);
/* Before the workers start: the mailbox of worker 0, which they make when they do. */
void cluster_bus_attach(struct cluster_bus *bus, struct mailbox *mailbox);
/* Starts the threads, when worker 0 runs. 0, or a negative errno. */
int cluster_bus_start(struct cluster_bus *bus);
/* The data set is there: from here on it takes part. Once. loaded: keys have come from a file; in
 * an exclusive section then. */
void cluster_bus_open(struct cluster_bus *bus, bool loaded);
/* The configuration has changed. Not under the lock of the bus. */
void cluster_bus_configure(struct cluster_bus *bus, const struct config *config);
/* DEBUG DROP-CLUSTER-PACKET-FILTER: packets of this type that arrive are dropped; -1: none.
 * Exclusive. */
void cluster_bus_drop_packets(struct cluster_bus *bus, int type);
/* The process is going to end in order, and its workers run still. data_is_final: none of them
 * writes any more; in an exclusive section then. Any thread. */
void cluster_bus_shutdown(struct cluster_bus *bus, bool data_is_final);
/* Ends its threads; no worker runs any more. */
void cluster_bus_stop(struct cluster_bus *bus);
/* After cluster_bus_stop, when nobody reads the slot map. */
void cluster_bus_destroy(struct cluster_bus *bus);

/* CLUSTER SAVECONFIG: writes the file and waits until it is durable. For threads that may block. */
bool cluster_bus_save(struct cluster_bus *bus);

/* PUBLISH, SPUBLISH: to the other nodes, or to those of the shard. */
struct cluster_bus_message {
    const void *channel, *message;
    size_t channel_length, message_length;
    bool sharded;
};
void cluster_bus_publish(struct cluster_bus *bus, const struct cluster_bus_message *published);

/* For INFO. Any thread, without the lock. */
struct cluster_bus_figures {
    unsigned links;
    uint64_t buffer_bytes;
};
void cluster_bus_figures(struct cluster_bus *bus, struct cluster_bus_figures *figures);

#endif
