/* Leases: a primary acknowledges writes only while a majority of the voters has promised, a moment
 * ago, to let nobody take its place. So one that has died can be replaced as soon as these promises
 * have run out, without waiting until everybody agrees that it has failed (prevote.h), and one
 * that was stopped or cut off acknowledges nothing that would be lost.
 *
 * Ten times a second a primary sends a round (incarnation, number, mode, hash of the voters) to the
 * voters. Its lease ends CLUSTER_LEASE_MS after the sending of the newest round that a majority,
 * itself included, has answered. Whoever answers does not vote early for another for longer than
 * that, nor does it answer who has taken the slots (lease_voter.h). So a primary that takes over,
 * in whatever way but an operator's TAKEOVER, acknowledges nothing until a majority of the voters
 * before has answered it: every majority has a member of that one, which knows the claim on its
 * disk, and does not answer the old primary any more.
 *
 * Another set of voters counts when majorities of both have answered a round with its hash. Who
 * joins is free until a majority knows of it, and who leaves bound until then. After a start
 * nothing is acknowledged before a majority was heard and, where there are leases, has answered.
 *
 * Only where all voters have the capability (one that was not heard of yet may), and they are
 * three to nine; otherwise it is as with Redis. */
#ifndef SLOTWISE_CLUSTER_LEASE_H
#define SLOTWISE_CLUSTER_LEASE_H

#include "cluster/state.h"

/* Whether all voters can, and are as many as there are leases for. */
bool lease_is_possible(const struct cluster *cluster);

/* After cluster_load. */
void lease_start(struct cluster *cluster);
/* Ten times a second, and when something of it has changed. */
void lease_turn(struct cluster *cluster);
/* We are about to take our primary's place. by_vote: not by an operator's word alone. */
void lease_begin(struct cluster *cluster, bool by_vote);
void lease_take_answer(struct cluster *cluster, struct cluster_node *sender,
                       const struct wire_packet *packet);
/* Paused for an agreed failover: all is replicated that was acknowledged, and nothing follows until
 * lease_resume. */
void lease_give_back(struct cluster *cluster);
void lease_resume(struct cluster *cluster);

#endif
