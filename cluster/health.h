/* Whether this node may serve: cluster_state, and the number of voters. */
#ifndef SLOTWISE_CLUSTER_HEALTH_H
#define SLOTWISE_CLUSTER_HEALTH_H

#include "cluster/state.h"

void health_update(struct cluster *cluster);

#endif
