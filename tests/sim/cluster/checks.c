/* The invariants (world.h), most of them after each event of a node. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "tests/sim/cluster/world.h"

#define STATE_EACH  128 /* events, one looks at all of the state */
#define CLAIMS_STEP 256

struct vote {
    struct node_id voter, candidate, primary;
    uint64_t epoch;
};

/* What a node has owned under one epoch. */
struct claim {
    struct node_id id;
    uint64_t epoch;
    uint8_t slots[WIRE_SLOT_BYTES];
};

/* Room for one more, in steps. */
static void *one_more(void *array, unsigned count, size_t size) {
    if (count % CLAIMS_STEP != 0)
        return array;
    array = realloc(array, (count + CLAIMS_STEP) * size);
    ASSERT(array);
    return array;
}

void checks_destroy(struct world *world) {
    free(world->votes);
    free(world->claims);
}

/* --- Votes and promotions --------------------------------------------------------------------- */

/* The voter ends at once, or its vote comes when the next election is under way. */
static void disturb_vote(struct node *node, const struct node *candidate) {
    struct sim_random *random = &node->world->servers;
    uint64_t timeout_us = node->world->timeout_ms * 1000;
    node->crash_at_vote = false;
    if (sim_random_chance(random, 50)) {
        bus_cut(node->world, node, candidate,
                sim_random_between(random, timeout_us, 8 * timeout_us));
        return;
    }
    struct event *event = event_after(node, EVENT_CRASH, 0);
    event->ticket = 1;
    event->length = sim_random_between(random, 1000, 60000);
}

void checks_vote_sent(struct node *node, const struct node *to, uint64_t epoch) {
    struct world *world = node->world;
    const struct node_id *voter = &node->cluster->myself->id;
    if (!node->vote_allowed)
        FAIL(world, "node %u votes for node %u, whose primary has not failed, unasked", node->index,
             to->index);
    for (unsigned i = 0; i < world->vote_count; i++) {
        const struct vote *vote = &world->votes[i];
        if (vote->epoch == epoch && id_compare(&vote->voter, voter) == 0 &&
            id_compare(&vote->candidate, &to->id) != 0)
            FAIL(world, "node %u gives node %u its second vote in epoch %llu", node->index,
                 to->index, (unsigned long long)epoch);
    }
    world->votes = one_more(world->votes, world->vote_count, sizeof *world->votes);
    world->votes[world->vote_count++] = (struct vote){
        .voter = *voter, .candidate = to->id, .primary = node->vote_primary, .epoch = epoch};
    node->vote_epoch = epoch;
    world->run->figures[FIGURE_VOTES]++;
    if (node->crash_at_vote)
        disturb_vote(node, to);
}

/* A voter that has missed whose replica it is now may still vote for a failover that an operator
 * asked for, or the primary by its end: what counts is the one vote in an epoch. */
static unsigned votes_for(const struct node *node, bool forced) {
    const struct world *world = node->world;
    uint64_t epoch = node->cluster->myself->config_epoch;
    unsigned count = 0;
    for (unsigned i = 0; i < world->vote_count; i++) {
        const struct vote *vote = &world->votes[i];
        count += vote->epoch == epoch && id_compare(&vote->candidate, &node->id) == 0 &&
                 (forced || id_compare(&vote->primary, &node->primary) == 0);
    }
    return count;
}

/* Who does not wait, since its primary has said that it ends, has all that it had. */
static void check_inheritance(const struct node *node) {
    struct world *world = node->world;
    if (!node->inherits)
        return;
    world->run->figures[FIGURE_INHERITED]++;
    for (unsigned i = 0; i < world->count; i++) {
        const struct node *before = &world->nodes[i];
        if (id_compare(&before->id, &node->primary) == 0 && !before->cluster &&
            !data_includes(node->data, before->last_data))
            FAIL(world, "node %u takes over without all that node %u had when it ended",
                 node->index, before->index);
    }
}

/* Nobody takes over early while the lease of its primary may be valid. */
static void check_early(const struct node *node) {
    struct world *world = node->world;
    const struct node *before = node_by_id(world, &node->primary);
    if (!node->early)
        return;
    world->run->figures[FIGURE_EARLY]++;
    if (before && before->source < 0 && before->lease_until_ms != CLUSTER_LEASE_FREE &&
        before->clock_base_ms + world_ms(world) < before->lease_until_ms)
        FAIL(world, "node %u takes over early while node %u has a lease", node->index,
             before->index);
}

void checks_two_primaries(const struct node *one, const struct node *other) {
    const struct world *world = one->world;
    bool first_is_older = one->cluster->myself->config_epoch < other->cluster->myself->config_epoch;
    const struct node *older = first_is_older ? one : other;
    if (world->operators_take_slots ||
        (!world->leased && older->lease_until_ms == CLUSTER_LEASE_FREE))
        return;
    FAIL(one->world, "nodes %u and %u acknowledge writes to one slot", one->index, other->index);
}

void checks_promoted(struct node *node) {
    struct world *world = node->world;
    const struct cluster *cluster = node->cluster;
    bool manual = cluster->manual.until_ms != 0;
    world->run->figures[node->operating ? FIGURE_TAKEOVERS
                        : manual        ? FIGURE_MANUAL
                                        : FIGURE_ELECTIONS]++;
    if (node->operating)
        return;
    unsigned votes = votes_for(node, manual || node->inherits);
    if (votes < cluster_quorum(cluster))
        FAIL(world, "node %u takes over in epoch %llu with %u votes of %u voters", node->index,
             (unsigned long long)cluster->myself->config_epoch, votes, cluster->size);
    check_inheritance(node);
    check_early(node);
    const struct node *before = node_by_id(world, &node->primary);
    if (manual && cluster->manual.may_start && cluster->manual.offset_known && before &&
        before->source < 0 && !data_includes(node->data, before->data))
        FAIL(world, "node %u takes over by agreement without all that node %u has acknowledged",
             node->index, before->index);
}

/* --- Failures --------------------------------------------------------------------------------- */

void checks_failed(struct node *node, const struct node_id *failed) {
    struct cluster *cluster = node->cluster;
    uint64_t now_ms = cluster_now(cluster), limit_ms = cluster->config.node_timeout_ms * 2;
    const struct cluster_node *me = cluster->myself, *known = NULL;
    for (unsigned i = 0; i < cluster->node_count; i++)
        if (id_compare(&cluster->nodes[i]->id, failed) == 0)
            known = cluster->nodes[i];
    unsigned voters = node_is_primary(me) && me->slot_count > 0;
    for (unsigned i = 0; known && i < known->report_count; i++) {
        const struct cluster_failure_report *report = &known->reports[i];
        voters += node_is_primary(report->reporter) && report->reporter->slot_count > 0 &&
                  cluster_age(now_ms, report->at_ms) <= limit_ms;
    }
    node->world->run->figures[FIGURE_FAILS]++;
    bool ends = known == me; /* which it says itself */
    if (!ends && voters < node->voters / 2 + 1 && node->voters > 0)
        FAIL(node->world, "node %u says that a node has failed by %u of %u voters", node->index,
             voters, node->voters);
}

/* A primary whose voters have been silent for long enough to be suspected acknowledges nothing. */
void checks_acknowledged(struct node *node) {
    struct world *world = node->world;
    const struct cluster *cluster = node->cluster;
    uint64_t limit_us = world->timeout_ms * 2000 + 2 * world->delay_max_us + 2000000;
    if (world->queue.now_us - node->went_on_us < limit_us)
        return;
    unsigned voters = 0, heard = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *voter = cluster->nodes[i];
        if (!node_is_primary(voter) || voter->slot_count == 0)
            continue;
        voters++;
        const struct node *other =
            voter->address[0] ? node_by_address(world, voter->address) : NULL;
        heard += !other || other == node ||
                 world->queue.now_us - node->heard_us[other->index] < limit_us;
    }
    if (heard < voters / 2 + 1)
        FAIL(world, "node %u acknowledges a write and has heard %u of %u voters", node->index,
             heard, voters);
}

/* --- Epochs and slots ------------------------------------------------------------------------- */

static void check_epochs(struct node *node) {
    const struct cluster *cluster = node->cluster;
    const struct cluster_node *me = cluster->myself;
    if (node->operating && id_compare(&node->id, &me->id) != 0) { /* a hard reset */
        node->id = me->id;
        node->current_epoch = node->config_epoch = node->vote_epoch = 0;
    }
    if (cluster->current_epoch < node->current_epoch)
        FAIL(node->world, "node %u goes back from epoch %llu to %llu", node->index,
             (unsigned long long)node->current_epoch, (unsigned long long)cluster->current_epoch);
    if (me->config_epoch < node->config_epoch)
        FAIL(node->world, "node %u goes back from configuration epoch %llu to %llu", node->index,
             (unsigned long long)node->config_epoch, (unsigned long long)me->config_epoch);
    if (me->config_epoch > cluster->current_epoch)
        FAIL(node->world, "node %u has configuration epoch %llu in epoch %llu", node->index,
             (unsigned long long)me->config_epoch, (unsigned long long)cluster->current_epoch);
    if (cluster->last_vote_epoch < node->vote_epoch)
        FAIL(node->world, "node %u has forgotten its vote in epoch %llu", node->index,
             (unsigned long long)node->vote_epoch);
    node->current_epoch = cluster->current_epoch;
    node->config_epoch = me->config_epoch;
}

static void add_claim(struct node *node) {
    struct world *world = node->world;
    const struct cluster_node *me = node->cluster->myself;
    struct claim *own = NULL;
    for (unsigned i = 0; i < world->claim_count; i++) {
        struct claim *claim = &world->claims[i];
        if (claim->epoch != me->config_epoch)
            continue;
        if (id_compare(&claim->id, &me->id) == 0)
            own = claim;
        for (unsigned at = 0; claim != own && at < WIRE_SLOT_BYTES; at++)
            if (claim->slots[at] & me->slots[at])
                FAIL(world, "node %u owns a slot of another in the same epoch %llu", node->index,
                     (unsigned long long)me->config_epoch);
    }
    if (!own) {
        world->claims = one_more(world->claims, world->claim_count, sizeof *world->claims);
        own = &world->claims[world->claim_count++];
        *own = (struct claim){.id = me->id, .epoch = me->config_epoch};
    }
    for (unsigned at = 0; at < WIRE_SLOT_BYTES; at++)
        own->slots[at] |= me->slots[at];
}

static void check_claim(struct node *node) {
    const struct cluster_node *me = node->cluster->myself;
    if (!node_is_primary(me) || me->slot_count == 0 || node->world->operators_take_slots ||
        (node->claimed_epoch == me->config_epoch &&
         memcmp(node->claimed, me->slots, WIRE_SLOT_BYTES) == 0))
        return;
    node->claimed_epoch = me->config_epoch;
    memcpy(node->claimed, me->slots, WIRE_SLOT_BYTES);
    add_claim(node);
}

/* The invariants of cluster/state.h. */
void checks_state(struct node *node) {
    const struct cluster *cluster = node->cluster;
    unsigned owned = 0, counted = 0, handshakes = 0;
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        owned += cluster->owners[slot] != NULL;
        ASSERT(!cluster->owners[slot] || wire_slot_is(cluster->owners[slot]->slots, slot));
    }
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *known = cluster->nodes[i];
        counted += known->slot_count;
        handshakes += node_in_handshake(known);
        ASSERT(known->index == i && known->primary != known);
        ASSERT(!(node_is_primary(known) && node_is_replica(known)));
        ASSERT(!known->link || known->link->node == known);
        ASSERT(!known->inbound_link || known->inbound_link->node == known);
        ASSERT(known->report_count <= cluster->node_count);
        for (unsigned j = 0; j < known->replica_count; j++)
            ASSERT(known->replicas[j]->primary == known);
    }
    ASSERT(owned == counted && handshakes == cluster->handshake_count);
    ASSERT(cluster->handshake_count <= node->world->count);
    ASSERT(cluster->node_count <= 4 * node->world->count + 16);
}

void checks_step(struct node *node) {
    const struct cluster_node *primary = node->cluster->myself->primary;
    check_epochs(node);
    check_claim(node);
    node->voters = node->cluster->size;
    if (primary)
        node->primary = primary->id;
    if (++node->world->steps % STATE_EACH == 0 && !node->world->quiet)
        checks_state(node);
}

/* --- Agreement -------------------------------------------------------------------------------- */

static char missing[160];
#define MISSING(...) (snprintf(missing, sizeof missing, __VA_ARGS__), missing)

static const struct cluster_node *seen(const struct node *node, const struct node_id *id) {
    const struct cluster *cluster = node->cluster;
    for (unsigned i = 0; i < cluster->node_count; i++)
        if (id_compare(&cluster->nodes[i]->id, id) == 0)
            return cluster->nodes[i];
    return NULL;
}

static const char *view_differs(const struct node *node, const struct node *other) {
    const struct cluster_node *view = seen(node, &other->id), *truth = other->cluster->myself;
    unsigned role = WIRE_NODE_PRIMARY | WIRE_NODE_REPLICA;
    if (!view)
        return MISSING("node %u does not know node %u", node->index, other->index);
    if (view->flags & (WIRE_NODE_FAIL | WIRE_NODE_PFAIL | WIRE_NODE_HANDSHAKE))
        return MISSING("node %u holds node %u for failed", node->index, other->index);
    if ((view->flags & role) != (truth->flags & role))
        return MISSING("node %u is wrong about the role of node %u", node->index, other->index);
    if (truth->slot_count > 0 && !node->world->disk_was_full &&
        view->config_epoch != truth->config_epoch)
        return MISSING("node %u does not know the epoch of node %u", node->index, other->index);
    if (node_is_replica(truth) &&
        (!view->primary || id_compare(&view->primary->id, &truth->primary->id) != 0))
        return MISSING("node %u is wrong about the primary of node %u", node->index, other->index);
    return NULL;
}

static const char *node_is_not_well(struct node *node) {
    const struct world *world = node->world;
    const struct cluster *cluster = node->cluster;
    const struct cluster_node *me = cluster->myself, *primary = me->primary;
    if (cluster->promoting || !cluster->state_ok || !node->map || !node->map->state_ok)
        return MISSING("node %u is not well", node->index);
    if (node_is_replica(me) && !primary)
        return MISSING("node %u is nobody's replica", node->index);
    if (primary && !node_is_primary(primary))
        return MISSING("node %u is the replica of a replica", node->index);
    if (primary &&
        (node->source < 0 || id_compare(&world->nodes[node->source].id, &primary->id) != 0))
        return MISSING("node %u does not follow its primary", node->index);
    if (!primary && node->source >= 0)
        return MISSING("node %u is a primary and follows node %d", node->index, node->source);
    return NULL;
}

static const char *slots_differ(const struct node *node, const struct node *first) {
    const struct cluster_node *before = NULL;
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        const struct cluster_node *a = node->cluster->owners[slot];
        const struct cluster_node *b = first->cluster->owners[slot];
        bool is_mine = a == node->cluster->myself;
        if (!a || !b || id_compare(&a->id, &b->id) != 0)
            return MISSING("nodes %u and %u do not agree on the owner of slot %u", node->index,
                           first->index, slot);
        if (a != before && !node_by_id(node->world, &a->id))
            return MISSING("node %u waits for the dead owner of slot %u", node->index, slot);
        before = a;
        if (is_mine != (node->map->owner[slot] == SLOT_MAP_MINE))
            return MISSING("the map of node %u is old", node->index);
    }
    return NULL;
}

static const char *epochs_collide(const struct node *node, const struct node *other) {
    const struct cluster_node *a = node->cluster->myself, *b = other->cluster->myself;
    if (a != b && node_is_primary(a) && node_is_primary(b) && a->config_epoch == b->config_epoch)
        return MISSING("nodes %u and %u have both epoch %llu", node->index, other->index,
                       (unsigned long long)a->config_epoch);
    return NULL;
}

static const char *knows_the_dead(struct node *node) {
    for (unsigned i = 0; i < node->cluster->node_count; i++)
        if (!node_by_id(node->world, &node->cluster->nodes[i]->id))
            return MISSING("node %u knows a node that is not there any more", node->index);
    return NULL;
}

const char *checks_disagreement(struct world *world) {
    const struct node *first = NULL;
    const char *found = NULL;
    for (unsigned i = 0; i < world->count && !found; i++) {
        struct node *node = &world->nodes[i];
        if (!node->cluster)
            continue;
        first = first ? first : node;
        found = node_is_not_well(node);
        found = found ? found : slots_differ(node, first);
        if (!found && world->forgets)
            found = knows_the_dead(node);
        for (unsigned j = 0; j < world->count && !found; j++) {
            const struct node *other = &world->nodes[j];
            if (!other->cluster)
                continue;
            found = view_differs(node, other);
            found = found ? found : epochs_collide(node, other);
        }
    }
    return found;
}
