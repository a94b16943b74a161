/* Failures of primaries, and who takes over: in virtual time, with three primaries (0 to 2) and
 * their replicas (3 to 5) unless a test says otherwise. */
#include "tests/unit/cluster/bus_fixture.h"

#define TIMEOUT_MS 1000

static struct bus *bus;

static void form(unsigned machines, unsigned primaries) {
    bus = bus_new(machines, 7, TIMEOUT_MS);
    bus_form(bus, primaries);
    bus_run(bus, 3000);
}

static void end(void) {
    bus_free(bus);
}

static bool is_primary(unsigned i) {
    return node_is_primary(bus_cluster(bus, i)->myself);
}

static bool three_leads(struct bus *all) {
    (void)all;
    return is_primary(3) && !bus_cluster(bus, 3)->promoting;
}

Test(failover, a_dead_primary_is_replaced_at_the_next_epoch, .fini = end) {
    form(6, 3);
    char old_id[WIRE_ID_LENGTH];
    memcpy(old_id, bus_id(bus, 0), WIRE_ID_LENGTH);
    machine_stop(&bus->machines[0]);
    cr_assert(bus_wait(bus, 10000, three_leads));
    cr_assert(bus_wait(bus, 3000, bus_agrees));
    cr_assert_eq(bus->machines[3].promotions, 1);
    cr_assert(bus_logged(bus, 3, "Starting a failover election for epoch 7."));
    cr_assert(bus_logged(bus, 3, "Failover election won: I'm the new master."));
    bus_run(bus, 3 * TIMEOUT_MS); /* it is replaced before it has failed */
    for (unsigned i = 1; i < 6; i++) {
        struct cluster_node_view winner = bus_view(bus, i, bus_id(bus, 3));
        struct cluster_node_view loser = bus_view(bus, i, old_id);
        cr_assert_eq(winner.config_epoch, 7);
        cr_assert_eq(winner.slot_count, 5461);
        cr_assert_eq(loser.slot_count, 0);
        cr_assert(loser.flags & WIRE_NODE_FAIL);
        cr_assert(loser.flags & WIRE_NODE_PRIMARY);
        cr_assert_not(loser.connected);
    }
    cr_assert_eq(bus->machines[3].map->owner[0], SLOT_MAP_MINE);

    /* It comes back as a replica of who has its slots. */
    machine_start(&bus->machines[0]);
    cr_assert(bus_wait(bus, 10000, bus_agrees));
    cr_assert_not(is_primary(0));
    cr_assert_eq(bus->machines[0].primary, 3);
    for (unsigned i = 0; i < 6; i++)
        cr_assert_eq(bus_cluster(bus, i)->current_epoch, 7);
}

Test(failover, a_primary_that_was_cut_off_stops_serving_and_follows, .fini = end) {
    form(6, 3);
    bus_isolate(bus, 0, true);
    bus_run(bus, 2 * TIMEOUT_MS + 500);
    cr_assert_not(bus_cluster(bus, 0)->state_ok);
    cr_assert(bus_wait(bus, 10000, three_leads));
    cr_assert(is_primary(0)); /* as far as it knows */
    bus_isolate(bus, 0, false);
    cr_assert(bus_wait(bus, 20000, bus_agrees));
    cr_assert_eq(bus->machines[0].primary, 3);
    cr_assert_not(is_primary(0));
}

Test(failover, a_minority_elects_nobody, .fini = end) {
    form(6, 3);
    machine_stop(&bus->machines[0]);
    machine_stop(&bus->machines[1]);
    bus_run(bus, 8000);
    for (unsigned i = 2; i < 6; i++) {
        cr_assert_not(bus_cluster(bus, i)->state_ok);
        cr_assert_eq(bus->machines[i].promotions, 0);
    }
    /* With one of the two there is a majority again. */
    machine_start(&bus->machines[1]);
    cr_assert(bus_wait(bus, 30000, three_leads));
    cr_assert(bus_wait(bus, 10000, bus_agrees));
}

Test(failover, the_replica_with_the_newest_data_comes_first, .fini = end) {
    form(7, 3); /* 3 and 6 are replicas of 0 */
    cr_assert_eq(bus->machines[6].primary, 0);
    bus->machines[0].offset = 1000;
    bus_run(bus, 2 * TIMEOUT_MS);
    cr_assert_eq(bus_view(bus, 6, bus_id(bus, 3)).offset, 1000);
    bus_set_cut(bus, 0, 6, true); /* 6 stays behind */
    bus->machines[0].offset = 2000;
    bus_run(bus, TIMEOUT_MS / 2);
    machine_stop(&bus->machines[0]);
    cr_assert(bus_wait(bus, 10000, three_leads));
    bus_set_cut(bus, 0, 6, false);
    cr_assert(bus_wait(bus, 5000, bus_agrees));
    cr_assert_eq(bus->machines[6].primary, 3);
    cr_assert_eq(bus->machines[6].promotions, 0);
}

Test(failover, data_that_are_too_old_are_not_promoted, .fini = end) {
    form(6, 3);
    bus->machines[3].never_synchronised = true;
    machine_stop(&bus->machines[0]);
    bus_run(bus, 30000);
    cr_assert_eq(bus->machines[3].promotions, 0);
    cr_assert(bus_logged(bus, 3,
                         "Currently unable to failover: Disconnected from master for "
                         "longer than allowed."));
    bus->machines[3].config.replica_validity_factor = 0; /* the operator prefers old ones */
    cluster_configure(bus_cluster(bus, 3), &bus->machines[3].config);
    cr_assert(bus_wait(bus, 10000, three_leads));
}

Test(failover, a_replica_that_may_not_does_not, .fini = end) {
    form(6, 3);
    bus->machines[3].config.replica_no_failover = true;
    cluster_configure(bus_cluster(bus, 3), &bus->machines[3].config);
    bus_run(bus, 3000);
    cr_assert(bus_view(bus, 1, bus_id(bus, 3)).flags & WIRE_NODE_NOFAILOVER);
    machine_stop(&bus->machines[0]);
    bus_run(bus, 20000);
    cr_assert_eq(bus->machines[3].promotions, 0);
}

/* --- By the operator -------------------------------------------------------------------------- */

Test(failover, by_agreement_the_roles_change_without_loss, .fini = end) {
    form(6, 3);
    bus->machines[0].offset = 5000;
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_AGREED));
    cr_assert(bus_wait(bus, 1000, three_leads));
    cr_assert_eq(bus->machines[3].offset, 5000);
    cr_assert(bus_logged(bus, 0, "Manual failover requested by replica"));
    cr_assert(bus_logged(bus, 3,
                         "Received replication offset for paused master manual failover: "
                         "5000"));
    cr_assert(bus_wait(bus, 2000, bus_agrees));
    cr_assert_eq(bus->machines[0].primary, 3);
    cr_assert_not(bus->machines[0].paused);
    cr_assert_eq(bus_view(bus, 2, bus_id(bus, 3)).config_epoch, 7);
}

Test(failover, an_agreement_that_is_not_kept_is_given_up, .fini = end) {
    form(6, 3);
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_AGREED));
    bus_set_cut(bus, 1, 3, true); /* nobody can vote */
    bus_set_cut(bus, 2, 3, true);
    bus_set_cut(bus, 0, 3, true);
    bus_run(bus, CLUSTER_MANUAL_MS + 500);
    cr_assert(bus_logged(bus, 3, "Manual failover timed out."));
    cr_assert_not(bus->machines[0].paused);
    for (unsigned i = 0; i < 3; i++)
        bus_set_cut(bus, i, 3, false);
    cr_assert(bus_wait(bus, 20000, bus_agrees));
    cr_assert(is_primary(0));
}

Test(failover, by_agreement_only_with_the_data, .fini = end) {
    form(6, 3);
    bus->machines[3].never_synchronised = true; /* at offset 0, as its primary */
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_AGREED));
    bus_run(bus, 1000);
    cr_assert(bus_logged(bus, 3, "Received replication offset"));
    cr_assert_eq(bus->machines[3].promotions, 0);
    bus->machines[3].never_synchronised = false;
    cr_assert(bus_wait(bus, 500, three_leads));
}

Test(failover, by_force_without_the_primary, .fini = end) {
    form(6, 3);
    machine_stop(&bus->machines[0]);
    bus_run(bus, 200);
    cr_assert_not_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_AGREED));
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_FORCE));
    cr_assert(bus_wait(bus, 400, three_leads));
}

Test(failover, a_takeover_asks_nobody, .fini = end) {
    form(6, 3);
    machine_stop(&bus->machines[0]);
    machine_stop(&bus->machines[1]);
    bus_run(bus, 5000);
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_TAKEOVER));
    cr_assert_null(cluster_failover(bus_cluster(bus, 4), CLUSTER_FAILOVER_TAKEOVER));
    cr_assert(bus_wait(bus, 20000, bus_agrees));
    machine_start(&bus->machines[0]);
    machine_start(&bus->machines[1]);
    cr_assert(bus_wait(bus, 20000, bus_agrees));
    cr_assert_eq(bus->machines[0].primary, 3);
    cr_assert_eq(bus->machines[1].primary, 4);
}

/* --- Votes and epochs ------------------------------------------------------------------------- */

static unsigned votes_seen;

static bool count_votes(struct bus *all, struct machine *to, uint8_t *bytes, size_t length) {
    struct wire_packet packet;
    (void)all, (void)to;
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    votes_seen += packet.header.type == WIRE_FAILOVER_AUTH_ACK;
    return true;
}

Test(failover, no_vote_is_told_that_is_not_durable, .fini = end) {
    form(6, 3);
    votes_seen = 0;
    bus->filter = count_votes;
    bus->machines[1].disk_fails = bus->machines[2].disk_fails = true;
    machine_stop(&bus->machines[0]);
    bus_run(bus, 8000);
    cr_assert_eq(votes_seen, 0);
    cr_assert_eq(bus->machines[3].promotions, 0);
    cr_assert(bus_cluster(bus, 1)->node_count == 6); /* it goes on otherwise */
    bus->machines[1].disk_fails = bus->machines[2].disk_fails = false;
    cr_assert(bus_wait(bus, 12000, three_leads));
}

Test(failover, no_epoch_is_raised_that_is_not_durable, .fini = end) {
    form(6, 3);
    bus->machines[3].disk_fails = true;
    cluster_save_config(bus_cluster(bus, 3)); /* it knows */
    bus_run(bus, 100);
    machine_stop(&bus->machines[0]);
    bus_run(bus, 20000);
    for (unsigned i = 1; i < 6; i++)
        if (i != 3)
            cr_assert_eq(bus_cluster(bus, i)->current_epoch, 6);
    cr_assert_eq(bus->machines[3].promotions, 0);
}

Test(failover, a_voter_remembers_its_vote_over_a_restart, .fini = end) {
    form(6, 3);
    machine_stop(&bus->machines[0]);
    cr_assert(bus_wait(bus, 10000, three_leads));
    machine_stop(&bus->machines[1]);
    cr_assert(strstr(bus->machines[1].file, "vars currentEpoch 7 lastVoteEpoch 7\n") != NULL);
    machine_start(&bus->machines[1]);
    cr_assert_eq(bus_cluster(bus, 1)->last_vote_epoch, 7);
}

Test(failover, equal_epochs_part, .fini = end) {
    form(6, 3);
    for (unsigned i = 0; i < 3; i++)
        bus_cluster(bus, i)->myself->config_epoch = 6;
    bus_run(bus, 10000);
    uint64_t epochs[3];
    for (unsigned i = 0; i < 3; i++)
        epochs[i] = bus_cluster(bus, i)->myself->config_epoch;
    cr_assert(epochs[0] != epochs[1] && epochs[1] != epochs[2] && epochs[0] != epochs[2]);
    cr_assert(bus_wait(bus, 3000, bus_agrees));
}

static bool keep_from_three(struct bus *all, struct machine *to, uint8_t *bytes, size_t length) {
    (void)all, (void)bytes, (void)length;
    return to->index != 3;
}

Test(failover, a_candidate_that_has_missed_an_epoch_is_told, .fini = end) {
    bool bumped;
    uint64_t epoch;
    form(6, 3);
    bus->filter = keep_from_three;
    cluster_bump_epoch(bus_cluster(bus, 0), &bumped, &epoch);
    cr_assert(bumped && epoch == 7);
    bus_run(bus, 300);
    bus_set_cut(bus, 0, 3, true); /* it will not hear it from its primary */
    bus->filter = NULL;
    machine_stop(&bus->machines[0]);
    cr_assert(bus_wait(bus, 20000, three_leads));
    cr_assert(bus_logged(bus, 1, "epoch (7) > reqEpoch (1)"));
}

/* --- Replicas --------------------------------------------------------------------------------- */

static bool orphan_has_one(struct bus *all) {
    (void)all;
    return bus_cluster(bus, 1)->myself->replica_count == 1;
}

Test(failover, a_spare_replica_goes_to_an_orphan, .fini = end) {
    form(7, 3); /* 3 and 6 are replicas of 0, 4 of 1, 5 of 2 */
    machine_stop(&bus->machines[4]);
    bus_run(bus, 2 * TIMEOUT_MS);
    cr_assert_eq(bus_cluster(bus, 0)->myself->replica_count, 2);
    cr_assert(bus_wait(bus, 20000, bus_agrees));
    bus_run(bus, 10000);
    cr_assert_eq(bus_cluster(bus, 0)->myself->replica_count, 1);
    cr_assert(orphan_has_one(bus) || bus_cluster(bus, 1)->myself->replica_count == 2);
    cr_assert(bus->machines[3].primary == 1 || bus->machines[6].primary == 1);
}

Test(failover, replicas_of_the_old_primary_follow_the_new_one, .fini = end) {
    form(9, 3); /* 3 and 6 are replicas of 0 */
    machine_stop(&bus->machines[0]);
    bus_run(bus, 10000);
    cr_assert(bus_wait(bus, 10000, bus_agrees));
    unsigned winner = is_primary(3) ? 3 : 6, other = winner == 3 ? 6 : 3;
    cr_assert(is_primary(winner) && !is_primary(other));
    cr_assert_eq(bus->machines[other].primary, (int)winner);
}

static bool no_votes(struct bus *all, struct machine *to, uint8_t *bytes, size_t length) {
    struct wire_packet packet;
    (void)all, (void)to;
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    return packet.header.type != WIRE_FAILOVER_AUTH_ACK;
}

/* As when it is stopped while the votes come: its timer has not seen the end, its primary has. */
Test(failover, votes_that_come_after_a_manual_failover_has_ended_do_not_count, .fini = end) {
    form(6, 3);
    struct cluster *cluster = bus_cluster(bus, 3);
    bus->filter = no_votes;
    cr_assert_null(cluster_failover(cluster, CLUSTER_FAILOVER_AGREED));
    bus_run(bus, 300);
    cr_assert(cluster->election.sent && cluster->manual.may_start);
    cluster->election.votes = 2;
    cluster->manual.until_ms = bus->now_ms - 1;
    cluster_later(cluster, LATER_ELECTION);
    cluster_before_wait(cluster);
    cr_assert_not(is_primary(3));
}

/* --- A primary that dies while it is paused --------------------------------------------------- */

/* The replica asks for votes, which are on their way for long. */
static void agree_without_votes(void) {
    form(6, 3);
    bus->filter = no_votes;
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_AGREED));
    bus_run(bus, 300);
    cr_assert(bus_cluster(bus, 3)->manual.may_start && bus_cluster(bus, 3)->election.sent);
}

static void let_votes_come(void) {
    struct cluster *cluster = bus_cluster(bus, 3);
    cluster->election.votes = 2;
    cluster_later(cluster, LATER_ELECTION);
    cluster_before_wait(cluster);
}

Test(failover, a_primary_that_starts_again_is_not_paused_any_more, .fini = end) {
    agree_without_votes();
    machine_stop(&bus->machines[0]);
    machine_start(&bus->machines[0]);
    bus_run(bus, 2400);
    cr_assert(bus_cluster(bus, 0)->state_ok && is_primary(0)); /* it acknowledges writes */
    let_votes_come();
    cr_assert_not(is_primary(3));
    cr_assert(bus_logged(bus, 3, "Manual failover given up: the master is not paused any more."));
    bus->filter = NULL;
    cr_assert(bus_wait(bus, 20000, bus_agrees));
    cr_assert(is_primary(0));
}

Test(failover, a_paused_primary_that_falls_silent_is_not_waited_for, .fini = end) {
    agree_without_votes();
    bus_set_cut(bus, 0, 3, true);
    machine_stop(&bus->machines[0]);
    machine_start(&bus->machines[0]);
    bus_run(bus, 2400);
    cr_assert(bus_cluster(bus, 0)->state_ok && is_primary(0));
    let_votes_come();
    cr_assert_not(is_primary(3));
    cr_assert(bus_logged(bus, 3, "Manual failover given up: the master has not told for too long"));
}

static uint64_t pings_from_ms;

static bool late_from_primary(struct bus *all, struct machine *to, uint8_t *bytes, size_t length) {
    struct wire_packet packet;
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    return to->index != 3 || !(packet.header.message_flags[0] & WIRE_FLAG_PAUSED) ||
           all->now_ms >= pings_from_ms;
}

/* By then it may have been killed, and serve again. */
Test(failover, a_pause_that_is_told_too_late_does_not_count, .fini = end) {
    form(6, 3);
    pings_from_ms = bus->now_ms + 1500;
    bus->filter = late_from_primary;
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_AGREED));
    bus_run(bus, 2000);
    cr_assert(bus_logged(bus, 3, "Manual failover given up: the master has told too late"));
    bus->filter = NULL;
    cr_assert(bus_wait(bus, 20000, bus_agrees));
    cr_assert(is_primary(0));
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_AGREED));
    cr_assert(bus_wait(bus, 1000, three_leads));
}

/* --- Epochs and the disk ---------------------------------------------------------------------- */

static uint64_t greatest_known_epoch(const char *id) {
    uint64_t greatest = 0;
    for (unsigned i = 0; i < bus->count; i++)
        if (bus_cluster(bus, i) && bus_view(bus, i, id).config_epoch > greatest)
            greatest = bus_view(bus, i, id).config_epoch;
    return greatest;
}

Test(failover, an_epoch_is_told_once_it_is_durable, .fini = end) {
    form(6, 3);
    char id[WIRE_ID_LENGTH];
    bool bumped;
    uint64_t epoch;
    memcpy(id, bus_id(bus, 0), WIRE_ID_LENGTH);
    bus->machines[0].disk_ms = 900;
    cluster_bump_epoch(bus_cluster(bus, 0), &bumped, &epoch);
    cr_assert(bumped);
    bus_run(bus, 800); /* in which it pings and is pinged */
    machine_stop(&bus->machines[0]);
    cr_assert_eq(greatest_known_epoch(id), 1);
    machine_start(&bus->machines[0]);
    bus->machines[0].disk_ms = 2;
    cr_assert(bus_wait(bus, 10000, bus_agrees));
    cr_assert_eq(bus_cluster(bus, 0)->myself->config_epoch, 1);
    cluster_bump_epoch(bus_cluster(bus, 0), &bumped, &epoch);
    bus_run(bus, 200);
    cr_assert_eq(greatest_known_epoch(id), epoch);
}

Test(failover, an_epoch_is_not_told_as_long_as_the_disk_fails, .fini = end) {
    form(6, 3);
    char id[WIRE_ID_LENGTH];
    bool bumped;
    uint64_t epoch;
    struct cluster *cluster = bus_cluster(bus, 0);
    memcpy(id, bus_id(bus, 0), WIRE_ID_LENGTH);
    bus->machines[0].disk_fails = true;
    cr_assert_null(cluster_bump_epoch(cluster, &bumped, &epoch)); /* it does not know yet */
    cr_assert(bumped);
    bus_run(bus, 5000);
    cr_assert(cluster->disk_failed);
    for (unsigned i = 1; i < 6; i++)
        cr_assert_eq(bus_view(bus, i, id).config_epoch, 1);
    bus->machines[0].disk_fails = false;
    bus_run(bus, 3000);
    for (unsigned i = 1; i < 6; i++)
        cr_assert_eq(bus_view(bus, i, id).config_epoch, epoch);
}

Test(failover, nothing_raises_an_epoch_while_the_disk_fails, .fini = end) {
    static const char *const text =
        "ERR The cluster config file cannot be updated, so that no config epoch can be raised";
    form(6, 3);
    bool bumped;
    uint64_t epoch;
    struct cluster *primary = bus_cluster(bus, 0), *replica = bus_cluster(bus, 3);
    bus->machines[0].disk_fails = bus->machines[3].disk_fails = true;
    cluster_save_config(primary);
    cluster_save_config(replica);
    bus_run(bus, 100);
    cr_assert_str_eq(cluster_bump_epoch(primary, &bumped, &epoch), text);
    cr_assert_str_eq(cluster_failover(replica, CLUSTER_FAILOVER_TAKEOVER), text);
    cr_assert_null(cluster_set_slot(primary, WIRE_SLOTS - 1, CLUSTER_SLOT_IMPORTING, bus_id(bus, 2),
                                    WIRE_ID_LENGTH));
    cr_assert_str_eq(cluster_set_slot(primary, WIRE_SLOTS - 1, CLUSTER_SLOT_NODE, bus_id(bus, 0),
                                      WIRE_ID_LENGTH),
                     text);
    cr_assert(primary->owners[WIRE_SLOTS - 1] != primary->myself &&
              primary->importing_from[WIRE_SLOTS - 1]);
    cr_assert_eq(primary->myself->config_epoch, 1);
    cr_assert_not(is_primary(3));
    bus->machines[0].disk_fails = bus->machines[3].disk_fails = false;
    bus_run(bus, 2500); /* it has been tried again */
    cr_assert_null(cluster_bump_epoch(primary, &bumped, &epoch));
    bus_run(bus, 300);
    cr_assert_null(cluster_failover(replica, CLUSTER_FAILOVER_TAKEOVER));
    cr_assert(bus_wait(bus, 5000, bus_agrees));
    cr_assert(is_primary(3));
}
