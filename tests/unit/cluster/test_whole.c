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

/* Machine 1 gets answers, but no handshake from the other side. */
static bool no_handshake_back(struct bus *all, struct machine *to, uint8_t *bytes, size_t length) {
    struct wire_packet packet;
    (void)all;
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    return to->index != 1 || packet.header.type != WIRE_PING;
}

Test(whole, a_meeting_that_was_one_sided_is_repeated, .fini = end) {
    bus = bus_new(2, 42, TIMEOUT_MS);
    bus->filter = no_handshake_back;
    bus_apply(
        cluster_meet(bus_cluster(bus, 1), "10.0.0.1", BUS_PORT, BUS_PORT + CLUSTER_BUS_PORT_STEP));
    bus_run(bus, 2500); /* longer than a handshake may take */
    cr_assert_eq(bus_view(bus, 1, bus_id(bus, 0)).flags, WIRE_NODE_PRIMARY);
    cr_assert_eq(bus_view(bus, 0, bus_id(bus, 1)).flags, 0);
    bus->filter = NULL;
    bus_run(bus, 3000);
    cr_assert_eq(bus_view(bus, 0, bus_id(bus, 1)).flags, WIRE_NODE_PRIMARY);
    cr_assert_eq(bus_view(bus, 1, bus_id(bus, 0)).flags, WIRE_NODE_PRIMARY);
}

/* Machine 0 comes, but gets no answer and drops the handshake. */
static bool no_answer_to_zero(struct bus *all, struct machine *to, uint8_t *bytes, size_t length) {
    struct wire_packet packet;
    (void)all;
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    return to->index != 0 || packet.header.type != WIRE_PONG;
}

static void meet_one_sided(void) {
    bus = bus_new(2, 42, TIMEOUT_MS);
    bus->filter = no_answer_to_zero;
    bus_apply(
        cluster_meet(bus_cluster(bus, 1), "10.0.0.1", BUS_PORT, BUS_PORT + CLUSTER_BUS_PORT_STEP));
    bus_run(bus, 2500);
    cr_assert_eq(bus_view(bus, 1, bus_id(bus, 0)).flags, WIRE_NODE_PRIMARY);
    cr_assert_eq(bus_view(bus, 0, bus_id(bus, 1)).flags, 0);
}

static void expect_met(void) {
    bus->filter = NULL;
    bus_run(bus, 5000);
    cr_assert_eq(bus_view(bus, 0, bus_id(bus, 1)).flags, WIRE_NODE_PRIMARY);
    cr_assert_eq(bus_view(bus, 1, bus_id(bus, 0)).flags, WIRE_NODE_PRIMARY);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned j = 0; j < bus_cluster(bus, i)->node_count; j++)
            cr_assert_not(bus_cluster(bus, i)->nodes[j]->is_unmet);
        cr_assert_null(strstr(bus->machines[i].file, "unmetNode"));
    }
}

Test(whole, who_said_hello_but_got_no_answer_does_not_know_us, .fini = end) {
    meet_one_sided();
    expect_met();
}

Test(whole, whom_to_meet_again_is_remembered_over_a_restart, .fini = end) {
    meet_one_sided();
    machine_stop(&bus->machines[1]);
    cr_assert_not_null(strstr(bus->machines[1].file, "lastVoteEpoch 0 unmetNode "));
    machine_start(&bus->machines[1]);
    expect_met();
}

Test(whole, who_was_forgotten_does_not_come_back_by_itself, .fini = end) {
    form(6, 3);
    char id[WIRE_ID_LENGTH];
    memcpy(id, bus_id(bus, 5), WIRE_ID_LENGTH);
    for (unsigned i = 0; i < 5; i++)
        cluster_forget(bus_cluster(bus, i), id, WIRE_ID_LENGTH);
    bus_run(bus, 2 * CLUSTER_FORGET_MS);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(bus_cluster(bus, i)->node_count, 5);
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

Test(whole, messages_go_to_all_or_to_the_shard, .fini = end) {
    form(6, 3);
    cluster_publish(bus_cluster(bus, 0), "channel", 7, "message", 7, false);
    bus_run(bus, 10);
    for (unsigned i = 0; i < 6; i++)
        cr_assert_eq(bus->machines[i].messages, i != 0);
    cluster_publish(bus_cluster(bus, 0), "channel", 7, "", 0, true);
    bus_run(bus, 10);
    for (unsigned i = 0; i < 6; i++)
        cr_assert_eq(bus->machines[i].messages, i == 0 ? 0 : i == 3 ? 2 : 1);
}

Test(whole, names_and_shards_are_told, .fini = end) {
    form(6, 3);
    bus->machines[3].config.announce_hostname = "three.example";
    bus->machines[3].config.announce_human_nodename = "three";
    cluster_configure(bus_cluster(bus, 3), &bus->machines[3].config);
    bus_run(bus, 2000);
    for (unsigned i = 0; i < 6; i++) {
        struct cluster_node_view three = bus_view(bus, i, bus_id(bus, 3));
        struct cluster_node_view zero = bus_view(bus, i, bus_id(bus, 0));
        cr_assert_str_eq(three.hostname, "three.example");
        cr_assert_str_eq(three.human_nodename, "three");
        cr_assert_eq(id_compare(&three.shard, &zero.shard), 0);
        struct cluster_node_view one = bus_view(bus, i, bus_id(bus, 1));
        cr_assert_neq(id_compare(&three.shard, &one.shard), 0);
    }
    bus->machines[3].config.announce_hostname = NULL;
    bus->machines[3].config.preferred_endpoint = CLUSTER_ENDPOINT_HOSTNAME;
    cluster_configure(bus_cluster(bus, 3), &bus->machines[3].config);
    bus_run(bus, 2000);
    cr_assert_str_eq(bus_view(bus, 0, bus_id(bus, 3)).hostname, "");
    const struct slot_map *map = bus->machines[3].map;
    cr_assert_str_eq(map->targets[map->owner[0]].endpoint, "?:7001");
    cr_assert(map->targets[map->owner[0]].is_my_primary);
}

/* A machine that moves is found at its new address, by its replica as well. */
Test(whole, an_address_that_changes_is_followed, .fini = end) {
    form(6, 3);
    machine_stop(&bus->machines[0]);
    strcpy(bus->machines[0].address, "10.0.9.9");
    machine_start(&bus->machines[0]);
    cr_assert(bus_wait(bus, 10000, bus_agrees));
    bus_run(bus, 2000);
    for (unsigned i = 1; i < 6; i++)
        cr_assert_str_eq(bus_view(bus, i, bus_id(bus, 0)).address, "10.0.9.9");
    cr_assert_eq(bus->machines[3].primary, 0);
    cr_assert_geq(bus->machines[3].follows, 2);
}
