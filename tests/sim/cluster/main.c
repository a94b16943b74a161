/* The cluster simulator: the state machine of cluster/ on modelled links, disks and clocks, faults
 * for 25 virtual seconds; then they end, and all must agree soon: alone, or where nodes cannot do
 * it alone with an operator's help. world.h says where what is checked lies.
 *
 *     sim_cluster --measure [NODES ...]    convergence and traffic at 10 and 100 nodes */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "tests/sim/cluster/world.h"

#define EVENTS_MAX    20000000
#define LOOK_US       250000
#define ALONE_US      60000000
#define ALONE_SPANS   30 /* node timeouts on top */
#define MENDED_US     240000000
#define MEND_EACH_US  8000000
#define STAYS_WELL_US 3000000

/* --- A world ---------------------------------------------------------------------------------- */

static struct world world;

static void make_world(struct sim_run *run, unsigned count, unsigned primaries,
                       uint64_t timeout_ms) {
    world = (struct world){.run = run,
                           .count = count,
                           .primaries = primaries,
                           .timeout_ms = timeout_ms,
                           .delay_max_us = 1000,
                           .network = sim_random_of(run->seed, 5),
                           .servers = sim_random_of(run->seed, 6),
                           .clients = sim_random_of(run->seed, 7)};
    ablation = (enum ablation)run->ablation;
    the_world = &world;
    world.cut_until_us = calloc((size_t)count * count, sizeof *world.cut_until_us);
    ASSERT(world.cut_until_us);
    for (unsigned i = 0; i < count; i++) {
        struct node *node = &world.nodes[i];
        node->world = &world;
        node->index = i;
        node->disk_us = 2000;
        node->source = -1;
        node->waiting_end = &node->waiting;
        snprintf(node->address, sizeof node->address, "10.0.%u.%u", i / 200 % 200, i % 200);
        node->config = (struct cluster_config){.node_timeout_ms = timeout_ms,
                                               .migration_barrier = 1,
                                               .allow_replica_migration = true,
                                               .fast_failover = true,
                                               .require_full_coverage = true,
                                               .allow_pubsubshard_when_down = true,
                                               .replica_ping_period_ms = 10000,
                                               .port = NODE_PORT};
    }
}

static void free_world(void) {
    for (unsigned i = 0; i < world.count; i++) {
        node_crash(&world.nodes[i], true);
        free(world.nodes[i].file);
    }
    node_free_events(&world);
    bus_destroy(&world);
    data_destroy(&world);
    checks_destroy(&world);
    free(world.forgotten);
    free(world.cut_until_us);
    sim_queue_destroy(&world.queue);
}

static void run_until(uint64_t until_us) {
    while (world.queue.now_us < until_us && sim_queue_step(&world.queue))
        if (world.queue.processed > EVENTS_MAX && !world.quiet)
            FAIL(&world, "more than %d events", EVENTS_MAX);
}

/* --- The end ---------------------------------------------------------------------------------- */

static void end_faults(void) {
    SAY(&world, "the faults are over");
    world.faults_over = true;
    world.loss_until_us = 0;
    memset(world.cut_until_us, 0, sizeof(uint64_t) * world.count * world.count);
    for (unsigned i = 0; i < world.count; i++) {
        struct node *node = &world.nodes[i];
        node->slow_us = node->no_connect_until_us = node->behind_until_us = 0;
        node->disk_full = node->crash_at_vote = false;
        node->disk_us = 2000;
        node_go_on(node);
    }
    for (unsigned i = 0; i < world.count; i++)
        if (!world.nodes[i].gone)
            node_restart_after(&world.nodes[i], 0, true);
}

/* It stays away only if another took its slots, or can. */
static void bring_back_whom_nobody_replaces(void) {
    for (unsigned i = 0; i < world.count; i++) {
        struct node *node = &world.nodes[i];
        bool replaced = false;
        for (unsigned j = 0; j < world.count; j++) {
            const struct cluster *cluster = world.nodes[j].cluster;
            replaced = replaced || (cluster && cluster->myself->primary &&
                                    id_compare(&cluster->myself->primary->id, &node->id) == 0);
        }
        if (node->gone && !node->cluster && !replaced) {
            node->gone = false;
            node_restart_after(node, 0, true);
        }
    }
}

/* Until it is so, and stays so. */
static bool wait_for_agreement(uint64_t for_us, bool mends) {
    uint64_t until_us = world.queue.now_us + for_us, mend_us = 0, good_us = 0;
    while (world.queue.now_us < until_us) {
        if (mends && world.queue.now_us >= mend_us) {
            operator_mend(&world);
            mend_us = world.queue.now_us + MEND_EACH_US;
        }
        run_until(world.queue.now_us + LOOK_US);
        if (checks_disagreement(&world))
            good_us = 0;
        else if (good_us == 0)
            good_us = world.queue.now_us;
        else if (world.queue.now_us - good_us >= STAYS_WELL_US)
            return true;
    }
    return false;
}

/* Whom nobody knows must be met again, whoever was told to before; and once more: a meeting that is
 * under way already, on a link that is broken, takes the place of the first. */
static void introduce_strangers(void) {
    for (unsigned tries = 0; tries < 2; tries++) {
        bool strangers = false;
        for (unsigned i = 0; i < world.count; i++) {
            if (!world.nodes[i].cluster || operator_is_known(&world, &world.nodes[i]))
                continue;
            operator_replace(&world.nodes[i]);
            strangers = true;
        }
        if (strangers)
            run_until(world.queue.now_us + 2000 * world.timeout_ms + 1000000);
    }
}

static void settle(void) {
    uint64_t began_us = world.queue.now_us;
    bring_back_whom_nobody_replaces();
    run_until(world.queue.now_us + 10000);
    introduce_strangers();
    bool agreed = !world.needs_operator &&
                  wait_for_agreement(ALONE_US + ALONE_SPANS * world.timeout_ms * 1000, false);
    if (!agreed && !world.needs_operator)
        FAIL(&world, "no agreement: %s", checks_disagreement(&world));
    if (!agreed && !wait_for_agreement(MENDED_US, true))
        FAIL(&world, "no agreement with an operator's help: %s", checks_disagreement(&world));
    world.run->figures[FIGURE_CONVERGENCE_MS] =
        (world.queue.now_us - began_us - STAYS_WELL_US) / 1000;
}

/* --- A run ------------------------------------------------------------------------------------ */

static void choose(struct sim_run *run) {
    static const uint64_t timeouts_ms[] = {600, 1000, 2000, 5000};
    static const uint64_t delays_us[] = {1000, 5000, 20000, 100000};
    struct sim_random random = sim_random_of(run->seed, 2);
    unsigned primaries = (unsigned)sim_random_between(&random, 3, 5);
    unsigned count = primaries + (unsigned)sim_random_between(&random, primaries, 2 * primaries);
    if (run->seed % 32 == 0) {
        primaries = (unsigned)sim_random_between(&random, 8, 16);
        count = 2 * primaries + (unsigned)sim_random_below(&random, 9);
    }
    make_world(run, count, primaries, timeouts_ms[sim_random_below(&random, 4)]);
    world.delay_max_us = delays_us[sim_random_below(&random, 4)];
    world.resends = sim_random_chance(&random, 50);
    bool migrates = sim_random_chance(&random, 80);
    bool fast = sim_random_chance(&random, 90);
    world.switches = sim_random_chance(&random, 30);
    world.leased = fast && !world.switches && primaries <= CLUSTER_LEASE_VOTERS;
    for (unsigned i = 0; i < count; i++) {
        world.nodes[i].config.allow_replica_migration = migrates;
        world.nodes[i].config.fast_failover = fast;
    }
}

static void run(struct sim_run *run) {
    choose(run);
    operator_make(&world);
    data_begin(&world);
    faults_schedule(&world);
    run_until(FAULTS_TO_US);
    end_faults();
    settle();
    for (unsigned i = 0; i < world.count; i++)
        if (world.nodes[i].cluster)
            checks_state(&world.nodes[i]);
    run->figures[FIGURE_EVENTS] = world.queue.processed;
    run->figures[FIGURE_PACKETS] = world.sent_packets;
    free_world();
}

static const struct sim_ablation ablations[] = {
    {"vote-not-durable", 400, "a vote is told before it is on the disk"},
    {"disk-failure-ignored", 400, "a node with a full disk votes"},
    {"vote-forgotten", 400, "a node that restarts has voted for nobody"},
    {"vote-again", 400, "a voter votes as often as it is asked"},
    {"vote-while-up", 400, "a vote is given although the primary has not failed"},
    {"vote-counted-twice", 400, "a candidate counts each vote twice"},
    {"sibling-ignored", 400, "a candidate ignores that a sibling has won"},
    {"epoch-not-raised", 400, "the winner goes on with its primary's epoch"},
    {"collision-ignored", 400, "two primaries keep the same epoch"},
    {"stale-claim-wins", 400, "slots go to whoever claims them last"},
    {"fail-alone", 400, "one report is enough for FAIL"},
    {"fail-kept", 400, "FAIL is for ever"},
    {"chain-kept", 400, "a replica keeps a primary that has become a replica"},
    {"meet-once", 400, "a meeting that only one side knows of is not repeated"},
    {"handover-early", 400, "a failover by agreement does not wait for all data"},
    {"pause-late", 400, "a primary tells its offset and goes on writing"},
    {"pause-short", 400, "the pause for a failover ends before it"},
    {"minority-serves", 400, "a primary that reaches no majority goes on"},
    {"inherit-early", 400, "who takes over from a primary that ends does not wait for its data"},
    {"end-early", 400, "a primary says that it ends, and goes on writing"},
    {"lease-from-answer", 400, "a lease begins when the answer comes"},
    {"no-fresh-clock", 400, "a primary that was stopped does not look at the clock"},
    {"lease-not-awaited", 400, "a voter votes early while it is bound"},
    {"answer-after-vote", 400, "a voter answers the primary for whose successor it has voted"},
    {"early-for-ever", 400, "an early election is never given up"},
    {"claim-not-confirmed", 400, "the winner serves before a majority knows"},
    {"confirmed-at-once", 600, "a voter answers the successor while it is bound"},
    {"start-unfenced", 400, "a primary that starts does not wait for its lease"},
};
_Static_assert(sizeof ablations / sizeof *ablations == ABLATIONS - 1, "one for each");

static const char *const figure_names[SIM_FIGURES] = {
    [FIGURE_EVENTS] = "events",
    [FIGURE_PACKETS] = "packets",
    [FIGURE_WRITES] = "writes",
    [FIGURE_VOTES] = "votes",
    [FIGURE_ELECTIONS] = "elections won",
    [FIGURE_MANUAL] = "manual failovers",
    [FIGURE_TAKEOVERS] = "takeovers",
    [FIGURE_FAILS] = "FAIL",
    [FIGURE_RESTARTS] = "restarts",
    [FIGURE_INHERITED] = "taken over at an end",
    [FIGURE_EARLY] = "early",
    [FIGURE_LOST_FILES] = "without nodes.conf",
    [FIGURE_COMMANDS] = "commands at bad times",
    [FIGURE_MENDED] = "times mended",
    [FIGURE_CONVERGENCE_MS] = "ms until all agreed",
};

/* --- Measures --------------------------------------------------------------------------------- */

#define MEASURE_TIMEOUT_MS 5000
#define MEASURE_US         10000000

static double seconds_until_agreement(uint64_t step_us) {
    uint64_t began_us = world.queue.now_us;
    do
        run_until(world.queue.now_us + step_us);
    while (checks_disagreement(&world) && world.queue.now_us - began_us < 300000000);
    return (double)(world.queue.now_us - began_us) / 1e6;
}

static void measure(unsigned count) {
    static struct sim_run run;
    run = (struct sim_run){.seed = 1};
    make_world(&run, count, count / 2, MEASURE_TIMEOUT_MS);
    world.quiet = true;
    operator_make(&world);
    data_begin(&world);
    double start_s = seconds_until_agreement(LOOK_US);
    run_until(world.queue.now_us + 2 * MEASURE_TIMEOUT_MS * 1000);
    uint64_t bytes = world.sent_bytes, packets = world.sent_packets;
    run_until(world.queue.now_us + MEASURE_US);
    double per_node = (double)count * MEASURE_US / 1e6;
    double rate = (double)(world.sent_bytes - bytes) / per_node;
    double packet_rate = (double)(world.sent_packets - packets) / per_node;
    node_crash(&world.nodes[0], true);
    double failover_s = seconds_until_agreement(LOOK_US);
    printf("| %u | %.1f | %.1f | %.0f | %.1f | %llu |\n", count, start_s, failover_s, packet_rate,
           rate / 1000, (unsigned long long)world.queue.processed);
    fflush(stdout);
    free_world();
}

static int measure_all(int argc, char **argv) {
    printf("| nodes | all started until agreed (s) | a primary killed until agreed (s) "
           "| packets per node and second | kB per node and second | events |\n"
           "|---|---|---|---|---|---|\n");
    for (int i = 2; i < argc; i++)
        measure((unsigned)strtoul(argv[i], NULL, 10));
    if (argc == 2) {
        measure(10);
        measure(100);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct sim_scenario scenario = {.name = "cluster",
                                          .seeds = 200,
                                          .ablations = ablations,
                                          .ablation_count = sizeof ablations / sizeof *ablations,
                                          .figure_names = figure_names,
                                          .plan = faults_plan,
                                          .run = run,
                                          .describe = faults_describe};
    if (argc > 1 && strcmp(argv[1], "--measure") == 0)
        return measure_all(argc, argv);
    return sim_main(&scenario, argc, argv);
}
