/* FAILOVER of a node, as links/failover.c does it; see node.h. */
#include "tests/sim/replication/node.h"

#define ABORTED_AFTER_US 3000000

static bool is_in_step(const struct node *node, const struct sub *sub) {
    uint64_t end = atomic_load(&node->history.offset);
    return sub->link && sub->state == SUB_ONLINE &&
           (sub->acknowledged == end ||
            (has(node, ABLATION_FAILOVER_EARLY) && sub->acknowledged > 0)) &&
           (node->failover_target < 0 || node->failover_target == sub->replica);
}

void primary_fail_over(struct node *node, int target, uint64_t timeout_us, bool force) {
    if (!node->alive || is_replica(node) || !node->on || node->failover != FAILOVER_NONE)
        return;
    SAY(node, "node %d is to fail over%s", node->index, force ? ", if need be by force" : "");
    node->failover = FAILOVER_WAITS;
    node->failover_target = target;
    node->failover_force = force;
    node->failover_due_us = now_us(node) + timeout_us;
}

static void go_over(struct node *node, int target) {
    node->failover = FAILOVER_ASKS;
    node->failover_generation = node->world->nodes[target].generation;
    node_follow(node, target);
}

static void abort_failover(struct node *node) {
    bool asks = node->failover == FAILOVER_ASKS;
    SAY(node, "node %d gives its failover up", node->index);
    node->failover = FAILOVER_NONE;
    if (asks)
        node_promote(node);
}

void primary_failover_answered(struct node *node, bool accepted) {
    if (node->failover != FAILOVER_ASKS)
        return;
    if (accepted)
        node->failover = FAILOVER_NONE;
    else
        abort_failover(node);
}

/* Whoever asks and is not answered is stopped by an operator in the end, as FAILOVER ABORT does. */
void primary_failover_tick(struct node *node) {
    bool over = now_us(node) >= node->failover_due_us;
    if (node->failover == FAILOVER_ASKS && now_us(node) >= node->failover_due_us + ABORTED_AFTER_US)
        abort_failover(node);
    if (node->failover != FAILOVER_WAITS)
        return;
    primary_merge(node);
    for (const struct sub *sub = node->subs; sub; sub = sub->next)
        if (is_in_step(node, sub)) {
            node->failover_force = false;
            go_over(node, sub->replica);
            return;
        }
    if (over && node->failover_force && node->failover_target >= 0)
        go_over(node, node->failover_target);
    else if (over)
        abort_failover(node);
}
