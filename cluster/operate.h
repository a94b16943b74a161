/* What an operator asks of the cluster: the CLUSTER commands that change something.
 *
 * Each is called under the lock of the bus (cluster.h) and gives NULL, or the text of the error
 * that the client gets, with its code ("ERR ..."): static, or the cluster's until the next call.
 * Nothing has changed after an error. What follows from a change (packets, nodes.conf, the slot
 * map) comes with cluster_before_wait. */
#ifndef SLOTWISE_CLUSTER_OPERATE_H
#define SLOTWISE_CLUSTER_OPERATE_H

#include "cluster/cluster.h"

enum cluster_failover_mode {
    CLUSTER_FAILOVER_AGREED,
    CLUSTER_FAILOVER_FORCE,
    CLUSTER_FAILOVER_TAKEOVER
};
enum cluster_slot_state {
    CLUSTER_SLOT_MIGRATING,
    CLUSTER_SLOT_IMPORTING,
    CLUSTER_SLOT_STABLE,
    CLUSTER_SLOT_NODE
};

const char *cluster_meet(struct cluster *cluster, const char *address, int64_t port,
                         int64_t bus_port);
/* slots: a bit each, WIRE_SLOT_BYTES; checked as a whole before anything changes. */
const char *cluster_add_slots(struct cluster *cluster, const uint8_t *slots);
const char *cluster_delete_slots(struct cluster *cluster, const uint8_t *slots);
const char *cluster_flush_slots(struct cluster *cluster, bool keys_exist);
/* node: not for STABLE. */
const char *cluster_set_slot(struct cluster *cluster, unsigned slot, enum cluster_slot_state state,
                             const void *node_id, size_t node_id_length);
/* keys_exist: a primary that has keys cannot become a replica. */
const char *cluster_replicate(struct cluster *cluster, const void *node_id, size_t length,
                              bool keys_exist);
const char *cluster_forget(struct cluster *cluster, const void *node_id, size_t length);
const char *cluster_failover(struct cluster *cluster, enum cluster_failover_mode mode);
const char *cluster_reset(struct cluster *cluster, bool hard, bool keys_exist);
const char *cluster_set_config_epoch(struct cluster *cluster, int64_t epoch);
/* *bumped: false: it was the greatest already ("STILL"). */
const char *cluster_bump_epoch(struct cluster *cluster, bool *bumped, uint64_t *epoch);
/* Ends our link to that node, or the one from it; new ones are made soon. */
const char *cluster_kill_links(struct cluster *cluster, const void *node_id, size_t length, bool to,
                               bool from);
/* The ticket of the write, whose end cluster_on_persisted tells. */
uint64_t cluster_save_config(struct cluster *cluster);
const char *cluster_count_failure_reports(struct cluster *cluster, const void *node_id,
                                          size_t length, unsigned *count);

#endif
