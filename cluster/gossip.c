/* See gossip.h. */
#include "cluster/gossip.h"

#include <string.h>
#include <strings.h>

#include "cluster/detector.h"
#include "cluster/nodes.h"
#include "cluster/roles.h"

#define FUTURE_MS        500 /* by which another node's clock may be ahead */
#define FORGOTTEN_BYTES  48
#define FORGOTTEN_MAX_MS (24u * 3600 * 1000)
#define FAILING          (WIRE_NODE_FAIL | WIRE_NODE_PFAIL)
/* What another node may tell of a third. */
#define TOLD_FLAGS                                                                                 \
    (WIRE_NODE_PRIMARY | WIRE_NODE_REPLICA | FAILING | WIRE_NODE_MIGRATE_TO | WIRE_NODE_NOFAILOVER)

static void set_address(struct cluster_node *node, const struct wire_gossip *gossip) {
    memcpy(node->address, gossip->address, sizeof node->address);
    node->port = gossip->port;
    node->tls_port = gossip->secondary_port;
    node->bus_port = gossip->bus_port;
    node->flags &= ~(unsigned)WIRE_NODE_NOADDR;
}

/* Somebody else's pong is as good as one of our own, if its time makes sense. */
static void take_pong(struct cluster *cluster, struct cluster_node *node,
                      const struct wire_gossip *gossip) {
    uint64_t unix_ms = (uint64_t)gossip->pong_received_s * 1000;
    if (gossip->flags & FAILING || node->ping_sent_ms != 0 ||
        nodes_count_reports(cluster, node) > 0 ||
        unix_ms > cluster->calls.unix_ms(cluster->context) + FUTURE_MS)
        return;
    uint64_t at_ms = cluster_from_unix_ms(cluster, unix_ms);
    if (at_ms > node->pong_received_ms)
        node->pong_received_ms = at_ms;
}

/* A node that we do not reach may have moved, if others reach it elsewhere. */
static void take_address(struct cluster *cluster, struct cluster_node *node,
                         const struct wire_gossip *gossip) {
    if (!(node->flags & FAILING) || gossip->flags & (FAILING | WIRE_NODE_NOADDR))
        return;
    if (strcasecmp(node->address, gossip->address) == 0 && node->port == gossip->port &&
        node->tls_port == gossip->secondary_port && node->bus_port == gossip->bus_port)
        return;
    nodes_close_link(cluster, node->link);
    set_address(node, gossip);
    if (node == cluster->myself->primary)
        roles_connect(cluster);
    cluster_later(cluster, LATER_MAP | LATER_SAVE);
}

static void take_known(struct cluster *cluster, struct cluster_node *node,
                       const struct wire_gossip *gossip, struct cluster_node *sender) {
    if (node_is_primary(sender) && node != cluster->myself)
        detector_take_report(cluster, node, sender, gossip->flags & FAILING);
    take_pong(cluster, node, gossip);
    if (node != cluster->myself && gossip->address[0] && address_is_valid(gossip->address))
        take_address(cluster, node, gossip);
}

static void take_unknown(struct cluster *cluster, const struct wire_gossip *gossip) {
    unsigned flags = gossip->flags & TOLD_FLAGS;
    if (gossip->flags & (WIRE_NODE_NOADDR | WIRE_NODE_HANDSHAKE) || !gossip->address[0] ||
        !address_is_valid(gossip->address) || !id_is_valid(gossip->id.hex, WIRE_ID_LENGTH) ||
        nodes_is_forgotten(cluster, gossip->id.hex, WIRE_ID_LENGTH))
        return;
    if (flags & WIRE_NODE_REPLICA)
        flags &= ~(unsigned)WIRE_NODE_PRIMARY;
    struct cluster_node *node = nodes_add(cluster, &gossip->id, flags);
    if (!node)
        return;
    if (node_is_failed(node))
        node->failed_ms = cluster_now(cluster);
    set_address(node, gossip);
    cluster_later(cluster, LATER_SAVE);
}

void gossip_take(struct cluster *cluster, const struct wire_packet *packet,
                 struct cluster_node *sender) {
    for (unsigned i = 0; i < packet->gossip_count; i++) {
        struct wire_gossip gossip;
        wire_gossip_at(packet, i, &gossip);
        struct cluster_node *node = nodes_find(cluster, gossip.id.hex, WIRE_ID_LENGTH);
        if (node)
            take_known(cluster, node, &gossip, sender);
        else
            take_unknown(cluster, &gossip);
    }
}

/* --- Extensions ------------------------------------------------------------------------------- */

/* The sender has forgotten a node, and so do we: not the sender itself, ourselves or our primary.
 */
static void take_forgotten(struct cluster *cluster, const struct wire_extension *extension,
                           const struct cluster_node *sender) {
    if (extension->length < FORGOTTEN_BYTES)
        return;
    struct cluster_node *node = nodes_find(cluster, extension->data, WIRE_ID_LENGTH);
    if (!node || node == cluster->myself || node == sender || node == cluster->myself->primary)
        return;
    uint64_t left_s = 0;
    for (unsigned byte = 0; byte < 8; byte++)
        left_s = left_s << 8 | extension->data[WIRE_ID_LENGTH + byte];
    uint64_t left_ms = left_s > FORGOTTEN_MAX_MS / 1000 ? FORGOTTEN_MAX_MS : left_s * 1000;
    nodes_forget(cluster, &node->id, left_ms);
    nodes_remove(cluster, node);
    cluster_later(cluster, LATER_SAVE | LATER_HEALTH);
}

/* The text of an extension up to its zero; false: it has none, or is none. */
static bool extension_text(const struct wire_extension *extension, const char **text) {
    const uint8_t *end = memchr(extension->data, 0, extension->length);
    if (!end || !name_is_valid(extension->data, (size_t)(end - extension->data)))
        return false;
    *text = (const char *)extension->data;
    return true;
}

void gossip_take_extensions(struct cluster *cluster, const struct wire_packet *packet,
                            struct cluster_node *sender) {
    const char *hostname = "", *human_nodename = "";
    const struct cluster_node *primary = sender->primary ? sender->primary : sender;
    struct node_id shard = primary->shard;
    struct wire_extension extension;
    sender->is_plain = true;
    for (size_t at = 0; wire_next_extension(packet, &at, &extension);) {
        switch (extension.type) {
        case WIRE_EXTENSION_HOSTNAME:
            extension_text(&extension, &hostname);
            break;
        case WIRE_EXTENSION_HUMAN_NODENAME:
            extension_text(&extension, &human_nodename);
            break;
        case WIRE_EXTENSION_FORGOTTEN_NODE:
            take_forgotten(cluster, &extension, sender);
            break;
        case WIRE_EXTENSION_SHARD_ID:
            sender->is_plain = false;
            if (extension.length >= WIRE_ID_LENGTH && id_is_valid(extension.data, WIRE_ID_LENGTH))
                memcpy(shard.hex, extension.data, WIRE_ID_LENGTH);
            break;
        default:
            cluster_log(cluster, CLUSTER_LOG_WARNING, "Received unknown extension type %u",
                        extension.type);
        }
    }
    nodes_set_name(cluster, sender->hostname, hostname);
    nodes_set_name(cluster, sender->human_nodename, human_nodename);
    nodes_set_shard(cluster, sender, &shard);
}
