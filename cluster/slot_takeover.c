/* See slot_takeover.h. */
#include "cluster/slot_takeover.h"

#include <stdio.h>
#include <string.h>

#include "cluster/epochs.h"
#include "cluster/nodes.h"
#include "cluster/ownership.h"
#include "cluster/persist.h"
#include "cluster/roles.h"
#include "engine/assert.h"

#define EPOCH_MAX ((uint64_t)INT64_MAX / 2)

#define CHANGED (LATER_SAVE | LATER_HEALTH | LATER_MAP)

static void set_owner(struct cluster *cluster, const uint8_t *slots, struct cluster_node *node) {
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        if (wire_slot_is(slots, slot))
            ownership_set(cluster, slot, node);
    cluster_later(cluster, CHANGED);
}

/* --- The target ------------------------------------------------------------------------------- */

bool cluster_has_open_slots(const struct cluster *cluster, bool *importing) {
    *importing = false;
    for (unsigned slot = 0; slot < WIRE_SLOTS && cluster->open_slots > 0; slot++)
        *importing = *importing || cluster->importing_from[slot];
    return cluster->open_slots > 0;
}

const char *cluster_check_import(struct cluster *cluster, const struct node_id *source,
                                 const uint8_t *slots) {
    const struct cluster_node *node = nodes_find(cluster, source->hex, WIRE_ID_LENGTH);
    bool importing;
    if (!node_is_primary(cluster->myself) || cluster->promoting)
        return "Slot migration can only be used on primary nodes.";
    if (cluster_has_open_slots(cluster, &importing))
        return importing ? "Slots are being manually imported"
                         : "Slots are being manually migrated";
    if (!node)
        return "Target node does not know the source node";
    if (node == cluster->myself)
        return "Source node is target node itself";
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        if (wire_slot_is(slots, slot) && cluster->owners[slot] != node)
            return "Target node does not agree about current slot ownership";
    return NULL;
}

const char cluster_import_later[] = "The target hands over slots itself at the moment";

const char *cluster_prepare_import(struct cluster *cluster, const struct node_id *source,
                                   const uint8_t *slots, uint64_t source_epoch, uint64_t *epoch,
                                   uint64_t *ticket) {
    const char *error = cluster_check_import(cluster, source, slots);
    if (error)
        return error;
    if (cluster->disk_failed)
        return "The cluster config file of the target cannot be updated";
    if (source_epoch > EPOCH_MAX)
        return "The source's config epoch is out of range";
    if (epochs_are_held(cluster))
        return cluster_import_later;
    if (cluster->myself->config_epoch <= source_epoch && cluster->current_epoch <= source_epoch)
        cluster->current_epoch = source_epoch + 1;
    epochs_bump(cluster);
    ASSERT(cluster->myself->config_epoch > source_epoch);
    *epoch = cluster->myself->config_epoch;
    *ticket = persist_hides_epoch(cluster) ? cluster->claim_ticket : 0;
    return NULL;
}

const char *cluster_take_slots(struct cluster *cluster, const struct node_id *source,
                               const uint8_t *slots, uint64_t *ticket) {
    const char *error = cluster_check_import(cluster, source, slots);
    if (error)
        return error;
    if (cluster->disk_failed)
        return "The cluster config file of the target cannot be updated";
    if (cluster->myself->config_epoch <=
        nodes_find(cluster, source->hex, WIRE_ID_LENGTH)->config_epoch)
        return "The source has a newer config epoch";
    set_owner(cluster, slots, cluster->myself);
    cluster->claim_ticket = *ticket = persist_begin(cluster);
    return NULL;
}

void cluster_untake_slots(struct cluster *cluster, const struct node_id *source,
                          const uint8_t *slots) {
    struct cluster_node *node = nodes_find(cluster, source->hex, WIRE_ID_LENGTH);
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        if (wire_slot_is(slots, slot) && cluster->owners[slot] == cluster->myself)
            ownership_set(cluster, slot, node);
    cluster_later(cluster, CHANGED);
}

void cluster_note_taken(struct cluster *cluster, const uint8_t *slots, uint64_t epoch) {
    struct cluster_node *primary = cluster->myself->primary;
    if (!primary)
        return;
    if (primary->config_epoch < epoch)
        primary->config_epoch = epoch;
    if (cluster->current_epoch < epoch)
        cluster->current_epoch = epoch;
    set_owner(cluster, slots, primary);
    for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
        cluster->adopted[i] |= slots[i];
}

/* --- The source ------------------------------------------------------------------------------- */

enum cluster_hold cluster_hold_slots(struct cluster *cluster, const uint8_t *slots,
                                     uint64_t epoch) {
    if (!node_is_primary(cluster->myself) || cluster->promoting)
        return CLUSTER_HOLD_NOT_OURS;
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        if (wire_slot_is(slots, slot) && cluster->owners[slot] != cluster->myself)
            return CLUSTER_HOLD_NOT_OURS;
    if (cluster->myself->config_epoch >= epoch)
        return CLUSTER_HOLD_STALE;
    for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
        cluster->held[i] |= slots[i];
    return CLUSTER_HOLD_DONE;
}

void cluster_let_go(struct cluster *cluster, const uint8_t *slots) {
    for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
        cluster->held[i] &= (uint8_t)~slots[i];
}

void cluster_give_slots(struct cluster *cluster, const struct node_id *target, const uint8_t *slots,
                        uint64_t epoch) {
    struct cluster_node *me = cluster->myself;
    struct cluster_node *node = nodes_find(cluster, target->hex, WIRE_ID_LENGTH);
    cluster_let_go(cluster, slots);
    if (!node || !node_is_primary(me))
        return; /* the packets of the cluster tell */
    if (node->config_epoch < epoch)
        node->config_epoch = epoch;
    if (cluster->current_epoch < epoch)
        cluster->current_epoch = epoch;
    set_owner(cluster, slots, node);
    if (me->slot_count > 0 || !cluster->config.allow_replica_migration)
        return;
    cluster_log(cluster, CLUSTER_LOG_NOTICE,
                "Configuration change detected. Reconfiguring myself as a replica of %.40s (%s)",
                node->id.hex, node->human_nodename);
    roles_follow(cluster, node);
}

const char *cluster_take_back(struct cluster *cluster, const uint8_t *slots, uint64_t epoch,
                              uint64_t *ticket) {
    if (cluster->disk_failed)
        return "The cluster config file cannot be updated";
    if (!node_is_primary(cluster->myself)) {
        *ticket = 0;
        return NULL;
    }
    if (cluster->current_epoch <= epoch)
        cluster->current_epoch = epoch + 1;
    epochs_raise(cluster);
    set_owner(cluster, slots, cluster->myself);
    cluster->claim_ticket = *ticket = persist_begin(cluster);
    return NULL;
}

bool cluster_find_peer(struct cluster *cluster, const struct node_id *id,
                       struct cluster_peer *peer) {
    const struct cluster_node *node = nodes_find(cluster, id->hex, WIRE_ID_LENGTH);
    if (!node)
        return false;
    *peer = (struct cluster_peer){.has_successors = false};
    const struct cluster_node *found = node;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *other = cluster->nodes[i];
        if (other == node || other == cluster->myself || node_is_failed(other) ||
            id_is_none(&other->shard) || id_compare(&other->shard, &node->shard) != 0)
            continue;
        peer->has_successors = true;
        if (node_is_primary(other) && (node_is_failed(node) || node_is_replica(node)))
            found = other;
    }
    peer->id = found->id;
    peer->failed = node_is_failed(found);
    peer->port = found->port;
    snprintf(peer->address, sizeof peer->address, "%s", found->address);
    return true;
}
