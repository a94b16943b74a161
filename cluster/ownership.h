/* Which node owns each slot, and which slots are on their way from or to this node.
 *
 * The only place that changes owners, bitmaps and counts, so that they agree (state.h). Each change
 * asks for a new slot map. */
#ifndef SLOTWISE_CLUSTER_OWNERSHIP_H
#define SLOTWISE_CLUSTER_OWNERSHIP_H

#include "cluster/state.h"

/* Gives a slot to a node, whoever had it; NULL: to nobody. */
void ownership_set(struct cluster *cluster, unsigned slot, struct cluster_node *node);
void ownership_drop_all_of(struct cluster *cluster, struct cluster_node *node);
/* Nobody owns it, or its owner does not claim it any more. */
static inline bool ownership_is_unclaimed(const struct cluster *cluster, unsigned slot) {
    return !cluster->owners[slot] || wire_slot_is(cluster->not_claimed, slot);
}
void ownership_set_claimed(struct cluster *cluster, unsigned slot, bool claimed);
/* NULL: not migrating, not importing. */
void ownership_migrate(struct cluster *cluster, unsigned slot, struct cluster_node *target);
void ownership_import(struct cluster *cluster, unsigned slot, struct cluster_node *source);
/* Makes node->ranges. */
void ownership_make_ranges(const struct cluster *cluster, struct cluster_node *node);
void ownership_close_all(struct cluster *cluster);

#endif
