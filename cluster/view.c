/* See view.h. */
#include "cluster/view.h"

#include <string.h>

#include "cluster/node_text.h"
#include "cluster/nodes.h"
#include "cluster/ownership.h"

static void fill(const struct cluster *cluster, struct cluster_node *node,
                 struct cluster_node_view *view) {
    bool is_me = node == cluster->myself;
    ownership_make_ranges(cluster, node);
    *view = (struct cluster_node_view){
        .id = node->id,
        .shard = node->shard,
        .address = node->address,
        .hostname = node->hostname,
        .human_nodename = node->human_nodename,
        .port = node->port,
        .tls_port = node->tls_port,
        .bus_port = node->bus_port,
        .flags = node->flags,
        .config_epoch = node->config_epoch,
        .offset = is_me ? cluster_offset(cluster) : node->offset,
        .connected = is_me || (node->link && node->link->open),
        .slots = node->ranges,
        .slot_range_count = node->range_count,
        .slot_count = node->slot_count,
    };
    if (node->primary)
        view->primary = node->primary->id;
}

/* Cursors are one more than the index, so that the first is not NULL. */
static bool advance(const struct cluster *cluster, const void **cursor, uintptr_t count,
                    uintptr_t *at) {
    (void)cluster;
    *at = (uintptr_t)*cursor;
    if (*at >= count) {
        *cursor = NULL;
        return false;
    }
    *cursor = (const void *)(*at + 1);
    return true;
}

bool cluster_view_next(const struct cluster *cluster, const void **cursor,
                       struct cluster_node_view *view) {
    uintptr_t at;
    if (!advance(cluster, cursor, cluster->node_count, &at))
        return false;
    fill(cluster, cluster->nodes[at], view);
    return true;
}

bool cluster_view_node(const struct cluster *cluster, const void *node_id, size_t length,
                       struct cluster_node_view *view) {
    struct cluster_node *node = nodes_find(cluster, node_id, length);
    if (!node)
        return false;
    fill(cluster, node, view);
    return true;
}

void cluster_view_myself(const struct cluster *cluster, struct cluster_node_view *view) {
    fill(cluster, cluster->myself, view);
}

bool cluster_view_next_link(const struct cluster *cluster, const void **cursor,
                            struct cluster_link_view *view) {
    uintptr_t at;
    while (advance(cluster, cursor, (uintptr_t)cluster->node_count * 2, &at)) {
        const struct cluster_node *node = cluster->nodes[at / 2];
        const struct cluster_link *link = at % 2 ? node->inbound_link : node->link;
        if (!link)
            continue;
        *view = (struct cluster_link_view){
            .inbound = link->inbound,
            .node = node->id,
            .created_unix_ms = link->created_unix_ms,
            .unsent_bytes = link->unsent_bytes,
            .unsent_allocated_bytes = link->unsent_bytes,
            .events = !link->open          ? ""
                      : link->unsent_bytes ? "rw"
                                           : "r",
        };
        return true;
    }
    return false;
}

/* --- Texts ------------------------------------------------------------------------------------ */

char *cluster_describe_nodes(const struct cluster *cluster, unsigned without, size_t *length) {
    struct lines lines = {0};
    lines_add(&lines, "%s", "");
    for (unsigned i = 0; i < cluster->node_count; i++) {
        if (cluster->nodes[i]->flags & without)
            continue;
        node_text_add(&lines, cluster, cluster->nodes[i], false);
        lines_add(&lines, "\n");
    }
    *length = lines.length;
    return lines.text;
}

char *cluster_describe_node(const struct cluster *cluster, const struct node_id *id,
                            size_t *length) {
    struct lines lines = {0};
    struct cluster_node *node = nodes_find(cluster, id->hex, WIRE_ID_LENGTH);
    lines_add(&lines, "%s", "");
    if (node)
        node_text_add(&lines, cluster, node, false);
    *length = lines.length;
    return lines.text;
}

static const char *const type_names[WIRE_TYPES] = {
    [WIRE_PING] = "ping",
    [WIRE_PONG] = "pong",
    [WIRE_MEET] = "meet",
    [WIRE_FAIL] = "fail",
    [WIRE_PUBLISH] = "publish",
    [WIRE_FAILOVER_AUTH_REQUEST] = "auth-req",
    [WIRE_FAILOVER_AUTH_ACK] = "auth-ack",
    [WIRE_UPDATE] = "update",
    [WIRE_MFSTART] = "mfstart",
    [WIRE_MODULE] = "module",
    [WIRE_PUBLISHSHARD] = "publishshard",
};

static void add_counts(struct lines *lines, const uint64_t *counts, const char *direction) {
    unsigned long long sum = 0;
    for (unsigned type = 0; type < WIRE_TYPES; type++) {
        if (counts[type] == 0)
            continue;
        sum += counts[type];
        lines_add(lines, "cluster_stats_messages_%s_%s:%llu\r\n", type_names[type], direction,
                  (unsigned long long)counts[type]);
    }
    lines_add(lines, "cluster_stats_messages_%s:%llu\r\n", direction, sum);
}

static void add_slot_counts(struct lines *lines, const struct cluster *cluster) {
    unsigned assigned = 0, suspected = 0, failed = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        assigned += node->slot_count;
        if (node_is_failed(node))
            failed += node->slot_count;
        else if (node_is_suspected(node))
            suspected += node->slot_count;
    }
    lines_add(lines,
              "cluster_slots_assigned:%u\r\ncluster_slots_ok:%u\r\n"
              "cluster_slots_pfail:%u\r\ncluster_slots_fail:%u\r\n",
              assigned, assigned - suspected - failed, suspected, failed);
}

char *cluster_describe_info(const struct cluster *cluster, size_t *length) {
    struct lines lines = {0};
    const struct cluster_node *me = cluster->myself;
    lines_add(&lines, "cluster_state:%s\r\n", cluster->state_ok ? "ok" : "fail");
    add_slot_counts(&lines, cluster);
    lines_add(&lines,
              "cluster_known_nodes:%u\r\ncluster_size:%u\r\n"
              "cluster_current_epoch:%llu\r\ncluster_my_epoch:%llu\r\n",
              cluster->node_count, cluster->size, (unsigned long long)cluster->current_epoch,
              (unsigned long long)(me->primary ? me->primary : me)->config_epoch);
    add_counts(&lines, cluster->sent, "sent");
    add_counts(&lines, cluster->received, "received");
    lines_add(&lines, "total_cluster_links_buffer_limit_exceeded:%llu\r\n",
              (unsigned long long)cluster->links_over_limit);
    *length = lines.length;
    return lines.text;
}
