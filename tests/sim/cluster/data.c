/* Data of the modelled nodes (world.h): primaries acknowledge writes while their map says that the
 * slot is theirs and the cluster is well, replicas follow. Offsets count writes. */
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "tests/sim/cluster/world.h"

#define STREAM_US     20000
#define FULL_SYNC_US  400000
#define WRITES_GAP_US 8000

static uint64_t offset_of(const struct write *data) {
    return data ? data->offset : 0;
}

bool data_includes(const struct write *data, const struct write *write) {
    while (offset_of(data) > offset_of(write))
        data = data->before;
    return data == write;
}

/* --- Replication ------------------------------------------------------------------------------ */

static bool reaches_source(const struct node *node) {
    const struct world *world = node->world;
    if (node->source < 0)
        return false;
    const struct node *source = &world->nodes[node->source];
    return source->cluster && !source->stopped && !bus_is_cut(world, source, node) &&
           !bus_is_cut(world, node, source) && (source->source < 0 || source->whole);
}

static void lose_link(struct node *node) {
    if (node->link_up)
        node->link_down_us = node->world->queue.now_us;
    node->link_up = false;
}

/* Whose data go on from ours has a stream for us; otherwise all of them have to come. */
static void replicate(struct node *node) {
    const struct node *source = &node->world->nodes[node->source];
    uint64_t now_us = node->world->queue.now_us;
    if (!data_includes(source->data, node->data)) {
        if (node->synchronised_us == 0)
            node->synchronised_us = now_us + FULL_SYNC_US;
        if (now_us < node->synchronised_us)
            return;
    }
    node->synchronised_us = 0;
    node->synchronised = node->whole = true;
    node->link_up = true;
    node->data = source->data;
}

static void stream(void *context, uint64_t unused) {
    struct node *node = context;
    if (node->cluster && !node->stopped && node->source >= 0) {
        if (!reaches_source(node))
            lose_link(node);
        else if (node->behind_until_us <= node->world->queue.now_us)
            replicate(node);
    }
    sim_queue_after(&node->world->queue, sim_random_between(&node->world->clients, 1, STREAM_US),
                    stream, node, unused);
}

void data_follow(void *context, const char *address, uint16_t port) {
    struct node *node = context, *source = node_by_address(node->world, address);
    ASSERT(port == NODE_PORT && source && source != node);
    if (node->source == (int)source->index)
        return;
    node->source = (int)source->index;
    node->link_up = true;
    lose_link(node);
    node->whole = node->synchronised = false;
    node->synchronised_us = 0;
    node->paused_until_us = 0;
}

void data_position(void *context, struct cluster_data_position *position) {
    const struct node *node = context;
    uint64_t down_us = node->world->queue.now_us - node->link_down_us;
    *position = (struct cluster_data_position){
        .offset = offset_of(node->data),
        .link_is_up = node->source >= 0 && node->link_up,
        .knows_primary_data = node->synchronised,
        .link_down_ms = node->link_up ? 0 : down_us / 1000,
    };
    const struct cluster_node *primary = node->cluster ? node->cluster->myself->primary : NULL;
    if (ablation == ABLATION_INHERIT_EARLY && primary && primary->has_ended)
        position->offset = primary->offset;
}

void data_pause(void *context, uint64_t for_ms) {
    struct node *node = context;
    uint64_t now_us = node->world->queue.now_us;
    if (ablation == ABLATION_PAUSE_SHORT && for_ms > 0)
        for_ms = 5;
    node->paused_until_us = for_ms ? now_us + for_ms * 1000 : 0;
    if (for_ms > 0)
        event_after(node, EVENT_PAUSED, sim_random_below(&node->world->servers, 2000));
}

/* --- Clients ---------------------------------------------------------------------------------- */

/* Replies go out by a clock that is read when they do. */
bool data_may_acknowledge(const struct node *node) {
    uint64_t now_ms = node->clock_base_ms + world_ms(node->world);
    if (node->lease_until_ms == CLUSTER_LEASE_FREE)
        return true;
    bool looks = ablation != ABLATION_NO_FRESH_CLOCK;
    return !looks ? node->lease_until_ms > 1 : now_ms < node->lease_until_ms;
}

static bool acknowledges(const struct node *node, unsigned slot) {
    bool paused = node->paused_until_us > node->world->queue.now_us;
    bool ends = node->ending && ablation != ABLATION_END_EARLY;
    return node->cluster && !node->stopped && !ends && node->source < 0 && node->map &&
           node->map->state_ok && node->map->owner[slot] == SLOT_MAP_MINE &&
           data_may_acknowledge(node) && (!paused || ablation == ABLATION_PAUSE_LATE);
}

static void write_something(void *context, uint64_t unused) {
    struct world *world = context;
    unsigned slot = (unsigned)sim_random_below(&world->clients, WIRE_SLOTS);
    const struct node *first = NULL;
    for (unsigned i = 0; i < world->count; i++) {
        struct node *node = &world->nodes[i];
        if (!acknowledges(node, slot))
            continue;
        if (first)
            checks_two_primaries(first, node);
        first = node;
        struct write *write = malloc(sizeof *write);
        ASSERT(write);
        *write = (struct write){.before = node->data,
                                .made_before = world->writes,
                                .offset = offset_of(node->data) + 1};
        world->writes = write;
        node->data = write;
        world->run->figures[FIGURE_WRITES]++;
        checks_acknowledged(node);
    }
    sim_queue_after(&world->queue, sim_random_between(&world->clients, 100, 2 * WRITES_GAP_US),
                    write_something, world, unused);
}

void data_begin(struct world *world) {
    for (unsigned i = 0; i < world->count; i++)
        sim_queue_after(&world->queue, sim_random_below(&world->clients, STREAM_US), stream,
                        &world->nodes[i], 0);
    sim_queue_after(&world->queue, 1000, write_something, world, 0);
}

void data_destroy(struct world *world) {
    for (struct write *write = world->writes, *next; write; write = next) {
        next = write->made_before;
        free(write);
    }
    world->writes = NULL;
}
