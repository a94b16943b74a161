/* A replica that its primary can spare goes to a primary that has lost all of its own. */
#ifndef SLOTWISE_CLUSTER_REPLICA_MIGRATION_H
#define SLOTWISE_CLUSTER_REPLICA_MIGRATION_H

#include "cluster/state.h"

void replica_migration_turn(struct cluster *cluster);

#endif
