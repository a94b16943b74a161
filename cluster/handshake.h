/* Getting to know a node by its address: it has a random id until it answers, and is dropped if it
 * does not within a node timeout (a second at least). */
#ifndef SLOTWISE_CLUSTER_HANDSHAKE_H
#define SLOTWISE_CLUSTER_HANDSHAKE_H

#include "cluster/state.h"

enum handshake_result { HANDSHAKE_BEGUN, HANDSHAKE_BUSY = -1, HANDSHAKE_BAD_ADDRESS = -2 };

/* flags: WIRE_NODE_MEET if the other side does not know of it. BUSY: there is one with this address
 * already, or there are too many. */
enum handshake_result handshake_begin(struct cluster *cluster, const char *address, int64_t port,
                                      int64_t bus_port, unsigned flags);
/* The node of the link has told its id. */
void handshake_complete(struct cluster *cluster, struct cluster_node *node,
                        const struct node_id *id, unsigned role);
/* Whether it has taken too long. */
bool handshake_is_late(const struct cluster *cluster, const struct cluster_node *node);
/* Meets a node again that has answered, but has dropped its own handshake with us since: otherwise
 * it would be known here, and we not there, for ever. */
void handshake_repeat(struct cluster *cluster, struct cluster_node *node);

#endif
