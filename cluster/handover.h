/* A manual failover (CLUSTER FAILOVER), from its request to the election: the replica asks its
 * primary to pause (MFSTART), the paused primary tells its offset, and once the replica has applied
 * all of it the election may start (election.h), for which nobody has to be down. FORCE skips to
 * the election. Whatever is not done within CLUSTER_MANUAL_MS is given up.
 *
 * And the end of a primary whose process is told to: it says so by a FAIL about itself, with its
 * last offset in the header, when nothing can be written any more. Replicas that have all up to
 * there begin the election as soon as their link to it has gone (election.h); nobody else has to
 * agree that it has failed. */
#ifndef SLOTWISE_CLUSTER_HANDOVER_H
#define SLOTWISE_CLUSTER_HANDOVER_H

#include "cluster/state.h"

/* Ends it, whatever came of it; a paused primary goes on. */
void handover_reset(struct cluster *cluster);
void handover_check_time(struct cluster *cluster);

/* At the primary. */
void handover_requested(struct cluster *cluster, struct cluster_node *replica);
void handover_paused(struct cluster *cluster);

/* Tells everybody that we end, if a replica can take our place. */
void handover_announce_end(struct cluster *cluster);

/* At the replica. */
void handover_begin(struct cluster *cluster);
/* A packet of the paused primary. */
void handover_take_offset(struct cluster *cluster, uint64_t offset);
void handover_turn(struct cluster *cluster);

#endif
