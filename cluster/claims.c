/* See claims.h. */
#include "cluster/claims.h"

#include "cluster/lease_grant.h"
#include "cluster/ownership.h"
#include "cluster/packets.h"
#include "cluster/roles.h"
#include "engine/memory.h"

/* What changes hands in one claim. */
struct outcome {
    struct cluster_node *ours; /* ourselves, or our primary; NULL: unknown */
    bool takes_over;           /* the claimant had no slots: it takes them over from somebody */
    unsigned claimed, taken_from_ours;
    uint16_t *lost; /* slots of ours with keys */
    unsigned lost_count;
};

static void note_loss(struct cluster *cluster, struct outcome *outcome, unsigned slot) {
    if (cluster->owners[slot] != cluster->myself ||
        !cluster->calls.slot_has_keys(cluster->context, slot))
        return;
    if (!outcome->lost)
        outcome->lost = memory_alloc(WIRE_SLOTS * sizeof *outcome->lost);
    outcome->lost[outcome->lost_count++] = (uint16_t)slot;
}

static void take_slot(struct cluster *cluster, struct cluster_node *claimant, uint64_t config_epoch,
                      unsigned slot, struct outcome *outcome) {
    struct cluster_node *owner = cluster->owners[slot];
    outcome->claimed++;
    if (owner == claimant) {
        ownership_set_claimed(cluster, slot, true);
        return;
    }
    /* A slot that is being imported changes hands by the operator's command only, one that is being
     * handed over by the answer of who gets it. */
    if (cluster->importing_from[slot] || wire_slot_is(cluster->held, slot))
        return;
    if (!ownership_is_unclaimed(cluster, slot) && owner->config_epoch >= config_epoch)
        return;
    note_loss(cluster, outcome, slot);
    if (owner && owner == outcome->ours)
        outcome->taken_from_ours++;
    ownership_set(cluster, slot, claimant);
    if (owner && (outcome->takes_over || owner->slot_count == 0))
        lease_grant_note_successor(cluster, claimant, owner);
    cluster_later(cluster, LATER_SAVE | LATER_HEALTH);
}

/* A replica of a node that has become one itself follows that one's primary, unless the two are
 * each other's (after a takeover), which only the operator can mend. */
static bool follow_grand_primary(struct cluster *cluster) {
    const struct cluster_node *primary = cluster->myself->primary;
    if (!primary || !primary->primary || primary->primary == cluster->myself)
        return false;
    struct cluster_node *next = primary->primary;
    cluster_log(cluster, CLUSTER_LOG_NOTICE,
                "I'm a sub-replica! Reconfiguring myself as a replica of grandmaster %.40s (%s)",
                next->id.hex, next->human_nodename);
    roles_follow(cluster, next);
    return true;
}

/* Whose primary has become a replica while its slots were nobody's for us, or the next one's
 * already, hears of it by no claim. */
void claims_turn(struct cluster *cluster) {
    const struct cluster_node *primary = cluster->myself->primary;
    const struct cluster_node *next = primary ? primary->primary : NULL;
    if (!next || next == cluster->myself || !node_is_primary(next))
        cluster->chained_ms = 0;
    else if (cluster->chained_ms == 0)
        cluster->chained_ms = cluster_now(cluster);
    else if (cluster_age(cluster_now(cluster), cluster->chained_ms) >
             cluster->config.node_timeout_ms)
        follow_grand_primary(cluster);
}

void claims_take(struct cluster *cluster, struct cluster_node *claimant, uint64_t config_epoch,
                 const uint8_t *slots) {
    struct cluster_node *me = cluster->myself;
    struct outcome outcome = {.ours = node_is_primary(me) ? me : me->primary,
                              .takes_over = claimant->slot_count == 0};
    if (claimant == me) {
        cluster_log(cluster, CLUSTER_LOG_NOTICE, "Discarding UPDATE message about myself.");
        return;
    }
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        if (wire_slot_is(slots, slot))
            take_slot(cluster, claimant, config_epoch, slot, &outcome);
        else if (cluster->owners[slot] == claimant)
            ownership_set_claimed(cluster, slot, false);
    }
    if (outcome.taken_from_ours > 0 && outcome.ours->slot_count == 0 &&
        (cluster->config.allow_replica_migration || outcome.claimed == outcome.taken_from_ours)) {
        cluster_log(cluster, CLUSTER_LOG_NOTICE,
                    "Configuration change detected. Reconfiguring myself as a replica of %.40s "
                    "(%s)",
                    claimant->id.hex, claimant->human_nodename);
        roles_follow(cluster, claimant);
    } else if (!follow_grand_primary(cluster)) {
        for (unsigned i = 0; i < outcome.lost_count; i++)
            cluster->calls.drop_slot_keys(cluster->context, outcome.lost[i]);
    }
    memory_free(outcome.lost);
}

void claims_correct(struct cluster *cluster, struct cluster_node *sender, uint64_t config_epoch,
                    const uint8_t *slots) {
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        const struct cluster_node *owner = cluster->owners[slot];
        if (!wire_slot_is(slots, slot) || owner == sender ||
            ownership_is_unclaimed(cluster, slot) || owner->config_epoch <= config_epoch)
            continue;
        cluster_log(cluster, CLUSTER_LOG_VERBOSE,
                    "Node %.40s has old slots configuration, sending an UPDATE message about %.40s",
                    sender->id.hex, owner->id.hex);
        packets_send_update(cluster, sender->link, owner);
        return;
    }
}
