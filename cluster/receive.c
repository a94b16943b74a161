/* Packets in (cluster_on_packet): who has sent it, and what each type does.
 *
 * Nothing in a packet is to be trusted beyond what a node of the cluster may say: lengths have been
 * checked by wire.c, ids, addresses and names are checked where they are taken. */
#include <string.h>

#include "cluster/capability.h"
#include "cluster/claims.h"
#include "cluster/detector.h"
#include "cluster/election.h"
#include "cluster/epochs.h"
#include "cluster/gossip.h"
#include "cluster/handover.h"
#include "cluster/handshake.h"
#include "cluster/lease.h"
#include "cluster/lease_voter.h"
#include "cluster/nodes.h"
#include "cluster/packets.h"
#include "cluster/pause_watch.h"
#include "cluster/prevote.h"
#include "cluster/roles.h"
#include "cluster/votes.h"

#define MAX_EPOCH (UINT64_MAX / 2) /* no cluster gets there by counting */

static bool is_ping(const struct wire_header *header) {
    return header->type == WIRE_PING || header->type == WIRE_PONG || header->type == WIRE_MEET;
}

/* --- Who it is from --------------------------------------------------------------------------- */

/* A link of a node in handshake says nothing yet of who is at its end, nor does an inbound one that
 * a node keeps over a reset, with another id. NULL: somebody unknown. */
static struct cluster_node *find_sender(struct cluster *cluster, struct cluster_link *link,
                                        const struct wire_header *header) {
    struct cluster_node *node = link->node;
    if (node && !node_in_handshake(node) && id_compare(&node->id, &header->sender) == 0) {
        /* A node that is getting to know us says hello on its link, and nothing else before we have
         * answered: one that says more knows us. */
        if (link->inbound)
            nodes_note_met(cluster, node);
        return node;
    }
    struct cluster_node *sender = nodes_find(cluster, header->sender.hex, WIRE_ID_LENGTH);
    if (!link->inbound)
        return sender;
    if (node) {
        node->inbound_link = NULL;
        link->node = NULL;
    }
    if (sender)
        nodes_attach_inbound(cluster, sender, link);
    return sender;
}

static bool sender_address(struct cluster *cluster, const struct cluster_link *link,
                           const struct wire_header *header, char *text) {
    memset(text, 0, WIRE_ADDRESS_LENGTH);
    if (header->address[0]) {
        if (!address_is_valid(header->address))
            return false;
        memcpy(text, header->address, WIRE_ADDRESS_LENGTH);
        return true;
    }
    return cluster->calls.peer_address(cluster->context, link, text, WIRE_ADDRESS_LENGTH);
}

/* By a packet that has come in on another link than our own to that node. */
static void update_address(struct cluster *cluster, struct cluster_node *node,
                           const struct cluster_link *link, const struct wire_header *header) {
    char address[WIRE_ADDRESS_LENGTH];
    if (link == node->link || !sender_address(cluster, link, header, address))
        return;
    if (node->port == header->port && node->bus_port == header->bus_port &&
        node->tls_port == header->secondary_port && strcmp(address, node->address) == 0)
        return;
    memcpy(node->address, address, sizeof node->address);
    node->port = header->port;
    node->tls_port = header->secondary_port;
    node->bus_port = header->bus_port;
    nodes_close_link(cluster, node->link);
    node->flags &= ~(unsigned)WIRE_NODE_NOADDR;
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "Address updated for node %.40s (%s), now %s:%u",
                node->id.hex, node->human_nodename, node->address, node->port);
    if (cluster->myself->primary == node)
        roles_connect(cluster);
    cluster_later(cluster, LATER_SAVE | LATER_HEALTH | LATER_MAP);
}

/* Others reach us at the address at which they have met us. */
static void update_own_address(struct cluster *cluster, const struct cluster_link *link,
                               const struct wire_header *header) {
    struct cluster_node *me = cluster->myself;
    char address[WIRE_ADDRESS_LENGTH] = {0};
    if ((header->type != WIRE_MEET && me->address[0]) ||
        (cluster->config.announce_ip && cluster->config.announce_ip[0]))
        return;
    if (!cluster->calls.local_address(cluster->context, link, address, sizeof address) ||
        strcmp(address, me->address) == 0)
        return;
    memcpy(me->address, address, sizeof address);
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "IP address for this node updated to %s", me->address);
    cluster_later(cluster, LATER_SAVE | LATER_MAP);
}

/* --- PING, PONG, MEET ------------------------------------------------------------------------- */

static void answer_ping(struct cluster *cluster, struct cluster_link *link,
                        const struct cluster_node *sender, const struct wire_header *header) {
    char address[WIRE_ADDRESS_LENGTH];
    update_own_address(cluster, link, header);
    if (!sender && header->type == WIRE_MEET && sender_address(cluster, link, header, address))
        handshake_begin(cluster, address, header->port, header->bus_port, 0);
    packets_send_ping(cluster, link, WIRE_PONG);
}

/* Our own link: its other end has to be the node that we think. false: it is closed. */
static bool check_own_link(struct cluster *cluster, struct cluster_link *link,
                           struct cluster_node *sender, const struct wire_header *header) {
    struct cluster_node *node = link->node;
    if (node_in_handshake(node)) {
        if (sender) {
            cluster_log(cluster, CLUSTER_LOG_VERBOSE,
                        "Handshake: we already know node %.40s (%s), updating the address if "
                        "needed.",
                        sender->id.hex, sender->human_nodename);
            if (sender != cluster->myself)
                update_address(cluster, sender, link, header);
            nodes_remove(cluster, node);
            return false;
        }
        if (!id_is_valid(header->sender.hex, WIRE_ID_LENGTH)) {
            nodes_remove(cluster, node);
            return false;
        }
        handshake_complete(cluster, node, &header->sender, header->flags);
        return true;
    }
    if (id_compare(&node->id, &header->sender) == 0)
        return true;
    cluster_log(cluster, CLUSTER_LOG_DEBUG,
                "PONG contains mismatching sender ID. About node %.40s added %llu ms ago, having "
                "flags %u",
                node->id.hex,
                (unsigned long long)cluster_age(cluster_now(cluster), node->created_ms),
                node->flags);
    node->flags |= WIRE_NODE_NOADDR;
    node->address[0] = 0;
    node->port = node->tls_port = node->bus_port = 0;
    nodes_close_link(cluster, link);
    cluster_later(cluster, LATER_SAVE | LATER_MAP);
    return false;
}

static void take_role(struct cluster *cluster, struct cluster_node *sender,
                      const struct wire_header *header) {
    if (id_is_none(&header->primary)) {
        roles_set_primary(cluster, sender);
        return;
    }
    struct cluster_node *primary = nodes_find(cluster, header->primary.hex, WIRE_ID_LENGTH);
    if (primary == sender)
        return;
    roles_set_replica(cluster, sender);
    if (!primary || sender->primary == primary)
        return;
    nodes_set_primary(cluster, sender, primary);
    nodes_set_shard(cluster, sender, &primary->shard);
    cluster_later(cluster, LATER_SAVE);
}

static void take_slots(struct cluster *cluster, struct cluster_node *sender,
                       const struct wire_header *header) {
    struct cluster_node *owner = node_is_primary(sender) ? sender : sender->primary;
    for (unsigned i = 0; i < WIRE_SLOT_BYTES && sender == cluster->myself->primary; i++)
        cluster->adopted[i] &= (uint8_t)~header->slots[i]; /* it claims them itself now */
    if (!owner || memcmp(owner->slots, header->slots, WIRE_SLOT_BYTES) == 0)
        return;
    if (node_is_primary(sender))
        claims_take(cluster, sender, header->config_epoch, header->slots);
    claims_correct(cluster, sender, header->config_epoch, header->slots);
}

static bool take_ping(struct cluster *cluster, struct cluster_link *link,
                      struct cluster_node *sender, const struct wire_packet *packet) {
    const struct wire_header *header = &packet->header;
    if (header->type != WIRE_PONG)
        answer_ping(cluster, link, sender, header);
    if (!link->inbound && !check_own_link(cluster, link, sender, header))
        return false;
    if (sender) {
        sender->flags &= ~(unsigned)WIRE_NODE_NOFAILOVER;
        sender->flags |= header->flags & WIRE_NODE_NOFAILOVER;
        if (header->type == WIRE_PING)
            update_address(cluster, sender, link, header);
    }
    if (!link->inbound && header->type == WIRE_PONG)
        detector_take_answer(cluster, link->node);
    if (!sender)
        return true;
    take_role(cluster, sender, header);
    take_slots(cluster, sender, header);
    if (header->config_epoch == cluster->myself->config_epoch)
        epochs_resolve_collision(cluster, sender);
    gossip_take(cluster, packet, sender);
    gossip_take_extensions(cluster, packet, sender);
    return true;
}

/* --- The other types -------------------------------------------------------------------------- */

static void take_fail(struct cluster *cluster, struct cluster_node *sender,
                      const struct wire_packet *packet) {
    struct cluster_node *failed = nodes_find(cluster, packet->failed.hex, WIRE_ID_LENGTH);
    if (!sender)
        cluster_log(cluster, CLUSTER_LOG_NOTICE,
                    "Ignoring FAIL message from unknown node %.40s about %.40s",
                    packet->header.sender.hex, packet->failed.hex);
    else if (failed)
        detector_take_fail(cluster, failed, sender);
}

static void take_update(struct cluster *cluster, const struct wire_packet *packet) {
    struct cluster_node *node = nodes_find(cluster, packet->update_id.hex, WIRE_ID_LENGTH);
    if (!node || node == cluster->myself || node->config_epoch >= packet->update_epoch ||
        packet->update_epoch > MAX_EPOCH)
        return;
    roles_set_primary(cluster, node);
    node->config_epoch = packet->update_epoch;
    cluster_later(cluster, LATER_SAVE);
    claims_take(cluster, node, packet->update_epoch, packet->update_slots);
}

static void take_private(struct cluster *cluster, struct cluster_node *sender,
                         const struct wire_packet *packet) {
    switch (packet->private_kind) {
    case WIRE_PRIVATE_LEASE:
        lease_voter_take_round(cluster, sender, packet);
        break;
    case WIRE_PRIVATE_ANSWER:
        lease_take_answer(cluster, sender, packet);
        break;
    case WIRE_PRIVATE_PREVOTE:
        prevote_take_question(cluster, sender, packet);
        break;
    case WIRE_PRIVATE_WOULD:
        prevote_take_answer(cluster, sender, packet);
        break;
    default:
        break;
    }
}

static void take_from_known(struct cluster *cluster, struct cluster_node *sender,
                            const struct wire_packet *packet) {
    const struct wire_header *header = &packet->header;
    switch (header->type) {
    case WIRE_PUBLISH:
    case WIRE_PUBLISHSHARD:
        cluster->calls.message(cluster->context, packet->channel, packet->channel_length,
                               packet->message, packet->message_length,
                               header->type == WIRE_PUBLISHSHARD);
        break;
    case WIRE_FAILOVER_AUTH_REQUEST:
        votes_consider(cluster, sender, header);
        break;
    case WIRE_FAILOVER_AUTH_ACK:
        election_take_vote(cluster, sender, header->current_epoch);
        break;
    case WIRE_MFSTART:
        if (sender->primary == cluster->myself && node_is_primary(cluster->myself))
            handover_requested(cluster, sender);
        break;
    case WIRE_MODULE:
        take_private(cluster, sender, packet);
        break;
    case WIRE_UPDATE:
        take_update(cluster, packet);
        break;
    default:
        break;
    }
}

/* What the header of each packet of a known node says. */
static void take_header(struct cluster *cluster, const struct cluster_link *link,
                        struct cluster_node *sender, const struct wire_header *header) {
    if (header->current_epoch > cluster->current_epoch)
        cluster->current_epoch = header->current_epoch;
    if (header->config_epoch > sender->config_epoch) {
        sender->config_epoch = header->config_epoch;
        cluster_later(cluster, LATER_SAVE);
    }
    sender->offset = header->offset;
    sender->capabilities = capability_read(header->spare, &sender->voters);
    if (cluster->myself->primary == sender)
        pause_watch_packet(cluster, link, header);
}

/* --- A packet --------------------------------------------------------------------------------- */

/* Ours came back, since somebody met us at our own address; or another has our id. */
static bool take_own(struct cluster *cluster, struct cluster_link *link,
                     const struct wire_header *header) {
    if (!is_ping(header))
        return true;
    if (!link->inbound)
        return check_own_link(cluster, link, cluster->myself, header);
    if (header->type != WIRE_PONG)
        answer_ping(cluster, link, cluster->myself, header);
    return true;
}

static bool take(struct cluster *cluster, struct cluster_link *link,
                 const struct wire_packet *packet) {
    const struct wire_header *header = &packet->header;
    if (id_compare(&header->sender, &cluster->myself->id) == 0)
        return take_own(cluster, link, header);
    if (header->current_epoch > MAX_EPOCH || header->config_epoch > MAX_EPOCH) {
        cluster_log(cluster, CLUSTER_LOG_WARNING,
                    "Ignoring a packet of node %.40s with an impossible epoch.",
                    header->sender.hex);
        return true;
    }
    struct cluster_node *sender = find_sender(cluster, link, header);
    if (sender) {
        /* Messages of leases come all the time, also when our own link to it is broken. */
        if (packet->private_kind == WIRE_PRIVATE_NONE)
            sender->data_received_ms = cluster_now(cluster);
        if (!node_in_handshake(sender))
            take_header(cluster, link, sender, header);
    }
    if (is_ping(header))
        return take_ping(cluster, link, sender, packet);
    if (header->type == WIRE_FAIL)
        take_fail(cluster, sender, packet);
    else if (header->type >= WIRE_TYPES)
        cluster_log(cluster, CLUSTER_LOG_WARNING, "Received unknown packet type: %u", header->type);
    else if (sender)
        take_from_known(cluster, sender, packet);
    return true;
}

static bool is_dropped(struct cluster *cluster, unsigned type) {
    if (cluster->config.drop_incoming)
        return true;
    if (type >= WIRE_TYPES || !(cluster->config.drop_packet_types & 1u << type))
        return false;
    cluster_log(cluster, CLUSTER_LOG_WARNING, "Dropping packet that matches debug drop filter");
    return true;
}

bool cluster_on_packet(struct cluster *cluster, struct cluster_link *link, const uint8_t *bytes,
                       size_t length) {
    struct wire_packet packet;
    if (cluster->has_ended)
        return true;
    enum wire_result result = wire_decode(bytes, length, &packet);
    if (result == WIRE_BAD_VERSION)
        return true;
    if (result != WIRE_OK) {
        cluster_log(cluster, CLUSTER_LOG_WARNING,
                    "Received invalid packet of %llu bytes on the Cluster bus",
                    (unsigned long long)length);
        nodes_close_link(cluster, link);
        return false;
    }
    if (packet.header.type < WIRE_TYPES && packet.private_kind == WIRE_PRIVATE_NONE)
        cluster->received[packet.header.type]++;
    if (!is_dropped(cluster, packet.header.type))
        return take(cluster, link, &packet);
    if (cluster->config.close_link_on_packet_drop)
        nodes_close_link(cluster, link);
    return !cluster->config.close_link_on_packet_drop;
}
