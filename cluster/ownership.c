/* See ownership.h. */
#include "cluster/ownership.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"

static void set_bit(uint8_t *bits, unsigned slot) {
    bits[slot / 8] |= (uint8_t)(1u << (slot % 8));
}

static void clear_bit(uint8_t *bits, unsigned slot) {
    bits[slot / 8] &= (uint8_t) ~(1u << (slot % 8));
}

static bool somebody_has_replicas(const struct cluster *cluster) {
    for (unsigned i = 0; i < cluster->node_count; i++)
        if (!node_is_replica(cluster->nodes[i]) && cluster->nodes[i]->replica_count > 0)
            return true;
    return false;
}

static void forget_ranges(struct cluster_node *node) {
    memory_free(node->ranges);
    node->ranges = NULL;
    node->range_count = 0;
}

void ownership_make_ranges(const struct cluster *cluster, struct cluster_node *node) {
    if (node->ranges || node->slot_count == 0)
        return;
    unsigned count = 0;
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        count += cluster->owners[slot] == node && (slot == 0 || cluster->owners[slot - 1] != node);
    node->ranges = memory_alloc(count * sizeof *node->ranges);
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        if (cluster->owners[slot] != node)
            continue;
        if (slot == 0 || cluster->owners[slot - 1] != node)
            node->ranges[node->range_count++].first = (uint16_t)slot;
        node->ranges[node->range_count - 1].last = (uint16_t)slot;
    }
}

void ownership_set(struct cluster *cluster, unsigned slot, struct cluster_node *node) {
    struct cluster_node *before = cluster->owners[slot];
    if (before == node)
        return;
    if (before) {
        ASSERT(wire_slot_is(before->slots, slot) && before->slot_count > 0);
        clear_bit(before->slots, slot);
        before->slot_count--;
        forget_ranges(before);
    }
    cluster->owners[slot] = node;
    clear_bit(cluster->not_claimed, slot);
    clear_bit(cluster->adopted, slot);
    cluster_later(cluster, LATER_MAP);
    if (!node)
        return;
    set_bit(node->slots, slot);
    node->slot_count++;
    forget_ranges(node);
    /* A primary that begins to serve wants replicas, unless nobody here has any. */
    if (node->slot_count == 1 && somebody_has_replicas(cluster))
        node->flags |= WIRE_NODE_MIGRATE_TO;
}

void ownership_drop_all_of(struct cluster *cluster, struct cluster_node *node) {
    for (unsigned slot = 0; slot < WIRE_SLOTS && node->slot_count > 0; slot++)
        if (cluster->owners[slot] == node)
            ownership_set(cluster, slot, NULL);
}

void ownership_set_claimed(struct cluster *cluster, unsigned slot, bool claimed) {
    if (claimed) {
        clear_bit(cluster->not_claimed, slot);
        clear_bit(cluster->adopted, slot);
    } else if (!wire_slot_is(cluster->adopted, slot)) {
        set_bit(cluster->not_claimed, slot);
    }
}

static bool is_open(const struct cluster *cluster, unsigned slot) {
    return cluster->migrating_to[slot] || cluster->importing_from[slot];
}

static void set_open(struct cluster *cluster, struct cluster_node **peers, unsigned slot,
                     struct cluster_node *node) {
    if (peers[slot] == node)
        return;
    cluster->open_slots -= is_open(cluster, slot);
    peers[slot] = node;
    cluster->open_slots += is_open(cluster, slot);
    cluster_later(cluster, LATER_MAP);
}

void ownership_migrate(struct cluster *cluster, unsigned slot, struct cluster_node *target) {
    set_open(cluster, cluster->migrating_to, slot, target);
}

void ownership_import(struct cluster *cluster, unsigned slot, struct cluster_node *source) {
    set_open(cluster, cluster->importing_from, slot, source);
}

void ownership_close_all(struct cluster *cluster) {
    for (unsigned slot = 0; slot < WIRE_SLOTS && cluster->open_slots > 0; slot++) {
        ownership_migrate(cluster, slot, NULL);
        ownership_import(cluster, slot, NULL);
    }
}
