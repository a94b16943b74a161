/* Early elections: a replica whose primary is gone (its stream and its bus refused or reset, or
 * nothing has come by the bus for a node timeout, which is a suspicion and no more) asks the voters
 * every few milliseconds whether they would vote for it now. They would once the primary's lease
 * has run out as far as it depends on them (lease_voter.h); siblings, if they have no newer data.
 * When a majority would, and all siblings that have not failed, it asks for votes as usual, in an
 * epoch of its own; such an election is over after CLUSTER_EARLY_MS, while its voters are still
 * silent to the primary. Nothing of it makes the primary FAIL. */
#ifndef SLOTWISE_CLUSTER_PREVOTE_H
#define SLOTWISE_CLUSTER_PREVOTE_H

#include "cluster/state.h"

#define CLUSTER_EARLY_MS 300

void prevote_turn(struct cluster *cluster);
void prevote_take_question(struct cluster *cluster, struct cluster_node *sender,
                           const struct wire_packet *packet);
void prevote_take_answer(struct cluster *cluster, struct cluster_node *sender,
                         const struct wire_packet *packet);
/* An early election has come to nothing: after a while the next. */
void prevote_again(struct cluster *cluster);

#endif
