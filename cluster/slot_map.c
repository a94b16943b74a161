/* See slot_map.h. */
#include "cluster/slot_map.h"

#include <stdio.h>
#include <string.h>

#include "cluster/state.h"
#include "engine/memory.h"

#define SPECIAL_TARGETS 2 /* SLOT_MAP_NOBODY, SLOT_MAP_MINE */

static const char *host_of(const struct cluster *cluster, const struct cluster_node *node) {
    switch (cluster->config.preferred_endpoint) {
    case CLUSTER_ENDPOINT_HOSTNAME:
        return node->hostname[0] ? node->hostname : "?";
    case CLUSTER_ENDPOINT_UNKNOWN:
        return "";
    case CLUSTER_ENDPOINT_IP:
    default:
        return node->address;
    }
}

static void fill_target(const struct cluster *cluster, const struct cluster_node *node,
                        struct slot_map_target *target) {
    target->id = node->id;
    target->is_my_primary = cluster->myself->primary == node;
    target->failed = node_is_failed(node);
    snprintf(target->endpoint, sizeof target->endpoint, "%s:%u", host_of(cluster, node),
             node->port);
}

/* Nodes are targets in the table's order. A node may own slots that this one knows it by only. */
static uint16_t index_of(const struct cluster *cluster, const struct cluster_node *node) {
    if (!node)
        return SLOT_MAP_NOBODY;
    if (node == cluster->myself)
        return SLOT_MAP_MINE;
    return (uint16_t)(node->index + SPECIAL_TARGETS);
}

static uint16_t *open_indices(const struct cluster *cluster, struct cluster_node *const *peers) {
    uint16_t *indices = memory_alloc(WIRE_SLOTS * sizeof *indices);
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        indices[slot] = index_of(cluster, peers[slot]);
    return indices;
}

struct slot_map *slot_map_make(const struct cluster *cluster) {
    unsigned count = cluster->node_count + SPECIAL_TARGETS;
    struct slot_map *map = memory_calloc(1, sizeof *map + count * sizeof *map->targets);
    map->state_ok = cluster->state_ok;
    map->allow_reads_when_down = cluster->config.allow_reads_when_down;
    map->allow_pubsubshard_when_down = cluster->config.allow_pubsubshard_when_down;
    map->is_replica = node_is_replica(cluster->myself);
    map->target_count = count;
    fill_target(cluster, cluster->myself, &map->targets[SLOT_MAP_MINE]);
    for (unsigned i = 0; i < cluster->node_count; i++)
        fill_target(cluster, cluster->nodes[i], &map->targets[i + SPECIAL_TARGETS]);
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        map->owner[slot] = index_of(cluster, cluster->owners[slot]);
    if (cluster->open_slots > 0) {
        map->migrating_to = open_indices(cluster, cluster->migrating_to);
        map->importing_from = open_indices(cluster, cluster->importing_from);
    }
    return map;
}

void slot_map_free(struct slot_map *map) {
    if (!map)
        return;
    memory_free(map->migrating_to);
    memory_free(map->importing_from);
    memory_free(map);
}
