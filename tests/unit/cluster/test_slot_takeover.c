/* How slots of a migration change hands as the nodes know it: claims, epochs, and what holds them
 * back. */
#include "cluster/slot_takeover.h"
#include "tests/unit/cluster/bus_fixture.h"

static struct bus *bus;
static struct cluster *source, *target, *third;
static uint8_t slots[WIRE_SLOT_BYTES];
static struct node_id source_id, target_id;

static void begin_with(unsigned machines) {
    bus = bus_new(machines, 5, 1000);
    bus_form(bus, 3);
    source = bus_cluster(bus, 0);
    target = bus_cluster(bus, 1);
    third = bus_cluster(bus, 2);
    memcpy(source_id.hex, bus_id(bus, 0), WIRE_ID_LENGTH);
    memcpy(target_id.hex, bus_id(bus, 1), WIRE_ID_LENGTH);
    bus_slots(slots, 10, 20);
}

static void begin(void) {
    begin_with(3);
}

static void begin_with_replicas(void) {
    begin_with(6);
}

static void end(void) {
    bus_free(bus);
}

static bool owns(struct cluster *view, unsigned machine) {
    for (unsigned slot = 10; slot <= 20; slot++)
        if (!view->owners[slot] ||
            memcmp(view->owners[slot]->id.hex, bus_id(bus, machine), WIRE_ID_LENGTH) != 0)
            return false;
    return true;
}

static uint64_t prepare(void) {
    uint64_t epoch, ticket;
    cr_assert_null(cluster_prepare_import(target, &source_id, slots, source->myself->config_epoch,
                                          &epoch, &ticket));
    cluster_before_wait(target);
    bus_run(bus, 500);
    cr_assert_gt(epoch, source->myself->config_epoch);
    return epoch;
}

static void take(void) {
    uint64_t ticket;
    cr_assert_null(cluster_take_slots(target, &source_id, slots, &ticket));
    cr_assert_gt(ticket, target->durable_ticket);
    cluster_before_wait(target);
}

Test(slot_takeover, is_given, .init = begin, .fini = end) {
    uint64_t epoch = prepare();
    cr_assert_eq(cluster_hold_slots(source, slots, epoch), CLUSTER_HOLD_DONE);
    take();
    bus_run(bus, 1000);
    cr_assert(owns(target, 1) && owns(third, 1));
    cr_assert(owns(source, 0), "the claim of the target is not the answer");
    cluster_give_slots(source, &target_id, slots, epoch);
    cluster_before_wait(source);
    bus_run(bus, 1000);
    cr_assert(owns(source, 1) && owns(third, 1));
    for (unsigned i = 0; i < 3; i++)
        bus_check_state(bus_cluster(bus, i));
}

/* Between the copy at the replica and the claim of its primary both go on saying what they said. */
Test(slot_takeover, a_replica_keeps_what_its_primary_has_not_claimed_yet,
     .init = begin_with_replicas, .fini = end) {
    uint64_t epoch = prepare();
    struct cluster *replica = bus_cluster(bus, 4);
    cr_assert_arr_eq(replica->myself->primary->id.hex, target_id.hex, WIRE_ID_LENGTH);
    cluster_note_taken(replica, slots, epoch);
    bus_run(bus, 5000);
    cr_assert(owns(replica, 1));
    take();
    bus_run(bus, 2000);
    cr_assert(owns(replica, 1));
    uint8_t none[WIRE_SLOT_BYTES] = {0};
    cr_assert_arr_eq(replica->adopted, none, sizeof none, "the primary claims them now");
}

Test(slot_takeover, is_taken_back, .init = begin, .fini = end) {
    uint64_t epoch = prepare(), ticket;
    cr_assert_eq(cluster_hold_slots(source, slots, epoch), CLUSTER_HOLD_DONE);
    take();
    bus_run(bus, 1000);
    cr_assert(owns(third, 1));
    cr_assert_null(cluster_take_back(source, slots, epoch, &ticket));
    cr_assert_gt(source->myself->config_epoch, epoch);
    cluster_let_go(source, slots);
    cluster_before_wait(source);
    bus_run(bus, 2000);
    cr_assert(owns(source, 0) && owns(target, 0) && owns(third, 0));
}

Test(slot_takeover, claim_that_is_not_durable, .init = begin, .fini = end) {
    prepare();
    take();
    cluster_untake_slots(target, &source_id, slots);
    cluster_before_wait(target);
    bus_run(bus, 1000);
    cr_assert(owns(source, 0) && owns(target, 0));
}

Test(slot_takeover, refusals, .init = begin, .fini = end) {
    uint64_t epoch, ticket;
    struct node_id nobody;
    memset(nobody.hex, 'f', WIRE_ID_LENGTH);
    cr_assert_str_eq(cluster_check_import(target, &nobody, slots),
                     "Target node does not know the source node");
    cr_assert_str_eq(cluster_check_import(target, &target_id, slots),
                     "Source node is target node itself");
    bus_slots(slots, 16000, 16000);
    cr_assert_str_eq(cluster_check_import(target, &source_id, slots),
                     "Target node does not agree about current slot ownership");
    cr_assert_eq(cluster_hold_slots(source, slots, 100), CLUSTER_HOLD_NOT_OURS);
    bus_slots(slots, 10, 20);
    target->disk_failed = true;
    cr_assert_not_null(cluster_prepare_import(target, &source_id, slots,
                                              source->myself->config_epoch, &epoch, &ticket));
    cr_assert_not_null(cluster_take_slots(target, &source_id, slots, &ticket));
    source->disk_failed = true;
    cr_assert_not_null(cluster_take_back(source, slots, 100, &ticket));
    target->disk_failed = source->disk_failed = false;
    bus_apply(cluster_set_slot(target, 30, CLUSTER_SLOT_IMPORTING, source_id.hex, WIRE_ID_LENGTH));
    cr_assert_str_eq(cluster_check_import(target, &source_id, slots),
                     "Slots are being manually imported");
    struct cluster_peer peer;
    cr_assert(!cluster_find_peer(source, &nobody, &peer));
    cr_assert(cluster_find_peer(source, &target_id, &peer));
    cr_assert(!peer.failed && !peer.has_successors);
    cr_assert_arr_eq(peer.id.hex, target_id.hex, WIRE_ID_LENGTH);
}
