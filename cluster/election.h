/* The replica's side of an election: when its primary has failed (or an operator wants it) it asks
 * the voters, after a delay by which the replica with the newest data comes first, and takes its
 * primary's place when a majority has voted for it. */
#ifndef SLOTWISE_CLUSTER_ELECTION_H
#define SLOTWISE_CLUSTER_ELECTION_H

#include "cluster/state.h"

void election_turn(struct cluster *cluster);
void election_take_vote(struct cluster *cluster, struct cluster_node *voter, uint64_t epoch);
/* A write has ended: the request goes out, or the election begins anew. */
void election_persisted(struct cluster *cluster, enum cluster_persist_result result);
/* Takes our primary's slots under the configuration epoch that we have. by_vote: of a majority. */
void election_take_over(struct cluster *cluster, bool by_vote);

#endif
