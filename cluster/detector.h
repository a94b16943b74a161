/* Who has failed: a node that does not answer for a node timeout is suspected (PFAIL); one that is
 * suspected here and reported by a majority of the voters has failed (FAIL), which everybody is
 * told and obeys. Takes back what turns out to be wrong. */
#ifndef SLOTWISE_CLUSTER_DETECTOR_H
#define SLOTWISE_CLUSTER_DETECTOR_H

#include "cluster/state.h"

/* Ten times a second: pings that are due, links that are silent, suspicions. */
void detector_turn(struct cluster *cluster);
/* A voter says that a node is, or is not, reachable. */
void detector_take_report(struct cluster *cluster, struct cluster_node *node,
                          struct cluster_node *reporter, bool is_failing);
/* FAIL was received. */
void detector_take_fail(struct cluster *cluster, struct cluster_node *node,
                        struct cluster_node *sender);
/* It has answered. */
void detector_take_answer(struct cluster *cluster, struct cluster_node *node);

#endif
