/* Slots that a node claims, by its own packets or by what others tell of it (UPDATE). */
#ifndef SLOTWISE_CLUSTER_CLAIMS_H
#define SLOTWISE_CLUSTER_CLAIMS_H

#include "cluster/state.h"

/* Who claims a slot with a greater configuration epoch than its owner's gets it. If that leaves our
 * primary, or ourselves, without slots, this node becomes a replica of the claimant. */
void claims_take(struct cluster *cluster, struct cluster_node *claimant, uint64_t config_epoch,
                 const uint8_t *slots);
/* Tells the sender if it claims a slot that by our knowledge has a newer owner. */
void claims_correct(struct cluster *cluster, struct cluster_node *sender, uint64_t config_epoch,
                    const uint8_t *slots);
/* Ten times a second, of a replica: it does not stay one of a replica for long. */
void claims_turn(struct cluster *cluster);

#endif
