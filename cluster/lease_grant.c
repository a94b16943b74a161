/* See lease_grant.h. */
#include "cluster/lease_grant.h"

void lease_grant_note_vote(struct cluster *cluster, struct cluster_node *primary) {
    primary->grant.silent_until_ms = cluster_now(cluster) + CLUSTER_ANSWER_MS;
}

void lease_grant_note_successor(struct cluster *cluster, struct cluster_node *successor,
                                const struct cluster_node *owner) {
    struct cluster_lease_grant *grant = &successor->grant;
    uint64_t until_ms = owner->grant.bound_until_ms;
    if (owner->grant.answered_ms && owner->grant.answered_ms + CLUSTER_ANSWER_MS > until_ms)
        until_ms = owner->grant.answered_ms + CLUSTER_ANSWER_MS;
    grant->bound_until_ms = until_ms > grant->bound_until_ms ? until_ms : grant->bound_until_ms;
    grant->durable_by_ticket = cluster->last_ticket + 1;
}

void lease_grant_note_end(struct cluster_node *primary) {
    primary->grant.answered_ms = 0;
    primary->grant.closed = UINT64_MAX;
}
