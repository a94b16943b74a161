/* See lease.h. */
#include "cluster/lease.h"

#include "cluster/capability.h"
#include "cluster/lease_wire.h"
#include "cluster/nodes.h"
#include "cluster/packets.h"
#include "cluster/voters.h"

#define ROUND_MS        100
#define URGENT_ROUND_MS 10
#define URGENT_MS       2000

static bool can_answer(const struct cluster *cluster, const struct cluster_node *node) {
    if (node == cluster->myself)
        return cluster->config.fast_failover;
    return node->data_received_ms == 0 || node->capabilities & CAPABILITY_LEASES;
}

bool lease_is_possible(const struct cluster *cluster) {
    unsigned voters = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        if (!voters_include(cluster->nodes[i]))
            continue;
        voters++;
        if (!can_answer(cluster, cluster->nodes[i]))
            return false;
    }
    return voters >= 3 && voters <= CLUSTER_LEASE_VOTERS;
}

/* --- What has been answered ------------------------------------------------------------------- */

static uint64_t round_of(const struct cluster *cluster, const struct cluster_node *node) {
    return node == cluster->myself ? cluster->lease.round : node->lease_answered;
}

/* Whether a majority of the voters has answered this round or a later one. */
static bool is_agreed_by_voters(const struct cluster *cluster, uint64_t round) {
    unsigned voters = 0, answered = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        if (!voters_include(cluster->nodes[i]))
            continue;
        voters++;
        answered += round_of(cluster, cluster->nodes[i]) >= round;
    }
    return answered >= voters / 2 + 1;
}

/* The same of those before. Whom an operator has made us forget has no say any more: else who is
 * left over of a cluster would wait for the dead for ever. */
static bool is_agreed_by_those_before(const struct cluster *cluster, uint64_t round) {
    const struct cluster_lease *lease = &cluster->lease;
    unsigned known = 0, answered = 0;
    for (unsigned i = 0; i < lease->before_count; i++) {
        const struct cluster_node *node = nodes_find(cluster, lease->before[i].hex, WIRE_ID_LENGTH);
        known += node != NULL;
        answered += node && round_of(cluster, node) >= round;
    }
    return known == 0 || answered >= known / 2 + 1;
}

/* The newest round that both have answered; 0: there is none. */
static uint64_t agreed_round(const struct cluster *cluster) {
    uint64_t agreed = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        uint64_t round = round_of(cluster, cluster->nodes[i]);
        if (round > agreed && is_agreed_by_voters(cluster, round) &&
            is_agreed_by_those_before(cluster, round))
            agreed = round;
    }
    return agreed;
}

static void remember_voters(struct cluster *cluster) {
    struct cluster_lease *lease = &cluster->lease;
    lease->before_count = 0;
    for (unsigned i = 0; i < cluster->node_count; i++)
        if (voters_include(cluster->nodes[i]) && lease->before_count < CLUSTER_LEASE_VOTERS)
            lease->before[lease->before_count++] = cluster->nodes[i]->id;
}

/* --- The server is told ----------------------------------------------------------------------- */

static uint64_t allowed_until(const struct cluster *cluster) {
    const struct cluster_lease *lease = &cluster->lease;
    if (!node_is_primary(cluster->myself) || lease->mode == LEASE_OFF ||
        (lease->mode == LEASE_JOINING && !lease->fenced))
        return CLUSTER_LEASE_FREE;
    if (lease->given_back) /* nothing is written before the pause is over; a stopped process may be
                              the last to know that it is */
        return cluster->manual.until_ms + CLUSTER_MANUAL_PAUSE_MS - CLUSTER_MANUAL_MS;
    return lease->until_ms > 0 ? lease->until_ms : 1;
}

/* It serves no more, be it that the slots are another's or that it is with a minority for long. */
static bool has_lost(const struct cluster *cluster) {
    const struct cluster_lease *lease = &cluster->lease;
    return !node_is_primary(cluster->myself) ||
           (!cluster->state_ok && lease->mode != LEASE_OFF && !lease->given_back &&
            lease->until_ms <= cluster_now(cluster));
}

/* An end after the map that says so is published. */
static void tell(struct cluster *cluster) {
    struct cluster_lease *lease = &cluster->lease;
    uint64_t until_ms = allowed_until(cluster);
    bool ends = has_lost(cluster);
    if (until_ms == lease->told_ms && ends == lease->told_end)
        return;
    if (ends && cluster->later & LATER_MAP) {
        cluster_later(cluster, LATER_SOON);
        return;
    }
    /* Also of who had lost before: maps may have admitted writes since. */
    bool ends_now = ends && (!lease->told_end || until_ms != lease->told_ms);
    cluster->calls.lease(cluster->context, until_ms, ends_now);
    lease->told_ms = until_ms;
    lease->told_end = ends;
}

/* --- Rounds ----------------------------------------------------------------------------------- */

static void enter(struct cluster *cluster, enum lease_mode mode) {
    struct cluster_lease *lease = &cluster->lease;
    if (mode == LEASE_ON && lease->mode == LEASE_JOINING)
        cluster_log(cluster, CLUSTER_LOG_NOTICE,
                    "Writes are acknowledged by a lease of the masters from now on.");
    else if (mode == LEASE_OFF && lease->mode == LEASE_LEAVING)
        cluster_log(cluster, CLUSTER_LOG_NOTICE,
                    "Writes are acknowledged without leases from now on.");
    lease->mode = mode;
    lease->from_round = lease->round + 1;
    if (mode == LEASE_OFF || mode == LEASE_STARTING)
        lease->until_ms = lease->before_count = 0;
}

static void renew(struct cluster *cluster) {
    struct cluster_lease *lease = &cluster->lease;
    if (voters_hash(cluster) != lease->voters)
        return; /* they are others since, whom the next round tells */
    uint64_t round = agreed_round(cluster);
    if (round < lease->since_round || round < lease->from_round ||
        round + CLUSTER_LEASE_ROUNDS <= lease->round || lease->given_back)
        return;
    uint64_t until_ms = lease->sent_ms[round % CLUSTER_LEASE_ROUNDS] + CLUSTER_LEASE_MS;
    lease->until_ms = until_ms > lease->until_ms ? until_ms : lease->until_ms;
    remember_voters(cluster);
    if (lease->mode == LEASE_JOINING)
        enter(cluster, LEASE_ON);
    else if (lease->mode == LEASE_LEAVING)
        enter(cluster, LEASE_OFF);
}

static bool is_asked(const struct cluster *cluster, const struct cluster_node *node) {
    const struct cluster_lease *lease = &cluster->lease;
    if (node == cluster->myself)
        return false;
    for (unsigned i = 0; i < lease->before_count; i++)
        if (id_compare(&node->id, &lease->before[i]) == 0)
            return true;
    return voters_include(node) || node->primary == cluster->myself;
}

static void send_round(struct cluster *cluster, enum lease_message message) {
    struct cluster_lease *lease = &cluster->lease;
    uint64_t now_ms = cluster_now(cluster), voters = voters_hash(cluster);
    struct lease_round round = {message, lease->incarnation, ++lease->round, voters};
    uint8_t data[LEASE_ROUND_BYTES];
    lease->sent_ms[lease->round % CLUSTER_LEASE_ROUNDS] = now_ms;
    if (voters != lease->voters)
        lease->since_round = lease->round;
    lease->voters = voters;
    lease_round_write(data, &round);
    for (unsigned i = 0; i < cluster->node_count; i++)
        if (is_asked(cluster, cluster->nodes[i]))
            packets_send_private(cluster, cluster->nodes[i], WIRE_PRIVATE_LEASE, data, sizeof data);
}

static bool has_heard_majority(const struct cluster *cluster) {
    unsigned voters = 0, heard = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        voters += voters_include(node);
        heard += voters_include(node) && (node == cluster->myself || node->data_received_ms != 0);
    }
    return heard >= voters / 2 + 1;
}

static void choose_mode(struct cluster *cluster) {
    struct cluster_lease *lease = &cluster->lease;
    bool wanted = lease_is_possible(cluster);
    switch (lease->mode) {
    case LEASE_OFF:
        lease->fenced = false;
        if (wanted && cluster->state_ok)
            enter(cluster, LEASE_JOINING);
        break;
    case LEASE_STARTING:
        if (!has_heard_majority(cluster))
            break;
        lease->fenced = true;
        enter(cluster, wanted ? LEASE_JOINING : LEASE_OFF);
        break;
    case LEASE_JOINING:
        if (!wanted)
            enter(cluster, LEASE_OFF);
        break;
    case LEASE_ON:
        if (!wanted)
            enter(cluster, LEASE_LEAVING);
        break;
    case LEASE_LEAVING:
        if (wanted)
            enter(cluster, LEASE_ON);
        break;
    }
}

void lease_turn(struct cluster *cluster) {
    struct cluster_lease *lease = &cluster->lease;
    uint64_t now_ms = cluster_now(cluster);
    uint64_t last_ms = lease->sent_ms[lease->round % CLUSTER_LEASE_ROUNDS];
    const struct cluster_node *me = cluster->myself;
    bool serves = node_is_primary(me) && me->slot_count > 0 && !cluster->promoting;
    if (serves)
        choose_mode(cluster);
    if (serves && lease->mode == LEASE_LEAVING)
        renew(cluster); /* who is left over alone is answered by nobody else */
    tell(cluster);      /* we are bound before others rely on it */
    if (!serves || lease->mode <= LEASE_STARTING || lease->given_back || cluster->claim_ticket != 0)
        return;
    bool urgent = lease->until_ms <= now_ms && now_ms < lease->urgent_until_ms;
    if (urgent)
        cluster_later(cluster, LATER_SOON);
    if (cluster_age(now_ms, last_ms) >= (urgent ? URGENT_ROUND_MS : ROUND_MS))
        send_round(cluster, lease->mode == LEASE_ON ? LEASE_MESSAGE_ON : LEASE_MESSAGE_OFF);
}

void lease_take_answer(struct cluster *cluster, struct cluster_node *sender,
                       const struct wire_packet *packet) {
    struct lease_round round;
    if (!lease_round_read(packet, &round) || round.incarnation != cluster->lease.incarnation ||
        round.number > cluster->lease.round || round.number <= sender->lease_answered)
        return;
    sender->lease_answered = round.number;
    if (node_is_primary(cluster->myself) && cluster->lease.mode > LEASE_STARTING)
        renew(cluster);
    cluster_later(cluster, LATER_SOON);
}

/* --- Beginnings and ends ---------------------------------------------------------------------- */

void lease_start(struct cluster *cluster) {
    cluster->lease.incarnation = cluster_random(cluster) | 1;
    cluster->lease.told_ms = CLUSTER_LEASE_FREE; /* as nobody has been told otherwise */
    cluster->started_ms = cluster_now(cluster);
    if (cluster->config.fast_failover && lease_is_possible(cluster))
        enter(cluster, LEASE_STARTING);
    tell(cluster);
}

void lease_begin(struct cluster *cluster, bool by_vote) {
    struct cluster_lease *lease = &cluster->lease;
    lease->until_ms = 0;
    lease->given_back = false;
    enter(cluster, by_vote && lease_is_possible(cluster) ? LEASE_ON : LEASE_OFF);
    if (lease->mode == LEASE_ON)
        remember_voters(cluster);
    lease->urgent_until_ms = cluster_now(cluster) + URGENT_MS;
    /* Before a map that admits writes. */
    lease->told_ms = lease->mode == LEASE_ON ? 1 : CLUSTER_LEASE_FREE;
    cluster->calls.lease(cluster->context, lease->told_ms, false);
}

void lease_give_back(struct cluster *cluster) {
    struct cluster_lease *lease = &cluster->lease;
    if (lease->mode < LEASE_ON || lease->given_back)
        return;
    lease->until_ms = 0;
    lease->given_back = true;
    tell(cluster);
    send_round(cluster, LEASE_MESSAGE_GIVEN_BACK);
    lease->from_round = lease->round + 1;
}

void lease_resume(struct cluster *cluster) {
    struct cluster_lease *lease = &cluster->lease;
    if (!lease->given_back)
        return;
    lease->given_back = false;
    lease->urgent_until_ms = cluster_now(cluster) + URGENT_MS;
    cluster_later(cluster, LATER_SOON);
    if (node_is_primary(cluster->myself))
        tell(cluster);
}
