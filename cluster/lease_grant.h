/* What happens to a voter's promises to primaries (lease_voter.h) when votes are given and slots
 * change hands. */
#ifndef SLOTWISE_CLUSTER_LEASE_GRANT_H
#define SLOTWISE_CLUSTER_LEASE_GRANT_H

#include "cluster/state.h"

/* We vote early for a replica of this primary. */
void lease_grant_note_vote(struct cluster *cluster, struct cluster_node *primary);
/* The successor has taken slots of that one over, all of them or the last. */
void lease_grant_note_successor(struct cluster *cluster, struct cluster_node *successor,
                                const struct cluster_node *owner);
/* It has ended by its own word. */
void lease_grant_note_end(struct cluster_node *primary);

#endif
