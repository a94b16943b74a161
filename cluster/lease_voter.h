/* The voter's side of leases (lease.h): what it answers, and what it then does not do.
 *
 * It answers a primary whose slots it knows to be that primary's, and durably so. Not answered is
 * who asks too soon after this node's start (it does not know what it had answered), too soon after
 * an early vote for another, who took slots of one that was answered until then, and another
 * process of the same node as long as one is answered. Any node answers; whose answers count is
 * the primary's business. */
#ifndef SLOTWISE_CLUSTER_LEASE_VOTER_H
#define SLOTWISE_CLUSTER_LEASE_VOTER_H

#include "cluster/state.h"

void lease_voter_take_round(struct cluster *cluster, struct cluster_node *sender,
                            const struct wire_packet *packet);
/* Whether the primary's lease has run out for sure, as far as it depends on us, among voters that
 * the candidate knows as we do. */
bool lease_voter_may_replace(const struct cluster *cluster, const struct cluster_node *primary,
                             uint64_t candidates_voters);

#endif
