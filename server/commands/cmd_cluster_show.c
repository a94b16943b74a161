/* CLUSTER: what shows the cluster. Under the lock of the bus; the reply is written meanwhile, since
 * what it shows is the cluster's. */
#include <stdlib.h>
#include <string.h>

#include "cluster/view.h"
#include "engine/memory.h"
#include "server/commands/cmd_cluster.h"
#include "server/config/config.h"

command_handler cmd_cluster_nodes, cmd_cluster_info, cmd_cluster_myid, cmd_cluster_myshardid,
    cmd_cluster_replicas, cmd_cluster_slaves, cmd_cluster_slots, cmd_cluster_shards,
    cmd_cluster_links;

/* --- Texts ------------------------------------------------------------------------------------ */

static enum call_result reply_text(struct call *call, struct cluster_bus *bus, char *text,
                                   size_t length) {
    cluster_bus_leave(bus, false);
    reply_verbatim(call->reply, "txt", text ? text : "", text ? length : 0);
    memory_free(text);
    return CALL_DONE;
}

enum call_result cmd_cluster_nodes(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    size_t length;
    if (!bus)
        return CALL_DONE;
    char *text = cluster_describe_nodes(cluster_bus_enter(bus), 0, &length);
    return reply_text(call, bus, text, length);
}

enum call_result cmd_cluster_info(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    size_t length;
    if (!bus)
        return CALL_DONE;
    char *text = cluster_describe_info(cluster_bus_enter(bus), &length);
    return reply_text(call, bus, text, length);
}

static enum call_result reply_id(struct call *call, bool shard) {
    struct cluster_bus *bus = cluster_of_call(call);
    struct cluster_node_view myself;
    if (!bus)
        return CALL_DONE;
    cluster_view_myself(cluster_bus_enter(bus), &myself);
    cluster_bus_leave(bus, false);
    reply_bulk(call->reply, shard ? myself.shard.hex : myself.id.hex, WIRE_ID_LENGTH);
    return CALL_DONE;
}

enum call_result cmd_cluster_myid(struct call *call) {
    return reply_id(call, false);
}

enum call_result cmd_cluster_myshardid(struct call *call) {
    return reply_id(call, true);
}

/* --- All nodes -------------------------------------------------------------------------------- */

#define NOBODY UINT32_MAX

struct shown {
    struct cluster_node_view view;
    uint32_t primary;                     /* index; NOBODY: it is one, or its own is not known */
    uint32_t first_replica, next_replica; /* likewise */
    bool done;                            /* SHARDS: its shard has been shown */
};

/* In the order of the cluster's table. */
struct nodes {
    struct shown *of;
    uint32_t count;
    uint32_t *by_id; /* indexes */
};

static const struct nodes *sorted; /* under the lock of the bus: whose indexes qsort sorts */

static int compare_ids(const void *a, const void *b) {
    const struct shown *of = sorted->of;
    return memcmp(of[*(const uint32_t *)a].view.id.hex, of[*(const uint32_t *)b].view.id.hex,
                  WIRE_ID_LENGTH);
}

static uint32_t find_node(const struct nodes *nodes, const struct node_id *id) {
    uint32_t first = 0, end = nodes->count;
    while (first < end) {
        uint32_t middle = first + (end - first) / 2, index = nodes->by_id[middle];
        int order = memcmp(id->hex, nodes->of[index].view.id.hex, WIRE_ID_LENGTH);
        if (order == 0)
            return index;
        if (order < 0)
            end = middle;
        else
            first = middle + 1;
    }
    return NOBODY;
}

static void link_replicas(struct nodes *nodes) {
    for (uint32_t i = nodes->count; i-- > 0;) {
        struct shown *shown = &nodes->of[i];
        shown->primary =
            shown->view.flags & WIRE_NODE_REPLICA ? find_node(nodes, &shown->view.primary) : NOBODY;
        if (shown->primary == NOBODY)
            continue;
        shown->next_replica = nodes->of[shown->primary].first_replica;
        nodes->of[shown->primary].first_replica = i;
    }
}

static void take_nodes(const struct cluster *cluster, struct nodes *nodes) {
    struct cluster_node_view view;
    const void *cursor = NULL;
    uint32_t room = 0;
    *nodes = (struct nodes){0};
    while (cluster_view_next(cluster, &cursor, &view)) {
        if (nodes->count == room) {
            room = room ? room * 2 : 16;
            nodes->of = memory_realloc(nodes->of, room * sizeof *nodes->of);
        }
        nodes->of[nodes->count++] = (struct shown){
            .view = view, .primary = NOBODY, .first_replica = NOBODY, .next_replica = NOBODY};
    }
    nodes->by_id = memory_alloc((nodes->count + 1) * sizeof *nodes->by_id);
    for (uint32_t i = 0; i < nodes->count; i++)
        nodes->by_id[i] = i;
    sorted = nodes;
    qsort(nodes->by_id, nodes->count, sizeof *nodes->by_id, compare_ids);
    link_replicas(nodes);
}

static void drop_nodes(struct nodes *nodes) {
    memory_free(nodes->of);
    memory_free(nodes->by_id);
}

static enum call_result list_replicas(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    struct cluster_node_view view;
    struct nodes nodes;
    if (!bus)
        return CALL_DONE;
    const struct argument *id = &call->argv[2];
    const struct cluster *cluster = cluster_bus_enter(bus);
    if (!cluster_view_node(cluster, id->data, id->length, &view)) {
        reply_error_format(call->reply, "ERR Unknown node %.*s", (int)id->length, id->data);
    } else if (view.flags & WIRE_NODE_REPLICA) {
        reply_error(call->reply, "ERR The specified node is not a master");
    } else {
        take_nodes(cluster, &nodes);
        struct reply_deferred deferred = reply_deferred_begin(call->reply);
        size_t n = 0;
        uint32_t i = nodes.of[find_node(&nodes, &view.id)].first_replica;
        for (; i != NOBODY; i = nodes.of[i].next_replica, n++) {
            size_t length;
            char *text = cluster_describe_node(cluster, &nodes.of[i].view.id, &length);
            if (text && length > 0 && text[length - 1] == '\n')
                length--;
            reply_bulk(call->reply, text ? text : "", text ? length : 0);
            memory_free(text);
        }
        reply_deferred_array(call->reply, deferred, n);
        drop_nodes(&nodes);
    }
    cluster_bus_leave(bus, false);
    return CALL_DONE;
}

enum call_result cmd_cluster_replicas(struct call *call) {
    return list_replicas(call);
}

enum call_result cmd_cluster_slaves(struct call *call) {
    return list_replicas(call);
}

/* --- SLOTS ------------------------------------------------------------------------------------ */

static int preferred_endpoint(void) {
    return config_current()->cluster_preferred_endpoint_type;
}

static bool has_hostname(const struct cluster_node_view *view) {
    return view->hostname && view->hostname[0];
}

static const char *text_of(const char *text) {
    return text ? text : "";
}

static void reply_endpoint(struct reply *reply, const struct cluster_node_view *view) {
    if (preferred_endpoint() == CONFIG_ENDPOINT_UNKNOWN)
        reply_null(reply);
    else if (preferred_endpoint() == CONFIG_ENDPOINT_HOSTNAME)
        reply_bulk_text(reply, has_hostname(view) ? view->hostname : "?");
    else
        reply_bulk_text(reply, text_of(view->address));
}

/* [endpoint, port, id, {what the endpoint does not say}] */
static void reply_node(struct reply *reply, const struct cluster_node_view *view) {
    bool address = preferred_endpoint() != CONFIG_ENDPOINT_IP;
    bool hostname = preferred_endpoint() != CONFIG_ENDPOINT_HOSTNAME && has_hostname(view);
    reply_array(reply, 4);
    reply_endpoint(reply, view);
    reply_integer(reply, view->port);
    reply_bulk(reply, view->id.hex, WIRE_ID_LENGTH);
    reply_map(reply, (size_t)address + hostname);
    if (address) {
        reply_bulk_text(reply, "ip");
        reply_bulk_text(reply, text_of(view->address));
    }
    if (hostname) {
        reply_bulk_text(reply, "hostname");
        reply_bulk_text(reply, view->hostname);
    }
}

static bool is_available(const struct cluster_node_view *view) {
    return !(view->flags & WIRE_NODE_FAIL) && view->offset != 0;
}

struct owned_range {
    struct slot_range range;
    uint32_t node;
};

static int compare_ranges(const void *a, const void *b) {
    return (int)((const struct owned_range *)a)->range.first -
           (int)((const struct owned_range *)b)->range.first;
}

static void reply_range(struct reply *reply, const struct nodes *nodes,
                        const struct owned_range *owned) {
    const struct shown *primary = &nodes->of[owned->node];
    size_t replicas = 0;
    for (uint32_t i = primary->first_replica; i != NOBODY; i = nodes->of[i].next_replica)
        replicas += is_available(&nodes->of[i].view);
    reply_array(reply, 3 + replicas);
    reply_integer(reply, owned->range.first);
    reply_integer(reply, owned->range.last);
    reply_node(reply, &primary->view);
    for (uint32_t i = primary->first_replica; i != NOBODY; i = nodes->of[i].next_replica)
        if (is_available(&nodes->of[i].view))
            reply_node(reply, &nodes->of[i].view);
}

static void reply_ranges(struct reply *reply, const struct nodes *nodes) {
    size_t count = 0, n = 0;
    for (uint32_t i = 0; i < nodes->count; i++)
        count += nodes->of[i].view.slot_range_count;
    struct owned_range *ranges = memory_alloc((count + 1) * sizeof *ranges);
    for (uint32_t i = 0; i < nodes->count; i++)
        for (unsigned j = 0; j < nodes->of[i].view.slot_range_count; j++)
            ranges[n++] = (struct owned_range){nodes->of[i].view.slots[j], i};
    qsort(ranges, count, sizeof *ranges, compare_ranges);
    reply_array(reply, count);
    for (size_t i = 0; i < count; i++)
        reply_range(reply, nodes, &ranges[i]);
    memory_free(ranges);
}

enum call_result cmd_cluster_slots(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    struct nodes nodes;
    if (!bus)
        return CALL_DONE;
    take_nodes(cluster_bus_enter(bus), &nodes);
    reply_ranges(call->reply, &nodes);
    cluster_bus_leave(bus, false);
    drop_nodes(&nodes);
    return CALL_DONE;
}

/* --- SHARDS ----------------------------------------------------------------------------------- */

static const char *health(const struct cluster_node_view *view) {
    if (view->flags & WIRE_NODE_FAIL)
        return "fail";
    return (view->flags & WIRE_NODE_REPLICA) && view->offset == 0 ? "loading" : "online";
}

static void reply_field(struct reply *reply, const char *name, const char *value) {
    reply_bulk_text(reply, name);
    reply_bulk_text(reply, value);
}

static void reply_details(struct reply *reply, const struct cluster_node_view *view) {
    bool replica = view->flags & WIRE_NODE_REPLICA;
    reply_map(reply, 6 + (view->port != 0) + (view->tls_port != 0) + has_hostname(view));
    reply_bulk_text(reply, "id");
    reply_bulk(reply, view->id.hex, WIRE_ID_LENGTH);
    if (view->port) {
        reply_bulk_text(reply, "port");
        reply_integer(reply, view->port);
    }
    if (view->tls_port) {
        reply_bulk_text(reply, "tls-port");
        reply_integer(reply, view->tls_port);
    }
    reply_field(reply, "ip", text_of(view->address));
    if (preferred_endpoint() == CONFIG_ENDPOINT_UNKNOWN)
        reply_field(reply, "endpoint", "");
    else if (preferred_endpoint() == CONFIG_ENDPOINT_HOSTNAME)
        reply_field(reply, "endpoint", has_hostname(view) ? view->hostname : "?");
    else
        reply_field(reply, "endpoint", text_of(view->address));
    if (has_hostname(view))
        reply_field(reply, "hostname", view->hostname);
    reply_field(reply, "role", replica ? "replica" : "master");
    reply_bulk_text(reply, "replication-offset");
    reply_integer(reply, (int64_t)view->offset);
    reply_field(reply, "health", health(view));
}

static bool same_shard(const struct shown *a, const struct shown *b) {
    return memcmp(&a->view.shard, &b->view.shard, sizeof a->view.shard) == 0;
}

/* The shard of this node; its slots are those of the primary. */
static void reply_shard(struct reply *reply, struct nodes *nodes, uint32_t first) {
    const struct shown *shown = &nodes->of[first], *primary = shown;
    size_t n = 0;
    if (shown->primary != NOBODY)
        primary = &nodes->of[shown->primary];
    reply_map(reply, 2);
    reply_bulk_text(reply, "slots");
    reply_array(reply, (size_t)primary->view.slot_range_count * 2);
    for (unsigned i = 0; i < primary->view.slot_range_count; i++) {
        reply_integer(reply, primary->view.slots[i].first);
        reply_integer(reply, primary->view.slots[i].last);
    }
    for (uint32_t i = first; i < nodes->count; i++)
        n += same_shard(&nodes->of[i], shown);
    reply_bulk_text(reply, "nodes");
    reply_array(reply, n);
    for (uint32_t i = first; i < nodes->count; i++) {
        if (!same_shard(&nodes->of[i], shown))
            continue;
        nodes->of[i].done = true;
        reply_details(reply, &nodes->of[i].view);
    }
}

enum call_result cmd_cluster_shards(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    struct nodes nodes;
    size_t shards = 0;
    if (!bus)
        return CALL_DONE;
    take_nodes(cluster_bus_enter(bus), &nodes);
    struct reply_deferred deferred = reply_deferred_begin(call->reply);
    for (uint32_t i = 0; i < nodes.count; i++)
        if (!nodes.of[i].done) {
            reply_shard(call->reply, &nodes, i);
            shards++;
        }
    reply_deferred_array(call->reply, deferred, shards);
    cluster_bus_leave(bus, false);
    drop_nodes(&nodes);
    return CALL_DONE;
}

/* --- LINKS ------------------------------------------------------------------------------------ */

enum call_result cmd_cluster_links(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    struct cluster_link_view view;
    const void *cursor = NULL;
    struct reply *reply = call->reply;
    size_t n = 0;
    if (!bus)
        return CALL_DONE;
    const struct cluster *cluster = cluster_bus_enter(bus);
    struct reply_deferred deferred = reply_deferred_begin(reply);
    for (; cluster_view_next_link(cluster, &cursor, &view); n++) {
        reply_map(reply, 6);
        reply_field(reply, "direction", view.inbound ? "from" : "to");
        reply_bulk_text(reply, "node");
        reply_bulk(reply, view.node.hex, WIRE_ID_LENGTH);
        reply_bulk_text(reply, "create-time");
        reply_integer(reply, (int64_t)view.created_unix_ms);
        reply_field(reply, "events", view.events);
        reply_bulk_text(reply, "send-buffer-allocated");
        reply_integer(reply, (int64_t)view.unsent_allocated_bytes);
        reply_bulk_text(reply, "send-buffer-used");
        reply_integer(reply, (int64_t)view.unsent_bytes);
    }
    reply_deferred_array(reply, deferred, n);
    cluster_bus_leave(bus, false);
    return CALL_DONE;
}
