/* See detector.h. */
#include "cluster/detector.h"

#include "cluster/lease_grant.h"
#include "cluster/nodes.h"
#include "cluster/packets.h"

#define TURNS_PER_RANDOM_PING 10
#define RANDOM_PING_CHOICES   5

static void set_failed(struct cluster *cluster, struct cluster_node *node) {
    node->flags &= ~(unsigned)WIRE_NODE_PFAIL;
    node->flags |= WIRE_NODE_FAIL;
    node->failed_ms = cluster_now(cluster);
    cluster_later(cluster, LATER_HEALTH | LATER_SAVE | LATER_MAP);
}

static void clear_flag(struct cluster *cluster, struct cluster_node *node, unsigned flag) {
    node->flags &= ~flag;
    node->has_ended = false;
    cluster_later(cluster, LATER_HEALTH | LATER_SAVE | LATER_MAP);
}

/* As long as nobody has slots, all primaries are as good as voters. */
static bool is_voter(const struct cluster *cluster, const struct cluster_node *node) {
    return node_is_primary(node) && (node->slot_count > 0 || cluster->size == 0);
}

/* Reports of those count who are voters now: one that has become a replica since, or has no slots,
 * is none of the majority that an election will need. */
static unsigned count_suspecting_voters(struct cluster *cluster, struct cluster_node *node) {
    unsigned voters = is_voter(cluster, cluster->myself);
    unsigned reports = nodes_count_reports(cluster, node);
    for (unsigned i = 0; i < reports; i++)
        voters += is_voter(cluster, node->reports[i].reporter);
    return voters;
}

static void judge(struct cluster *cluster, struct cluster_node *node) {
    if (!node_is_suspected(node) || node_is_failed(node))
        return;
    if (count_suspecting_voters(cluster, node) < cluster_quorum(cluster))
        return;
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "Marking node %.40s (%s) as failing (quorum reached).",
                node->id.hex, node->human_nodename);
    set_failed(cluster, node);
    packets_broadcast_fail(cluster, &node->id);
}

void detector_take_report(struct cluster *cluster, struct cluster_node *node,
                          struct cluster_node *reporter, bool is_failing) {
    if (is_failing) {
        if (nodes_add_report(cluster, node, reporter))
            cluster_log(cluster, CLUSTER_LOG_VERBOSE,
                        "Node %.40s (%s) reported node %.40s (%s) as not reachable.",
                        reporter->id.hex, reporter->human_nodename, node->id.hex,
                        node->human_nodename);
        judge(cluster, node);
    } else if (nodes_remove_report(cluster, node, reporter)) {
        cluster_log(cluster, CLUSTER_LOG_VERBOSE,
                    "Node %.40s (%s) reported node %.40s (%s) is back online.", reporter->id.hex,
                    reporter->human_nodename, node->id.hex, node->human_nodename);
    }
}

/* Nobody knows it better. Its replicas begin an election anew, whatever came of one before. */
static void take_end(struct cluster *cluster, struct cluster_node *node) {
    set_failed(cluster, node);
    node->has_ended = true;
    lease_grant_note_end(node);
    if (cluster->myself->primary != node)
        return;
    cluster->election = (struct cluster_election){0};
    cluster_later(cluster, LATER_MANUAL);
}

/* It is there again over a link that is younger than its end: it has been started again. */
static bool is_back(const struct cluster_node *node) {
    return node->has_ended && node->link && node->link->created_ms > node->failed_ms;
}

void detector_take_fail(struct cluster *cluster, struct cluster_node *node,
                        struct cluster_node *sender) {
    if (node->flags & (WIRE_NODE_FAIL | WIRE_NODE_MYSELF))
        return;
    cluster_log(cluster, CLUSTER_LOG_NOTICE,
                "FAIL message received from %.40s (%s) about %.40s (%s)", sender->id.hex,
                sender->human_nodename, node->id.hex, node->human_nodename);
    if (sender == node) {
        take_end(cluster, node);
        return;
    }
    /* Whoever answered a moment ago has not been down for a node timeout: somebody is wrong. */
    uint64_t silence_ms = cluster_age(cluster_now(cluster), node->pong_received_ms);
    if (silence_ms < cluster->config.node_timeout_ms / 2) {
        if (node_is_primary(sender))
            detector_take_report(cluster, node, sender, true);
        return;
    }
    set_failed(cluster, node);
}

void detector_take_answer(struct cluster *cluster, struct cluster_node *node) {
    uint64_t now_ms = cluster_now(cluster);
    node->pong_received_ms = now_ms;
    node->ping_sent_ms = 0;
    if (node_is_suspected(node)) {
        clear_flag(cluster, node, WIRE_NODE_PFAIL);
    } else if (!node_is_failed(node)) {
        return;
    } else if (node_is_replica(node) || node->slot_count == 0) {
        cluster_log(cluster, CLUSTER_LOG_NOTICE,
                    "Clear FAIL state for node %.40s (%s):%s is reachable again.", node->id.hex,
                    node->human_nodename,
                    node_is_replica(node) ? "replica" : "master without slots");
        clear_flag(cluster, node, WIRE_NODE_FAIL);
    } else if (is_back(node)) {
        cluster_log(cluster, CLUSTER_LOG_NOTICE,
                    "Clear FAIL state for node %.40s (%s): it has been started again.",
                    node->id.hex, node->human_nodename);
        clear_flag(cluster, node, WIRE_NODE_FAIL);
    } else if (cluster_age(now_ms, node->failed_ms) > cluster->config.node_timeout_ms * 2) {
        cluster_log(cluster, CLUSTER_LOG_NOTICE,
                    "Clear FAIL state for node %.40s (%s): is reachable again and nobody is "
                    "serving its slots after some time.",
                    node->id.hex, node->human_nodename);
        clear_flag(cluster, node, WIRE_NODE_FAIL);
    }
}

/* Once a second the one of a few random nodes that has been silent for longest. */
static void ping_somebody(struct cluster *cluster) {
    struct cluster_node *chosen = NULL;
    for (unsigned i = 0; i < RANDOM_PING_CHOICES; i++) {
        struct cluster_node *node = cluster->nodes[cluster_random(cluster) % cluster->node_count];
        if (!node->link || node->ping_sent_ms != 0 ||
            node->flags & (WIRE_NODE_MYSELF | WIRE_NODE_HANDSHAKE))
            continue;
        if (!chosen || node->pong_received_ms < chosen->pong_received_ms)
            chosen = node;
    }
    if (chosen)
        packets_send_ping(cluster, chosen->link, WIRE_PING);
}

/* A link on which nothing comes may be broken although the node is not: another is tried. */
static void renew_silent_link(struct cluster *cluster, struct cluster_node *node, uint64_t now_ms) {
    uint64_t timeout_ms = cluster->config.node_timeout_ms;
    if (node->link && cluster_age(now_ms, node->link->created_ms) > timeout_ms &&
        node->ping_sent_ms != 0 && cluster_age(now_ms, node->ping_sent_ms) > timeout_ms / 2 &&
        cluster_age(now_ms, node->data_received_ms) > timeout_ms / 2)
        nodes_close_link(cluster, node->link);
}

/* Whether a ping has gone out. */
static bool ping_if_due(struct cluster *cluster, struct cluster_node *node, uint64_t now_ms) {
    const struct cluster_manual *manual = &cluster->manual;
    uint64_t interval_ms = cluster->config.ping_interval_ms ? cluster->config.ping_interval_ms
                                                            : cluster->config.node_timeout_ms / 2;
    bool is_due =
        node->ping_sent_ms == 0 && cluster_age(now_ms, node->pong_received_ms) > interval_ms;
    bool takes_over =
        manual->until_ms && node_is_primary(cluster->myself) && manual->replica == node;
    if (!node->link || (!is_due && !takes_over))
        return false;
    packets_send_ping(cluster, node->link, WIRE_PING);
    return true;
}

static void watch(struct cluster *cluster, struct cluster_node *node, uint64_t now_ms) {
    renew_silent_link(cluster, node, now_ms);
    if (ping_if_due(cluster, node, now_ms) || node->ping_sent_ms == 0)
        return;
    /* Whatever comes shows that the node is alive: pongs may be late behind other data. */
    uint64_t ping_ms = cluster_age(now_ms, node->ping_sent_ms);
    uint64_t data_ms = cluster_age(now_ms, node->data_received_ms);
    if ((ping_ms < data_ms ? ping_ms : data_ms) <= cluster->config.node_timeout_ms ||
        node->flags & (WIRE_NODE_PFAIL | WIRE_NODE_FAIL))
        return;
    cluster_log(cluster, CLUSTER_LOG_DEBUG, "*** NODE %.40s possibly failing", node->id.hex);
    node->flags |= WIRE_NODE_PFAIL;
    cluster->pfail_count++;
    cluster_later(cluster, LATER_HEALTH);
}

void detector_turn(struct cluster *cluster) {
    uint64_t now_ms = cluster_now(cluster);
    cluster->pfail_count = 0;
    for (unsigned i = 0; i < cluster->node_count; i++)
        cluster->pfail_count += node_is_suspected(cluster->nodes[i]);
    if (cluster->ticks % TURNS_PER_RANDOM_PING == 0)
        ping_somebody(cluster);
    for (unsigned i = 0; i < cluster->node_count; i++)
        if (!(cluster->nodes[i]->flags &
              (WIRE_NODE_MYSELF | WIRE_NODE_NOADDR | WIRE_NODE_HANDSHAKE)))
            watch(cluster, cluster->nodes[i], now_ms);
}
