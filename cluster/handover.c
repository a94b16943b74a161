/* See handover.h. */
#include "cluster/handover.h"

#include "cluster/lease.h"
#include "cluster/packets.h"

void handover_reset(struct cluster *cluster) {
    lease_resume(cluster); /* before anything can be written again */
    if (cluster->manual.pausing)
        cluster->calls.pause(cluster->context, 0);
    cluster->manual = (struct cluster_manual){0};
}

void handover_check_time(struct cluster *cluster) {
    if (cluster->manual.until_ms == 0 || cluster_now(cluster) <= cluster->manual.until_ms)
        return;
    cluster_log(cluster, CLUSTER_LOG_WARNING, "Manual failover timed out.");
    handover_reset(cluster);
}

void handover_requested(struct cluster *cluster, struct cluster_node *replica) {
    handover_reset(cluster);
    cluster->manual.until_ms = cluster_now(cluster) + CLUSTER_MANUAL_MS;
    cluster->manual.replica = replica;
    cluster->manual.pausing = true;
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "Manual failover requested by replica %.40s (%s).",
                replica->id.hex, replica->human_nodename);
    cluster->calls.pause(cluster->context, CLUSTER_MANUAL_PAUSE_MS);
}

void handover_paused(struct cluster *cluster) {
    if (!cluster->manual.pausing || cluster->manual.paused)
        return;
    cluster->manual.paused = true;
    lease_give_back(cluster);
    if (cluster->manual.replica)
        packets_send_ping(cluster, cluster->manual.replica->link, WIRE_PING);
}

static bool is_reached(const struct cluster_node *node) {
    return node->link && node->link->open && !(node->flags & (WIRE_NODE_FAIL | WIRE_NODE_PFAIL));
}

static bool has_heir(const struct cluster_node *primary) {
    for (unsigned i = 0; i < primary->replica_count; i++)
        if (is_reached(primary->replicas[i]) &&
            !(primary->replicas[i]->flags & WIRE_NODE_NOFAILOVER))
            return true;
    return false;
}

/* Voters besides us that can be asked are a majority. */
static bool heir_can_win(const struct cluster *cluster) {
    unsigned voters = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        voters += node != cluster->myself && node_is_primary(node) && node->slot_count > 0 &&
                  is_reached(node);
    }
    return voters >= cluster_quorum(cluster);
}

/* Where nobody can take over, a node that is back soon is missed by nobody. */
void handover_announce_end(struct cluster *cluster) {
    const struct cluster_node *me = cluster->myself;
    if (!cluster->config.fast_failover || !node_is_primary(me) || me->slot_count == 0 ||
        cluster->promoting || !has_heir(me) || !heir_can_win(cluster))
        return;
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "Telling the cluster that this master ends.");
    packets_broadcast_fail(cluster, &me->id);
    cluster->has_ended = true;
}

void handover_begin(struct cluster *cluster) {
    handover_reset(cluster);
    cluster->manual.until_ms = cluster_now(cluster) + CLUSTER_MANUAL_MS;
}

void handover_take_offset(struct cluster *cluster, uint64_t offset) {
    if (cluster->manual.until_ms == 0 || cluster->manual.offset_known)
        return;
    cluster->manual.offset_known = true;
    cluster->manual.offset = offset;
    cluster_later(cluster, LATER_MANUAL);
    cluster_log(cluster, CLUSTER_LOG_NOTICE,
                "Received replication offset for paused master manual failover: %llu",
                (unsigned long long)offset);
}

void handover_turn(struct cluster *cluster) {
    struct cluster_manual *manual = &cluster->manual;
    if (manual->until_ms == 0 || manual->may_start || !manual->offset_known)
        return;
    /* Of a replica that is not synchronised an equal offset says nothing: it may be empty. */
    struct cluster_data_position position = {0};
    cluster->calls.position(cluster->context, &position);
    if (!position.link_is_up || !position.knows_primary_data || position.offset != manual->offset) {
        cluster_later(cluster, LATER_MANUAL);
        return;
    }
    manual->may_start = true;
    cluster_later(cluster, LATER_ELECTION);
    cluster_log(cluster, CLUSTER_LOG_NOTICE,
                "All master replication stream processed, manual failover can start.");
}
