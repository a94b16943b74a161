/* The operator of the modelled cluster (world.h): makes it, puts nodes in the place of those that
 * have lost their files, and mends in the end what nodes cannot mend alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "tests/sim/cluster/world.h"

#define REPLICATE_US    3000000
#define STAYS_FORGOTTEN 50000000 /* microseconds, less than CLUSTER_FORGET_MS */

struct forgotten {
    unsigned index, life;
    struct node_id id;
    uint64_t at_us;
};

/* --- Making ----------------------------------------------------------------------------------- */

static void id_of(struct world *world, unsigned index, char *text) {
    uint64_t bits = 0;
    for (unsigned i = 0; i < WIRE_ID_LENGTH; i++, bits >>= 4) {
        if (i % 16 == 0)
            bits = sim_random_mix(world->run->seed * 1000 + index * 4 + i / 16);
        text[i] = "0123456789abcdef"[bits & 15];
    }
    text[WIRE_ID_LENGTH] = 0;
}

static int add_line(struct world *world, char *at, size_t size, unsigned index, unsigned self) {
    char id[WIRE_ID_LENGTH + 1], primary[WIRE_ID_LENGTH + 1] = "-", slots[32] = "";
    unsigned count = world->primaries;
    bool is_primary = index < count;
    id_of(world, index, id);
    if (!is_primary)
        id_of(world, (index - count) % count, primary);
    else
        snprintf(slots, sizeof slots, " %u-%u", index * WIRE_SLOTS / count,
                 (index + 1) * WIRE_SLOTS / count - 1);
    return snprintf(at, size, "%s %s:%d@%d %s%s %s 0 0 %u connected%s\n", id,
                    world->nodes[index].address, NODE_PORT, BUS_PORT,
                    index == self ? "myself," : "", is_primary ? "master" : "slave", primary,
                    is_primary ? index + 1 : 0, slots);
}

void operator_make(struct world *world) {
    size_t size = 220 * (size_t)world->count + 100;
    for (unsigned i = 0; i < world->count; i++) {
        struct node *node = &world->nodes[i];
        size_t length = 0;
        node->file = malloc(size);
        ASSERT(node->file);
        for (unsigned j = 0; j < world->count; j++)
            length += (size_t)add_line(world, node->file + length, size - length, j, i);
        length += (size_t)snprintf(node->file + length, size - length,
                                   "vars currentEpoch %u lastVoteEpoch 0\n", world->primaries);
        ASSERT(length < size);
        node->file_length = length;
        node_start(node);
        node->synchronised = true;
    }
}

/* --- Replacing -------------------------------------------------------------------------------- */

static bool is_member(const struct node *node) {
    return node->cluster && !node->stopped && node->cluster->node_count > 2;
}

static bool knows(const struct node *node, const struct node *other) {
    for (unsigned i = 0; i < node->cluster->node_count; i++)
        if (id_compare(&node->cluster->nodes[i]->id, &other->id) == 0)
            return true;
    return false;
}

bool operator_is_known(struct world *world, const struct node *node) {
    for (unsigned i = 0; i < world->count; i++)
        if (&world->nodes[i] != node && world->nodes[i].cluster && knows(&world->nodes[i], node))
            return true;
    return false;
}

/* The primary with slots that has the fewest replicas, as this node sees it. */
static struct cluster_node *poorest(struct node *node) {
    struct cluster *cluster = node->cluster;
    struct cluster_node *found = NULL;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        struct cluster_node *known = cluster->nodes[i];
        if (known != cluster->myself && node_is_primary(known) && known->slot_count > 0 &&
            !node_is_failed(known) && node_by_id(node->world, &known->id) &&
            (!found || known->replica_count < found->replica_count))
            found = known;
    }
    return found;
}

static const char *replicate_poorest(struct node *node) {
    const struct cluster_node *primary = poorest(node);
    if (!primary)
        return "nobody is there";
    struct node_id id = primary->id;
    return cluster_replicate(node->cluster, id.hex, WIRE_ID_LENGTH, false);
}

static void make_replica(void *context, uint64_t life) {
    struct node *node = context;
    if (!node->cluster || node->life != life || node->stopped ||
        node_is_replica(node->cluster->myself) || node->cluster->myself->slot_count > 0)
        return;
    if (replicate_poorest(node))
        sim_queue_after(&node->world->queue, REPLICATE_US, make_replica, node, life);
    node_settle(node);
}

static void meet(struct node *node, const struct node *other) {
    SAY(node->world, "node %u meets node %u", node->index, other->index);
    cluster_meet(node->cluster, other->address, NODE_PORT, BUS_PORT);
    node_settle(node);
}

void operator_replace(struct node *node) {
    struct world *world = node->world;
    unsigned first = (unsigned)sim_random_below(&world->servers, world->count);
    for (unsigned i = 0; i < world->count; i++) {
        struct node *other = &world->nodes[(first + i) % world->count];
        if (other == node || !is_member(other))
            continue;
        meet(other, node);
        /* The way back may be bad just then. */
        if (!world->faults_over && sim_random_chance(&world->servers, 50))
            node->no_connect_until_us =
                world->queue.now_us +
                sim_random_between(&world->servers, 1000, 5000 * world->timeout_ms);
        break;
    }
    sim_queue_after(&world->queue, REPLICATE_US, make_replica, node, node->life);
}

/* --- Mending ---------------------------------------------------------------------------------- */

static void meet_all(struct world *world, struct node *node) {
    for (unsigned i = 0; i < world->count; i++)
        if (world->nodes[i].cluster && !knows(node, &world->nodes[i]))
            meet(node, &world->nodes[i]);
}

static void note_forgotten(struct node *node, const struct node_id *id) {
    struct world *world = node->world;
    uint64_t now_us = world->queue.now_us;
    for (unsigned i = 0; i < world->forgotten_count; i++) {
        const struct forgotten *entry = &world->forgotten[i];
        if (entry->index == node->index && entry->life == node->life &&
            id_compare(&entry->id, id) == 0 && now_us - entry->at_us < STAYS_FORGOTTEN)
            FAIL(world, "node %u has to forget the same node again after %.1f s", node->index,
                 (double)(now_us - entry->at_us) / 1e6);
    }
    world->forgotten =
        realloc(world->forgotten, (world->forgotten_count + 1) * sizeof *world->forgotten);
    ASSERT(world->forgotten);
    world->forgotten[world->forgotten_count++] =
        (struct forgotten){.index = node->index, .life = node->life, .id = *id, .at_us = now_us};
}

static void forget_dead(struct node *node) {
    struct cluster *cluster = node->cluster;
    for (unsigned i = cluster->node_count; i-- > 0;) {
        struct node_id id = cluster->nodes[i]->id;
        if (node_in_handshake(cluster->nodes[i]) || node_by_id(node->world, &id))
            continue;
        if (!cluster_forget(cluster, id.hex, WIRE_ID_LENGTH))
            note_forgotten(node, &id);
    }
}

static bool has_live_owner(struct world *world, unsigned slot) {
    for (unsigned i = 0; i < world->count; i++) {
        const struct cluster *cluster = world->nodes[i].cluster;
        if (cluster && cluster->owners[slot] == cluster->myself && !cluster->myself->primary)
            return true;
    }
    return false;
}

static void cover_slots(struct world *world) {
    struct node *chosen = NULL;
    uint8_t lost[WIRE_SLOT_BYTES] = {0}, owned[WIRE_SLOT_BYTES] = {0};
    bool any = false, bumped;
    uint64_t epoch;
    for (unsigned i = 0; i < world->count; i++) {
        struct node *node = &world->nodes[i];
        if (node->cluster && node_is_primary(node->cluster->myself) &&
            (!chosen || node->cluster->myself->slot_count > chosen->cluster->myself->slot_count))
            chosen = node;
    }
    for (unsigned slot = 0; chosen && slot < WIRE_SLOTS; slot++) {
        if (has_live_owner(world, slot))
            continue;
        any = true;
        lost[slot / 8] |= (uint8_t)(1u << slot % 8);
        if (chosen->cluster->owners[slot])
            owned[slot / 8] |= (uint8_t)(1u << slot % 8);
    }
    if (!any)
        return;
    SAY(world, "node %u gets the slots that nobody has", chosen->index);
    chosen->operating = true;
    cluster_delete_slots(chosen->cluster, owned);
    cluster_add_slots(chosen->cluster, lost);
    cluster_bump_epoch(chosen->cluster, &bumped, &epoch);
    node_settle(chosen);
    chosen->operating = false;
}

static void close_slots(struct node *node) {
    struct cluster *cluster = node->cluster;
    for (unsigned slot = 0; slot < WIRE_SLOTS && cluster->open_slots > 0; slot++)
        if (cluster->migrating_to[slot] || cluster->importing_from[slot])
            cluster_set_slot(cluster, slot, CLUSTER_SLOT_STABLE, NULL, 0);
}

/* Replicas of nobody that is there; and of each other. */
static void find_primary(struct node *node) {
    const struct cluster_node *me = node->cluster->myself;
    if (!node_is_replica(me))
        return;
    if (me->primary && node_is_primary(me->primary) && node_by_id(node->world, &me->primary->id))
        return;
    if (replicate_poorest(node)) {
        SAY(node->world, "node %u is reset", node->index);
        cluster_reset(node->cluster, false, false);
    }
}

void operator_mend(struct world *world) {
    world->run->figures[FIGURE_MENDED]++;
    world->operators_take_slots = world->forgets = true;
    for (unsigned i = 0; i < world->count; i++) {
        struct node *node = &world->nodes[i];
        if (!node->cluster)
            continue;
        node->operating = true;
        meet_all(world, node);
        close_slots(node);
        find_primary(node);
        node_settle(node);
    }
    for (unsigned i = 0; i < world->count; i++) {
        struct node *node = &world->nodes[i];
        if (!node->cluster)
            continue;
        forget_dead(node);
        node_settle(node);
        node->operating = false;
    }
    cover_slots(world);
}
