/* The replica of a failover by agreement watches the pause of its primary. The offset that this has
 * told is all that it has acknowledged only for as long as it is paused: a primary that is killed
 * meanwhile has forgotten the pause, and serves a while after its start (health.c). So the failover
 * is given up when the primary does not say any more that it is paused, or when it said so too long
 * ago. */
#ifndef SLOTWISE_CLUSTER_PAUSE_WATCH_H
#define SLOTWISE_CLUSTER_PAUSE_WATCH_H

#include "cluster/state.h"

/* A packet of our primary has come on that link. */
void pause_watch_packet(struct cluster *cluster, const struct cluster_link *link,
                        const struct wire_header *header);
/* Before each turn of the election. */
void pause_watch_turn(struct cluster *cluster);

#endif
