/* The replication simulator: a handful of servers, clients that write, faults for twenty virtual
 * seconds; then the faults end, an operator makes one server the primary of a tree of all others,
 * and everybody must be equal soon. What is checked meanwhile lies where it happens: primary.c and
 * replica.c (node.h), truth.h. */
#include <string.h>
#include <sys/types.h>

#include "engine/assert.h"
#include "tests/sim/replication/faults.h"
#include "tests/sim/replication/node.h"

#define WRITES_LAST_US     3000000 /* beyond the faults */
#define IN_STEP_WITHIN_US  60000000
#define ORDER_US           500000
#define OUTPUT_LIMIT_BYTES ((size_t)8 << 20) /* then */
#define TICK_US            100000
#define FULL_SYNCS_MAX     5 /* of a server after the faults: its own, and some for those above it */
#define EVENTS_MAX         5000000

/* Ids come from the seed: history.c asks the system for them. */
ssize_t __wrap_getrandom(void *buffer, size_t length, unsigned flags);
static struct sim_random ids;

ssize_t __wrap_getrandom(void *buffer, size_t length, unsigned flags) {
    (void)flags;
    for (size_t i = 0; i < length; i++)
        ((unsigned char *)buffer)[i] = (unsigned char)sim_random_next(&ids);
    return (ssize_t)length;
}

/* --- Clocks ----------------------------------------------------------------------------------- */

static void turn(void *context, uint64_t unused) {
    struct node *node = context;
    if (node->alive && node->paused_until_us <= now_us(node))
        primary_turn(node);
    sim_queue_after(&node->world->queue, sim_random_between(&node->world->servers, 1000, 6000),
                    turn, node, unused);
}

static void tick(void *context, uint64_t unused) {
    struct node *node = context;
    if (node->alive && node->paused_until_us <= now_us(node))
        replica_tick(node);
    sim_queue_after(&node->world->queue, TICK_US, tick, node, unused);
}

static void write_something(void *context, uint64_t unused) {
    struct world *world = context;
    uint64_t any = sim_random_below(&world->clients, (uint64_t)world->count);
    bool strays = sim_random_chance(&world->clients, world->stray);
    struct node *node = &world->nodes[strays ? any : (uint64_t)world->target];
    if (is_replica(node) || !node->alive)
        world->target = (int)any;
    if (node->paused_until_us <= now_us(node) && world->quiet_until_us <= now_us(node))
        primary_write(node);
    if (world->queue.now_us < world->writes_until_us)
        sim_queue_after(&world->queue,
                        sim_random_between(&world->clients, 100, 2 * world->write_gap_us),
                        write_something, world, unused);
}

/* --- The end ---------------------------------------------------------------------------------- */

/* Who is whose in the end: the root is a primary as long as there is one. */
static void plan_tree(struct world *world, int parents[NODES_MAX]) {
    struct sim_random random = sim_random_of(world->run->seed, 4);
    int root = (int)sim_random_below(&random, (uint64_t)world->count), order[NODES_MAX];
    for (int i = 0; i < world->count && is_replica(&world->nodes[root]); i++)
        root = (root + 1) % world->count;
    bool chain = sim_random_chance(&random, 40);
    for (int i = 0; i < world->count; i++) {
        order[i] = (root + i) % world->count;
        parents[order[i]] =
            i == 0 ? -1 : order[chain ? (int)sim_random_below(&random, (uint64_t)i) : 0];
    }
}

static void give_orders(struct world *world, const int parents[NODES_MAX]) {
    for (int i = 0; i < world->count; i++) {
        struct node *node = &world->nodes[i];
        if (!node->alive)
            node_start(node, true, parents[i]);
        node->paused_until_us = node->isolated_until_us = 0;
        if (parents[i] < 0)
            node_promote(node);
        else
            node_follow(node, parents[i]);
    }
}

static bool are_in_step(const struct world *world, const int parents[NODES_MAX]) {
    const struct node *root = NULL;
    for (int i = 0; i < world->count; i++)
        if (parents[i] < 0)
            root = &world->nodes[i];
    ASSERT(root);
    for (int i = 0; i < world->count; i++) {
        const struct node *node = &world->nodes[i];
        if (node == root
                ? is_replica(node) || node->commit_count > 0 || node->failover != FAILOVER_NONE
                : node->primary != parents[i] || !node->connection ||
                      !truth_is_same(&world->truth, node->history.id, root->history.id) ||
                      atomic_load(&node->history.offset) != atomic_load(&root->history.offset) ||
                      node->model.chain != root->model.chain)
            return false;
    }
    return true;
}

static void check_loops(const struct world *world) {
    for (int i = 0; i < world->count; i++)
        if (world->nodes[i].full_syncs > FULL_SYNCS_MAX)
            sim_fail(world->run, "node %d was synchronised in full %u times after the faults", i,
                     world->nodes[i].full_syncs);
}

static void run_until(struct world *world, uint64_t until_us) {
    while (world->queue.now_us < until_us && sim_queue_step(&world->queue))
        if (world->queue.processed > EVENTS_MAX)
            sim_fail(world->run, "more than %d events", EVENTS_MAX);
}

/* One that begins with nothing, while others write as much as they can: it must get there. */
static void replace_one(struct world *world, const int parents[NODES_MAX]) {
    struct sim_random random = sim_random_of(world->run->seed, 9);
    int chosen = (int)sim_random_below(&random, (uint64_t)world->count);
    if (parents[chosen] < 0)
        chosen = (chosen + 1) % world->count;
    world->write_gap_us = 2000;
    node_kill(&world->nodes[chosen]);
    node_start(&world->nodes[chosen], false, parents[chosen]);
    for (int i = 0; i < world->count; i++)
        world->nodes[i].output_limit = OUTPUT_LIMIT_BYTES;
}

static void end_faults(struct world *world) {
    int parents[NODES_MAX];
    uint64_t until_us = world->queue.now_us + IN_STEP_WITHIN_US;
    sim_trace_line(&world->run->trace, world->queue.now_us, "the faults are over");
    world->faults_over = true;
    for (int i = 0; i < world->count; i++) {
        world->nodes[i].full_syncs = 0;
        world->nodes[i].fail_load = false;
    }
    plan_tree(world, parents);
    replace_one(world, parents);
    do {
        give_orders(world, parents);
        uint64_t orders_us = world->queue.now_us + ORDER_US;
        while (world->queue.now_us < orders_us) {
            run_until(world, world->queue.now_us + 10000);
            if (world->queue.now_us > world->writes_until_us && are_in_step(world, parents))
                return;
        }
        check_loops(world);
    } while (world->queue.now_us < until_us);
    for (int i = 0; i < world->count; i++)
        SAY(&world->nodes[i], "node %d, of node %d, %s, at %llu of history %d", i,
            world->nodes[i].primary, world->nodes[i].connection ? "in step" : "not in step",
            (unsigned long long)atomic_load(&world->nodes[i].history.offset),
            node_history(&world->nodes[i]));
    sim_fail(world->run, "not all are equal %d s after the faults", IN_STEP_WITHIN_US / 1000000);
}

/* --- A run ------------------------------------------------------------------------------------ */

static void make_nodes(struct world *world) {
    struct sim_random random = sim_random_of(world->run->seed, 3);
    world->count = (int)sim_random_between(&random, 3, NODES_MAX);
    for (int i = 0; i < world->count; i++) {
        struct node *node = &world->nodes[i];
        *node = (struct node){.world = world,
                              .index = i,
                              .frames = sim_random_chance(&random, 75),
                              .by_file = sim_random_chance(&random, 50),
                              .backlog_bytes = (size_t)16384 << sim_random_below(&random, 5),
                              .output_limit = (size_t)65536 << sim_random_below(&random, 4),
                              .ttl_s = (int64_t)sim_random_below(&random, 4)};
        int primary = i == 0                           ? -1
                      : sim_random_chance(&random, 25) ? (int)sim_random_below(&random, (uint64_t)i)
                                                       : 0;
        node_start(node, false, primary);
        sim_queue_after(&world->queue, sim_random_below(&random, 5000), turn, node, 0);
        sim_queue_after(&world->queue, sim_random_below(&random, TICK_US), tick, node, 0);
    }
}

static void run(struct sim_run *run) {
    static struct world world;
    struct sim_random random = sim_random_of(run->seed, 2);
    world = (struct world){.run = run,
                           .clients = sim_random_of(run->seed, 5),
                           .servers = sim_random_of(run->seed, 6),
                           .stray = (unsigned)(sim_random_below(&random, 4) * 15),
                           .writes_until_us = FAULTS_TO_US + WRITES_LAST_US,
                           .write_gap_us = sim_random_between(&random, 2000, 16000)};
    ids = sim_random_of(run->seed, 7);
    world.network = (struct sim_network){.queue = &world.queue,
                                         .random = sim_random_of(run->seed, 8),
                                         .delay_min_us = 50,
                                         .delay_max_us = sim_random_between(&random, 200, 8000),
                                         .piece_max_bytes = 8192};
    make_nodes(&world);
    sim_queue_after(&world.queue, 1000, write_something, &world, 0);
    faults_schedule(&world);
    run_until(&world, FAULTS_TO_US);
    end_faults(&world);
    for (int i = 0; i < world.count; i++) {
        node_kill(&world.nodes[i]);
        bytes_free(&world.nodes[i].file);
    }
    run->figures[FIGURE_EVENTS] = world.queue.processed;
    sim_queue_destroy(&world.queue);
    sim_network_destroy(&world.network);
    truth_destroy(&world.truth);
}

static const struct sim_ablation ablations[] = {
    {"any-id", 200, "a primary lets anybody go on whose offset it has"},
    {"second-unbounded", 200, "the second id is good for any offset"},
    {"half-transaction", 200, "what MULTI queues counts at once"},
    {"relay-half", 600, "a replica passes half transactions on"},
    {"promote-half", 200, "a promotion counts the half transaction that it cuts"},
    {"save-received", 200, "a file's place counts what is received and not applied"},
    {"id-kept-unused", 600, "the id stays when the unused backlog goes"},
    {"id-kept-begun", 200, "the id stays when a primary begins a backlog"},
    {"id-kept-promoted", 200, "the id stays at a promotion"},
    {"id-kept-continued", 200, "a replica does not take the id of +CONTINUE"},
    {"backlog-kept-loaded", 200, "a full sync keeps the old backlog"},
    {"place-late", 200, "the place changes when an attempt is taken over, not with the data"},
    {"demoted-unmerged", 600, "what a primary has committed is not merged before it asks"},
    {"select-kept-cut", 200, "the stream behind a cut does not begin with SELECT"},
    {"select-kept-promoted", 600, "the stream of a promoted replica does not begin with SELECT"},
    {"database-untold", 200, "a replica's snapshot does not tell the selected database"},
    {"database-forgotten", 200, "a lost connection's selected database is forgotten"},
    {"cursor-late", 200, "the stream behind a snapshot begins when that is sent"},
    {"refusal-ignored", 200, "a replica answers PSYNC while it is not in step itself"},
    {"stream-not-kept", 600, "what has left the backlog is not kept for who loads"},
    {"database-untold-down", 600,
     "a snapshot that is taken while the link is down tells database 0"},
    {"id-kept-resumed", 200, "a primary that restarts with its file keeps the id"},
    {"failover-early", 200, "FAILOVER does not wait until a replica has everything"},
    {"silence-ignored", 200, "a replica waits for ever for a primary that is silent"},
};
_Static_assert(sizeof ablations / sizeof *ablations == ABLATIONS - 1, "one for each");

static const char *const figure_names[SIM_FIGURES] = {
    [FIGURE_EVENTS] = "events",         [FIGURE_UNITS] = "writes",
    [FIGURE_FULL] = "full syncs",       [FIGURE_PARTIAL] = "partial syncs",
    [FIGURE_SECOND] = "by second id",   [FIGURE_FRAMES] = "frames",
    [FIGURE_PROMOTIONS] = "promotions", [FIGURE_RESTARTS] = "restarts",
    [FIGURE_CUT] = "transactions cut",  [FIGURE_FAULTS] = "faults",
    [FIGURE_FAILOVERS] = "failovers",   [FIGURE_RESUMED] = "resumed",
};

int main(int argc, char **argv) {
    const struct sim_scenario scenario = {.name = "replication",
                                          .seeds = 800,
                                          .ablations = ablations,
                                          .ablation_count = sizeof ablations / sizeof *ablations,
                                          .figure_names = figure_names,
                                          .plan = faults_plan,
                                          .run = run,
                                          .describe = faults_describe};
    return sim_main(&scenario, argc, argv);
}
