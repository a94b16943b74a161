/* The table of nodes: by id, with each one's replicas, the reports that it has failed, and the ids
 * that have been forgotten and are not to come back for a while. */
#ifndef SLOTWISE_CLUSTER_NODES_H
#define SLOTWISE_CLUSTER_NODES_H

#include "cluster/state.h"

/* A node that is in the table; id NULL: a random one. NULL: there are CLUSTER_MAX_NODES. */
struct cluster_node *nodes_add(struct cluster *cluster, const struct node_id *id, unsigned flags);
struct cluster_node *nodes_find(const struct cluster *cluster, const void *id, size_t length);
/* Closes its links, frees its slots and lets everybody forget it. Not for ourselves. */
void nodes_remove(struct cluster *cluster, struct cluster_node *node);
/* Nobody has this id. */
void nodes_rename(struct cluster *cluster, struct cluster_node *node, const struct node_id *id);
void nodes_end_handshake(struct cluster *cluster, struct cluster_node *node);
/* It knows us: it need not be met again. */
void nodes_note_met(struct cluster *cluster, struct cluster_node *node);
/* After the last use; links are the caller's then. */
void nodes_free(struct cluster *cluster);

/* The primary of a replica; NULL: none is known. */
void nodes_set_primary(struct cluster *cluster, struct cluster_node *replica,
                       struct cluster_node *primary);
unsigned nodes_count_working_replicas(const struct cluster_node *node, unsigned failed_flags);
/* The shard of a node follows that of its primary. */
void nodes_set_shard(struct cluster *cluster, struct cluster_node *node,
                     const struct node_id *shard);
/* false: it was so already. */
bool nodes_set_name(struct cluster *cluster, char *field, const char *text);

/* Whether the report is a new one. */
bool nodes_add_report(struct cluster *cluster, struct cluster_node *node,
                      struct cluster_node *reporter);
bool nodes_remove_report(struct cluster *cluster, struct cluster_node *node,
                         const struct cluster_node *reporter);
/* Of the last two node timeouts. */
unsigned nodes_count_reports(struct cluster *cluster, struct cluster_node *node);

void nodes_forget(struct cluster *cluster, const struct node_id *id, uint64_t for_ms);
bool nodes_is_forgotten(struct cluster *cluster, const void *id, size_t length);
void nodes_forget_nothing(struct cluster *cluster);
/* Drops what has expired. */
void nodes_clean_forgotten(struct cluster *cluster);

/* Closes a link, if there is one, and lets its node know nothing of it. */
void nodes_close_link(struct cluster *cluster, struct cluster_link *link);
/* An inbound link's node has become known; closes an older one. */
void nodes_attach_inbound(struct cluster *cluster, struct cluster_node *node,
                          struct cluster_link *link);

#endif
