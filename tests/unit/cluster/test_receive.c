/* Packets that no honest node sends: the cluster keeps its invariants, its memory and its peace. */
#include "tests/unit/cluster/forge.h"

#define TIMEOUT_MS 1000
#define STRANGER   "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

static struct bus *bus;
static struct cluster *first;

static void begin(void) {
    bus = bus_new(6, 11, TIMEOUT_MS);
    bus_form(bus, 3);
    bus_run(bus, 2000);
    first = bus_cluster(bus, 0);
    forge_open(bus, 0);
}

static void end(void) {
    bus_free(bus);
}

/* A packet as the second machine would send it. */
static void make(enum wire_type type, const char *sender) {
    forge_header(type, bus_cluster(bus, 1)->myself);
    memcpy(forge_head.sender.hex, sender, WIRE_ID_LENGTH);
}

static void check(void) {
    bus_check_state(first);
}

Test(receive, strangers_change_nothing, .init = begin, .fini = end) {
    for (enum wire_type type = WIRE_PING; type < WIRE_TYPES; type++) {
        if (type == WIRE_MEET || type == WIRE_PUBLISH || type == WIRE_PUBLISHSHARD ||
            type == WIRE_MODULE)
            continue;
        make(type, STRANGER);
        forge_head.current_epoch = forge_head.config_epoch = 1000;
        forge_begin();
        if (type == WIRE_FAIL)
            wire_add_fail(&forge_builder, &bus_cluster(bus, 1)->myself->id);
        if (type == WIRE_UPDATE)
            wire_add_update(&forge_builder, 1000, &bus_cluster(bus, 1)->myself->id,
                            forge_head.slots);
        cr_assert(forge_deliver());
    }
    cr_assert_eq(first->node_count, 6);
    cr_assert_eq(first->current_epoch, 6);
    cr_assert(bus_logged(bus, 0, "Ignoring FAIL message from unknown node " STRANGER));
    check();
}

Test(receive, meetings_are_bounded, .init = begin, .fini = end) {
    for (unsigned i = 0; i < 3000; i++) {
        make(WIRE_MEET, STRANGER);
        forge_head.port = (uint16_t)(1 + i);
        cr_assert(forge_deliver_plain());
        cr_assert(forge_deliver_plain());
    }
    cr_assert_eq(first->handshake_count, CLUSTER_MAX_HANDSHAKES);
    check();
    bus_run(bus, 2 * TIMEOUT_MS);
    cr_assert_eq(first->node_count, 6);
    cr_assert(bus_agrees(bus));
}

Test(receive, who_claims_to_be_us, .init = begin, .fini = end) {
    make(WIRE_PING, bus_id(bus, 0));
    forge_head.config_epoch = forge_head.current_epoch = 1000;
    memset(forge_head.slots, 255, sizeof forge_head.slots);
    cr_assert(forge_deliver_plain());
    make(WIRE_FAIL, bus_id(bus, 0));
    forge_begin();
    wire_add_fail(&forge_builder, &bus_cluster(bus, 1)->myself->id);
    cr_assert(forge_deliver());
    cr_assert_eq(first->current_epoch, 6);
    cr_assert_eq(first->myself->slot_count, 5461);
    cr_assert(bus_agrees(bus));
    check();
}

Test(receive, meeting_oneself_is_forgotten, .init = begin, .fini = end) {
    bus_apply(cluster_meet(first, "10.0.0.1", BUS_PORT, BUS_PORT + CLUSTER_BUS_PORT_STEP));
    bus_run(bus, 500);
    cr_assert_eq(first->node_count, 6);
    check();
}

Test(receive, a_primary_of_its_own_and_unknown_ones, .init = begin, .fini = end) {
    make(WIRE_PING, bus_id(bus, 4)); /* a replica of the second */
    memcpy(forge_head.primary.hex, bus_id(bus, 4), WIRE_ID_LENGTH);
    cr_assert(forge_deliver_plain());
    check();
    memcpy(forge_head.primary.hex, STRANGER, WIRE_ID_LENGTH);
    cr_assert(forge_deliver_plain());
    check();
    /* Two that are each other's replicas, and one of which is ours. */
    make(WIRE_PING, bus_id(bus, 1));
    memcpy(forge_head.primary.hex, bus_id(bus, 4), WIRE_ID_LENGTH);
    cr_assert(forge_deliver_plain());
    check();
    bus_run(bus, 5000);
    check();
}

Test(receive, a_replica_claims_no_slots, .init = begin, .fini = end) {
    make(WIRE_PING, bus_id(bus, 4));
    memcpy(forge_head.primary.hex, bus_id(bus, 1), WIRE_ID_LENGTH);
    memset(forge_head.slots, 255, sizeof forge_head.slots);
    forge_head.config_epoch = 100;
    forge_head.flags = WIRE_NODE_REPLICA;
    cr_assert(forge_deliver_plain());
    cr_assert_eq(first->myself->slot_count, 5461);
    check();
}

Test(receive, impossible_epochs_are_ignored, .init = begin, .fini = end) {
    make(WIRE_PING, bus_id(bus, 1));
    forge_head.current_epoch = UINT64_MAX;
    cr_assert(forge_deliver_plain());
    make(WIRE_PING, bus_id(bus, 1));
    forge_head.config_epoch = UINT64_MAX;
    cr_assert(forge_deliver_plain());
    make(WIRE_UPDATE, bus_id(bus, 1));
    forge_begin();
    wire_add_update(&forge_builder, UINT64_MAX, &bus_cluster(bus, 2)->myself->id, forge_head.slots);
    cr_assert(forge_deliver());
    cr_assert_eq(first->current_epoch, 6);
    cr_assert_eq(bus_view(bus, 0, bus_id(bus, 2)).config_epoch, 3);
}

Test(receive, gossip_brings_no_nonsense, .init = begin, .fini = end) {
    static const char *const bad_addresses[] = {"", "10.0.0.9 x", "a\nb", "a,b", "\"", "a=b"};
    for (unsigned i = 0; i < sizeof bad_addresses / sizeof *bad_addresses; i++) {
        struct wire_gossip gossip = {.port = 1, .bus_port = 1, .flags = WIRE_NODE_PRIMARY};
        memcpy(gossip.id.hex, STRANGER, WIRE_ID_LENGTH);
        snprintf(gossip.address, sizeof gossip.address, "%s", bad_addresses[i]);
        make(WIRE_PING, bus_id(bus, 1));
        forge_begin();
        wire_add_gossip(&forge_builder, &gossip);
        cr_assert(forge_deliver());
        cr_assert_eq(first->node_count, 6);
    }
    struct wire_gossip gossip = {.port = 1, .bus_port = 1, .flags = 0xffff, .address = "10.9.9.9"};
    gossip.flags &= (uint16_t) ~(WIRE_NODE_NOADDR | WIRE_NODE_HANDSHAKE);
    make(WIRE_PING, bus_id(bus, 1));
    forge_begin();
    memcpy(gossip.id.hex, "UPPER CASE AND SPACES ARE NO ID OF A NODE", WIRE_ID_LENGTH);
    wire_add_gossip(&forge_builder, &gossip);
    cr_assert(forge_deliver());
    cr_assert_eq(first->node_count, 6);
    forge_begin();
    memcpy(gossip.id.hex, STRANGER, WIRE_ID_LENGTH);
    wire_add_gossip(&forge_builder, &gossip);
    cr_assert(forge_deliver());
    cr_assert_eq(first->node_count, 7);
    check();
}

Test(receive, names_that_do_not_fit_a_file_are_ignored, .init = begin, .fini = end) {
    static const char *const bad_names[] = {"a b", "a,b", "a\nb", "a\"b", "a=b"};
    for (unsigned i = 0; i < sizeof bad_names / sizeof *bad_names; i++) {
        make(WIRE_PING, bus_id(bus, 1));
        forge_begin();
        wire_add_extension(&forge_builder, WIRE_EXTENSION_HOSTNAME, bad_names[i],
                           strlen(bad_names[i]));
        wire_add_extension(&forge_builder, WIRE_EXTENSION_SHARD_ID, "x y", 3);
        cr_assert(forge_deliver());
        cr_assert_str_eq(bus_view(bus, 0, bus_id(bus, 1)).hostname, "");
    }
    forge_begin();
    wire_add_extension(&forge_builder, WIRE_EXTENSION_HOSTNAME, "good.example", 12);
    cr_assert(forge_deliver());
    cr_assert_str_eq(bus_view(bus, 0, bus_id(bus, 1)).hostname, "good.example");
}

Test(receive, nobody_is_forgotten_that_must_not_be, .init = begin, .fini = end) {
    const unsigned kept[] = {0, 1}; /* ourselves, the sender */
    for (unsigned i = 0; i < 2; i++) {
        char data[48] = {0};
        memcpy(data, bus_id(bus, kept[i]), WIRE_ID_LENGTH);
        data[47] = 60;
        make(WIRE_PING, bus_id(bus, 1));
        forge_begin();
        wire_add_extension(&forge_builder, WIRE_EXTENSION_FORGOTTEN_NODE, data, sizeof data);
        cr_assert(forge_deliver());
        cr_assert_eq(first->node_count, 6);
    }
    check();
}

Test(receive, a_fail_that_a_fresh_pong_contradicts_is_one_report, .init = begin, .fini = end) {
    make(WIRE_PING, bus_id(bus, 1));
    struct cluster_node *third = NULL;
    for (unsigned i = 0; i < first->node_count; i++)
        if (id_compare(&first->nodes[i]->id, &bus_cluster(bus, 2)->myself->id) == 0)
            third = first->nodes[i];
    third->pong_received_ms = bus->now_ms;
    make(WIRE_FAIL, bus_id(bus, 1));
    forge_begin();
    wire_add_fail(&forge_builder, &third->id);
    cr_assert(forge_deliver());
    cr_assert_not(node_is_failed(third));
    cr_assert_eq(third->report_count, 1);
    third->pong_received_ms = bus->now_ms - TIMEOUT_MS;
    forge_begin();
    wire_add_fail(&forge_builder, &third->id);
    cr_assert(forge_deliver());
    cr_assert(node_is_failed(third));
}

static void report(const struct cluster_node *sender, const struct cluster_node *suspected) {
    struct wire_gossip gossip = {.id = suspected->id,
                                 .port = BUS_PORT,
                                 .bus_port = BUS_PORT + CLUSTER_BUS_PORT_STEP,
                                 .flags = WIRE_NODE_PRIMARY | WIRE_NODE_PFAIL};
    memcpy(gossip.address, suspected->address, sizeof gossip.address);
    forge_header(WIRE_PING, sender);
    forge_begin();
    cr_assert(wire_add_gossip(&forge_builder, &gossip));
    cr_assert(forge_deliver());
}

static struct cluster_node *known_to_first(unsigned machine) {
    for (unsigned i = 0; i < first->node_count; i++)
        if (id_compare(&first->nodes[i]->id, &bus_cluster(bus, machine)->myself->id) == 0)
            return first->nodes[i];
    return NULL;
}

Test(receive, who_has_no_slots_is_no_part_of_the_majority_for_a_failure, .init = begin,
     .fini = end) {
    struct cluster_node *suspected = known_to_first(2);
    struct cluster_node idle = *bus_cluster(bus, 4)->myself;
    suspected->flags |= WIRE_NODE_PFAIL;
    idle.primary = NULL;
    idle.flags = WIRE_NODE_PRIMARY;
    report(&idle, suspected);
    cr_assert(node_is_primary(known_to_first(4)));
    cr_assert_eq(suspected->report_count, 1);
    cr_assert_not(node_is_failed(suspected), "one voter of three and a primary without slots");
    report(bus_cluster(bus, 1)->myself, suspected);
    cr_assert(node_is_failed(suspected));
}

/* Good packets of a running cluster, of which some bytes have been changed on their way. */
static bool damage(struct bus *all, struct machine *to, uint8_t *packet, size_t length) {
    (void)to;
    if (bus_random(all) % 3 == 0)
        return true;
    for (unsigned changes = 1 + bus_random(all) % 4; changes > 0; changes--) {
        size_t at = 8 + bus_random(all) % (length - 8);
        if (bus_random(all) % 2)
            at = 8 + bus_random(all) % 72; /* the part with the epochs and the sender */
        if (at >= 16 && at < 20)
            continue; /* an epoch without bound is no news */
        packet[at] = (uint8_t)bus_random(all);
    }
    return true;
}

Test(receive, damaged_packets_do_no_harm_for_long, .init = begin, .fini = end) {
    bus->filter = damage;
    for (unsigned round = 0; round < 200; round++) {
        bus_run(bus, 100);
        check();
    }
    bus->filter = NULL;
}
