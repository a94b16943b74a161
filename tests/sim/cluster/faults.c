/* What goes wrong in the modelled cluster (world.h), by a plan. Of five seeds two are rough: there
 * operators do what they should not, too. values[0] chooses the node. */
#include <stdio.h>
#include <string.h>

#include "tests/sim/cluster/world.h"

#define COUNT_MIN 4
#define COUNT_MAX 32

enum kind {
    FAULT_CRASH,
    FAULT_CRASH_TWO,
    FAULT_CRASH_AT_VOTE,
    FAULT_LEAVE,
    FAULT_LOSE_FILE,
    FAULT_STOP,
    FAULT_ISOLATE,
    FAULT_CUT,
    FAULT_DEAF,
    FAULT_SPLIT,
    FAULT_LOSS,
    FAULT_SLOW,
    FAULT_DISK,
    FAULT_CLOCK,
    FAULT_END,
    FAULT_SWITCH,
    FAULT_SUSPECT,
    FAULT_AGREED,
    FAULT_FORCED,
    FAULT_RAISE,
    FAULT_TAKEOVER,
    FAULT_RESET,
    FAULT_FORGET,
    FAULT_SETSLOT,
    FAULT_REPLICATE,
    FAULT_MEET,
    FAULT_SLOTS,
    FAULT_KINDS
};

static const struct sim_fault_kind kinds[FAULT_KINDS] = {
    [FAULT_CRASH] = {"kill, restart", 14},
    [FAULT_CRASH_TWO] = {"two primaries are killed", 8},
    [FAULT_CRASH_AT_VOTE] = {"killed, or not heard, when they vote", 8},
    [FAULT_LEAVE] = {"killed, stays away", 4},
    [FAULT_LOSE_FILE] = {"killed, comes back without nodes.conf", 5},
    [FAULT_STOP] = {"SIGSTOP", 10},
    [FAULT_ISOLATE] = {"cut off the network", 8},
    [FAULT_CUT] = {"two do not reach each other", 6},
    [FAULT_DEAF] = {"one way is cut", 10},
    [FAULT_SPLIT] = {"the network is split", 6},
    [FAULT_LOSS] = {"packets are lost and come twice", 6},
    [FAULT_SLOW] = {"a slow node", 6},
    [FAULT_DISK] = {"a full or slow disk", 8},
    [FAULT_CLOCK] = {"the unix clock jumps", 4},
    [FAULT_END] = {"SIGTERM, restart", 10},
    [FAULT_SWITCH] = {"CONFIG SET cluster-fast-failover", 3},
    [FAULT_SUSPECT] = {"a primary is cut off replicas and voters", 16},
    [FAULT_AGREED] = {"CLUSTER FAILOVER", 12},
    [FAULT_FORCED] = {"CLUSTER FAILOVER FORCE", 6},
    [FAULT_RAISE] = {"CLUSTER BUMPEPOCH and killed", 6},
    [FAULT_TAKEOVER] = {"CLUSTER FAILOVER TAKEOVER", 6},
    [FAULT_RESET] = {"CLUSTER RESET", 3},
    [FAULT_FORGET] = {"CLUSTER FORGET", 4},
    [FAULT_SETSLOT] = {"CLUSTER SETSLOT", 8},
    [FAULT_REPLICATE] = {"CLUSTER REPLICATE", 5},
    [FAULT_MEET] = {"CLUSTER MEET", 3},
    [FAULT_SLOTS] = {"CLUSTER DELSLOTS, ADDSLOTS", 4},
};

void faults_plan(struct sim_run *run) {
    struct sim_random random = sim_random_of(run->seed, 1);
    unsigned count = (unsigned)sim_random_between(&random, COUNT_MIN, COUNT_MAX);
    bool rough = run->seed % 5 < 2;
    sim_plan_make(&run->plan, &random, kinds, rough ? FAULT_KINDS : FAULT_RAISE, count,
                  FAULTS_FROM_US, FAULTS_TO_US);
}

const char *faults_describe(const struct sim_fault *fault) {
    static char text[128];
    snprintf(text, sizeof text, "%s (%u, %u, %u)", kinds[fault->kind].name,
             (unsigned)(fault->values[0] % 1000), (unsigned)(fault->values[1] % 1000),
             (unsigned)(fault->values[2] % 1000));
    return text;
}

/* --- Crashes ---------------------------------------------------------------------------------- */

static bool is_owner(const struct node *node) {
    return node->cluster && !node->cluster->myself->primary &&
           node->cluster->myself->slot_count > 0;
}

static struct node *some_owner(struct world *world, uint64_t value) {
    for (unsigned i = 0; i < world->count; i++) {
        struct node *node = &world->nodes[(value + i) % world->count];
        if (is_owner(node) && !node->stopped)
            return node;
    }
    return &world->nodes[value % world->count];
}

static void crash(struct node *node, uint64_t value) {
    node_crash(node, value % 4 != 0);
    node_restart_after(node, 20000 + value / 4 % 8000000, true);
}

static void crash_two(struct world *world, const struct sim_fault *fault) {
    struct node *one = some_owner(world, fault->values[0]);
    crash(one, fault->values[1]);
    crash(some_owner(world, fault->values[2]), fault->values[1]);
}

/* Its process waits for replicas, or not, says that it ends, and is gone a little later. */
static void end_in_order(struct world *world, const struct sim_fault *fault) {
    struct node *node = fault->values[0] % 4 ? some_owner(world, fault->values[0])
                                             : &world->nodes[fault->values[0] % world->count];
    uint64_t waits_us = fault->values[1] % 300000;
    if (!node->cluster || node->ending)
        return;
    SAY(world, "node %u is told to end", node->index);
    for (unsigned i = 0; i < world->count; i++)
        if (world->nodes[i].source == (int)node->index && sim_random_chance(&world->servers, 50))
            world->nodes[i].behind_until_us =
                world->queue.now_us + sim_random_below(&world->servers, 3000000);
    node->ending = true;
    event_after(node, EVENT_SHUTDOWN, waits_us);
    struct event *event = event_after(node, EVENT_CRASH, waits_us + fault->values[2] % 50000);
    event->ticket = 1;
    event->length = 1000 + fault->values[2] / 65536 % 8000000;
}

static unsigned live_replicas(const struct node *node) {
    const struct world *world = node->world;
    unsigned count = 0;
    for (unsigned i = 0; i < world->count; i++) {
        const struct node *other = &world->nodes[i];
        count += other != node && other->cluster && other->cluster->myself->primary &&
                 id_compare(&other->cluster->myself->primary->id, &node->id) == 0;
    }
    return count;
}

/* One at most, and somebody can take its place. */
static void leave(struct world *world, struct node *node) {
    for (unsigned i = 0; i < world->count; i++)
        if (world->nodes[i].gone)
            return;
    if (!node->cluster || world->primaries < 4 || (is_owner(node) && live_replicas(node) == 0))
        return;
    SAY(world, "node %u stays away", node->index);
    node->gone = true;
    node_crash(node, true);
}

/* Of those that own slots, only where somebody mends that. */
static void lose_file(struct node *node, uint64_t value) {
    struct world *world = node->world;
    bool rough = world->run->seed % 5 < 2;
    if (!node->cluster || node->gone || (!rough && !node->cluster->myself->primary))
        return;
    /* Whom it has met, and who may not know anybody yet, it will not meet again. */
    for (unsigned i = 0; i < node->cluster->node_count; i++)
        world->needs_operator |= node->cluster->nodes[i]->is_unmet;
    if (is_owner(node))
        world->needs_operator = true;
    node_crash(node, true);
    node_restart_after(node, 1000 + value % 6000000, false);
}

/* --- The network, disks, clocks --------------------------------------------------------------- */

static void split(struct world *world, uint64_t sides, uint64_t for_us) {
    for (unsigned i = 0; i < world->count; i++)
        for (unsigned j = 0; j < world->count; j++)
            if (i != j && (sides >> i % 60 & 1) != (sides >> j % 60 & 1))
                bus_cut(world, &world->nodes[i], &world->nodes[j], for_us);
}

/* It does not hear, or is not heard by, one or all. */
static void cut_one_way(struct world *world, const struct node *node, uint64_t value,
                        uint64_t for_us) {
    bool all = value % 2, hears = value / 2 % 2;
    for (unsigned i = 0; i < world->count; i++) {
        const struct node *other = &world->nodes[i];
        if (other == node || (!all && i != value / 4 % world->count))
            continue;
        bus_cut(world, hears ? node : other, hears ? other : node, for_us);
    }
}

static void end_slowness(void *context, uint64_t unused) {
    (void)unused;
    ((struct node *)context)->slow_us = 0;
}

static void end_disk(void *context, uint64_t unused) {
    struct node *node = context;
    (void)unused;
    node->disk_full = false;
    node->disk_us = 2000;
}

static void hurt_disk(struct node *node, uint64_t value, uint64_t for_us) {
    node->disk_full = value % 2;
    node->world->disk_was_full |= node->disk_full;
    if (value % 3 > 0)
        node->disk_us = 1000 + value / 6 % 600000;
    sim_queue_after(&node->world->queue, for_us, end_disk, node, 0);
}

/* --- Operators -------------------------------------------------------------------------------- */

/* Something that it knows: an id. */
static struct node_id known_id(const struct node *node, uint64_t value) {
    return node->cluster->nodes[value % node->cluster->node_count]->id;
}

static struct node *some_replica(struct world *world, uint64_t value) {
    for (unsigned i = 0; i < world->count; i++) {
        struct node *node = &world->nodes[(value + i) % world->count];
        if (node->cluster && !node->stopped && node->cluster->myself->primary)
            return node;
    }
    return NULL;
}

static void fail_over(struct world *world, uint64_t value, enum cluster_failover_mode mode) {
    static const char *const names[] = {"by agreement", "by force", "by itself"};
    struct node *node = some_replica(world, value);
    if (!node)
        return;
    if (sim_random_chance(&world->servers, 50))
        node->behind_until_us = world->queue.now_us + sim_random_below(&world->servers, 3000000);
    node->operating = mode == CLUSTER_FAILOVER_TAKEOVER;
    const char *error = cluster_failover(node->cluster, mode);
    SAY(world, "node %u is to take over %s%s%s", node->index, names[mode], error ? ": " : "",
        error ? error : "");
    node_settle(node);
    node->operating = false;
}

static void raise_and_die(struct world *world, const struct sim_fault *fault) {
    struct node *node = some_owner(world, fault->values[0]);
    bool bumped;
    uint64_t epoch;
    if (!node->cluster || node->stopped)
        return;
    cluster_bump_epoch(node->cluster, &bumped, &epoch);
    node_settle(node);
    struct event *event = event_after(node, EVENT_CRASH, fault->values[1] % 400000);
    event->ticket = 1;
    event->length = fault->values[2] % 10000000;
}

static void change_slots(struct node *node, uint64_t value) {
    uint8_t slots[WIRE_SLOT_BYTES] = {0};
    slots[value % WIRE_SLOT_BYTES] = (uint8_t)(value >> 16);
    if (value >> 32 & 1)
        cluster_delete_slots(node->cluster, slots);
    else
        cluster_add_slots(node->cluster, slots);
}

static void set_slot(struct node *node, const struct sim_fault *fault) {
    struct node_id id = known_id(node, fault->values[2]);
    cluster_set_slot(node->cluster, (unsigned)(fault->values[1] % 64) * 256,
                     (enum cluster_slot_state)(fault->values[1] / 64 % 4), id.hex, WIRE_ID_LENGTH);
}

/* What asks nobody, so that what nodes guarantee alone does not hold any more. */
static void operate(struct node *node, const struct sim_fault *fault) {
    struct world *world = node->world;
    if (!node->cluster || node->stopped)
        return;
    struct node_id id = known_id(node, fault->values[1]);
    node->operating = true;
    SAY(world, "node %u: %s", node->index, kinds[fault->kind].name);
    switch (fault->kind) {
    case FAULT_RESET:
        cluster_reset(node->cluster, fault->values[1] % 2, false);
        break;
    case FAULT_FORGET:
        cluster_forget(node->cluster, id.hex, WIRE_ID_LENGTH);
        break;
    case FAULT_SETSLOT:
        set_slot(node, fault);
        break;
    case FAULT_REPLICATE:
        cluster_replicate(node->cluster, id.hex, WIRE_ID_LENGTH, false);
        break;
    case FAULT_MEET:
        cluster_meet(node->cluster, world->nodes[fault->values[1] % world->count].address,
                     NODE_PORT, BUS_PORT);
        break;
    case FAULT_SLOTS:
        change_slots(node, fault->values[1]);
        break;
    default:
        break;
    }
    node_settle(node);
    node->operating = false;
}

static void operate_badly(struct world *world, const struct sim_fault *fault) {
    world->needs_operator = world->operators_take_slots = true;
    world->run->figures[FIGURE_COMMANDS]++;
    if (fault->kind == FAULT_RAISE)
        raise_and_die(world, fault);
    else if (fault->kind == FAULT_TAKEOVER)
        fail_over(world, fault->values[0], CLUSTER_FAILOVER_TAKEOVER);
    else
        operate(&world->nodes[fault->values[0] % world->count], fault);
}

/* --- A fault ---------------------------------------------------------------------------------- */

static void disturb(struct world *world, struct node *node, const struct sim_fault *fault) {
    uint64_t value = fault->values[1];
    uint64_t for_us = 50000 + fault->values[2] % (6000 * world->timeout_ms);
    switch (fault->kind) {
    case FAULT_STOP:
        node_stop(node, for_us);
        break;
    case FAULT_ISOLATE:
        bus_isolate(world, node, for_us);
        break;
    case FAULT_CUT:
        bus_cut(world, node, &world->nodes[value % world->count], for_us);
        bus_cut(world, &world->nodes[value % world->count], node, for_us);
        break;
    case FAULT_DEAF:
        cut_one_way(world, node, value, for_us);
        break;
    case FAULT_SPLIT:
        split(world, value, for_us);
        break;
    case FAULT_LOSS:
        world->loss_until_us = world->queue.now_us + for_us;
        world->loss_percent = (unsigned)(value % 30);
        world->twice_percent = (unsigned)(value / 32 % 30);
        break;
    case FAULT_SLOW:
        node->slow_us = 1000 + value % 500000;
        sim_queue_after(&world->queue, for_us, end_slowness, node, 0);
        break;
    case FAULT_DISK:
        hurt_disk(node, value, for_us);
        break;
    default:
        node->unix_offset_ms += (int64_t)(value % 2 ? value % 8000000 : value % 6000) -
                                (int64_t)(value % 2 ? 4000000 : 3000);
    }
}

/* Its replicas hear that it is gone, and have no way to it; of the voters some have none for a
 * while, and some are killed and start again. */
static void suspect(struct world *world, const struct sim_fault *fault) {
    struct node *primary = some_owner(world, fault->values[0]);
    struct sim_random random = sim_random_of(fault->values[1], 1);
    uint64_t for_us = sim_random_between(&random, 300000, 2500000);
    bool crashes = sim_random_chance(&random, 60), cuts = sim_random_chance(&random, 70);
    bool slow = sim_random_chance(&random, 50);
    if (!primary->cluster)
        return;
    SAY(world, "node %u is suspected for %llu ms", primary->index,
        (unsigned long long)for_us / 1000);
    for (unsigned i = 0; i < world->count; i++) {
        struct node *node = &world->nodes[i];
        bool is_replica = node->cluster && node->cluster->myself->primary;
        uint64_t cut_us = is_replica ? for_us : sim_random_below(&random, 900000);
        if (node == primary || !node->cluster)
            continue;
        if (is_replica || (cuts && sim_random_chance(&random, 70))) {
            bus_cut(world, primary, node, cut_us);
            bus_cut(world, node, primary, cut_us);
            if (is_replica || sim_random_chance(&random, 50))
                bus_reset(world, primary, node);
        }
        if (slow && sim_random_chance(&random, 60)) {
            node->disk_us = sim_random_between(&random, 1000, 250000);
            sim_queue_after(&world->queue, for_us + 2000000, end_disk, node, 0);
        }
        if (!is_replica && crashes && sim_random_chance(&random, 60)) {
            struct event *event =
                event_after(node, EVENT_CRASH, sim_random_below(&random, 1200000));
            event->ticket = 1;
            event->length = sim_random_between(&random, 1000, 30000);
        }
    }
    if (sim_random_chance(&random, 30))
        node_stop(primary, sim_random_below(&random, 1500000));
}

static void switch_leases(struct world *world, struct node *node) {
    if (!node->cluster || node->stopped || !world->switches)
        return;
    node->config.fast_failover = !node->config.fast_failover;
    cluster_configure(node->cluster, &node->config);
    node_settle(node);
}

static void run_fault(void *context, uint64_t index) {
    struct world *world = context;
    const struct sim_fault *fault = &world->run->plan.faults[index];
    struct node *node = &world->nodes[fault->values[0] % world->count];
    if (world->faults_over)
        return;
    SAY(world, "-- %s", faults_describe(fault));
    switch (fault->kind) {
    case FAULT_CRASH:
        crash(node, fault->values[1]);
        break;
    case FAULT_CRASH_TWO:
        crash_two(world, fault);
        break;
    case FAULT_CRASH_AT_VOTE:
        for (unsigned i = 0; i < world->count; i++)
            world->nodes[i].crash_at_vote |= fault->values[0] >> i % 64 & 1;
        break;
    case FAULT_LEAVE:
        leave(world, node);
        break;
    case FAULT_LOSE_FILE:
        lose_file(node, fault->values[1]);
        break;
    case FAULT_SWITCH:
        switch_leases(world, node);
        break;
    case FAULT_SUSPECT:
        suspect(world, fault);
        break;
    case FAULT_END:
        end_in_order(world, fault);
        break;
    case FAULT_AGREED:
        fail_over(world, fault->values[0], CLUSTER_FAILOVER_AGREED);
        break;
    case FAULT_FORCED:
        fail_over(world, fault->values[0], CLUSTER_FAILOVER_FORCE);
        break;
    default:
        if (fault->kind < FAULT_END)
            disturb(world, node, fault);
        else
            operate_badly(world, fault);
    }
}

void faults_schedule(struct world *world) {
    for (unsigned i = 0; i < world->run->plan.count; i++)
        if (!world->run->plan.faults[i].left_out)
            sim_queue_after(&world->queue, world->run->plan.faults[i].at_us, run_fault, world, i);
}
