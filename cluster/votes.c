/* See votes.h. */
#include "cluster/votes.h"

#include "cluster/lease_grant.h"
#include "cluster/lease_voter.h"
#include "cluster/nodes.h"
#include "cluster/ownership.h"
#include "cluster/packets.h"
#include "cluster/persist.h"

static bool deny(const struct cluster *cluster, const struct cluster_node *candidate,
                 const char *reason) {
    cluster_log(cluster, CLUSTER_LOG_WARNING, "Failover auth denied to %.40s (%s): %s",
                candidate->id.hex, candidate->human_nodename, reason);
    return false;
}

static bool epoch_is_free(const struct cluster *cluster, const struct cluster_node *candidate,
                          const struct wire_header *request) {
    if (request->current_epoch < cluster->current_epoch) {
        cluster_log(cluster, CLUSTER_LOG_WARNING,
                    "Failover auth denied to %.40s (%s): reqEpoch (%llu) < curEpoch(%llu)",
                    candidate->id.hex, candidate->human_nodename,
                    (unsigned long long)request->current_epoch,
                    (unsigned long long)cluster->current_epoch);
        return false;
    }
    if (cluster->last_vote_epoch >= cluster->current_epoch) {
        cluster_log(cluster, CLUSTER_LOG_WARNING,
                    "Failover auth denied to %.40s (%s): already voted for epoch %llu",
                    candidate->id.hex, candidate->human_nodename,
                    (unsigned long long)cluster->current_epoch);
        return false;
    }
    return true;
}

/* An early election is over soon, whatever came of it. */
static uint64_t wait_after_vote_ms(const struct cluster *cluster,
                                   const struct cluster_node *primary) {
    return primary->voted_early ? CLUSTER_ANSWER_MS : cluster->config.node_timeout_ms * 2;
}

/* A voter that has missed whose replica it is now would give away another primary's promise. */
static bool is_early(const struct cluster *cluster, const struct cluster_node *candidate,
                     const struct wire_header *request) {
    return request->message_flags[0] & WIRE_FLAG_EARLY &&
           id_compare(&request->primary, &candidate->primary->id) == 0 &&
           lease_voter_may_replace(cluster, candidate->primary, candidate->voters);
}

bool votes_would(const struct cluster *cluster, const struct cluster_node *candidate) {
    const struct cluster_node *primary = candidate->primary, *me = cluster->myself;
    return node_is_primary(me) && me->slot_count > 0 && primary != me && !cluster->disk_failed &&
           lease_voter_may_replace(cluster, primary, candidate->voters) &&
           cluster_age(cluster_now(cluster), primary->voted_ms) >=
               wait_after_vote_ms(cluster, primary);
}

static bool primary_may_be_replaced(const struct cluster *cluster,
                                    const struct cluster_node *candidate,
                                    const struct wire_header *request) {
    const struct cluster_node *primary = candidate->primary;
    if (node_is_primary(candidate))
        return deny(cluster, candidate, "it is a master node");
    if (!primary)
        return deny(cluster, candidate, "I don't know its master");
    if (!node_is_failed(primary) && !(request->message_flags[0] & WIRE_FLAG_FORCE_ACK) &&
        !is_early(cluster, candidate, request))
        return deny(cluster, candidate, "its master is up");
    uint64_t age_ms = cluster_age(cluster_now(cluster), primary->voted_ms);
    uint64_t wait_ms = wait_after_vote_ms(cluster, primary);
    if (age_ms < wait_ms) {
        cluster_log(cluster, CLUSTER_LOG_WARNING,
                    "Failover auth denied to %.40s %s: can't vote about this master before %llu "
                    "milliseconds",
                    candidate->id.hex, candidate->human_nodename,
                    (unsigned long long)(wait_ms - age_ms));
        return false;
    }
    return true;
}

static bool claim_is_current(struct cluster *cluster, const struct cluster_node *candidate,
                             const struct wire_header *request) {
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        if (!wire_slot_is(request->slots, slot) || ownership_is_unclaimed(cluster, slot) ||
            cluster->owners[slot]->config_epoch <= request->config_epoch)
            continue;
        cluster_log(cluster, CLUSTER_LOG_WARNING,
                    "Failover auth denied to %.40s (%s): slot %u epoch (%llu) > reqEpoch (%llu)",
                    candidate->id.hex, candidate->human_nodename, slot,
                    (unsigned long long)cluster->owners[slot]->config_epoch,
                    (unsigned long long)request->config_epoch);
        /* A candidate that has missed its primary's last epoch would be denied for ever. */
        packets_send_update(cluster, candidate->link, cluster->owners[slot]);
        return false;
    }
    return true;
}

void votes_consider(struct cluster *cluster, struct cluster_node *candidate,
                    const struct wire_header *request) {
    if (!node_is_primary(cluster->myself) || cluster->myself->slot_count == 0)
        return;
    if (!epoch_is_free(cluster, candidate, request) ||
        !primary_may_be_replaced(cluster, candidate, request) ||
        !claim_is_current(cluster, candidate, request))
        return;
    if (cluster->disk_failed) {
        deny(cluster, candidate, "the cluster config file cannot be updated");
        return;
    }
    cluster->last_vote_epoch = cluster->current_epoch;
    candidate->primary->voted_ms = cluster_now(cluster);
    candidate->primary->voted_early = request->message_flags[0] & WIRE_FLAG_EARLY;
    if (candidate->primary->voted_early)
        lease_grant_note_vote(cluster, candidate->primary);
    cluster->vote = (struct cluster_vote){
        .candidate = candidate->id, .epoch = cluster->current_epoch, .waiting = true};
    cluster->vote.ticket = persist_begin(cluster);
}

void votes_persisted(struct cluster *cluster, enum cluster_persist_result result) {
    struct cluster_vote *vote = &cluster->vote;
    if (!vote->waiting || cluster->ended_ticket < vote->ticket)
        return;
    vote->waiting = false;
    const struct cluster_node *candidate = nodes_find(cluster, vote->candidate.hex, WIRE_ID_LENGTH);
    if (result != CLUSTER_PERSISTED || !candidate)
        return;
    packets_send_vote(cluster, candidate->link, vote->epoch);
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "Failover auth granted to %.40s (%s) for epoch %llu",
                candidate->id.hex, candidate->human_nodename, (unsigned long long)vote->epoch);
}
