/* nodes.conf is written by the caller (cluster.h), whole each time; what may be told only when it
 * is durable waits for a ticket. */
#ifndef SLOTWISE_CLUSTER_PERSIST_H
#define SLOTWISE_CLUSTER_PERSIST_H

#include "cluster/state.h"

/* Begins a write of the state as it is now. Its ticket. */
uint64_t persist_begin(struct cluster *cluster);
static inline bool persist_is_busy(const struct cluster *cluster) {
    return cluster->last_ticket > cluster->ended_ticket;
}
/* Whether our configuration epoch is not on the disk yet. Told before, it would be known to others
 * after a crash, but not to us: they would expect more of us than we can ever claim. */
static inline bool persist_hides_epoch(const struct cluster *cluster) {
    return cluster->durable_ticket < cluster->claim_ticket;
}
/* Takes the end of a write; what waits for its ticket is the caller's. */
void persist_ended(struct cluster *cluster, uint64_t ticket, enum cluster_persist_result result);

#endif
