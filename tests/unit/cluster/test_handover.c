/* A primary whose process is told to end, and says so: in virtual time, with three primaries (0 to
 * 2) and their replicas (3 to 5, 6 is a second one of 0) unless a test says otherwise. */
#include "tests/unit/cluster/forge.h"

#define TIMEOUT_MS 2000

static struct bus *bus;
static char old_id[WIRE_ID_LENGTH];

static void form(unsigned machines) {
    bus = bus_new(machines, 11, TIMEOUT_MS);
    bus_form(bus, 3);
    bus->machines[0].offset = 1000;
    bus_run(bus, 2 * TIMEOUT_MS); /* all have told their offsets */
    memcpy(old_id, bus_id(bus, 0), WIRE_ID_LENGTH);
}

static void fini(void) {
    bus_free(bus);
}

static bool is_primary(unsigned i) {
    return node_is_primary(bus_cluster(bus, i)->myself);
}

/* As the process does: nothing is written any more, it is told, and a little later it is gone. */
static void end(unsigned machine) {
    cluster_on_shutdown(bus_cluster(bus, machine), true);
    bus_run(bus, 10);
    machine_stop(&bus->machines[machine]);
}

/* A replica that waits looks every millisecond (cluster_max_wait_ms). Until somebody has taken
 * over; how long it took. */
static uint64_t wait_for_heir(unsigned heir, uint64_t for_ms) {
    uint64_t begun_ms = bus->now_ms;
    while (bus->now_ms - begun_ms < for_ms && bus->machines[heir].promotions == 0) {
        bus_run(bus, 1);
        for (unsigned i = 3; i < bus->count; i++)
            if (bus->machines[i].up && cluster_max_wait_ms(bus_cluster(bus, i)) == 1)
                cluster_before_wait(bus_cluster(bus, i));
    }
    cr_assert_eq(bus->machines[heir].promotions, 1);
    return bus->now_ms - begun_ms;
}

Test(handover, the_replica_takes_over_at_once, .fini = fini) {
    form(6);
    bus->machines[0].offset = 2000; /* of which nobody on the bus has been told yet */
    end(0);
    uint64_t took_ms = wait_for_heir(3, 2000);
    cr_assert(took_ms < 100, "%llu ms", (unsigned long long)took_ms);
    cr_assert_eq(bus->machines[3].offset, 2000);
    cr_assert(bus_logged(bus, 3, "Start of election delayed for 0 milliseconds"));
    cr_assert(bus_logged(bus, 3, "Starting a failover election for epoch 7."));
    cr_assert(bus_wait(bus, 5000, bus_agrees));
    for (unsigned i = 1; i < 6; i++) {
        struct cluster_node_view loser = bus_view(bus, i, old_id);
        cr_assert_eq(bus_view(bus, i, bus_id(bus, 3)).config_epoch, 7);
        cr_assert_eq(bus_view(bus, i, bus_id(bus, 3)).slot_count, 5461);
        cr_assert_eq(loser.slot_count, 0);
        cr_assert(loser.flags & WIRE_NODE_PRIMARY, "as one that was killed");
        cr_assert(loser.flags & WIRE_NODE_FAIL);
    }
    machine_start(&bus->machines[0]);
    cr_assert(bus_wait(bus, 10000, bus_agrees));
    cr_assert_eq(bus->machines[0].primary, 3);
}

static unsigned said; /* packets of the first machine, which ends */

static bool count_said(struct bus *all, struct machine *to, uint8_t *bytes, size_t length) {
    struct wire_packet packet;
    (void)to, (void)all;
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    said += memcmp(packet.header.sender.hex, old_id, WIRE_ID_LENGTH) == 0;
    return true;
}

Test(handover, who_has_said_that_it_ends_says_nothing_else, .fini = fini) {
    form(6);
    cluster_on_shutdown(bus_cluster(bus, 0), true);
    bus_run(bus, 20);
    bus->filter = count_said;
    bus_run(bus, 5000);
    cr_assert_eq(said, 0);
    cr_assert(is_primary(0), "nor does it hear");
    cr_assert(is_primary(3), "its process does not go, but it has said so");
}

Test(handover, who_has_not_all_waits_as_usual, .fini = fini) {
    form(6);
    bus_set_cut(bus, 0, 3, true);
    bus->machines[0].offset = 2000;
    bus_run(bus, 20);
    bus->machines[0].primary = 0; /* it streams no more */
    bus_set_cut(bus, 0, 3, false);
    end(0);
    uint64_t took_ms = wait_for_heir(3, 10000);
    cr_assert(took_ms >= 550 && took_ms < 1000, "%llu ms", (unsigned long long)took_ms);
    cr_assert_eq(bus->machines[3].offset, 1000);
}

Test(handover, of_several_that_have_all_the_first_id_takes_over, .fini = fini) {
    form(7);
    unsigned first = memcmp(bus_id(bus, 3), bus_id(bus, 6), WIRE_ID_LENGTH) < 0 ? 3 : 6;
    end(0);
    cr_assert(wait_for_heir(first, 1000) < 100);
    bus_run(bus, 5000);
    cr_assert_eq(bus->machines[9 - first].promotions, 0);
    cr_assert(bus_agrees(bus));
}

Test(handover, who_is_behind_leaves_it_to_who_has_all, .fini = fini) {
    form(7);
    unsigned first = memcmp(bus_id(bus, 3), bus_id(bus, 6), WIRE_ID_LENGTH) < 0 ? 3 : 6;
    bus->machines[first].never_synchronised = true;
    end(0);
    cr_assert(wait_for_heir(9 - first, 1000) < 300);
    bus_run(bus, 5000);
    cr_assert_eq(bus->machines[first].promotions, 0);
}

static void says_nothing(unsigned machine, bool data_are_final) {
    said = 0;
    memcpy(old_id, bus_id(bus, machine), WIRE_ID_LENGTH);
    cluster_on_shutdown(bus_cluster(bus, machine), data_are_final);
    cr_assert_not(bus_cluster(bus, machine)->has_ended);
}

Test(handover, nothing_is_said_where_nobody_can_take_over, .fini = fini) {
    form(6);
    says_nothing(3, true);  /* a replica */
    says_nothing(0, false); /* its workers write on */
    bus->machines[3].config.replica_no_failover = true;
    cluster_configure(bus_cluster(bus, 3), &bus->machines[3].config);
    bus_run(bus, 2 * TIMEOUT_MS);
    says_nothing(0, true);
    machine_stop(&bus->machines[4]); /* the only one of 1 */
    bus_run(bus, 20);
    says_nothing(1, true);
    bus->machines[2].config.fast_failover = false;
    cluster_configure(bus_cluster(bus, 2), &bus->machines[2].config);
    says_nothing(2, true);
}

Test(handover, nor_without_a_majority, .fini = fini) {
    form(6);
    machine_stop(&bus->machines[1]);
    bus_run(bus, 20);
    says_nothing(0, true);
}

/* Voters have voted about it a moment ago, when it was a primary before. */
Test(handover, it_works_again_soon, .fini = fini) {
    form(6);
    for (unsigned i = 0; i < 4; i++) {
        unsigned old = i % 2 ? 3 : 0, heir = 3 - old;
        bus->machines[heir].promotions = 0;
        end(old);
        cr_assert(wait_for_heir(heir, 1000) < 100);
        machine_start(&bus->machines[old]);
        cr_assert(bus_wait(bus, 10000, bus_agrees));
    }
}

Test(handover, who_is_started_again_is_no_failure_any_more, .fini = fini) {
    form(6);
    bus->machines[3].config.replica_no_failover = true;
    cluster_configure(bus_cluster(bus, 3), &bus->machines[3].config); /* it tells nobody yet */
    end(0);
    bus_run(bus, 20);
    cr_assert(bus_view(bus, 1, old_id).flags & WIRE_NODE_FAIL);
    machine_start(&bus->machines[0]);
    bus_run(bus, 500);
    cr_assert_not(bus_view(bus, 1, old_id).flags & WIRE_NODE_FAIL);
    cr_assert(bus_wait(bus, 3000, bus_agrees));
    cr_assert(is_primary(0));
}

/* All are stopped one after the other: the file of one does not say that the others have failed. */
Test(handover, who_has_ended_is_expected_back_by_the_file, .fini = fini) {
    form(6);
    bus->machines[3].config.replica_no_failover = true;
    cluster_configure(bus_cluster(bus, 3), &bus->machines[3].config);
    end(0);
    bus_run(bus, 50);
    cr_assert(bus_view(bus, 1, old_id).flags & WIRE_NODE_FAIL);
    cr_assert_null(strstr(bus->machines[1].file, "fail"), "%s", bus->machines[1].file);
}

Test(handover, others_cannot_say_it_for_a_node, .fini = fini) {
    form(6);
    forge_open(bus, 3);
    forge_header(WIRE_FAIL, bus_cluster(bus, 1)->myself);
    forge_begin();
    wire_add_fail(&forge_builder, &bus_cluster(bus, 0)->myself->id);
    cr_assert(forge_deliver());
    bus_run(bus, 3000);
    cr_assert_eq(bus->machines[3].promotions, 0);
}
