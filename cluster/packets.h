/* Packets out: the header that tells of this node, gossip about others, and each type that is sent.
 *
 * A link that is still being made takes none: when it is open a PING or MEET goes out first, which
 * tells everything that has been missed but PUBLISH. */
#ifndef SLOTWISE_CLUSTER_PACKETS_H
#define SLOTWISE_CLUSTER_PACKETS_H

#include "cluster/state.h"

/* PING, PONG or MEET with gossip. A PING to a node starts the time within which it has to answer,
 * even if its link is not open yet. */
void packets_send_ping(struct cluster *cluster, struct cluster_link *link, enum wire_type type);
enum packets_audience { PACKETS_TO_ALL, PACKETS_TO_SHARD };
/* Our own configuration, to the nodes to which we have links. */
void packets_broadcast_pong(struct cluster *cluster, enum packets_audience audience);
void packets_broadcast_fail(struct cluster *cluster, const struct node_id *failed);
/* Asks everybody for a vote in the election of this epoch. */
void packets_ask_for_votes(struct cluster *cluster, uint64_t epoch, bool primary_may_be_up,
                           bool early);
/* A vote for that epoch. */
void packets_send_vote(struct cluster *cluster, struct cluster_link *link, uint64_t epoch);
/* Packets that are only a header. */
void packets_send_plain(struct cluster *cluster, struct cluster_link *link, enum wire_type type);
/* On our link to that node; nothing, if it has not said that it understands them. */
void packets_send_private(struct cluster *cluster, const struct cluster_node *to,
                          enum wire_private kind, const void *data, size_t length);
/* What the owner owns by our knowledge; nothing of ourselves before our epoch is durable. */
void packets_send_update(struct cluster *cluster, struct cluster_link *link,
                         const struct cluster_node *owner);

#endif
