/* See faults.h. values[0] chooses the node, what the others say is told with each fault. */
#include "tests/sim/replication/faults.h"

#include <stdio.h>

#define COUNT_MAX 40

enum kind {
    FAULT_CUT,
    FAULT_KILL,
    FAULT_PROMOTE,
    FAULT_FOLLOW,
    FAULT_SWITCH,
    FAULT_CHANGE_ID,
    FAULT_SAVE,
    FAULT_PAUSE,
    FAULT_ISOLATE,
    FAULT_FAIL_LOAD,
    FAULT_BURST,
    FAULT_RESIZE,
    FAULT_QUIET,
    FAULT_AMBUSH,
    FAULT_MAINTENANCE,
    FAULT_HAND_OVER,
    FAULT_FAILOVER,
    FAULT_KINDS
};

static const struct sim_fault_kind kinds[FAULT_KINDS] = {
    [FAULT_CUT] = {"a link breaks", 34},
    [FAULT_KILL] = {"kill and restart", 14},
    [FAULT_PROMOTE] = {"REPLICAOF NO ONE", 6},
    [FAULT_FOLLOW] = {"REPLICAOF another", 10},
    [FAULT_SWITCH] = {"promote, all others follow", 10},
    [FAULT_CHANGE_ID] = {"DEBUG change-repl-id", 2},
    [FAULT_SAVE] = {"BGSAVE", 12},
    [FAULT_PAUSE] = {"SIGSTOP", 4},
    [FAULT_ISOLATE] = {"cut off the network", 5},
    [FAULT_FAIL_LOAD] = {"the next load fails", 4},
    [FAULT_BURST] = {"a burst of writes", 10},
    [FAULT_RESIZE] = {"repl-backlog-size", 2},
    [FAULT_QUIET] = {"nobody writes", 8},
    [FAULT_AMBUSH] = {"something at half a transaction", 12},
    [FAULT_MAINTENANCE] = {"saved, restarted, promoted, followed", 4},
    [FAULT_HAND_OVER] = {"promoted while nobody writes", 10},
    [FAULT_FAILOVER] = {"FAILOVER", 10},
};

void faults_plan(struct sim_run *run) {
    struct sim_random random = sim_random_of(run->seed, 1);
    unsigned count = (unsigned)sim_random_between(&random, 3, COUNT_MAX);
    sim_plan_make(&run->plan, &random, kinds, FAULT_KINDS, count, FAULTS_FROM_US, FAULTS_TO_US);
}

const char *faults_describe(const struct sim_fault *fault) {
    static char text[128];
    snprintf(text, sizeof text, "%s (%u, %u, %u)", kinds[fault->kind].name,
             (unsigned)(fault->values[0] % 1000), (unsigned)(fault->values[1] % 1000),
             (unsigned)(fault->values[2] % 1000));
    return text;
}

/* --- What they do ----------------------------------------------------------------------------- */

/* One of the links that are up, after so many bytes of one direction; some without a word. */
static void cut(struct world *world, const struct sim_fault *fault) {
    unsigned up = 0;
    for (int pass = 0; pass < 2; pass++) {
        unsigned at = 0, chosen = up ? (unsigned)(fault->values[0] % up) : 0;
        for (struct sim_link *link = world->network.links; link; link = link->next) {
            if (!link->open[0] || !link->open[1])
                continue;
            if (pass == 1 && at == chosen)
                sim_link_break_after(link, (int)(fault->values[1] % 8 == 0 ? 0 : 1),
                                     fault->values[1] / 8 % (fault->values[2] % 3 ? 3000 : 30000),
                                     fault->values[2] % 5 == 0);
            at++;
        }
        up = at;
    }
}

static void kill_node(struct world *world, struct node *node, const struct sim_fault *fault) {
    int primary = node->primary;
    uint64_t choice = fault->values[2] % 10;
    if (choice == 0)
        primary = -1;
    else if (choice < 4 || (primary < 0 && choice < 7))
        primary = (node->index + 1 + (int)(fault->values[2] / 10 % (unsigned)(world->count - 1))) %
                  world->count;
    if (!node->alive)
        return;
    node_kill(node);
    node_restart_after(node, 1000 + fault->values[1] % 4000000, fault->values[1] / 8 % 4 != 0,
                       primary);
}

static void follow(void *context, uint64_t primary) {
    struct node *node = context;
    if (node->paused_until_us <= now_us(node) && !node->world->faults_over)
        node_follow(node, (int)primary);
}

static void switch_to(struct world *world, struct node *node, const struct sim_fault *fault) {
    uint64_t delays = fault->values[1];
    node_promote(node);
    if (is_replica(node))
        return;
    for (int i = 0; i < world->count; i++, delays = sim_random_mix(delays))
        if (i != node->index && delays % 8 != 0) /* sometimes one is forgotten */
            sim_queue_after(&world->queue, delays % (fault->values[2] % 2 ? 7000000 : 20000),
                            follow, &world->nodes[i], (uint64_t)node->index);
}

/* An operator who does all at once while nobody writes: what is saved is where all others are. */
static void promote(void *context, uint64_t unused) {
    (void)unused;
    struct node *node = context;
    if (!node->world->faults_over)
        node_promote(node);
}

static void maintain(struct world *world, struct node *node, const struct sim_fault *fault) {
    int primary = node->primary;
    uint64_t at_us = 1000 + fault->values[1] % 100000;
    if (!node->alive || !is_replica(node) || !node->connection)
        return;
    SAY(node, "node %d is maintained", node->index);
    node_save(node);
    node_kill(node);
    world->nodes[primary].isolated_until_us = now_us(node) + 3000000; /* it is maintained next */
    world->quiet_until_us = now_us(node) + at_us + 1000;
    node_restart_after(node, at_us, true, primary);
    sim_queue_after(&world->queue, at_us + 1000, promote, node, 0);
    for (int i = 0; i < world->count; i++)
        if (i != node->index)
            sim_queue_after(&world->queue, at_us + (fault->values[2] >> i) % 400000, follow,
                            &world->nodes[i], (uint64_t)node->index);
}

static void stray_write(void *context, uint64_t unused) {
    struct node *node = context;
    (void)unused;
    if (node->paused_until_us <= now_us(node) && !node->world->faults_over)
        primary_write(node);
}

/* All are at one place when it is promoted; the old primary follows at once, or when its backlog
 * has gone and somebody has written to it. */
static void hand_over(struct world *world, struct node *node, const struct sim_fault *fault) {
    uint64_t at_us = 50000 + fault->values[1] % 200000;
    if (!node->alive || !is_replica(node) || !node->connection)
        return;
    SAY(node, "node %d is to take over from node %d", node->index, node->primary);
    bool late = fault->values[2] % 2;
    world->quiet_until_us = now_us(node) + at_us + (late ? 4900000 : 100000);
    if (late)
        sim_queue_after(&world->queue, at_us + 4900000, stray_write, &world->nodes[node->primary],
                        0);
    sim_queue_after(&world->queue, at_us, promote, node, 0);
    for (int i = 0; i < world->count; i++)
        if (i != node->index)
            sim_queue_after(&world->queue,
                            at_us + 1000 + (i == node->primary && late ? 5000000 : 0), follow,
                            &world->nodes[i], (uint64_t)node->index);
}

static void isolate(struct world *world, struct node *node, uint64_t for_us) {
    node->isolated_until_us = now_us(node) + for_us;
    SAY(node, "node %d is cut off for %.1f s", node->index, (double)for_us / 1e6);
    for (struct sim_link *link = world->network.links; link; link = link->next)
        if ((link->parties[0].context == node || link->parties[1].context == node) &&
            (link->open[0] || link->open[1]))
            sim_link_break_after(link, 0, 0, true);
}

/* What an operator does to a node that answers. */
static void order(struct world *world, struct node *node, const struct sim_fault *fault) {
    int other = (int)(fault->values[1] % (unsigned)world->count);
    switch ((enum kind)fault->kind) {
    case FAULT_PROMOTE:
        node_promote(node);
        break;
    case FAULT_FOLLOW:
        node_follow(node, other);
        break;
    case FAULT_SWITCH:
        switch_to(world, node, fault);
        break;
    case FAULT_CHANGE_ID:
        node_change_id(node);
        break;
    case FAULT_SAVE:
        node_save(node);
        break;
    case FAULT_BURST:
        for (uint64_t i = fault->values[1] % 300; i > 0; i--)
            primary_write(node);
        break;
    case FAULT_RESIZE:
        node->backlog_bytes = (size_t)16384 << fault->values[1] % 5;
        if (node->on)
            backlog_resize(node->backlog, node->backlog_bytes);
        break;
    case FAULT_MAINTENANCE:
        maintain(world, node, fault);
        break;
    case FAULT_HAND_OVER:
        hand_over(world, node, fault);
        break;
    case FAULT_FAILOVER:
        primary_fail_over(node, fault->values[2] % 3 ? -1 : other, fault->values[1] % 4000000,
                          fault->values[2] % 3 == 0);
        break;
    default:
        break;
    }
}

static void happen(void *context, uint64_t index) {
    struct world *world = context;
    const struct sim_fault *fault = &world->run->plan.faults[index];
    struct node *node = &world->nodes[fault->values[0] % (unsigned)world->count];
    if (fault->kind == FAULT_FAILOVER && is_replica(node))
        node = &world->nodes[world->target];
    world->run->figures[FIGURE_FAULTS]++;
    switch ((enum kind)fault->kind) {
    case FAULT_CUT:
        cut(world, fault);
        break;
    case FAULT_KILL:
        kill_node(world, node, fault);
        break;
    case FAULT_PAUSE:
        node->paused_until_us = now_us(node) + fault->values[1] % 9000000;
        SAY(node, "node %d is stopped", node->index);
        break;
    case FAULT_ISOLATE:
        isolate(world, node, fault->values[1] % 9000000);
        break;
    case FAULT_FAIL_LOAD:
        node->fail_load = true;
        break;
    case FAULT_QUIET:
        world->quiet_until_us = now_us(node) + fault->values[1] % 4000000;
        break;
    case FAULT_AMBUSH:
        node->ambush = 1 + fault->values[1] % (AMBUSHES - 1);
        break;
    default:
        if (node->paused_until_us <= now_us(node))
            order(world, node, fault);
    }
}

void faults_schedule(struct world *world) {
    for (unsigned i = 0; i < world->run->plan.count; i++)
        if (!world->run->plan.faults[i].left_out)
            sim_queue_after(&world->queue, world->run->plan.faults[i].at_us, happen, world, i);
}
