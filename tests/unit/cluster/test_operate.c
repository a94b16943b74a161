/* The operator's commands: what they change and every error that they give. */
#include "tests/unit/cluster/bus_fixture.h"

#define NOBODY "0123456789012345678901234567890123456789"

static struct bus *bus;
static struct cluster *first;

static void begin(unsigned machines) {
    bus = bus_new(machines, 3, 1000);
    first = bus_cluster(bus, 0);
}

static void form(unsigned machines, unsigned primaries) {
    begin(machines);
    bus_form(bus, primaries);
}

static void end(void) {
    bus_free(bus);
}

static void expect(const char *error, const char *wanted) {
    if (!wanted)
        cr_assert_null(error, "%s", error);
    else
        cr_assert(error && strcmp(error, wanted) == 0, "%s instead of %s", error, wanted);
}

#define FAILS(call, text)  expect(call, text)
#define WORKS(call)        expect(call, NULL)
#define ID(i)              bus_id(bus, i), WIRE_ID_LENGTH
#define SET(slot, how, id) cluster_set_slot(first, slot, CLUSTER_SLOT_##how, id, WIRE_ID_LENGTH)

Test(operate, meet, .fini = end) {
    begin(1);
    FAILS(cluster_meet(first, "example.com", 1, 2),
          "ERR Invalid node address specified: example.com:1");
    FAILS(cluster_meet(first, "10.0.0.9", 0, 2), "ERR Invalid node address specified: 10.0.0.9:0");
    FAILS(cluster_meet(first, "10.0.0.9", 65536, 2),
          "ERR Invalid node address specified: 10.0.0.9:65536");
    FAILS(cluster_meet(first, "10.0.0.9", 1, 65536),
          "ERR Invalid node address specified: 10.0.0.9:1");
    FAILS(cluster_meet(first, "10.0.0.9", -1, 2),
          "ERR Invalid node address specified: 10.0.0.9:-1");
    WORKS(cluster_meet(first, "10.0.0.9", 1, 2));
    WORKS(cluster_meet(first, "10.0.0.9", 1, 2)); /* once is enough */
    cr_assert_eq(first->node_count, 2);
    WORKS(cluster_meet(first, "::1", 1, 2));
    cr_assert_eq(first->node_count, 3);
    bus_run(bus, 1500); /* nobody answers */
    cr_assert_eq(first->node_count, 1);
    cr_assert_eq(first->handshake_count, 0);
}

Test(operate, slots, .fini = end) {
    uint8_t slots[WIRE_SLOT_BYTES];
    begin(1);
    bus_slots(slots, 10, 20);
    FAILS(cluster_delete_slots(first, slots), "ERR Slot 10 is already unassigned");
    WORKS(cluster_add_slots(first, slots));
    cr_assert_eq(first->myself->slot_count, 11);
    bus_slots(slots, 5, 10);
    FAILS(cluster_add_slots(first, slots), "ERR Slot 10 is already busy");
    cr_assert_eq(first->myself->slot_count, 11);
    FAILS(cluster_delete_slots(first, slots), "ERR Slot 5 is already unassigned");
    bus_slots(slots, 12, 13);
    WORKS(cluster_delete_slots(first, slots));
    cr_assert_eq(first->myself->slot_count, 9);
    FAILS(cluster_flush_slots(first, true), "ERR DB must be empty to perform CLUSTER FLUSHSLOTS.");
    WORKS(cluster_flush_slots(first, false));
    cr_assert_eq(first->myself->slot_count, 0);
}

Test(operate, set_slot, .fini = end) {
    form(6, 3);
    FAILS(cluster_set_slot(bus_cluster(bus, 3), 0, CLUSTER_SLOT_STABLE, NULL, 0),
          "ERR Please use SETSLOT only with masters.");
    FAILS(SET(16383, MIGRATING, bus_id(bus, 1)), "ERR I'm not the owner of hash slot 16383");
    FAILS(SET(0, IMPORTING, bus_id(bus, 1)), "ERR I'm already the owner of hash slot 0");
    FAILS(SET(0, MIGRATING, NOBODY), "ERR I don't know about node " NOBODY);
    FAILS(SET(16383, IMPORTING, NOBODY), "ERR I don't know about node " NOBODY);
    FAILS(SET(0, NODE, NOBODY), "ERR Unknown node " NOBODY);
    FAILS(cluster_set_slot(first, 0, CLUSTER_SLOT_NODE, "short", 5), "ERR Unknown node short");
    FAILS(SET(0, MIGRATING, bus_id(bus, 3)), "ERR Target node is not a master");
    FAILS(SET(0, NODE, bus_id(bus, 3)), "ERR Target node is not a master");
    bus->machines[0].keys[0] = 1;
    FAILS(SET(0, NODE, bus_id(bus, 1)),
          "ERR Can't assign hashslot 0 to a different node while I still hold keys for this hash "
          "slot.");
    WORKS(SET(0, MIGRATING, bus_id(bus, 1)));
    cluster_before_wait(first);
    const struct slot_map *map = bus->machines[0].map;
    cr_assert_eq(map->owner[0], SLOT_MAP_MINE);
    cr_assert_str_eq(map->targets[map->migrating_to[0]].endpoint, "10.0.0.2:7001");
    WORKS(SET(0, STABLE, NULL));
    cr_assert_eq(first->open_slots, 0);
}

/* As redis-cli moves a slot. */
Test(operate, a_slot_moves, .fini = end) {
    form(6, 3);
    struct cluster *target = bus_cluster(bus, 1);
    WORKS(cluster_set_slot(target, 0, CLUSTER_SLOT_IMPORTING, ID(0)));
    WORKS(cluster_set_slot(first, 0, CLUSTER_SLOT_MIGRATING, ID(1)));
    bus_run(bus, 1000);
    cr_assert_eq(target->open_slots, 1);
    WORKS(cluster_set_slot(target, 0, CLUSTER_SLOT_NODE, ID(1)));
    WORKS(cluster_set_slot(first, 0, CLUSTER_SLOT_NODE, ID(1)));
    cr_assert_eq(target->myself->config_epoch, 7);
    cr_assert_eq(first->open_slots + target->open_slots, 0);
    cr_assert(bus_wait(bus, 3000, bus_agrees));
    for (unsigned i = 0; i < 6; i++)
        cr_assert_eq(bus_view(bus, i, bus_id(bus, 1)).slot_count, 5462);
}

Test(operate, replicate, .fini = end) {
    form(6, 3);
    FAILS(cluster_replicate(first, NOBODY, WIRE_ID_LENGTH, false), "ERR Unknown node " NOBODY);
    FAILS(cluster_replicate(first, ID(0), false), "ERR Can't replicate myself");
    FAILS(cluster_replicate(first, ID(3), false),
          "ERR I can only replicate a master, not a replica.");
    FAILS(cluster_replicate(first, ID(1), false),
          "ERR To set a master the node must be empty and without assigned slots.");
    WORKS(cluster_flush_slots(first, false));
    FAILS(cluster_replicate(first, ID(1), true),
          "ERR To set a master the node must be empty and without assigned slots.");
    WORKS(cluster_replicate(first, ID(1), false));
    WORKS(cluster_replicate(bus_cluster(bus, 4), ID(2), true)); /* a replica may have keys */
    cr_assert_eq(bus->machines[4].primary, 2);
}

Test(operate, a_replica_with_slots_of_its_own, .fini = end) {
    uint8_t slots[WIRE_SLOT_BYTES];
    form(6, 3);
    struct cluster *replica = bus_cluster(bus, 3);
    bus_slots(slots, 7, 7);
    WORKS(cluster_delete_slots(replica, slots));
    WORKS(cluster_add_slots(replica, slots)); /* as Redis lets it */
    WORKS(cluster_replicate(replica, ID(1), true));
    cr_assert_eq(replica->myself->slot_count, 0);
    bus_check_state(replica);
}

Test(operate, forget, .fini = end) {
    form(6, 3);
    char id[WIRE_ID_LENGTH];
    memcpy(id, bus_id(bus, 5), WIRE_ID_LENGTH);
    FAILS(cluster_forget(first, NOBODY, WIRE_ID_LENGTH), "ERR Unknown node " NOBODY);
    FAILS(cluster_forget(first, ID(0)), "ERR I tried hard but I can't forget myself...");
    FAILS(cluster_forget(bus_cluster(bus, 3), ID(0)), "ERR Can't forget my master!");
    machine_stop(&bus->machines[5]);
    WORKS(cluster_forget(first, id, WIRE_ID_LENGTH));
    cr_assert_eq(first->node_count, 5);
    WORKS(cluster_forget(first, id, WIRE_ID_LENGTH)); /* it is gone already */
    /* The others learn of it by gossip, and nobody brings it back. */
    bus_run(bus, 5000);
    for (unsigned i = 0; i < 5; i++)
        cr_assert_eq(bus_cluster(bus, i)->node_count, 5);
    bus_run(bus, CLUSTER_FORGET_MS);
    FAILS(cluster_forget(first, id, WIRE_ID_LENGTH),
          cluster_error(bus_cluster(bus, 1), "ERR Unknown node %.40s", id));
}

Test(operate, failover_errors, .fini = end) {
    form(6, 3);
    struct cluster *replica = bus_cluster(bus, 3);
    FAILS(cluster_failover(first, CLUSTER_FAILOVER_FORCE),
          "ERR You should send CLUSTER FAILOVER to a replica");
    machine_stop(&bus->machines[0]);
    bus_run(bus, 10);
    FAILS(cluster_failover(replica, CLUSTER_FAILOVER_AGREED),
          "ERR Master is down or failed, please use CLUSTER FAILOVER FORCE");
    replica->myself->primary->replica_count = 0;
    replica->myself->primary = NULL;
    FAILS(cluster_failover(replica, CLUSTER_FAILOVER_FORCE),
          "ERR I'm a replica but my master is unknown to me");
}

Test(operate, reset, .fini = end) {
    form(6, 3);
    char id[WIRE_ID_LENGTH];
    memcpy(id, bus_id(bus, 3), WIRE_ID_LENGTH);
    FAILS(cluster_reset(first, true, true),
          "ERR CLUSTER RESET can't be called with master nodes containing keys");
    WORKS(cluster_reset(bus_cluster(bus, 3), false, true));
    cr_assert(bus->machines[3].dropped_all);
    cr_assert_eq(bus_cluster(bus, 3)->node_count, 1);
    cr_assert(memcmp(id, bus_id(bus, 3), WIRE_ID_LENGTH) == 0);
    WORKS(cluster_reset(first, true, false));
    cr_assert_eq(first->node_count, 1);
    cr_assert_eq(first->current_epoch, 0);
    cr_assert_eq(first->myself->slot_count, 0);
    bus_run(bus, 100);
    cr_assert_eq(bus->machines[3].map->owner[0], SLOT_MAP_NOBODY);
}

Test(operate, epochs, .fini = end) {
    bool bumped;
    uint64_t epoch;
    begin(2);
    FAILS(cluster_set_config_epoch(first, -1), "ERR Invalid config epoch specified: -1");
    WORKS(cluster_set_config_epoch(first, 5));
    FAILS(cluster_set_config_epoch(first, 6), "ERR Node config epoch is already non-zero");
    cluster_bump_epoch(first, &bumped, &epoch);
    cr_assert(!bumped && epoch == 5);
    WORKS(cluster_meet(first, "10.0.0.2", BUS_PORT, BUS_PORT + CLUSTER_BUS_PORT_STEP));
    FAILS(cluster_set_config_epoch(bus_cluster(bus, 0), 6),
          "ERR The user can assign a config epoch only when the node does not know any other "
          "node.");
    bus_run(bus, 3000);
    struct cluster *second = bus_cluster(bus, 1);
    cluster_bump_epoch(second, &bumped, &epoch);
    cr_assert(bumped && epoch == 6);
}

Test(operate, failure_reports, .fini = end) {
    unsigned count = 99;
    form(6, 3);
    FAILS(cluster_count_failure_reports(first, NOBODY, WIRE_ID_LENGTH, &count),
          "ERR Unknown node " NOBODY);
    WORKS(cluster_count_failure_reports(first, ID(1), &count));
    cr_assert_eq(count, 0);
}

Test(operate, what_is_shown, .fini = end) {
    form(6, 3);
    size_t length;
    char *text = cluster_describe_info(first, &length);
    cr_assert(strstr(text, "cluster_state:ok\r\ncluster_slots_assigned:16384\r\n"
                           "cluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\n"
                           "cluster_slots_fail:0\r\ncluster_known_nodes:6\r\ncluster_size:3\r\n"
                           "cluster_current_epoch:6\r\ncluster_my_epoch:1\r\n"
                           "cluster_stats_messages_ping_sent:") == text);
    cr_assert(strstr(text, "cluster_stats_messages_meet_received:5\r\n") != NULL);
    memory_free(text);
    text = cluster_describe_node(first, &first->myself->id, &length);
    char start[200];
    snprintf(start, sizeof start, "%.40s 10.0.0.1:7001@17001 myself,master - 0 170000",
             first->myself->id.hex);
    cr_assert_eq(strncmp(text, start, strlen(start)), 0);
    cr_assert_str_eq(text + length - strlen(" 1 connected 0-5460"), " 1 connected 0-5460");
    memory_free(text);
    text = cluster_describe_nodes(first, WIRE_NODE_REPLICA, &length);
    unsigned lines = 0;
    for (size_t i = 0; i < length; i++)
        lines += text[i] == '\n';
    cr_assert_eq(lines, 3);
    memory_free(text);
    struct cluster_link_view link;
    unsigned links = 0;
    for (const void *cursor = NULL; cluster_view_next_link(first, &cursor, &link);)
        links++;
    cr_assert_eq(links, 10);
}
