/* Whole clusters: meeting, failing over, coming back, in virtual time. */
#include "tests/unit/cluster/bus_fixture.h"

#define TIMEOUT_MS 1000

static struct bus *bus;

static void form(unsigned machines, unsigned primaries) {
    bus = bus_new(machines, 42, TIMEOUT_MS);
    bus_form(bus, primaries);
    bus_run(bus, 3000);
}

static void end(void) {
    bus_free(bus);
}

Test(whole, six_nodes_that_meet_agree, .fini = end) {
    form(6, 3);
    for (unsigned i = 0; i < 6; i++) {
        struct cluster *cluster = bus_cluster(bus, i);
        cr_assert_eq(cluster->node_count, 6);
        cr_assert_eq(cluster->size, 3);
        cr_assert_eq(cluster->current_epoch, 6);
        cr_assert_eq(bus->machines[i].map->is_replica, i >= 3);
        cr_assert(bus->machines[i].map->state_ok);
    }
    cr_assert_eq(bus->machines[3].primary, 0);
    cr_assert_eq(bus->machines[0].map->owner[0], SLOT_MAP_MINE);
    cr_assert_str_eq(
        bus->machines[0].map->targets[bus->machines[0].map->owner[WIRE_SLOTS - 1]].endpoint,
        "10.0.0.3:7001");
}
