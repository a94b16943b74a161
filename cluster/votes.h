/* The voter's side of an election: one vote for each epoch, told once it is durable. */
#ifndef SLOTWISE_CLUSTER_VOTES_H
#define SLOTWISE_CLUSTER_VOTES_H

#include "cluster/state.h"
#include "cluster/wire.h"

void votes_consider(struct cluster *cluster, struct cluster_node *candidate,
                    const struct wire_header *request);
/* Whether it would vote early for this candidate now, if it were asked in a new epoch. */
bool votes_would(const struct cluster *cluster, const struct cluster_node *candidate);
/* A write has ended: the vote goes out, or is kept back if it could not be written. */
void votes_persisted(struct cluster *cluster, enum cluster_persist_result result);

#endif
