/* nodes.conf in Redis's format, from and to the state: a line for each node (node_text.h) and one
 * of variables. */
#ifndef SLOTWISE_CLUSTER_NODES_CONF_H
#define SLOTWISE_CLUSTER_NODES_CONF_H

#include "cluster/lines.h"
#include "cluster/state.h"

void nodes_conf_write(const struct cluster *cluster, struct lines *lines);
/* Into a cluster without nodes. NULL, or the text of the error with the line at fault; the cluster
 * is of no use then. */
const char *nodes_conf_read(struct cluster *cluster, const char *text, size_t length);

#endif
