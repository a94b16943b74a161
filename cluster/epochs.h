/* Configuration epochs that this node gives itself without a vote. */
#ifndef SLOTWISE_CLUSTER_EPOCHS_H
#define SLOTWISE_CLUSTER_EPOCHS_H

#include "cluster/state.h"

/* Takes the next epoch unless ours is the greatest; whether it did. The disk has not failed. */
bool epochs_bump(struct cluster *cluster);
/* The same also while slots are held (cluster_hold_slots), for who takes them back. */
bool epochs_raise(struct cluster *cluster);
/* Another primary has our epoch: the one with the smaller id takes the next. */
void epochs_resolve_collision(struct cluster *cluster, const struct cluster_node *other);

#endif
