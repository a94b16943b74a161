/* Who votes: the primaries that have slots. */
#ifndef SLOTWISE_CLUSTER_VOTERS_H
#define SLOTWISE_CLUSTER_VOTERS_H

#include "cluster/state.h"

static inline bool voters_include(const struct cluster_node *node) {
    return node_is_primary(node) && node->slot_count > 0;
}
/* Of the ids of the voters as we know them; 0: they are too many for leases. */
uint64_t voters_hash(const struct cluster *cluster);

#endif
