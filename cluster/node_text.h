/* A node as a line of text: what CLUSTER NODES shows and what nodes.conf keeps. */
#ifndef SLOTWISE_CLUSTER_NODE_TEXT_H
#define SLOTWISE_CLUSTER_NODE_TEXT_H

#include "cluster/lines.h"
#include "cluster/state.h"

/* Without the end of the line. for_file: with the fields that only nodes.conf has. */
void node_text_add(struct lines *lines, const struct cluster *cluster, struct cluster_node *node,
                   bool for_file);
/* The flag of this name, 0 for "noflags"; false: there is none. */
bool node_text_flag(const char *name, size_t length, unsigned *flag);

#endif
