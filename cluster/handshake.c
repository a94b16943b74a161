/* See handshake.h. */
#include "cluster/handshake.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "cluster/nodes.h"
#include "cluster/packets.h"

#define MIN_TIMEOUT_MS 1000

/* One text for each address. */
static bool normalise(const char *address, char *text, size_t size) {
    unsigned char bytes[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, address, bytes) == 1)
        return inet_ntop(AF_INET, bytes, text, (socklen_t)size) != NULL;
    if (inet_pton(AF_INET6, address, bytes) == 1)
        return inet_ntop(AF_INET6, bytes, text, (socklen_t)size) != NULL;
    return false;
}

static bool port_is_valid(int64_t port) {
    return port > 0 && port <= UINT16_MAX;
}

static bool is_under_way(const struct cluster *cluster, const char *address, int64_t port,
                         int64_t bus_port) {
    if (cluster->handshake_count == 0)
        return false;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        if (node_in_handshake(node) && strcasecmp(node->address, address) == 0 &&
            node->port == port && node->bus_port == bus_port)
            return true;
    }
    return false;
}

enum handshake_result handshake_begin(struct cluster *cluster, const char *address, int64_t port,
                                      int64_t bus_port, unsigned flags) {
    char text[WIRE_ADDRESS_LENGTH] = {0};
    if (!normalise(address, text, sizeof text) || !port_is_valid(port) || !port_is_valid(bus_port))
        return HANDSHAKE_BAD_ADDRESS;
    if (cluster->handshake_count >= CLUSTER_MAX_HANDSHAKES ||
        is_under_way(cluster, text, port, bus_port))
        return HANDSHAKE_BUSY;
    struct cluster_node *node = nodes_add(cluster, NULL, WIRE_NODE_HANDSHAKE | flags);
    if (!node)
        return HANDSHAKE_BUSY;
    memcpy(node->address, text, sizeof text);
    node->port = (uint16_t)port;
    node->bus_port = (uint16_t)bus_port;
    return HANDSHAKE_BEGUN;
}

void handshake_complete(struct cluster *cluster, struct cluster_node *node,
                        const struct node_id *id, unsigned role) {
    nodes_rename(cluster, node, id);
    nodes_end_handshake(cluster, node);
    node->flags |= role & (WIRE_NODE_PRIMARY | WIRE_NODE_REPLICA);
    cluster_log(cluster, CLUSTER_LOG_DEBUG, "Handshake with node %.40s completed.", id->hex);
    cluster_later(cluster, LATER_SAVE);
}

static uint64_t timeout_ms(const struct cluster *cluster) {
    uint64_t wanted_ms = cluster->config.node_timeout_ms;
    return wanted_ms < MIN_TIMEOUT_MS ? MIN_TIMEOUT_MS : wanted_ms;
}

bool handshake_is_late(const struct cluster *cluster, const struct cluster_node *node) {
    return node_in_handshake(node) &&
           cluster_age(cluster_now(cluster), node->created_ms) > timeout_ms(cluster);
}

void handshake_repeat(struct cluster *cluster, struct cluster_node *node) {
    uint64_t now_ms = cluster_now(cluster);
    if (!node->is_unmet || !node->link || cluster_age(now_ms, node->met_ms) <= timeout_ms(cluster))
        return;
    node->met_ms = now_ms;
    packets_send_ping(cluster, node->link, WIRE_MEET);
}
