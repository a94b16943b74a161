/* See health.h. */
#include "cluster/health.h"

#define WRITABLE_DELAY_MS   2000 /* after the start of a primary, for others to tell it the news */
#define REJOIN_DELAY_MIN_MS 500  /* the same after it was in a minority */
#define REJOIN_DELAY_MAX_MS 5000

/* For who is about to take them over, those of a primary whose lease has run out are not. */
static bool slots_are_covered(const struct cluster *cluster) {
    if (cluster->election.early)
        return false;
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        if (!cluster->owners[slot] || node_is_failed(cluster->owners[slot]))
            return false;
    return true;
}

/* Counts the voters; gives those that seem to be up. */
static unsigned count_voters(struct cluster *cluster) {
    unsigned reachable = 0;
    cluster->size = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        if (!node_is_primary(node) || node->slot_count == 0)
            continue;
        cluster->size++;
        reachable += !(node->flags & (WIRE_NODE_FAIL | WIRE_NODE_PFAIL));
    }
    return reachable;
}

static uint64_t rejoin_delay_ms(const struct cluster *cluster) {
    uint64_t delay_ms = cluster->config.node_timeout_ms;
    if (delay_ms > REJOIN_DELAY_MAX_MS)
        return REJOIN_DELAY_MAX_MS;
    return delay_ms < REJOIN_DELAY_MIN_MS ? REJOIN_DELAY_MIN_MS : delay_ms;
}

void health_update(struct cluster *cluster) {
    uint64_t now_ms = cluster_now(cluster);
    bool is_primary = node_is_primary(cluster->myself);
    cluster->later &= ~(unsigned)LATER_HEALTH;
    if (cluster->first_health_ms == 0)
        cluster->first_health_ms = now_ms;
    if (cluster->promoting)
        return; /* a replica still, as far as the server goes; again when it is one no more */
    if (is_primary && !cluster->state_ok &&
        cluster_age(now_ms, cluster->first_health_ms) < WRITABLE_DELAY_MS)
        return;
    bool ok = !cluster->config.require_full_coverage || slots_are_covered(cluster);
    unsigned reachable = count_voters(cluster);
    if (reachable < cluster_quorum(cluster)) {
        ok = false;
        cluster->minority_ms = now_ms;
    }
    if (ok == cluster->state_ok)
        return;
    if (ok && is_primary && cluster_age(now_ms, cluster->minority_ms) < rejoin_delay_ms(cluster))
        return;
    cluster_log(cluster, ok ? CLUSTER_LOG_NOTICE : CLUSTER_LOG_WARNING, "Cluster state changed: %s",
                ok ? "ok" : "fail");
    cluster->state_ok = ok;
    cluster_later(cluster, LATER_MAP | LATER_SOON);
}
