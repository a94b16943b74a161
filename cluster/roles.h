/* Who is a primary and who a replica of whom, ourselves and others. */
#ifndef SLOTWISE_CLUSTER_ROLES_H
#define SLOTWISE_CLUSTER_ROLES_H

#include "cluster/state.h"

/* Another node says so. */
void roles_set_primary(struct cluster *cluster, struct cluster_node *node);
void roles_set_replica(struct cluster *cluster, struct cluster_node *node);

/* This node replicates that one from now on, without slots. Ends elections and failovers. */
void roles_follow(struct cluster *cluster, struct cluster_node *primary);
/* Tells the server where our primary is, if that is known. */
void roles_connect(struct cluster *cluster);
/* This replica is a primary from now on; the server has yet to say that it is (promoting). */
void roles_promote(struct cluster *cluster);

#endif
