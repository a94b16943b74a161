/* See lease_voter.h. */
#include "cluster/lease_voter.h"

#include "cluster/claims.h"
#include "cluster/lease_wire.h"
#include "cluster/packets.h"
#include "cluster/voters.h"

#define ASKED_MS 300 /* who has asked since is alive */

static bool has_just_started(const struct cluster *cluster) {
    return cluster_age(cluster_now(cluster), cluster->started_ms) < CLUSTER_ANSWER_MS;
}

/* Another process of the same node is another primary. */
static bool is_answered_process(const struct cluster *cluster, struct cluster_lease_grant *grant,
                                const struct lease_round *round) {
    if (grant->incarnation != round->incarnation) {
        if (cluster_age(cluster_now(cluster), grant->answered_ms) < CLUSTER_ANSWER_MS)
            return false;
        grant->incarnation = round->incarnation;
        grant->closed = 0;
    }
    return round->number > grant->closed;
}

static bool owns_what_it_claims(const struct cluster_node *sender, const uint8_t *slots) {
    if (!node_is_primary(sender) || sender->slot_count == 0)
        return false;
    for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
        if (slots[i] & (uint8_t)~sender->slots[i])
            return false;
    return true;
}

void lease_voter_take_round(struct cluster *cluster, struct cluster_node *sender,
                            const struct wire_packet *packet) {
    struct cluster_lease_grant *grant = &sender->grant;
    struct lease_round round;
    uint64_t now_ms = cluster_now(cluster);
    if (!lease_round_read(packet, &round))
        return;
    grant->asked_ms = now_ms;
    if (!is_answered_process(cluster, grant, &round))
        return;
    grant->closed = round.number; /* what is older and comes later, by another link, is void */
    if (round.message == LEASE_MESSAGE_GIVEN_BACK) {
        grant->answered_ms = 0;
        grant->on = false; /* it hands over by agreement, or goes on: nobody replaces it early */
        return;
    }
    if (!owns_what_it_claims(sender, packet->header.slots)) {
        claims_correct(cluster, sender, packet->header.config_epoch, packet->header.slots);
        return;
    }
    if (has_just_started(cluster) || now_ms < grant->silent_until_ms ||
        now_ms < grant->bound_until_ms || cluster->durable_ticket < grant->durable_by_ticket)
        return;
    grant->answered_ms = now_ms;
    grant->on = round.message == LEASE_MESSAGE_ON;
    grant->voters = round.voters;
    packets_send_private(cluster, sender, WIRE_PRIVATE_ANSWER, packet->private_data,
                         LEASE_ROUND_BYTES);
}

bool lease_voter_may_replace(const struct cluster *cluster, const struct cluster_node *primary,
                             uint64_t candidates_voters) {
    const struct cluster_lease_grant *grant = &primary->grant;
    uint64_t now_ms = cluster_now(cluster);
    return grant->on && cluster->config.fast_failover && candidates_voters != 0 &&
           grant->voters == candidates_voters && voters_hash(cluster) == candidates_voters &&
           !has_just_started(cluster) &&
           cluster_age(now_ms, grant->answered_ms) >= CLUSTER_ANSWER_MS &&
           cluster_age(now_ms, grant->asked_ms) >= ASKED_MS;
}
