/* What the cluster shows: for CLUSTER NODES, SLOTS, SHARDS, LINKS, INFO and the like.
 *
 * Under the lock of the bus (cluster.h). Pointers in views are the cluster's and hold as long as
 * the lock is kept. */
#ifndef SLOTWISE_CLUSTER_VIEW_H
#define SLOTWISE_CLUSTER_VIEW_H

#include "cluster/cluster.h"

struct cluster_node_view {
    struct node_id id, shard, primary;               /* primary: zero if it is one */
    const char *address, *hostname, *human_nodename; /* "" where there is none */
    uint16_t port, tls_port, bus_port;
    unsigned flags; /* of enum wire_node_flag */
    uint64_t config_epoch, offset;
    bool connected; /* our link to it; for ourselves true */
    const struct slot_range *slots;
    unsigned slot_range_count, slot_count;
};

/* All nodes, in the order of the cluster's table: *cursor begins as NULL, and ends as NULL with
 * false. */
bool cluster_view_next(const struct cluster *cluster, const void **cursor,
                       struct cluster_node_view *view);
/* By its id (40 digits). false: nobody knows it. */
bool cluster_view_node(const struct cluster *cluster, const void *node_id, size_t length,
                       struct cluster_node_view *view);
void cluster_view_myself(const struct cluster *cluster, struct cluster_node_view *view);

/* The text of CLUSTER NODES (one line per node, "\n" at the end of each), without nodes that have
 * any of the flags in `without`; of one node (CLUSTER REPLICAS); of CLUSTER INFO ("\r\n").
 * Allocated (memory_free); NULL: no memory. */
char *cluster_describe_nodes(const struct cluster *cluster, unsigned without, size_t *length);
char *cluster_describe_node(const struct cluster *cluster, const struct node_id *id,
                            size_t *length);
char *cluster_describe_info(const struct cluster *cluster, size_t *length);

struct cluster_link_view {
    bool inbound;
    struct node_id node;
    uint64_t created_unix_ms, unsent_bytes, unsent_allocated_bytes;
    const char *events; /* "r", "rw" */
};
/* Links with known nodes: *cursor as above. */
bool cluster_view_next_link(const struct cluster *cluster, const void **cursor,
                            struct cluster_link_view *view);

#endif
