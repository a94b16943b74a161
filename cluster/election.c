/* See election.h. */
#include "cluster/election.h"

#include "cluster/handover.h"
#include "cluster/health.h"
#include "cluster/lease.h"
#include "cluster/ownership.h"
#include "cluster/packets.h"
#include "cluster/persist.h"
#include "cluster/prevote.h"
#include "cluster/roles.h"

#define FIXED_DELAY_MS   500 /* for the news of the failure to spread */
#define RANDOM_DELAY_MS  500
#define FAST_DELAY_MS    50 /* the same, where who asks too early asks once more */
#define FAST_RANDOM_MS   50
#define ONCE_MORE_MS     500
#define RANK_DELAY_MS    1000
#define LAST_DATA_MS     500 /* for the last data of a primary that has ended to come */
#define LINK_END_MS      100 /* the same: for it to be gone, and our link with it */
#define HEIR_DELAY_MS    100 /* between those that have them all */
#define MIN_TIMEOUT_MS   2000
#define RELOG_PERIOD_MS  10000
#define QUIET_FAILURE_MS 5000 /* beyond the node timeout: nothing is logged about delays before */

static uint64_t vote_timeout_ms(const struct cluster *cluster) {
    uint64_t timeout_ms = cluster->config.node_timeout_ms * 2;
    return timeout_ms < MIN_TIMEOUT_MS ? MIN_TIMEOUT_MS : timeout_ms;
}

/* --- Whether, and why not --------------------------------------------------------------------- */

/* Its end counts although the timer has not noticed it yet: whoever was stopped for so long finds
 * votes waiting, and a primary that goes on by now. */
static bool is_manual(const struct cluster *cluster) {
    return cluster->manual.may_start && cluster_now(cluster) <= cluster->manual.until_ms;
}

static bool is_wanted(const struct cluster *cluster) {
    const struct cluster_node *primary = cluster->myself->primary;
    if (node_is_primary(cluster->myself) || !primary || primary->slot_count == 0)
        return false;
    return is_manual(cluster) || cluster->election.early ||
           (node_is_failed(primary) && !cluster->config.replica_no_failover);
}

/* The primary was down for a node timeout before it had failed, which nobody can be blamed for. */
static bool data_is_too_old(const struct cluster *cluster) {
    struct cluster_data_position position = {0};
    uint64_t timeout_ms = cluster->config.node_timeout_ms;
    unsigned factor = cluster->config.replica_validity_factor;
    cluster->calls.position(cluster->context, &position);
    uint64_t age_ms = position.knows_primary_data ? position.link_down_ms : CLUSTER_NEVER_MS;
    if (age_ms > timeout_ms)
        age_ms -= timeout_ms;
    return factor != 0 && age_ms > cluster->config.replica_ping_period_ms + timeout_ms * factor;
}

static void log_obstacle(struct cluster *cluster, enum cluster_obstacle obstacle) {
    static const char *const texts[] = {
        [OBSTACLE_NONE] = "Unknown reason code.",
        [OBSTACLE_DATA_AGE] = ("Disconnected from master for longer than allowed. Please check the "
                               "'cluster-replica-validity-factor' configuration option."),
        [OBSTACLE_DELAY] = "Waiting the delay before I can start a new failover.",
        [OBSTACLE_EXPIRED] = "Failover attempt expired.",
        [OBSTACLE_VOTES] = "Waiting for votes, but majority still not reached.",
    };
    struct cluster_election *election = &cluster->election;
    const struct cluster_node *primary = cluster->myself->primary;
    uint64_t now_ms = cluster_now(cluster);
    if (obstacle == election->obstacle &&
        cluster_age(now_ms, election->obstacle_logged_ms) < RELOG_PERIOD_MS)
        return;
    election->obstacle = obstacle;
    if (node_is_failed(primary) && cluster_age(now_ms, primary->failed_ms) <
                                       cluster->config.node_timeout_ms + QUIET_FAILURE_MS)
        return;
    election->obstacle_logged_ms = now_ms;
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "Currently unable to failover: %s", texts[obstacle]);
    if (obstacle == OBSTACLE_VOTES || obstacle == OBSTACLE_EXPIRED)
        cluster_log(cluster, CLUSTER_LOG_NOTICE,
                    "Needed quorum: %u. Number of votes received so far: %u",
                    cluster_quorum(cluster), election->votes);
}

/* --- When ------------------------------------------------------------------------------------- */

/* How many replicas of the same primary have newer data. */
static unsigned rank_of(const struct cluster *cluster) {
    const struct cluster_node *primary = cluster->myself->primary;
    uint64_t offset = cluster_offset(cluster);
    unsigned rank = 0;
    for (unsigned i = 0; i < primary->replica_count; i++) {
        const struct cluster_node *sibling = primary->replicas[i];
        rank += sibling != cluster->myself && !(sibling->flags & WIRE_NODE_NOFAILOVER) &&
                sibling->offset > offset;
    }
    return rank;
}

/* How many replicas of a primary that has ended may ask before us, if they have all as we do. */
static unsigned heirs_before(const struct cluster *cluster) {
    const struct cluster_node *me = cluster->myself;
    unsigned count = 0;
    for (unsigned i = 0; i < me->primary->replica_count; i++) {
        const struct cluster_node *sibling = me->primary->replicas[i];
        count += sibling != me &&
                 !(sibling->flags & (WIRE_NODE_NOFAILOVER | WIRE_NODE_FAIL | WIRE_NODE_PFAIL)) &&
                 id_compare(&sibling->id, &me->id) < 0;
    }
    return count;
}

/* Of a primary that has ended by its own word: it may still be at it, and our link not gone. What
 * we have is then all that it had, and the news is with everybody. */
static bool waits_for_inheritance(const struct cluster *cluster, bool *inherits) {
    const struct cluster_node *primary = cluster->myself->primary;
    struct cluster_data_position position = {0};
    uint64_t age_ms = cluster_age(cluster_now(cluster), primary->failed_ms);
    *inherits = false;
    if (!primary->has_ended || cluster->config.replica_no_failover)
        return false;
    cluster->calls.position(cluster->context, &position);
    bool link_has_ended = !position.link_is_up && !position.is_connecting;
    *inherits = position.knows_primary_data && position.offset == primary->offset &&
                (link_has_ended || age_ms >= LINK_END_MS);
    return !*inherits && age_ms < LAST_DATA_MS;
}

/* For the news to spread, and so that two seldom ask at once; each replica with newer data first.
 */
static uint64_t delay_ms(const struct cluster *cluster, unsigned rank) {
    uint64_t random = cluster_random(cluster);
    uint64_t delay_ms = cluster->config.fast_failover ? FAST_DELAY_MS + random % FAST_RANDOM_MS
                                                      : FIXED_DELAY_MS + random % RANDOM_DELAY_MS;
    return delay_ms + (uint64_t)rank * RANK_DELAY_MS;
}

static void schedule(struct cluster *cluster, bool inherits) {
    struct cluster_election *election = &cluster->election;
    uint64_t now_ms = cluster_now(cluster);
    *election = (struct cluster_election){.at_ms = now_ms, .inherits = inherits};
    if (inherits) {
        election->at_ms += (uint64_t)heirs_before(cluster) * HEIR_DELAY_MS;
        cluster_later(cluster, LATER_ELECTION);
    } else if (cluster->manual.until_ms == 0) {
        election->rank = rank_of(cluster);
        election->at_ms += delay_ms(cluster, election->rank);
    } else {
        cluster_later(cluster, LATER_ELECTION);
    }
    cluster_log(cluster, CLUSTER_LOG_NOTICE,
                "Start of election delayed for %llu milliseconds (rank #%u, offset %llu).",
                (unsigned long long)(election->at_ms - now_ms), election->rank,
                (unsigned long long)cluster_offset(cluster));
    /* So that siblings know our offset and rank themselves. */
    packets_broadcast_pong(cluster, PACKETS_TO_SHARD);
}

static void update_rank(struct cluster *cluster) {
    struct cluster_election *election = &cluster->election;
    unsigned rank = rank_of(cluster);
    if (rank <= election->rank)
        return;
    uint64_t added_ms = (uint64_t)(rank - election->rank) * RANK_DELAY_MS;
    election->at_ms += added_ms;
    election->rank = rank;
    cluster_log(cluster, CLUSTER_LOG_NOTICE,
                "Replica rank updated to #%u, added %llu milliseconds of delay.", rank,
                (unsigned long long)added_ms);
}

/* --- Asking and winning ----------------------------------------------------------------------- */

static void ask(struct cluster *cluster) {
    struct cluster_election *election = &cluster->election;
    if (cluster->disk_failed)
        return;
    election->asked = true;
    election->epoch = ++cluster->current_epoch;
    election->ticket = persist_begin(cluster);
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "Starting a failover election for epoch %llu.",
                (unsigned long long)election->epoch);
}

static void send_request(struct cluster *cluster) {
    const struct cluster_election *election = &cluster->election;
    /* An end that was told may have been told to us before the others. */
    packets_ask_for_votes(cluster, election->epoch,
                          cluster->manual.until_ms != 0 || election->inherits, election->early);
}

void election_persisted(struct cluster *cluster, enum cluster_persist_result result) {
    struct cluster_election *election = &cluster->election;
    if (!election->asked || election->sent || cluster->ended_ticket < election->ticket)
        return;
    /* In the meantime somebody may have gone to a later epoch, for which this would be no vote. */
    if (result != CLUSTER_PERSISTED || cluster->current_epoch != election->epoch) {
        election->asked = false;
        cluster_later(cluster, LATER_ELECTION);
        return;
    }
    election->sent = true;
    election->sent_ms = cluster_now(cluster);
    send_request(cluster);
    cluster_later(cluster, LATER_HEALTH);
}

/* Asked once more, who has voted does not vote twice; who had not heard yet that our primary has
 * failed does now. */
static void wait_for_votes(struct cluster *cluster) {
    struct cluster_election *election = &cluster->election;
    log_obstacle(cluster, OBSTACLE_VOTES);
    if (!election->sent || election->early || election->repeated ||
        cluster_age(cluster_now(cluster), election->sent_ms) < ONCE_MORE_MS)
        return;
    election->repeated = true;
    send_request(cluster);
}

void election_take_vote(struct cluster *cluster, struct cluster_node *voter, uint64_t epoch) {
    struct cluster_election *election = &cluster->election;
    if (!node_is_primary(voter) || voter->slot_count == 0 || !election->sent ||
        epoch != election->epoch || voter->vote_epoch == epoch)
        return;
    voter->vote_epoch = epoch;
    election->votes++;
    cluster_later(cluster, LATER_ELECTION);
}

void election_take_over(struct cluster *cluster, bool by_vote) {
    struct cluster_node *me = cluster->myself, *primary = me->primary;
    if (node_is_primary(me) || !primary)
        return;
    lease_begin(cluster, by_vote);
    roles_promote(cluster);
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        if (cluster->owners[slot] == primary)
            ownership_set(cluster, slot, me);
    health_update(cluster);
    /* The others are told once that can be neither forgotten nor refused (machine.c). */
    cluster->claim_ticket = persist_begin(cluster);
    cluster->takes_over = true;
    handover_reset(cluster);
}

static void win(struct cluster *cluster) {
    struct cluster_node *me = cluster->myself;
    uint64_t epoch = cluster->election.epoch;
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "Failover election won: I'm the new master.");
    if (me->config_epoch < epoch) {
        me->config_epoch = epoch;
        cluster_log(cluster, CLUSTER_LOG_NOTICE,
                    "configEpoch set to %llu after successful failover", (unsigned long long)epoch);
    }
    election_take_over(cluster, true);
}

/* Its voters will not be silent to the primary for ever. */
static bool early_is_over(const struct cluster *cluster) {
    const struct cluster_election *election = &cluster->election;
    uint64_t since_ms = election->sent ? election->sent_ms : election->at_ms;
    return election->early && cluster_age(cluster_now(cluster), since_ms) > CLUSTER_EARLY_MS;
}

void election_turn(struct cluster *cluster) {
    struct cluster_election *election = &cluster->election;
    cluster->later &= ~(unsigned)LATER_ELECTION;
    if (!is_wanted(cluster)) {
        election->obstacle = OBSTACLE_NONE;
        return;
    }
    if (!is_manual(cluster) && data_is_too_old(cluster)) {
        log_obstacle(cluster, OBSTACLE_DATA_AGE);
        return;
    }
    uint64_t now_ms = cluster_now(cluster);
    uint64_t timeout_ms = vote_timeout_ms(cluster);
    if (early_is_over(cluster)) {
        prevote_again(cluster);
        return;
    }
    if (cluster_age(now_ms, election->at_ms) > timeout_ms * 2) {
        bool inherits = false;
        if (cluster->manual.until_ms == 0 && waits_for_inheritance(cluster, &inherits))
            cluster_later(cluster, LATER_MANUAL);
        else
            schedule(cluster, inherits);
        return;
    }
    if (!election->asked && cluster->manual.until_ms == 0)
        update_rank(cluster);
    if (now_ms < election->at_ms)
        log_obstacle(cluster, OBSTACLE_DELAY);
    else if (now_ms - election->at_ms > timeout_ms)
        log_obstacle(cluster, OBSTACLE_EXPIRED);
    else if (!election->asked)
        ask(cluster);
    else if (election->votes >= cluster_quorum(cluster))
        win(cluster);
    else
        wait_for_votes(cluster);
}
