/* What a node that we know tells of others, and of itself in extensions (PING, PONG, MEET). */
#ifndef SLOTWISE_CLUSTER_GOSSIP_H
#define SLOTWISE_CLUSTER_GOSSIP_H

#include "cluster/state.h"
#include "cluster/wire.h"

void gossip_take(struct cluster *cluster, const struct wire_packet *packet,
                 struct cluster_node *sender);
void gossip_take_extensions(struct cluster *cluster, const struct wire_packet *packet,
                            struct cluster_node *sender);

#endif
