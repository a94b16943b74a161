/* See replica_migration.h. */
#include "cluster/replica_migration.h"

#include "cluster/nodes.h"
#include "cluster/roles.h"

#define ORPHAN_DELAY_MS 5000 /* in which a failover's replicas may still find their new primary */

static bool is_orphan(const struct cluster_node *node) {
    return node_is_primary(node) && !node_is_failed(node) && node->slot_count > 0 &&
           node->flags & WIRE_NODE_MIGRATE_TO &&
           nodes_count_working_replicas(node, WIRE_NODE_FAIL) == 0;
}

/* The greatest number of working replicas, among the others' and our own primary's. */
static unsigned most_replicas(const struct cluster *cluster) {
    unsigned most = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        if (!node_is_primary(node) || node_is_failed(node) ||
            node->flags & (WIRE_NODE_MYSELF | WIRE_NODE_NOADDR | WIRE_NODE_HANDSHAKE))
            continue;
        unsigned count = nodes_count_working_replicas(node, WIRE_NODE_FAIL);
        most = count > most ? count : most;
    }
    return most;
}

/* Of all replicas of primaries with that many the one with the smallest id goes. */
static bool is_my_turn(const struct cluster *cluster, unsigned most) {
    const struct cluster_node *me = cluster->myself;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        if (!node_is_primary(node) || nodes_count_working_replicas(node, WIRE_NODE_FAIL) != most)
            continue;
        for (unsigned j = 0; j < node->replica_count; j++)
            if (id_compare(&node->replicas[j]->id, &me->id) < 0)
                return false;
    }
    return true;
}

/* Notes since when they are orphans; the first of them. */
static struct cluster_node *note_orphans(struct cluster *cluster) {
    struct cluster_node *first = NULL;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        if (!is_orphan(node)) {
            node->orphaned_ms = 0;
            continue;
        }
        if (node->orphaned_ms == 0)
            node->orphaned_ms = cluster_now(cluster);
        if (!first)
            first = node;
    }
    return first;
}

void replica_migration_turn(struct cluster *cluster) {
    struct cluster_node *primary = cluster->myself->primary;
    if (!node_is_replica(cluster->myself) || !primary || !cluster->config.allow_replica_migration ||
        !cluster->state_ok)
        return;
    struct cluster_node *target = note_orphans(cluster);
    unsigned most = most_replicas(cluster);
    if (!target || most < 2 || nodes_count_working_replicas(primary, WIRE_NODE_FAIL) != most ||
        nodes_count_working_replicas(primary, WIRE_NODE_FAIL | WIRE_NODE_PFAIL) <=
            cluster->config.migration_barrier ||
        !is_my_turn(cluster, most) ||
        cluster_age(cluster_now(cluster), target->orphaned_ms) <= ORPHAN_DELAY_MS)
        return;
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "Migrating to orphaned master %.40s", target->id.hex);
    roles_follow(cluster, target);
}
