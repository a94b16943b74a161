/* See node_text.h. */
#include "cluster/node_text.h"

#include <string.h>

#include "cluster/ownership.h"

static const struct {
    unsigned flag;
    const char *name;
} flag_names[] = {
    {WIRE_NODE_MYSELF, "myself"},
    {WIRE_NODE_PRIMARY, "master"},
    {WIRE_NODE_REPLICA, "slave"},
    {WIRE_NODE_PFAIL, "fail?"},
    {WIRE_NODE_FAIL, "fail"},
    {WIRE_NODE_HANDSHAKE, "handshake"},
    {WIRE_NODE_NOADDR, "noaddr"},
    {WIRE_NODE_NOFAILOVER, "nofailover"},
    {0, "noflags"},
};
#define FLAG_NAMES (sizeof flag_names / sizeof *flag_names)

bool node_text_flag(const char *name, size_t length, unsigned *flag) {
    for (size_t i = 0; i < FLAG_NAMES; i++) {
        if (strlen(flag_names[i].name) != length || memcmp(flag_names[i].name, name, length) != 0)
            continue;
        *flag = flag_names[i].flag;
        return true;
    }
    return false;
}

static void add_flags(struct lines *lines, unsigned flags) {
    const char *separator = " ";
    for (size_t i = 0; i < FLAG_NAMES; i++) {
        bool none_at_all = flag_names[i].flag == 0 && *separator == ' ';
        if (!(flags & flag_names[i].flag) && !none_at_all)
            continue;
        lines_add(lines, "%s%s", separator, flag_names[i].name);
        separator = ",";
    }
}

static void add_address(struct lines *lines, const struct cluster_node *node, bool for_file) {
    lines_add(lines, "%.40s %s:%u@%u", node->id.hex, node->address, node->port, node->bus_port);
    if (for_file || node->hostname[0])
        lines_add(lines, ",%s", node->hostname);
    if (!for_file)
        return;
    lines_add(lines, ",tls-port=%u", node->tls_port);
    if (node->human_nodename[0])
        lines_add(lines, ",nodename=%s", node->human_nodename);
    lines_add(lines, ",shard-id=%.40s", node->shard.hex);
}

static void add_slots(struct lines *lines, const struct cluster *cluster,
                      struct cluster_node *node) {
    ownership_make_ranges(cluster, node);
    for (unsigned i = 0; i < node->range_count; i++) {
        lines_add(lines, " %u", node->ranges[i].first);
        if (node->ranges[i].last != node->ranges[i].first)
            lines_add(lines, "-%u", node->ranges[i].last);
    }
    if (node != cluster->myself || cluster->open_slots == 0)
        return;
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        if (cluster->migrating_to[slot])
            lines_add(lines, " [%u->-%.40s]", slot, cluster->migrating_to[slot]->id.hex);
        else if (cluster->importing_from[slot])
            lines_add(lines, " [%u-<-%.40s]", slot, cluster->importing_from[slot]->id.hex);
    }
}

void node_text_add(struct lines *lines, const struct cluster *cluster, struct cluster_node *node,
                   bool for_file) {
    add_address(lines, node, for_file);
    /* Who has ended by its own word is expected back, for all that a file knows. */
    bool is_expected = for_file && node->has_ended;
    add_flags(lines, node->flags & ~(is_expected ? (unsigned)WIRE_NODE_FAIL : 0u));
    if (node->primary)
        lines_add(lines, " %.40s", node->primary->id.hex);
    else
        lines_add(lines, " -");
    const struct cluster_node *owner = node->primary ? node->primary : node;
    bool connected = node == cluster->myself || (node->link && node->link->open);
    lines_add(lines, " %llu %llu %llu %s",
              (unsigned long long)cluster_to_unix_ms(cluster, node->ping_sent_ms),
              (unsigned long long)cluster_to_unix_ms(cluster, node->pong_received_ms),
              (unsigned long long)owner->config_epoch, connected ? "connected" : "disconnected");
    add_slots(lines, cluster, node);
}
