/* See prevote.h. */
#include "cluster/prevote.h"

#include "cluster/lease.h"
#include "cluster/lease_voter.h"
#include "cluster/lease_wire.h"
#include "cluster/packets.h"
#include "cluster/votes.h"

#define ROUND_MS        10
#define FRESH_MS        60 /* of an answer */
#define NUMBER_BYTES    8
#define AGAIN_MS        100
#define AGAIN_RANDOM_MS 200

static bool is_silent(const struct cluster *cluster, const struct cluster_node *primary) {
    uint64_t heard_ms = cluster->started_ms;
    if (primary->data_received_ms > heard_ms)
        heard_ms = primary->data_received_ms;
    if (primary->grant.asked_ms > heard_ms)
        heard_ms = primary->grant.asked_ms;
    return cluster_age(cluster_now(cluster), heard_ms) > cluster->config.node_timeout_ms;
}

static bool is_gone(const struct cluster *cluster, const struct cluster_node *primary,
                    const struct cluster_data_position *data) {
    return is_silent(cluster, primary) ||
           (!data->link_is_up && !(primary->link && primary->link->open));
}

static bool is_candidate(const struct cluster *cluster) {
    const struct cluster_node *me = cluster->myself, *primary = me->primary;
    struct cluster_data_position position = {0};
    if (!node_is_replica(me) || !primary || primary->slot_count == 0 || node_is_failed(primary) ||
        cluster->config.replica_no_failover || cluster->disk_failed ||
        cluster->manual.until_ms != 0 || cluster->election.early ||
        !cluster->config.fast_failover || !lease_is_possible(cluster))
        return false;
    cluster->calls.position(cluster->context, &position);
    return position.knows_primary_data && is_gone(cluster, primary, &position);
}

static bool is_sibling(const struct cluster *cluster, const struct cluster_node *node) {
    return node != cluster->myself && node_is_replica(node) &&
           node->primary == cluster->myself->primary;
}

static bool is_voter(const struct cluster *cluster, const struct cluster_node *node) {
    return node != cluster->myself->primary && node_is_primary(node) && node->slot_count > 0;
}

/* A sibling that is silent, and has not failed, may have more. */
static bool would_win(const struct cluster *cluster) {
    uint64_t now_ms = cluster_now(cluster);
    unsigned votes = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        bool would = cluster_age(now_ms, node->would_ms) <= FRESH_MS;
        votes += would && is_voter(cluster, node);
        if (is_sibling(cluster, node) && !node_is_failed(node) && !would)
            return false;
    }
    return votes >= cluster_quorum(cluster);
}

static void ask_all(struct cluster *cluster) {
    uint8_t data[NUMBER_BYTES];
    lease_put(data, ++cluster->prevote.round);
    cluster->prevote.asked_ms = cluster_now(cluster);
    for (unsigned i = 0; i < cluster->node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        if (is_voter(cluster, node) || is_sibling(cluster, node))
            packets_send_private(cluster, node, WIRE_PRIVATE_PREVOTE, data, sizeof data);
    }
}

void prevote_turn(struct cluster *cluster) {
    if (!is_candidate(cluster))
        return;
    cluster_later(cluster, LATER_SOON);
    if (cluster_now(cluster) >= cluster->prevote.not_before_ms &&
        cluster_age(cluster_now(cluster), cluster->prevote.asked_ms) >= ROUND_MS)
        ask_all(cluster);
}

/* As one that may become a candidate: if we have no more than the sender. */
static bool leaves_it_to(const struct cluster *cluster, const struct cluster_node *sender,
                         uint64_t offset) {
    struct cluster_data_position position = {0};
    cluster->calls.position(cluster->context, &position);
    if (position.link_is_up && !is_silent(cluster, sender->primary))
        return false;
    if (!position.knows_primary_data || cluster->config.replica_no_failover ||
        position.offset < offset)
        return true;
    return position.offset == offset && id_compare(&sender->id, &cluster->myself->id) < 0;
}

void prevote_take_question(struct cluster *cluster, struct cluster_node *sender,
                           const struct wire_packet *packet) {
    const struct cluster_node *primary = sender->primary;
    if (packet->private_length < NUMBER_BYTES || !node_is_replica(sender) || !primary ||
        id_compare(&packet->header.primary, &primary->id) != 0)
        return;
    bool would = primary == cluster->myself->primary
                     ? leaves_it_to(cluster, sender, packet->header.offset)
                     : votes_would(cluster, sender);
    if (would)
        packets_send_private(cluster, sender, WIRE_PRIVATE_WOULD, packet->private_data,
                             NUMBER_BYTES);
}

void prevote_take_answer(struct cluster *cluster, struct cluster_node *sender,
                         const struct wire_packet *packet) {
    if (packet->private_length < NUMBER_BYTES ||
        lease_get(packet->private_data) + 2 < cluster->prevote.round)
        return;
    sender->would_ms = cluster_now(cluster);
    if (!is_candidate(cluster) || cluster_now(cluster) < cluster->prevote.not_before_ms ||
        !would_win(cluster))
        return;
    cluster->election = (struct cluster_election){.at_ms = cluster_now(cluster), .early = true};
    cluster_log(cluster, CLUSTER_LOG_NOTICE,
                "The lease of master %.40s (%s) has run out: starting an election early.",
                cluster->myself->primary->id.hex, cluster->myself->primary->human_nodename);
    cluster_later(cluster, LATER_ELECTION | LATER_HEALTH);
}

void prevote_again(struct cluster *cluster) {
    cluster->election = (struct cluster_election){0};
    cluster_later(cluster, LATER_HEALTH);
    cluster->prevote.not_before_ms =
        cluster_now(cluster) + AGAIN_MS + cluster_random(cluster) % AGAIN_RANDOM_MS;
}
