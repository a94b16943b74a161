/* The links to other nodes: one of our own to each, made anew when it is lost, and one that each
 * has made to us (cluster.h: cluster_on_accepted and the like). */
#ifndef SLOTWISE_CLUSTER_LINKS_H
#define SLOTWISE_CLUSTER_LINKS_H

#include "cluster/state.h"

/* Ten times a second. */
void links_turn(struct cluster *cluster);

#endif
