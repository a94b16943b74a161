/* See packets.h, and cluster_publish. */
#include "cluster/packets.h"

#include <string.h>

#include "cluster/capability.h"
#include "cluster/nodes.h"
#include "cluster/persist.h"
#include "cluster/voters.h"
#include "engine/memory.h"

#define EXTENSIONS_BYTES   8192 /* room for them, twice what is used */
#define FORGOTTEN_BYTES    48   /* an id and the seconds that are left */
#define FORGOTTEN_PER_PING 64
#define UPDATE_BYTES       (WIRE_HEADER_BYTES + 8 + WIRE_ID_LENGTH + WIRE_SLOT_BYTES)

/* --- The header, and where packets go --------------------------------------------------------- */

static void fill_header(const struct cluster *cluster, enum wire_type type,
                        struct wire_header *header) {
    const struct cluster_node *me = cluster->myself;
    const struct cluster_node *owner = me->primary ? me->primary : me;
    *header = (struct wire_header){
        .type = (uint16_t)type,
        .port = me->port,
        .secondary_port = me->tls_port,
        .bus_port = me->bus_port,
        .current_epoch = cluster->current_epoch,
        .config_epoch =
            owner == me && persist_hides_epoch(cluster) ? cluster->told_epoch : owner->config_epoch,
        .offset = cluster_offset(cluster),
        .sender = me->id,
        .flags = (uint16_t)me->flags,
        .state_ok = cluster->state_ok,
    };
    unsigned leases = cluster->config.fast_failover ? CAPABILITY_LEASES : 0;
    capability_write(header->spare, CAPABILITY_MESSAGES | leases, voters_hash(cluster));
    if (me->primary)
        header->primary = me->primary->id;
    if (cluster->config.announce_ip && cluster->config.announce_ip[0])
        memcpy(header->address, me->address, sizeof header->address);
    /* By our own epoch that is told so far they might be believed. */
    if (!(owner == me && cluster->takes_over && persist_hides_epoch(cluster)))
        memcpy(header->slots, owner->slots, sizeof header->slots);
    if (node_is_primary(me) && cluster->manual.paused)
        header->message_flags[0] |= WIRE_FLAG_PAUSED;
}

static uint8_t *packet_memory(struct cluster *cluster, size_t size) {
    if (size > cluster->packet_capacity) {
        memory_free(cluster->packet);
        cluster->packet = memory_alloc(size);
        cluster->packet_capacity = size;
    }
    return cluster->packet;
}

static void begin(struct cluster *cluster, struct wire_builder *builder, size_t size,
                  const struct wire_header *header) {
    wire_begin(builder, packet_memory(cluster, size), size, header);
}

static void send(struct cluster *cluster, struct cluster_link *link, enum wire_type type,
                 size_t length) {
    if (!link || !link->open || cluster->has_ended)
        return;
    if (type != WIRE_MODULE) /* which users do not know of */
        cluster->sent[type]++;
    cluster->calls.send(cluster->context, link, cluster->packet, length);
}

static void broadcast(struct cluster *cluster, enum wire_type type, size_t length) {
    for (unsigned i = 0; i < cluster->node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        if (!(node->flags & (WIRE_NODE_MYSELF | WIRE_NODE_HANDSHAKE)))
            send(cluster, node->link, type, length);
    }
}

/* --- PING, PONG, MEET ------------------------------------------------------------------------- */

static void add_gossip(const struct cluster *cluster, struct wire_builder *builder,
                       const struct cluster_node *node) {
    struct wire_gossip gossip = {
        .id = node->id,
        .ping_sent_s = (uint32_t)(cluster_to_unix_ms(cluster, node->ping_sent_ms) / 1000),
        .pong_received_s = (uint32_t)(cluster_to_unix_ms(cluster, node->pong_received_ms) / 1000),
        .port = node->port,
        .bus_port = node->bus_port,
        .flags = (uint16_t)node->flags,
        .secondary_port = node->tls_port,
    };
    memcpy(gossip.address, node->address, sizeof gossip.address);
    wire_add_gossip(builder, &gossip);
}

/* How many nodes a packet tells of: a tenth of them, so that within two node timeouts most
 * primaries have told a given one of a failure that they see; at least three. */
static unsigned gossip_wanted(const struct cluster *cluster) {
    unsigned wanted = cluster->node_count / 10 < 3 ? 3 : cluster->node_count / 10;
    unsigned others = cluster->node_count > 2 ? cluster->node_count - 2 : 0;
    return wanted < others ? wanted : others;
}

static void add_random_gossip(struct cluster *cluster, struct wire_builder *builder,
                              unsigned wanted) {
    uint64_t stamp = ++cluster->gossip_stamps;
    unsigned fresh = cluster->node_count > 2 ? cluster->node_count - 2 : 0, added = 0;
    for (unsigned tries = wanted * 3; tries > 0 && added < wanted && fresh > 0; tries--) {
        struct cluster_node *node = cluster->nodes[cluster_random(cluster) % cluster->node_count];
        if (node == cluster->myself || node_is_suspected(node) || node->gossip_stamp == stamp)
            continue;
        fresh--;
        if (node->flags & (WIRE_NODE_HANDSHAKE | WIRE_NODE_NOADDR) ||
            (!node->link && node->slot_count == 0))
            continue;
        node->gossip_stamp = stamp;
        add_gossip(cluster, builder, node);
        added++;
    }
}

/* All of them, so that a failure is agreed on soon. */
static void add_suspected(const struct cluster *cluster, struct wire_builder *builder) {
    for (unsigned i = 0, left = cluster->pfail_count; i < cluster->node_count && left > 0; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        if (!node_is_suspected(node) || node->flags & (WIRE_NODE_HANDSHAKE | WIRE_NODE_NOADDR))
            continue;
        add_gossip(cluster, builder, node);
        left--;
    }
}

static void add_forgotten(const struct cluster *cluster, struct wire_builder *builder) {
    uint64_t now_ms = cluster_now(cluster);
    unsigned count = cluster->forgotten_count;
    unsigned told = count < FORGOTTEN_PER_PING ? count : FORGOTTEN_PER_PING;
    unsigned first = count > told ? (unsigned)(cluster_random(cluster) % count) : 0;
    for (unsigned i = 0; i < told; i++) {
        const struct cluster_forgotten *entry = &cluster->forgotten[(first + i) % count];
        uint8_t data[FORGOTTEN_BYTES];
        if (entry->until_ms <= now_ms)
            continue;
        uint64_t left_s = (entry->until_ms - now_ms) / 1000;
        memcpy(data, entry->id.hex, WIRE_ID_LENGTH);
        for (unsigned byte = 0; byte < 8; byte++)
            data[WIRE_ID_LENGTH + byte] = (uint8_t)(left_s >> (56 - 8 * byte));
        wire_add_extension(builder, WIRE_EXTENSION_FORGOTTEN_NODE, data, sizeof data);
    }
}

/* Before 7.2, Redis knows host names only, and logs a warning for each other extension. */
static void add_extensions(const struct cluster *cluster, struct wire_builder *builder,
                           const struct cluster_node *receiver) {
    const struct cluster_node *me = cluster->myself;
    if (me->hostname[0])
        wire_add_extension(builder, WIRE_EXTENSION_HOSTNAME, me->hostname, strlen(me->hostname));
    if (receiver && receiver->is_plain)
        return;
    if (me->human_nodename[0])
        wire_add_extension(builder, WIRE_EXTENSION_HUMAN_NODENAME, me->human_nodename,
                           strlen(me->human_nodename));
    add_forgotten(cluster, builder);
    wire_add_extension(builder, WIRE_EXTENSION_SHARD_ID, me->shard.hex, WIRE_ID_LENGTH);
}

void packets_send_ping(struct cluster *cluster, struct cluster_link *link, enum wire_type type) {
    if (!link)
        return;
    if (!link->inbound && type == WIRE_PING)
        link->node->ping_sent_ms = cluster_now(cluster);
    if (!link->open)
        return;
    const struct cluster_node *receiver = link->node;
    bool extended = cluster->myself->hostname[0] || !receiver || !receiver->is_plain;
    unsigned wanted = gossip_wanted(cluster);
    size_t size = WIRE_HEADER_BYTES + EXTENSIONS_BYTES +
                  (size_t)(wanted + cluster->pfail_count) * WIRE_GOSSIP_BYTES;
    struct wire_header header;
    struct wire_builder builder;
    fill_header(cluster, type, &header);
    if (extended)
        header.message_flags[0] |= WIRE_FLAG_EXTENDED;
    begin(cluster, &builder, size, &header);
    add_random_gossip(cluster, &builder, wanted);
    add_suspected(cluster, &builder);
    if (extended)
        add_extensions(cluster, &builder, receiver);
    send(cluster, link, type, wire_finish(&builder));
}

void packets_broadcast_pong(struct cluster *cluster, enum packets_audience audience) {
    const struct cluster_node *me = cluster->myself;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        bool is_sibling = node_is_replica(node) && node->primary &&
                          (node->primary == me || node->primary == me->primary);
        if (node == me || node_in_handshake(node) || (audience == PACKETS_TO_SHARD && !is_sibling))
            continue;
        packets_send_ping(cluster, node->link, WIRE_PONG);
    }
}

/* --- The others ------------------------------------------------------------------------------- */

void packets_broadcast_fail(struct cluster *cluster, const struct node_id *failed) {
    struct wire_header header;
    struct wire_builder builder;
    fill_header(cluster, WIRE_FAIL, &header);
    begin(cluster, &builder, WIRE_HEADER_BYTES + WIRE_ID_LENGTH, &header);
    wire_add_fail(&builder, failed);
    broadcast(cluster, WIRE_FAIL, wire_finish(&builder));
}

void packets_ask_for_votes(struct cluster *cluster, uint64_t epoch, bool primary_may_be_up,
                           bool early) {
    struct wire_header header;
    struct wire_builder builder;
    fill_header(cluster, WIRE_FAILOVER_AUTH_REQUEST, &header);
    header.current_epoch = epoch;
    if (primary_may_be_up)
        header.message_flags[0] |= WIRE_FLAG_FORCE_ACK;
    if (early)
        header.message_flags[0] |= WIRE_FLAG_EARLY;
    begin(cluster, &builder, WIRE_HEADER_BYTES, &header);
    broadcast(cluster, WIRE_FAILOVER_AUTH_REQUEST, wire_finish(&builder));
}

/* By the epoch in its header a vote counts: later ones that we know of do not belong there. */
void packets_send_vote(struct cluster *cluster, struct cluster_link *link, uint64_t epoch) {
    struct wire_header header;
    struct wire_builder builder;
    fill_header(cluster, WIRE_FAILOVER_AUTH_ACK, &header);
    header.current_epoch = epoch;
    begin(cluster, &builder, WIRE_HEADER_BYTES, &header);
    send(cluster, link, WIRE_FAILOVER_AUTH_ACK, wire_finish(&builder));
}

void packets_send_plain(struct cluster *cluster, struct cluster_link *link, enum wire_type type) {
    struct wire_header header;
    struct wire_builder builder;
    fill_header(cluster, type, &header);
    begin(cluster, &builder, WIRE_HEADER_BYTES, &header);
    send(cluster, link, type, wire_finish(&builder));
}

void packets_send_private(struct cluster *cluster, const struct cluster_node *to,
                          enum wire_private kind, const void *data, size_t length) {
    struct wire_header header;
    struct wire_builder builder;
    if (!to->link || !to->link->open || !(to->capabilities & CAPABILITY_MESSAGES))
        return;
    fill_header(cluster, WIRE_MODULE, &header);
    /* What is being handed over may be another's already; it serves nobody meanwhile, and the lease
     * that is asked for is for the rest. */
    for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
        header.slots[i] &= (uint8_t)~cluster->held[i];
    begin(cluster, &builder, WIRE_HEADER_BYTES + wire_private_bytes(length), &header);
    wire_add_private(&builder, kind, data, length);
    send(cluster, to->link, WIRE_MODULE, wire_finish(&builder));
}

void packets_send_update(struct cluster *cluster, struct cluster_link *link,
                         const struct cluster_node *owner) {
    uint8_t slots[WIRE_SLOT_BYTES];
    struct wire_header header;
    struct wire_builder builder;
    if (owner == cluster->myself && persist_hides_epoch(cluster))
        return;
    for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
        slots[i] = owner->slots[i] & (uint8_t)~cluster->not_claimed[i];
    fill_header(cluster, WIRE_UPDATE, &header);
    begin(cluster, &builder, UPDATE_BYTES, &header);
    wire_add_update(&builder, owner->config_epoch, &owner->id, slots);
    send(cluster, link, WIRE_UPDATE, wire_finish(&builder));
}

void cluster_publish(struct cluster *cluster, const void *channel, size_t channel_length,
                     const void *message, size_t message_length, bool sharded) {
    enum wire_type type = sharded ? WIRE_PUBLISHSHARD : WIRE_PUBLISH;
    size_t size = WIRE_HEADER_BYTES + wire_publish_bytes(channel_length, message_length);
    struct wire_header header;
    struct wire_builder builder;
    if (size > WIRE_MAX_BYTES)
        return;
    fill_header(cluster, type, &header);
    begin(cluster, &builder, size, &header);
    wire_add_publish(&builder, channel, channel_length, message, message_length);
    size_t length = wire_finish(&builder);
    if (!sharded) {
        broadcast(cluster, type, length);
        return;
    }
    for (unsigned i = 0; i < cluster->node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        if (!(node->flags & (WIRE_NODE_MYSELF | WIRE_NODE_HANDSHAKE)) &&
            id_compare(&node->shard, &cluster->myself->shard) == 0)
            send(cluster, node->link, type, length);
    }
}
