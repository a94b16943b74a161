/* See links.h. */
#include "cluster/links.h"

#include "cluster/handshake.h"
#include "cluster/nodes.h"
#include "cluster/packets.h"

static void close_if_over_limit(struct cluster *cluster, struct cluster_link *link) {
    uint64_t limit = cluster->config.link_sendbuf_limit_bytes;
    if (!link || limit == 0 || link->unsent_bytes <= limit)
        return;
    cluster_log(cluster, CLUSTER_LOG_WARNING,
                "Freeing cluster link(%s node %.40s, used memory: %llu) due to exceeding send "
                "buffer memory limit.",
                link->inbound ? "from" : "to", link->node->id.hex,
                (unsigned long long)link->unsent_bytes);
    nodes_close_link(cluster, link);
    cluster->links_over_limit++;
}

static void connect_to(struct cluster *cluster, struct cluster_node *node) {
    if (!node->address[0] || node->bus_port == 0)
        return;
    struct cluster_link *link =
        cluster->calls.connect(cluster->context, node->address, node->bus_port);
    if (!link) {
        /* What cannot be pinged has to time out all the same. */
        if (node->ping_sent_ms == 0)
            node->ping_sent_ms = cluster_now(cluster);
        return;
    }
    link->node = node;
    link->inbound = false;
    link->created_ms = cluster_now(cluster);
    link->created_unix_ms = cluster->calls.unix_ms(cluster->context);
    node->link = link;
}

/* From the end, since nodes are removed. */
void links_turn(struct cluster *cluster) {
    for (unsigned i = cluster->node_count; i-- > 0;) {
        struct cluster_node *node = cluster->nodes[i];
        close_if_over_limit(cluster, node->link);
        close_if_over_limit(cluster, node->inbound_link);
        if (node->flags & (WIRE_NODE_MYSELF | WIRE_NODE_NOADDR))
            continue;
        if (handshake_is_late(cluster, node))
            nodes_remove(cluster, node);
        else if (!node->link)
            connect_to(cluster, node);
        else
            handshake_repeat(cluster, node);
    }
}

void cluster_on_accepted(struct cluster *cluster, struct cluster_link *link) {
    link->node = NULL;
    link->inbound = true;
    link->open = true;
    link->created_ms = cluster_now(cluster);
    link->created_unix_ms = cluster->calls.unix_ms(cluster->context);
}

/* The first packet says hello at once: a link without traffic would be a failure. A ping that was
 * waiting for its answer goes on waiting. A node that is to be met is, until it has answered. */
void cluster_on_connected(struct cluster *cluster, struct cluster_link *link) {
    struct cluster_node *node = link->node;
    uint64_t waiting_since_ms = node->ping_sent_ms;
    link->open = true;
    packets_send_ping(cluster, link, node->flags & WIRE_NODE_MEET ? WIRE_MEET : WIRE_PING);
    if (waiting_since_ms)
        node->ping_sent_ms = waiting_since_ms;
}

void cluster_on_link_end(struct cluster *cluster, struct cluster_link *link) {
    struct cluster_node *node = link->node;
    (void)cluster;
    if (node && node->link == link)
        node->link = NULL;
    if (node && node->inbound_link == link)
        node->inbound_link = NULL;
    link->node = NULL;
}
