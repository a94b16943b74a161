/* Functions of the machine in whose place these stand (wrapped.txt): most only look, and break
 * their rule if the run's ablation is theirs. The machine itself knows nothing of it. */
#include <string.h>

#include "cluster/claims.h"
#include "cluster/detector.h"
#include "cluster/election.h"
#include "cluster/epochs.h"
#include "cluster/handover.h"
#include "cluster/handshake.h"
#include "cluster/health.h"
#include "cluster/lease.h"
#include "cluster/lease_grant.h"
#include "cluster/lease_voter.h"
#include "cluster/nodes.h"
#include "cluster/packets.h"
#include "cluster/prevote.h"
#include "cluster/roles.h"
#include "cluster/votes.h"
#include "tests/sim/cluster/world.h"

enum ablation ablation;
struct world *the_world;

void __real_votes_consider(struct cluster *cluster, struct cluster_node *candidate,
                           const struct wire_header *request);
void __wrap_votes_consider(struct cluster *cluster, struct cluster_node *candidate,
                           const struct wire_header *request);
void __wrap_votes_consider(struct cluster *cluster, struct cluster_node *candidate,
                           const struct wire_header *request) {
    struct node *node = cluster->context;
    struct cluster_node *primary = candidate->primary;
    bool allowed = primary && (node_is_failed(primary) ||
                               request->message_flags[0] & (WIRE_FLAG_FORCE_ACK | WIRE_FLAG_EARLY));
    unsigned kept = primary ? primary->flags : 0;
    uint64_t vote_before = cluster->last_vote_epoch;
    if (ablation == ABLATION_VOTE_AGAIN)
        cluster->last_vote_epoch = 0;
    if (ablation == ABLATION_VOTE_WHILE_UP && primary)
        primary->flags |= WIRE_NODE_FAIL;
    __real_votes_consider(cluster, candidate, request);
    if (primary)
        primary->flags = kept;
    if (cluster->last_vote_epoch == 0)
        cluster->last_vote_epoch = vote_before;
    if (cluster->last_vote_epoch == vote_before && ablation != ABLATION_VOTE_AGAIN)
        return;
    if (primary && cluster->vote.waiting) {
        node->vote_primary = primary->id;
        node->vote_allowed = allowed;
    }
}

void __real_election_take_vote(struct cluster *cluster, struct cluster_node *voter, uint64_t epoch);
void __wrap_election_take_vote(struct cluster *cluster, struct cluster_node *voter, uint64_t epoch);
void __wrap_election_take_vote(struct cluster *cluster, struct cluster_node *voter,
                               uint64_t epoch) {
    unsigned votes = cluster->election.votes;
    __real_election_take_vote(cluster, voter, epoch);
    if (ablation == ABLATION_VOTE_COUNTED_TWICE && cluster->election.votes > votes)
        cluster->election.votes++;
}

void __real_roles_follow(struct cluster *cluster, struct cluster_node *primary);
void __wrap_roles_follow(struct cluster *cluster, struct cluster_node *primary);
void __wrap_roles_follow(struct cluster *cluster, struct cluster_node *primary) {
    const struct cluster_node *before = cluster->myself->primary;
    if (ablation == ABLATION_CHAIN_KEPT && before && before->primary == primary)
        return;
    if (ablation == ABLATION_SIBLING_IGNORED && before && cluster->election.asked)
        return;
    __real_roles_follow(cluster, primary);
}

void __real_roles_promote(struct cluster *cluster);
void __wrap_roles_promote(struct cluster *cluster);
void __wrap_roles_promote(struct cluster *cluster) {
    struct cluster_node *me = cluster->myself;
    uint64_t epoch = me->primary ? me->primary->config_epoch : 0;
    ((struct node *)cluster->context)->inherits = cluster->election.inherits;
    ((struct node *)cluster->context)->early = cluster->election.early;
    __real_roles_promote(cluster);
    if (ablation == ABLATION_EPOCH_NOT_RAISED)
        me->config_epoch = epoch;
}

void __real_epochs_resolve_collision(struct cluster *cluster, const struct cluster_node *other);
void __wrap_epochs_resolve_collision(struct cluster *cluster, const struct cluster_node *other);
void __wrap_epochs_resolve_collision(struct cluster *cluster, const struct cluster_node *other) {
    if (ablation != ABLATION_COLLISION_IGNORED)
        __real_epochs_resolve_collision(cluster, other);
}

/* Whoever takes a slot from an owner that claims it has a newer epoch. */
void __real_claims_take(struct cluster *cluster, struct cluster_node *claimant,
                        uint64_t config_epoch, const uint8_t *slots);
void __wrap_claims_take(struct cluster *cluster, struct cluster_node *claimant,
                        uint64_t config_epoch, const uint8_t *slots);
void __wrap_claims_take(struct cluster *cluster, struct cluster_node *claimant,
                        uint64_t config_epoch, const uint8_t *slots) {
    uint8_t forbidden[WIRE_SLOT_BYTES] = {0};
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        const struct cluster_node *owner = cluster->owners[slot];
        if (owner && owner != claimant && !wire_slot_is(cluster->not_claimed, slot) &&
            owner->config_epoch >= config_epoch)
            forbidden[slot / 8] |= (uint8_t)(1u << slot % 8);
    }
    bool stale = ablation == ABLATION_STALE_CLAIM_WINS;
    __real_claims_take(cluster, claimant, stale ? UINT64_MAX : config_epoch, slots);
    for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
        if (forbidden[i] & claimant->slots[i])
            FAIL(the_world, "node %u lets an older epoch have a slot",
                 ((struct node *)cluster->context)->index);
}

void __real_packets_broadcast_fail(struct cluster *cluster, const struct node_id *failed);
void __wrap_packets_broadcast_fail(struct cluster *cluster, const struct node_id *failed);
void __wrap_packets_broadcast_fail(struct cluster *cluster, const struct node_id *failed) {
    checks_failed(cluster->context, failed);
    __real_packets_broadcast_fail(cluster, failed);
}

void __real_detector_take_report(struct cluster *cluster, struct cluster_node *node,
                                 struct cluster_node *reporter, bool is_failing);
void __wrap_detector_take_report(struct cluster *cluster, struct cluster_node *node,
                                 struct cluster_node *reporter, bool is_failing);
void __wrap_detector_take_report(struct cluster *cluster, struct cluster_node *node,
                                 struct cluster_node *reporter, bool is_failing) {
    unsigned size = cluster->size;
    if (ablation == ABLATION_FAIL_ALONE)
        cluster->size = 1;
    __real_detector_take_report(cluster, node, reporter, is_failing);
    cluster->size = size;
}

void __real_detector_take_answer(struct cluster *cluster, struct cluster_node *node);
void __wrap_detector_take_answer(struct cluster *cluster, struct cluster_node *node);
void __wrap_detector_take_answer(struct cluster *cluster, struct cluster_node *node) {
    if (ablation != ABLATION_FAIL_KEPT || !node_is_failed(node))
        __real_detector_take_answer(cluster, node);
}

void __real_handshake_repeat(struct cluster *cluster, struct cluster_node *node);
void __wrap_handshake_repeat(struct cluster *cluster, struct cluster_node *node);
void __wrap_handshake_repeat(struct cluster *cluster, struct cluster_node *node) {
    if (ablation != ABLATION_MEET_ONCE)
        __real_handshake_repeat(cluster, node);
}

void __real_handover_turn(struct cluster *cluster);
void __wrap_handover_turn(struct cluster *cluster);
void __wrap_handover_turn(struct cluster *cluster) {
    struct cluster_manual *manual = &cluster->manual;
    if (ablation == ABLATION_HANDOVER_EARLY && manual->until_ms != 0 && manual->offset_known)
        manual->may_start = true;
    __real_handover_turn(cluster);
}

void __real_health_update(struct cluster *cluster);
void __wrap_health_update(struct cluster *cluster);
void __wrap_health_update(struct cluster *cluster) {
    bool was_ok = cluster->state_ok;
    __real_health_update(cluster);
    if (ablation == ABLATION_MINORITY_SERVES && was_ok)
        cluster->state_ok = true;
}

/* --- Leases ----------------------------------------------------------------------------------- */

void __real_lease_take_answer(struct cluster *cluster, struct cluster_node *sender,
                              const struct wire_packet *packet);
void __wrap_lease_take_answer(struct cluster *cluster, struct cluster_node *sender,
                              const struct wire_packet *packet);
void __wrap_lease_take_answer(struct cluster *cluster, struct cluster_node *sender,
                              const struct wire_packet *packet) {
    for (unsigned i = 0; ablation == ABLATION_LEASE_FROM_ANSWER && i < CLUSTER_LEASE_ROUNDS; i++)
        cluster->lease.sent_ms[i] = cluster_now(cluster);
    __real_lease_take_answer(cluster, sender, packet);
}

bool __real_lease_voter_may_replace(const struct cluster *cluster,
                                    const struct cluster_node *primary, uint64_t voters);
bool __wrap_lease_voter_may_replace(const struct cluster *cluster,
                                    const struct cluster_node *primary, uint64_t voters);
bool __wrap_lease_voter_may_replace(const struct cluster *cluster,
                                    const struct cluster_node *primary, uint64_t voters) {
    if (ablation == ABLATION_LEASE_NOT_AWAITED)
        return true;
    return __real_lease_voter_may_replace(cluster, primary, voters);
}

void __real_lease_start(struct cluster *cluster);
void __wrap_lease_start(struct cluster *cluster);
void __wrap_lease_start(struct cluster *cluster) {
    __real_lease_start(cluster);
    if (ablation != ABLATION_START_UNFENCED)
        return;
    cluster->lease.mode = LEASE_OFF;
    cluster->lease.told_ms = CLUSTER_LEASE_FREE;
    cluster->calls.lease(cluster->context, CLUSTER_LEASE_FREE, false);
}

void __real_lease_grant_note_vote(struct cluster *cluster, struct cluster_node *primary);
void __wrap_lease_grant_note_vote(struct cluster *cluster, struct cluster_node *primary);
void __wrap_lease_grant_note_vote(struct cluster *cluster, struct cluster_node *primary) {
    if (ablation != ABLATION_ANSWER_AFTER_VOTE)
        __real_lease_grant_note_vote(cluster, primary);
}

void __real_election_turn(struct cluster *cluster);
void __wrap_election_turn(struct cluster *cluster);
void __wrap_election_turn(struct cluster *cluster) {
    if (ablation == ABLATION_EARLY_FOR_EVER && cluster->election.early && cluster->election.sent)
        cluster->election.sent_ms = cluster->election.at_ms = cluster_now(cluster);
    __real_election_turn(cluster);
}

void __real_lease_begin(struct cluster *cluster, bool by_vote);
void __wrap_lease_begin(struct cluster *cluster, bool by_vote);
void __wrap_lease_begin(struct cluster *cluster, bool by_vote) {
    __real_lease_begin(cluster, by_vote);
    if (ablation == ABLATION_CLAIM_NOT_CONFIRMED) {
        cluster->lease.mode = LEASE_OFF;
        cluster->lease.before_count = 0;
    }
}

void __real_lease_grant_note_successor(struct cluster *cluster, struct cluster_node *successor,
                                       const struct cluster_node *owner);
void __wrap_lease_grant_note_successor(struct cluster *cluster, struct cluster_node *successor,
                                       const struct cluster_node *owner);
void __wrap_lease_grant_note_successor(struct cluster *cluster, struct cluster_node *successor,
                                       const struct cluster_node *owner) {
    __real_lease_grant_note_successor(cluster, successor, owner);
    if (ablation == ABLATION_CONFIRMED_AT_ONCE)
        successor->grant.bound_until_ms = 0;
}
