/* See roles.h. */
#include "cluster/roles.h"

#include <string.h>

#include "cluster/handover.h"
#include "cluster/nodes.h"
#include "cluster/ownership.h"
#include "engine/assert.h"

#define ROLE_LATER (LATER_SAVE | LATER_HEALTH | LATER_MAP)

void roles_set_primary(struct cluster *cluster, struct cluster_node *node) {
    if (node_is_primary(node))
        return;
    bool had_primary = node->primary != NULL;
    node->voted_ms = 0; /* that vote was about an earlier time as a primary */
    nodes_set_primary(cluster, node, NULL);
    if (had_primary && node != cluster->myself)
        node->flags |= WIRE_NODE_MIGRATE_TO;
    node->flags &= ~(unsigned)WIRE_NODE_REPLICA;
    node->flags |= WIRE_NODE_PRIMARY;
    cluster_later(cluster, ROLE_LATER);
}

void roles_set_replica(struct cluster *cluster, struct cluster_node *node) {
    if (node_is_replica(node))
        return;
    ownership_drop_all_of(cluster, node);
    node->flags &= ~(unsigned)(WIRE_NODE_PRIMARY | WIRE_NODE_MIGRATE_TO);
    node->flags |= WIRE_NODE_REPLICA;
    cluster_later(cluster, ROLE_LATER);
}

void roles_connect(struct cluster *cluster) {
    struct cluster_node *primary = cluster->myself->primary;
    cluster->following = false;
    if (!primary || !node_has_address(primary) || !primary->address[0])
        return;
    cluster->following = true;
    cluster->calls.follow(cluster->context, primary->address, primary->port);
}

void roles_follow(struct cluster *cluster, struct cluster_node *primary) {
    struct cluster_node *me = cluster->myself;
    ASSERT(primary != me);
    roles_set_replica(cluster, me);
    ownership_drop_all_of(cluster, me); /* which an operator may have given to a replica */
    ownership_close_all(cluster);
    nodes_set_primary(cluster, me, primary);
    nodes_set_shard(cluster, me, &primary->shard);
    cluster->promoting = false;
    cluster->claim_ticket = 0;
    cluster->takes_over = false;
    memset(cluster->held, 0, sizeof cluster->held);
    memset(cluster->adopted, 0, sizeof cluster->adopted);
    cluster->election = (struct cluster_election){0};
    handover_reset(cluster);
    roles_connect(cluster);
    cluster_later(cluster, ROLE_LATER | LATER_SOON);
}

void roles_promote(struct cluster *cluster) {
    roles_set_primary(cluster, cluster->myself);
    cluster->following = false;
    cluster->promoting = true;
    cluster->election = (struct cluster_election){0};
    cluster->calls.promote(cluster->context);
}
