/* See operate.h. Checks first, changes after them. */
#include "cluster/operate.h"

#include <string.h>

#include "cluster/election.h"
#include "cluster/epochs.h"
#include "cluster/handover.h"
#include "cluster/handshake.h"
#include "cluster/nodes.h"
#include "cluster/ownership.h"
#include "cluster/packets.h"
#include "cluster/persist.h"
#include "cluster/roles.h"

#define CHANGED (LATER_SAVE | LATER_HEALTH)

/* An epoch that is not on the disk would be taken again after a restart. */
#define ERROR_DISK                                                                                 \
    "ERR The cluster config file cannot be updated, so that no config epoch can be raised"

const char *cluster_meet(struct cluster *cluster, const char *address, int64_t port,
                         int64_t bus_port) {
    if (handshake_begin(cluster, address, port, bus_port, WIRE_NODE_MEET) == HANDSHAKE_BAD_ADDRESS)
        return cluster_error(cluster, "ERR Invalid node address specified: %s:%lld", address,
                             (long long)port);
    return NULL;
}

static const char *unknown_node(struct cluster *cluster, const void *id, size_t length) {
    return cluster_error(cluster, "ERR Unknown node %.*s", (int)(length > 256 ? 256 : length),
                         (const char *)id);
}

/* --- Slots ------------------------------------------------------------------------------------ */

const char *cluster_add_slots(struct cluster *cluster, const uint8_t *slots) {
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        if (wire_slot_is(slots, slot) && cluster->owners[slot])
            return cluster_error(cluster, "ERR Slot %u is already busy", slot);
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        if (!wire_slot_is(slots, slot))
            continue;
        ownership_import(cluster, slot, NULL);
        ownership_set(cluster, slot, cluster->myself);
    }
    cluster_later(cluster, CHANGED);
    return NULL;
}

const char *cluster_delete_slots(struct cluster *cluster, const uint8_t *slots) {
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        if (wire_slot_is(slots, slot) && !cluster->owners[slot])
            return cluster_error(cluster, "ERR Slot %u is already unassigned", slot);
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        if (!wire_slot_is(slots, slot))
            continue;
        ownership_import(cluster, slot, NULL);
        ownership_set(cluster, slot, NULL);
    }
    cluster_later(cluster, CHANGED);
    return NULL;
}

const char *cluster_flush_slots(struct cluster *cluster, bool keys_exist) {
    if (keys_exist)
        return "ERR DB must be empty to perform CLUSTER FLUSHSLOTS.";
    ownership_drop_all_of(cluster, cluster->myself);
    cluster_later(cluster, CHANGED);
    return NULL;
}

static const char *give_slot(struct cluster *cluster, unsigned slot, struct cluster_node *node) {
    struct cluster_node *me = cluster->myself;
    bool was_mine = cluster->owners[slot] == me;
    bool has_keys = cluster->calls.slot_has_keys(cluster->context, slot);
    if (was_mine && node != me && has_keys)
        return cluster_error(cluster,
                             "ERR Can't assign hashslot %u to a different node while I still hold "
                             "keys for this hash slot.",
                             slot);
    if (node == me && cluster->importing_from[slot] && cluster->disk_failed)
        return ERROR_DISK;
    if (!has_keys)
        ownership_migrate(cluster, slot, NULL);
    ownership_set(cluster, slot, node);
    if (was_mine && node != me && me->slot_count == 0 && cluster->config.allow_replica_migration) {
        cluster_log(cluster, CLUSTER_LOG_NOTICE,
                    "Configuration change detected. Reconfiguring myself as a replica of %.40s "
                    "(%s)",
                    node->id.hex, node->human_nodename);
        roles_follow(cluster, node);
    }
    if (node != me || !cluster->importing_from[slot])
        return NULL;
    ownership_import(cluster, slot, NULL);
    /* The others believe the new owner by a newer epoch only, which they are told once it is
     * durable. */
    if (epochs_bump(cluster))
        cluster_log(cluster, CLUSTER_LOG_NOTICE, "configEpoch updated after importing slot %u",
                    slot);
    else
        cluster_later(cluster, LATER_TELL_ALL);
    return NULL;
}

static const char *check_target(struct cluster *cluster, enum cluster_slot_state state,
                                const void *id, size_t length, struct cluster_node **node) {
    *node = nodes_find(cluster, id, length);
    if (!*node && state == CLUSTER_SLOT_NODE)
        return unknown_node(cluster, id, length);
    if (!*node)
        return cluster_error(cluster, "ERR I don't know about node %.*s",
                             (int)(length > 256 ? 256 : length), (const char *)id);
    return node_is_replica(*node) ? "ERR Target node is not a master" : NULL;
}

const char *cluster_set_slot(struct cluster *cluster, unsigned slot, enum cluster_slot_state state,
                             const void *node_id, size_t node_id_length) {
    struct cluster_node *node = NULL;
    bool is_mine = cluster->owners[slot] == cluster->myself;
    if (node_is_replica(cluster->myself))
        return "ERR Please use SETSLOT only with masters.";
    if (state == CLUSTER_SLOT_MIGRATING && !is_mine)
        return cluster_error(cluster, "ERR I'm not the owner of hash slot %u", slot);
    if (state == CLUSTER_SLOT_IMPORTING && is_mine)
        return cluster_error(cluster, "ERR I'm already the owner of hash slot %u", slot);
    const char *error = NULL;
    if (state != CLUSTER_SLOT_STABLE)
        error = check_target(cluster, state, node_id, node_id_length, &node);
    if (!error && state == CLUSTER_SLOT_NODE)
        error = give_slot(cluster, slot, node);
    if (error)
        return error;
    if (state == CLUSTER_SLOT_MIGRATING)
        ownership_migrate(cluster, slot, node);
    if (state == CLUSTER_SLOT_IMPORTING)
        ownership_import(cluster, slot, node);
    if (state == CLUSTER_SLOT_STABLE) {
        ownership_migrate(cluster, slot, NULL);
        ownership_import(cluster, slot, NULL);
    }
    cluster_later(cluster, CHANGED);
    return NULL;
}

/* --- Nodes ------------------------------------------------------------------------------------ */

const char *cluster_replicate(struct cluster *cluster, const void *node_id, size_t length,
                              bool keys_exist) {
    struct cluster_node *node = nodes_find(cluster, node_id, length);
    if (!node)
        return unknown_node(cluster, node_id, length);
    if (node == cluster->myself)
        return "ERR Can't replicate myself";
    if (node_is_replica(node))
        return "ERR I can only replicate a master, not a replica.";
    if (node_is_primary(cluster->myself) && (cluster->myself->slot_count != 0 || keys_exist))
        return "ERR To set a master the node must be empty and without assigned slots.";
    roles_follow(cluster, node);
    return NULL;
}

const char *cluster_forget(struct cluster *cluster, const void *node_id, size_t length) {
    struct cluster_node *node = nodes_find(cluster, node_id, length);
    if (!node && nodes_is_forgotten(cluster, node_id, length))
        return NULL; /* another node has told of it */
    if (!node)
        return unknown_node(cluster, node_id, length);
    if (node == cluster->myself)
        return "ERR I tried hard but I can't forget myself...";
    if (node == cluster->myself->primary)
        return "ERR Can't forget my master!";
    nodes_forget(cluster, &node->id, CLUSTER_FORGET_MS);
    nodes_remove(cluster, node);
    cluster_later(cluster, CHANGED);
    return NULL;
}

const char *cluster_count_failure_reports(struct cluster *cluster, const void *node_id,
                                          size_t length, unsigned *count) {
    struct cluster_node *node = nodes_find(cluster, node_id, length);
    if (!node)
        return unknown_node(cluster, node_id, length);
    *count = nodes_count_reports(cluster, node);
    return NULL;
}

const char *cluster_kill_links(struct cluster *cluster, const void *node_id, size_t length, bool to,
                               bool from) {
    struct cluster_node *node = nodes_find(cluster, node_id, length);
    if (!node)
        return unknown_node(cluster, node_id, length);
    if (to)
        nodes_close_link(cluster, node->link);
    if (from)
        nodes_close_link(cluster, node->inbound_link);
    return NULL;
}

/* --- Failover, reset, epochs ------------------------------------------------------------------ */

const char *cluster_failover(struct cluster *cluster, enum cluster_failover_mode mode) {
    struct cluster_node *primary = cluster->myself->primary;
    if (node_is_primary(cluster->myself))
        return "ERR You should send CLUSTER FAILOVER to a replica";
    if (!primary)
        return "ERR I'm a replica but my master is unknown to me";
    if (mode == CLUSTER_FAILOVER_AGREED && (node_is_failed(primary) || !primary->link))
        return "ERR Master is down or failed, please use CLUSTER FAILOVER FORCE";
    if (mode == CLUSTER_FAILOVER_TAKEOVER && cluster->disk_failed)
        return ERROR_DISK;
    handover_begin(cluster);
    switch (mode) {
    case CLUSTER_FAILOVER_TAKEOVER:
        cluster_log(cluster, CLUSTER_LOG_NOTICE, "Taking over the master (user request).");
        epochs_bump(cluster);
        election_take_over(cluster, false);
        break;
    case CLUSTER_FAILOVER_FORCE:
        cluster_log(cluster, CLUSTER_LOG_NOTICE, "Forced failover user request accepted.");
        cluster->manual.may_start = true;
        cluster_later(cluster, LATER_ELECTION);
        break;
    case CLUSTER_FAILOVER_AGREED:
        cluster_log(cluster, CLUSTER_LOG_NOTICE, "Manual failover user request accepted.");
        packets_send_plain(cluster, primary->link, WIRE_MFSTART);
        break;
    }
    return NULL;
}

static void take_new_id(struct cluster *cluster) {
    struct cluster_node *me = cluster->myself;
    struct node_id id;
    cluster->current_epoch = cluster->last_vote_epoch = me->config_epoch = 0;
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "configEpoch set to 0 via CLUSTER RESET HARD");
    cluster_random_id(cluster, &id);
    nodes_rename(cluster, me, &id);
    cluster_random_id(cluster, &me->shard);
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "Node hard reset, now I'm %.40s", me->id.hex);
}

const char *cluster_reset(struct cluster *cluster, bool hard, bool keys_exist) {
    struct cluster_node *me = cluster->myself;
    if (node_is_primary(me) && keys_exist)
        return "ERR CLUSTER RESET can't be called with master nodes containing keys";
    if (node_is_replica(me)) {
        roles_promote(cluster);
        cluster->calls.drop_all_keys(cluster->context);
    }
    ownership_close_all(cluster);
    handover_reset(cluster);
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        ownership_set(cluster, slot, NULL);
    for (unsigned i = cluster->node_count; i-- > 0;)
        if (cluster->nodes[i] != me)
            nodes_remove(cluster, cluster->nodes[i]);
    nodes_forget_nothing(cluster);
    cluster->election = (struct cluster_election){0};
    cluster->vote = (struct cluster_vote){0};
    cluster->claim_ticket = 0;
    cluster->takes_over = false;
    if (hard)
        take_new_id(cluster);
    cluster_later(cluster, CHANGED | LATER_MAP);
    return NULL;
}

const char *cluster_set_config_epoch(struct cluster *cluster, int64_t epoch) {
    struct cluster_node *me = cluster->myself;
    if (epoch < 0)
        return cluster_error(cluster, "ERR Invalid config epoch specified: %lld", (long long)epoch);
    if (cluster->node_count > 1)
        return "ERR The user can assign a config epoch only when the node does not know any other "
               "node.";
    if (me->config_epoch != 0)
        return "ERR Node config epoch is already non-zero";
    if (cluster->disk_failed)
        return ERROR_DISK;
    me->config_epoch = (uint64_t)epoch;
    if (cluster->current_epoch < me->config_epoch)
        cluster->current_epoch = me->config_epoch;
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "configEpoch set to %llu via CLUSTER SET-CONFIG-EPOCH",
                (unsigned long long)epoch);
    cluster_later(cluster, CHANGED);
    return NULL;
}

const char *cluster_bump_epoch(struct cluster *cluster, bool *bumped, uint64_t *epoch) {
    if (cluster->disk_failed)
        return ERROR_DISK;
    *bumped = epochs_bump(cluster);
    *epoch = cluster->myself->config_epoch;
    return NULL;
}

uint64_t cluster_save_config(struct cluster *cluster) {
    return persist_begin(cluster);
}
