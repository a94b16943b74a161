/* Clusters under random faults: cut ways, stopped and restarted machines, full disks, failovers by
 * the operator, all by a seed. After every step no two machines own a slot under one epoch, and
 * nobody gives two votes in one epoch, not even across restarts; when the faults are over, all
 * agree within a bound. CHAOS_SEED=N runs one seed, CHAOS_SEEDS=N so many. */
#include "tests/unit/cluster/bus_fixture.h"

#define TIMEOUT_MS   1000
#define MACHINES     7
#define PRIMARIES    3
#define STEPS        60
#define SETTLE_MS    120000
#define MAX_VOTES    4096
#define DEFAULT_RUNS 25

struct vote {
    struct node_id voter, candidate;
    uint64_t epoch;
};

static struct vote votes[MAX_VOTES];
static unsigned vote_count;
static uint64_t seed;

static void note_vote(const struct node_id *voter, const struct node_id *candidate,
                      uint64_t epoch) {
    for (unsigned i = 0; i < vote_count; i++)
        if (votes[i].epoch == epoch && id_compare(&votes[i].voter, voter) == 0)
            cr_assert_eq(id_compare(&votes[i].candidate, candidate), 0,
                         "seed %llu: two votes of %.40s in epoch %llu", (unsigned long long)seed,
                         voter->hex, (unsigned long long)epoch);
    cr_assert_lt(vote_count, MAX_VOTES);
    votes[vote_count++] = (struct vote){.voter = *voter, .candidate = *candidate, .epoch = epoch};
}

static bool watch(struct bus *bus, struct machine *to, uint8_t *bytes, size_t length) {
    struct wire_packet packet;
    (void)bus;
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    if (packet.header.type == WIRE_FAILOVER_AUTH_ACK)
        note_vote(&packet.header.sender, &to->cluster->myself->id, packet.header.current_epoch);
    return true;
}

/* Who both own a slot have different epochs. (Equal ones part on their own, but those are not from
 * elections: none are made here.) */
static void check(struct bus *bus) {
    for (unsigned i = 0; i < bus->count; i++) {
        const struct cluster *a = bus_cluster(bus, i);
        for (unsigned j = i + 1; a && j < bus->count; j++) {
            const struct cluster *b = bus_cluster(bus, j);
            if (!b || a->myself->config_epoch != b->myself->config_epoch)
                continue;
            for (unsigned at = 0; at < WIRE_SLOT_BYTES; at++)
                cr_assert_eq(a->myself->slots[at] & b->myself->slots[at], 0,
                             "seed %llu: %u and %u own the same slot in epoch %llu",
                             (unsigned long long)seed, i, j,
                             (unsigned long long)a->myself->config_epoch);
        }
    }
}

static void run(struct bus *bus, uint64_t for_ms) {
    for (uint64_t done_ms = 0; done_ms < for_ms; done_ms += 20) {
        bus_run(bus, 20);
        check(bus);
    }
}

static void cause_trouble(struct bus *bus) {
    unsigned i = (unsigned)(bus_random(bus) % bus->count);
    struct machine *machine = &bus->machines[i];
    switch (bus_random(bus) % 10) {
    case 0:
    case 1:
        if (machine->up)
            machine_stop(machine);
        break;
    case 2:
    case 3:
    case 4:
        if (!machine->up)
            machine_start(machine);
        break;
    case 5:
        bus_isolate(bus, i, bus_random(bus) % 2);
        break;
    case 6:
        bus->cut[i][bus_random(bus) % bus->count] = bus_random(bus) % 2;
        break;
    case 7:
        machine->disk_fails = bus_random(bus) % 3 == 0;
        machine->disk_ms = bus_random(bus) % 2 ? 2 : bus_random(bus) % 400;
        break;
    default:
        if (machine->up)
            cluster_failover(machine->cluster, bus_random(bus) % 3 ? CLUSTER_FAILOVER_AGREED
                                                                   : CLUSTER_FAILOVER_FORCE);
    }
}

/* What an operator should not do in such times, but may. */
static void operate_badly(struct bus *bus) {
    unsigned i = (unsigned)(bus_random(bus) % bus->count);
    struct cluster *cluster = bus_cluster(bus, i);
    if (!cluster)
        return;
    const struct cluster_node *node = cluster->nodes[bus_random(bus) % cluster->node_count];
    struct node_id id = node->id;
    unsigned slot = (unsigned)(bus_random(bus) % WIRE_SLOTS);
    uint8_t slots[WIRE_SLOT_BYTES];
    bool bumped;
    uint64_t epoch;
    bus_slots(slots, slot, slot);
    switch (bus_random(bus) % 12) {
    case 0:
        cluster_failover(cluster, CLUSTER_FAILOVER_TAKEOVER);
        break;
    case 1:
        cluster_forget(cluster, id.hex, WIRE_ID_LENGTH);
        break;
    case 2:
        cluster_delete_slots(cluster, slots);
        break;
    case 3:
        cluster_add_slots(cluster, slots);
        break;
    case 4:
        cluster_replicate(cluster, id.hex, WIRE_ID_LENGTH, bus_random(bus) % 2);
        break;
    case 5:
        cluster_reset(cluster, bus_random(bus) % 2, bus_random(bus) % 2);
        break;
    case 6:
        cluster_bump_epoch(cluster, &bumped, &epoch);
        break;
    case 7:
        cluster_meet(cluster, bus->machines[bus_random(bus) % bus->count].address, BUS_PORT,
                     BUS_PORT + CLUSTER_BUS_PORT_STEP);
        break;
    default:
        cluster_set_slot(cluster, slot, (enum cluster_slot_state)(bus_random(bus) % 4), id.hex,
                         WIRE_ID_LENGTH);
        bus->machines[i].keys[slot / 8] = (uint8_t)bus_random(bus);
    }
}

static void play_badly(uint64_t with_seed) {
    seed = with_seed;
    struct bus *bus = bus_new(MACHINES, seed, TIMEOUT_MS);
    bus_form(bus, PRIMARIES);
    for (unsigned step = 0; step < STEPS; step++) {
        cause_trouble(bus);
        for (unsigned commands = (unsigned)(bus_random(bus) % 6); commands > 0; commands--) {
            operate_badly(bus);
            bus_run(bus, bus_random(bus) % 50);
        }
        bus_run(bus, bus_random(bus) % (2 * TIMEOUT_MS));
        for (unsigned i = 0; i < bus->count; i++)
            if (bus_cluster(bus, i))
                bus_check_state(bus_cluster(bus, i));
    }
    bus_free(bus);
}

static void end_trouble(struct bus *bus) {
    memset(bus->cut, 0, sizeof bus->cut);
    for (unsigned i = 0; i < bus->count; i++) {
        bus->machines[i].disk_fails = false;
        bus->machines[i].disk_ms = 2;
        if (!bus->machines[i].up)
            machine_start(&bus->machines[i]);
    }
}

static void play(uint64_t with_seed) {
    seed = with_seed;
    vote_count = 0;
    struct bus *bus = bus_new(MACHINES, seed, TIMEOUT_MS);
    for (unsigned i = 0; i < MACHINES; i++)
        bus->machines[i].config.replica_validity_factor = 0;
    for (unsigned i = 0; i < MACHINES; i++)
        cluster_configure(bus_cluster(bus, i), &bus->machines[i].config);
    bus_form(bus, PRIMARIES);
    bus->filter = watch;
    for (unsigned step = 0; step < STEPS; step++) {
        cause_trouble(bus);
        run(bus, bus_random(bus) % (3 * TIMEOUT_MS));
    }
    end_trouble(bus);
    uint64_t waited_ms = 0;
    for (; waited_ms < SETTLE_MS && !bus_agrees(bus); waited_ms += 100)
        run(bus, 100);
    cr_assert(bus_agrees(bus), "seed %llu: no agreement", (unsigned long long)seed);
    bus_free(bus);
}

static void play_seeds(void (*play_one)(uint64_t)) {
    const char *one = getenv("CHAOS_SEED"), *many = getenv("CHAOS_SEEDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t runs = one ? 1 : many ? strtoull(many, NULL, 10) : DEFAULT_RUNS;
    for (uint64_t i = 0; i < runs; i++)
        play_one(first + i);
}

Test(chaos, one_owner_one_vote_and_agreement_in_the_end) {
    play_seeds(play);
}

Test(chaos, an_operator_at_bad_times_breaks_no_invariant) {
    play_seeds(play_badly);
}
