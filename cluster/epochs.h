/* Configuration epochs that this node gives itself without a vote. */
#ifndef SLOTWISE_CLUSTER_EPOCHS_H
#define SLOTWISE_CLUSTER_EPOCHS_H

#include "cluster/state.h"

/* Slots are being handed over (cluster_hold_slots): the target has claimed them, or will, with an
 * epoch above ours, and what we still say of them must not win against that. */
bool epochs_are_held(const struct cluster *cluster);
/* Takes the next epoch, while ours is not held, unless ours is the greatest; whether it did. The
 * disk has not failed. */
bool epochs_bump(struct cluster *cluster);
/* The same also while slots are held (cluster_hold_slots), for who takes them back. */
bool epochs_raise(struct cluster *cluster);
/* Another primary has our epoch: the one with the smaller id takes the next. */
void epochs_resolve_collision(struct cluster *cluster, const struct cluster_node *other);

#endif
