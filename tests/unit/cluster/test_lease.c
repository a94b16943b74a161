/* Leases and early elections: in virtual time, with three primaries (0 to 2) and their replicas (3
 * to 5, 6 is a second one of 0) unless a test says otherwise. */
#include "cluster/capability.h"
#include "cluster/lease_voter.h"
#include "cluster/lease_wire.h"
#include "cluster/nodes.h"
#include "cluster/roles.h"
#include "tests/unit/cluster/forge.h"

#define TIMEOUT_MS 10000 /* nobody fails in a test that is shorter */
#define SPARE_AT   2216

static struct bus *bus;

static void form(unsigned machines) {
    bus = bus_new(machines, 5, TIMEOUT_MS);
    bus_form(bus, 3);
    bus->machines[0].offset = 1000;
    bus_run(bus, 3000);
}

static void end(void) {
    bus_free(bus);
}

static bool is_primary(unsigned i) {
    return node_is_primary(bus_cluster(bus, i)->myself);
}

static enum lease_mode mode(unsigned i) {
    return bus_cluster(bus, i)->lease.mode;
}

static bool acknowledges(unsigned i) {
    return bus->now_ms < bus->machines[i].lease_until_ms;
}

static bool three_leads(struct bus *all) {
    (void)all;
    return is_primary(3) && !bus_cluster(bus, 3)->promoting;
}

static bool three_acknowledges(struct bus *all) {
    return three_leads(all) && acknowledges(3);
}

static bool three_knows_the_failure(struct bus *all) {
    return node_is_failed(bus_cluster(all, 3)->myself->primary) ||
           node_is_primary(bus_cluster(all, 3)->myself);
}

Test(lease, primaries_of_such_a_cluster_have_leases, .fini = end) {
    form(6);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(mode(i), LEASE_ON);
        cr_assert(acknowledges(i));
        cr_assert(bus->machines[i].lease_until_ms <= bus->now_ms + CLUSTER_LEASE_MS);
    }
    cr_assert_eq(bus->machines[3].lease_until_ms, CLUSTER_LEASE_FREE);
}

Test(lease, of_whom_nobody_answers_it_ends_soon, .fini = end) {
    form(6);
    bus_isolate(bus, 0, true);
    bus_run(bus, CLUSTER_LEASE_MS + 10);
    cr_assert_not(acknowledges(0));
    bus_isolate(bus, 0, false);
    bus_run(bus, 200);
    cr_assert(acknowledges(0), "nobody has taken its place");
    cr_assert(is_primary(0));
}

Test(lease, one_of_two_others_is_enough, .fini = end) {
    form(6);
    bus_set_cut(bus, 0, 1, true);
    bus_run(bus, 1000);
    cr_assert(acknowledges(0));
}

Test(lease, a_primary_that_is_killed_is_replaced_before_it_has_failed, .fini = end) {
    form(6);
    char old_id[WIRE_ID_LENGTH];
    memcpy(old_id, bus_id(bus, 0), WIRE_ID_LENGTH);
    uint64_t killed_ms = bus->now_ms;
    machine_stop(&bus->machines[0]);
    cr_assert(bus_wait(bus, 2000, three_acknowledges));
    cr_assert(bus->now_ms - killed_ms >= CLUSTER_ANSWER_MS - 200);
    cr_assert(bus->now_ms - killed_ms < 1000);
    cr_assert_not(bus_view(bus, 1, old_id).flags & (WIRE_NODE_FAIL | WIRE_NODE_PFAIL));
    cr_assert_eq(bus_view(bus, 1, bus_id(bus, 3)).config_epoch, 7);
    cr_assert(bus_logged(bus, 3, "has run out: starting an election early."));
    cr_assert(bus_wait(bus, 5000, bus_agrees));
}

Test(lease, a_link_that_breaks_is_no_reason, .fini = end) {
    form(6);
    bus_set_cut(bus, 0, 3, true);
    bus_cluster(bus, 3)->myself->primary->link->created_ms = 0;
    bus_run(bus, 3000);
    cr_assert_eq(bus->machines[3].promotions, 0);
    cr_assert_eq(bus_cluster(bus, 3)->current_epoch, 6, "nor of an election");
    cr_assert(acknowledges(0));
}

Test(lease, the_newest_data_win, .fini = end) {
    form(7);
    bus_set_cut(bus, 0, 6, true);
    bus->machines[0].offset = 2000;
    bus_run(bus, 30);
    machine_stop(&bus->machines[0]);
    cr_assert(bus_wait(bus, 2000, three_leads));
    bus_run(bus, 3000);
    cr_assert_eq(bus->machines[6].promotions, 0);
    cr_assert_eq(bus->machines[3].offset, 2000);
}

Test(lease, a_sibling_that_is_silent_stops_it, .fini = end) {
    form(7);
    bus_set_cut(bus, 3, 6, true);
    machine_stop(&bus->machines[0]);
    bus_run(bus, 3000);
    cr_assert_eq(bus->machines[3].promotions + bus->machines[6].promotions, 0);
}

Test(lease, who_has_no_data_of_its_primary_does_not, .fini = end) {
    form(6);
    bus->machines[3].never_synchronised = true;
    machine_stop(&bus->machines[0]);
    bus_run(bus, 3000);
    cr_assert_eq(bus->machines[3].promotions, 0);
}

Test(lease, the_winner_acknowledges_when_a_majority_knows, .fini = end) {
    form(6);
    machine_stop(&bus->machines[0]);
    for (unsigned i = 0; i < 1000 && !is_primary(3); i++)
        bus_run(bus, 1);
    bus_set_cut(bus, 3, 1, true);
    bus_run(bus, 1000);
    cr_assert(is_primary(3));
    cr_assert_not(acknowledges(3), "one of the three voters before does not know it");
    bus_set_cut(bus, 3, 1, false);
    cr_assert(bus_wait(bus, 10000, three_acknowledges));
}

/* It might forget whom it has answered, and answer the primary before again. */
Test(lease, a_voter_answers_the_successor_when_it_cannot_forget_it, .fini = end) {
    form(6);
    machine_stop(&bus->machines[0]);
    for (unsigned i = 0; i < 2000 && !is_primary(3); i++)
        bus_run(bus, 1);
    bus->machines[1].disk_ms = 3000;
    bus_run(bus, 2000);
    cr_assert(is_primary(3));
    cr_assert_eq(bus_view(bus, 1, bus_id(bus, 3)).slot_count, 5461, "it knows");
    cr_assert_not(acknowledges(3));
    cr_assert(bus_wait(bus, 3000, three_acknowledges));
}

Test(lease, a_failover_by_agreement_does_not_wait_for_it, .fini = end) {
    form(6);
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_AGREED));
    cr_assert(bus_wait(bus, 250, three_acknowledges));
    cr_assert_not(is_primary(0));
}

Test(lease, what_was_not_agreed_goes_on, .fini = end) {
    form(6);
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_AGREED));
    bus_set_cut(bus, 1, 3, true);
    bus_set_cut(bus, 2, 3, true);
    bus_set_cut(bus, 0, 3, true);
    bus_run(bus, CLUSTER_MANUAL_MS + 500);
    cr_assert_not(bus->machines[0].paused);
    cr_assert(bus->machines[0].lease_until_ms != CLUSTER_LEASE_FREE);
    cr_assert(acknowledges(0));
}

/* A process that was stopped since does not acknowledge after the pause, which it may not know. */
Test(lease, who_is_paused_is_bound_when_the_pause_is_over, .fini = end) {
    form(6);
    bus_set_cut(bus, 1, 3, true);
    bus_set_cut(bus, 2, 3, true);
    uint64_t began_ms = bus->now_ms;
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_AGREED));
    bus_run(bus, 300);
    cr_assert(bus->machines[0].paused);
    cr_assert(acknowledges(0), "what was written before");
    cr_assert(bus->machines[0].lease_until_ms <= began_ms + 100 + CLUSTER_MANUAL_PAUSE_MS);
}

Test(lease, a_primary_that_is_silent_is_replaced_after_a_node_timeout, .fini = end) {
    form(6);
    bus_isolate(bus, 0, true);
    uint64_t began_ms = bus->now_ms;
    cr_assert(bus_wait(bus, TIMEOUT_MS + 500, three_acknowledges));
    cr_assert(bus->now_ms - began_ms >= CLUSTER_ANSWER_MS - 200);
    cr_assert_not(acknowledges(0));
}

Test(lease, answers_count_for_the_voters_that_were_told_only, .fini = end) {
    form(6);
    struct cluster_lease *lease = &bus_cluster(bus, 0)->lease;
    for (uint64_t round = lease->round; lease->round == round;)
        bus_run(bus, 1);
    uint64_t until_ms = lease->until_ms;
    lease->voters ^= 1; /* as if others had got slots since */
    bus_run(bus, 50);
    cr_assert_eq(lease->until_ms, until_ms);
    bus_run(bus, 200);
    cr_assert(acknowledges(0));
}

/* Those that come by a link that was slow. */
Test(lease, a_round_that_is_older_than_the_last_is_void, .fini = end) {
    form(6);
    struct cluster *voter = bus_cluster(bus, 1);
    struct cluster_node *primary = nodes_find(voter, bus_id(bus, 0), WIRE_ID_LENGTH);
    const struct cluster_lease *lease = &bus_cluster(bus, 0)->lease;
    struct lease_round round = {LEASE_MESSAGE_OFF, lease->incarnation, lease->round + 5,
                                lease->voters};
    uint8_t data[LEASE_ROUND_BYTES];
    struct wire_packet packet = {.private_data = data, .private_length = sizeof data};
    memcpy(packet.header.slots, primary->slots, WIRE_SLOT_BYTES);
    lease_round_write(data, &round);
    lease_voter_take_round(voter, primary, &packet);
    cr_assert_not(primary->grant.on);
    round =
        (struct lease_round){LEASE_MESSAGE_ON, round.incarnation, round.number - 1, round.voters};
    lease_round_write(data, &round);
    lease_voter_take_round(voter, primary, &packet);
    cr_assert_not(primary->grant.on);
}

Test(lease, after_a_start_nothing_is_acknowledged_without, .fini = end) {
    form(6);
    machine_stop(&bus->machines[3]); /* nobody takes over */
    machine_stop(&bus->machines[0]);
    bus_isolate(bus, 0, true);
    machine_start(&bus->machines[0]);
    bus_run(bus, 4000);
    cr_assert_not(acknowledges(0));
    bus_isolate(bus, 0, false);
    bus_run(bus, TIMEOUT_MS); /* until links that hang are made anew */
    cr_assert(acknowledges(0));
    cr_assert_eq(mode(0), LEASE_ON);
}

Test(lease, a_voter_that_starts_does_not_answer_at_once, .fini = end) {
    form(6);
    bus_set_cut(bus, 0, 1, true);
    machine_stop(&bus->machines[2]);
    machine_start(&bus->machines[2]);
    bus_run(bus, CLUSTER_ANSWER_MS - 10);
    cr_assert_not(acknowledges(0));
    bus_run(bus, 300);
    cr_assert(acknowledges(0));
}

static bool drop_capabilities(struct bus *all, struct machine *to, uint8_t *bytes, size_t length) {
    (void)to, (void)length;
    if (memcmp(bytes + 40, bus_id(all, 1), WIRE_ID_LENGTH) == 0)
        memset(bytes + SPARE_AT, 0, WIRE_SPARE_LENGTH);
    return true;
}

Test(lease, with_a_voter_that_cannot_all_is_as_with_redis, .fini = end) {
    form(6);
    bus->filter = drop_capabilities; /* as if 1 were a stock node from now on */
    bus_run(bus, 2 * TIMEOUT_MS);
    cr_assert_eq(mode(0), LEASE_OFF);
    cr_assert_eq(bus->machines[0].lease_until_ms, CLUSTER_LEASE_FREE);
    machine_stop(&bus->machines[0]);
    bus_run(bus, TIMEOUT_MS / 2);
    cr_assert_eq(bus->machines[3].promotions, 0);
    cr_assert(bus_wait(bus, 2 * TIMEOUT_MS, three_knows_the_failure));
    cr_assert(bus_wait(bus, 200, three_acknowledges), "and little later than that");
}

/* What it was bound by ends, when a majority of the voters before knows. */
Test(lease, there_are_none_with_more_than_nine_voters, .fini = end) {
    uint8_t slot[WIRE_SLOT_BYTES];
    bus = bus_new(11, 5, TIMEOUT_MS);
    bus_form(bus, 9);
    bus_run(bus, 3000);
    cr_assert_eq(mode(0), LEASE_ON);
    struct cluster *tenth = bus_cluster(bus, 10);
    bus_apply(cluster_reset(tenth, false, false));
    bus_apply(
        cluster_meet(tenth, bus->machines[0].address, BUS_PORT, BUS_PORT + CLUSTER_BUS_PORT_STEP));
    bus_run(bus, 3000);
    bus_slots(slot, 0, 0);
    bus_apply(cluster_delete_slots(tenth, slot));
    bus_apply(cluster_add_slots(tenth, slot));
    bool bumped;
    uint64_t epoch;
    bus_apply(cluster_bump_epoch(tenth, &bumped, &epoch));
    bus_run(bus, 2 * TIMEOUT_MS);
    for (unsigned i = 0; i < 9; i++) {
        cr_assert_eq(bus_view(bus, i, bus_id(bus, 10)).slot_count, 1);
        cr_assert_eq(mode(i), LEASE_OFF);
        cr_assert_eq(bus->machines[i].lease_until_ms, CLUSTER_LEASE_FREE);
    }
}

/* Of three, two are dead and forgotten, and their slots the third's. */
Test(lease, who_is_left_over_does_not_wait_for_the_forgotten, .fini = end) {
    uint8_t slots[WIRE_SLOT_BYTES];
    bus = bus_new(3, 5, 1000);
    bus_form(bus, 3);
    bus_run(bus, 3000);
    cr_assert_eq(mode(0), LEASE_ON);
    for (unsigned i = 1; i < 3; i++) {
        bus_apply(cluster_forget(bus_cluster(bus, 0), bus_id(bus, i), WIRE_ID_LENGTH));
        machine_stop(&bus->machines[i]);
    }
    bus_slots(slots, 5461, WIRE_SLOTS - 1);
    bus_apply(cluster_add_slots(bus_cluster(bus, 0), slots));
    bus_run(bus, 3000);
    cr_assert(acknowledges(0));
}

/* Neither by the slots in its packets, whose epoch it has from the time when it was a replica, nor
 * by an UPDATE. */
Test(lease, what_was_won_is_told_by_nothing_before_it_is_durable, .fini = end) {
    form(6);
    machine_stop(&bus->machines[0]);
    for (unsigned i = 0; i < 2000 && !bus_cluster(bus, 3)->election.sent; i++)
        bus_run(bus, 1);
    bus->machines[3].disk_ms = 60000;
    bus_run(bus, 2000);
    cr_assert(is_primary(3));
    cr_assert_eq(bus_cluster(bus, 3)->claim_ticket, bus_cluster(bus, 3)->last_ticket);
    for (unsigned i = 1; i < 6; i++)
        if (i != 3)
            cr_assert_eq(bus_view(bus, i, bus_id(bus, 3)).slot_count, 0, "%u", i);
}

/* Nobody claims slots meanwhile. */
Test(roles, a_replica_of_a_replica_finds_its_primary, .fini = end) {
    form(7);
    bus_isolate(bus, 0, true);
    bus_run(bus, 20);
    struct cluster *cluster = bus_cluster(bus, 6);
    struct cluster_node *primary = cluster->myself->primary;
    roles_set_replica(cluster, primary);
    nodes_set_primary(cluster, primary, nodes_find(cluster, bus_id(bus, 1), WIRE_ID_LENGTH));
    bus_run(bus, TIMEOUT_MS + 500);
    cr_assert_eq(memcmp(cluster->myself->primary->id.hex, bus_id(bus, 1), WIRE_ID_LENGTH), 0);
}

Test(lease, it_can_be_switched_off, .fini = end) {
    form(6);
    bus->machines[2].config.fast_failover = false;
    cluster_configure(bus_cluster(bus, 2), &bus->machines[2].config);
    bus_run(bus, 2 * TIMEOUT_MS);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(bus->machines[i].lease_until_ms, CLUSTER_LEASE_FREE);
}

Test(lease, who_leaves_is_bound_until_a_majority_knows, .fini = end) {
    form(6);
    bus_isolate(bus, 0, true);
    bus->machines[0].config.fast_failover = false;
    cluster_configure(bus_cluster(bus, 0), &bus->machines[0].config);
    bus_run(bus, 1000);
    cr_assert_eq(mode(0), LEASE_LEAVING);
    cr_assert_not(acknowledges(0));
    bus_isolate(bus, 0, false);
    bus_run(bus, 1000);
    cr_assert(acknowledges(0) || !is_primary(0));
}

Test(lease, what_it_sends_is_counted_by_nobody, .fini = end) {
    size_t length;
    form(6);
    char *text = cluster_describe_info(bus_cluster(bus, 0), &length);
    cr_assert_null(strstr(text, "module"), "%s", text);
    memory_free(text);
}

/* --- What it travels in ----------------------------------------------------------------------- */

Test(capability, reads_what_it_has_written) {
    uint8_t spare[WIRE_SPARE_LENGTH] = {0};
    uint64_t voters;
    cr_assert_eq(capability_read(spare, &voters), 0);
    capability_write(spare, 0x80000001u, 0x123456789abcdef0u);
    cr_assert_eq(capability_read(spare, &voters), 0x80000001u);
    cr_assert_eq(voters, 0x123456789abcdef0u);
    spare[0] ^= 1;
    cr_assert_eq(capability_read(spare, &voters), 0);
    cr_assert_eq(voters, 0);
}

Test(capability, private_messages_are_those_of_a_module) {
    static const struct wire_header header = {.type = WIRE_MODULE};
    uint8_t bytes[WIRE_HEADER_BYTES + 64], data[LEASE_ROUND_BYTES];
    const struct lease_round round = {LEASE_MESSAGE_ON, 1, 1ull << 60, 3};
    struct lease_round read = {0};
    struct wire_builder builder;
    struct wire_packet packet;
    lease_round_write(data, &round);
    wire_begin(&builder, bytes, sizeof bytes, &header);
    wire_add_private(&builder, WIRE_PRIVATE_LEASE, data, sizeof data);
    size_t length = wire_finish(&builder);
    cr_assert_eq(length, WIRE_HEADER_BYTES + wire_private_bytes(sizeof data));
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    cr_assert_eq(packet.private_kind, WIRE_PRIVATE_LEASE);
    cr_assert(lease_round_read(&packet, &read));
    cr_assert(read.message == LEASE_MESSAGE_ON && read.incarnation == 1 &&
              read.number == 1ull << 60 && read.voters == 3);
    packet.private_length--;
    cr_assert_not(lease_round_read(&packet, &read));
    bytes[WIRE_HEADER_BYTES + 11]++; /* longer than it is */
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_BAD_LENGTH);
    bytes[WIRE_HEADER_BYTES + 11]--;
    bytes[WIRE_HEADER_BYTES] ^= 1; /* another module */
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    cr_assert_eq(packet.private_kind, WIRE_PRIVATE_NONE);
}
