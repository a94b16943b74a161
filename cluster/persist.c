/* See persist.h. */
#include "cluster/persist.h"

#include "cluster/nodes_conf.h"
#include "engine/memory.h"

uint64_t persist_begin(struct cluster *cluster) {
    struct lines lines = {0};
    nodes_conf_write(cluster, &lines);
    cluster->later &= ~(unsigned)LATER_SAVE;
    uint64_t ticket = ++cluster->last_ticket;
    cluster->calls.persist(cluster->context, lines.text, lines.length, ticket);
    memory_free(lines.text);
    return ticket;
}

void persist_ended(struct cluster *cluster, uint64_t ticket, enum cluster_persist_result result) {
    if (ticket > cluster->ended_ticket && ticket <= cluster->last_ticket)
        cluster->ended_ticket = ticket;
    if (result == CLUSTER_PERSISTED && ticket > cluster->durable_ticket &&
        ticket <= cluster->last_ticket)
        cluster->durable_ticket = ticket;
    if (!persist_hides_epoch(cluster))
        cluster->told_epoch = cluster->myself->config_epoch;
    bool failed = result != CLUSTER_PERSISTED;
    if (failed && !cluster->disk_failed)
        cluster_log(cluster, CLUSTER_LOG_WARNING,
                    "The cluster config file cannot be updated: this node neither votes nor "
                    "raises its epoch until it can.");
    if (!failed && cluster->disk_failed)
        cluster_log(cluster, CLUSTER_LOG_NOTICE, "The cluster config file is up to date again.");
    cluster->disk_failed = failed;
    cluster->disk_failed_ms = failed ? cluster_now(cluster) : 0;
}
