/* See epochs.h. */
#include "cluster/epochs.h"

#include "cluster/persist.h"
#include "engine/assert.h"

static uint64_t greatest(const struct cluster *cluster) {
    uint64_t max = cluster->current_epoch;
    for (unsigned i = 0; i < cluster->node_count; i++)
        if (cluster->nodes[i]->config_epoch > max)
            max = cluster->nodes[i]->config_epoch;
    return max;
}

bool epochs_are_held(const struct cluster *cluster) {
    bool some = false;
    for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
        some = some || cluster->held[i];
    return some;
}

bool epochs_bump(struct cluster *cluster) {
    return !epochs_are_held(cluster) && epochs_raise(cluster);
}

bool epochs_raise(struct cluster *cluster) {
    struct cluster_node *me = cluster->myself;
    uint64_t max = greatest(cluster);
    ASSERT(!cluster->disk_failed);
    if (me->config_epoch != 0 && me->config_epoch == max)
        return false;
    cluster->current_epoch = max + 1;
    me->config_epoch = cluster->current_epoch;
    /* Told at once when it is durable: replicas that do not know it cannot be elected. */
    cluster->claim_ticket = persist_begin(cluster);
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "New configEpoch set to %llu",
                (unsigned long long)me->config_epoch);
    return true;
}

void epochs_resolve_collision(struct cluster *cluster, const struct cluster_node *other) {
    struct cluster_node *me = cluster->myself;
    if (other->config_epoch != me->config_epoch || !node_is_primary(other) ||
        !node_is_primary(me) || id_compare(&other->id, &me->id) <= 0 || cluster->disk_failed ||
        epochs_are_held(cluster))
        return;
    me->config_epoch = ++cluster->current_epoch;
    cluster->claim_ticket = persist_begin(cluster);
    cluster_log(cluster, CLUSTER_LOG_VERBOSE,
                "WARNING: configEpoch collision with node %.40s (%s). configEpoch set to %llu",
                other->id.hex, other->human_nodename, (unsigned long long)me->config_epoch);
}
