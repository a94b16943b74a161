/* Votes, one by one: who gets one, when it is told, and how the candidate counts them. Machines 0
 * to 2 are primaries, 3 to 5 their replicas, 6 to 8 theirs again. */
#include "tests/unit/cluster/forge.h"

#define TIMEOUT_MS 1000

static struct bus *bus;
static struct cluster *voter;
static unsigned told; /* votes that have gone out */

static bool count(struct bus *all, struct machine *to, uint8_t *bytes, size_t length) {
    struct wire_packet packet;
    (void)all, (void)to;
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    told += packet.header.type == WIRE_FAILOVER_AUTH_ACK;
    return true;
}

static void begin(void) {
    bus = bus_new(9, 13, TIMEOUT_MS);
    bus_form(bus, 3);
    bus_run(bus, 3000);
    voter = bus_cluster(bus, 1);
    told = 0;
    bus->filter = count;
    forge_open(bus, 1);
}

static void end(void) {
    bus_free(bus);
}

static void ask(unsigned candidate, uint64_t epoch, bool force) {
    forge_header(WIRE_FAILOVER_AUTH_REQUEST, bus_cluster(bus, candidate)->myself);
    forge_head.current_epoch = epoch;
    if (force)
        forge_head.message_flags[0] = WIRE_FLAG_FORCE_ACK;
    cr_assert(forge_deliver_plain());
}

static bool answers(unsigned candidate, uint64_t epoch, bool force) {
    unsigned before = told;
    ask(candidate, epoch, force);
    bus_run(bus, 20);
    return told > before;
}

Test(votes, a_vote_goes_out_when_it_is_durable, .init = begin, .fini = end) {
    bus->machines[1].disk_ms = 200;
    bus_run(bus, 500);
    ask(3, 10, true);
    cr_assert_eq(voter->last_vote_epoch, 10);
    bus_run(bus, 199);
    cr_assert_eq(told, 0);
    cr_assert_null(strstr(bus->machines[1].file, "lastVoteEpoch 10"));
    bus_run(bus, 10);
    cr_assert_eq(told, 1);
    cr_assert_not_null(strstr(bus->machines[1].file, "lastVoteEpoch 10"));
}

Test(votes, a_vote_that_cannot_be_written_is_never_told, .init = begin, .fini = end) {
    bus->machines[1].disk_fails = true;
    cr_assert_not(answers(3, 10, true));
    bus->machines[1].disk_fails = false;
    bus_run(bus, 3000);
    cr_assert_eq(told, 0);
    cr_assert(bus_logged(bus, 1, "The cluster config file is up to date again."));
}

Test(votes, one_for_each_epoch, .init = begin, .fini = end) {
    cr_assert(answers(3, 10, true));
    cr_assert_not(answers(5, 10, true)); /* of another primary */
    cr_assert(bus_logged(bus, 1, "already voted for epoch 10"));
    cr_assert(answers(5, 11, true));
    cr_assert_not(answers(5, 10, true));
    cr_assert(bus_logged(bus, 1, "reqEpoch (10) < curEpoch(11)"));
}

Test(votes, one_about_a_primary_within_two_timeouts, .init = begin, .fini = end) {
    cr_assert(answers(3, 10, true));
    cr_assert_not(answers(6, 11, true));
    cr_assert(bus_logged(bus, 1, "can't vote about this master before"));
    bus_run(bus, 2 * TIMEOUT_MS);
    cr_assert(answers(6, 12, true));
}

Test(votes, the_primary_has_to_be_down, .init = begin, .fini = end) {
    cr_assert_not(answers(3, 10, false));
    cr_assert(bus_logged(bus, 1, "its master is up"));
    cr_assert_not(answers(2, 11, true));
    cr_assert(bus_logged(bus, 1, "it is a master node"));
    forge_open(bus, 4);
    cr_assert_not(answers(3, 12, true)); /* replicas have no vote */
}

Test(votes, the_candidate_counts_each_voter_once, .init = begin, .fini = end) {
    struct cluster *candidate = bus_cluster(bus, 3);
    candidate->election.sent = candidate->election.asked = true;
    candidate->election.epoch = 10;
    forge_open(bus, 3);
    const struct {
        unsigned voter;
        uint64_t epoch;
        unsigned votes;
    } steps[] = {{1, 9, 0}, {1, 10, 1}, {1, 10, 1}, {4, 10, 1}, {2, 11, 1}, {2, 10, 2}};
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        forge_header(WIRE_FAILOVER_AUTH_ACK, bus_cluster(bus, steps[i].voter)->myself);
        forge_head.current_epoch = steps[i].epoch;
        cr_assert(forge_deliver_plain());
        cr_assert_eq(candidate->election.votes, steps[i].votes, "step %u", i);
    }
}

static unsigned requests;

static bool count_requests(struct bus *all, struct machine *to, uint8_t *bytes, size_t length) {
    struct wire_packet packet;
    (void)all, (void)to;
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    requests += packet.header.type == WIRE_FAILOVER_AUTH_REQUEST;
    return true;
}

Test(votes, an_election_begins_when_its_epoch_is_durable, .init = begin, .fini = end) {
    requests = 0;
    bus->filter = count_requests;
    bus->machines[3].disk_ms = 300;
    bus_run(bus, 1000);
    cr_assert_null(cluster_failover(bus_cluster(bus, 3), CLUSTER_FAILOVER_FORCE));
    bus_run(bus, 150);
    cr_assert_eq(bus_cluster(bus, 3)->current_epoch, 10);
    cr_assert_eq(requests, 0);
    cr_assert_null(strstr(bus->machines[3].file, "currentEpoch 10"));
    bus_run(bus, 300);
    cr_assert_gt(requests, 0);
}

/* An old primary that cannot reach its successor hears of it from the others. */
Test(votes, an_old_owner_is_told_by_others, .init = begin, .fini = end) {
    machine_stop(&bus->machines[0]);
    bus_run(bus, 8000);
    unsigned winner = node_is_primary(bus_cluster(bus, 3)->myself) ? 3 : 6;
    cr_assert(node_is_primary(bus_cluster(bus, winner)->myself));
    bus_set_cut(bus, 0, winner, true);
    machine_start(&bus->machines[0]);
    bus_run(bus, 5000);
    cr_assert_eq(bus->machines[0].primary, (int)winner);
}
