/* Connections of the modelled bus (world.h). */
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "tests/sim/cluster/world.h"

static uint64_t *way(const struct world *world, const struct node *from, const struct node *to) {
    return &world->cut_until_us[from->index * world->count + to->index];
}

bool bus_is_cut(const struct world *world, const struct node *from, const struct node *to) {
    return *way(world, from, to) > world->queue.now_us;
}

void bus_cut(struct world *world, const struct node *from, const struct node *to, uint64_t for_us) {
    uint64_t until_us = world->queue.now_us + for_us;
    if (*way(world, from, to) < until_us)
        *way(world, from, to) = until_us;
}

void bus_isolate(struct world *world, const struct node *node, uint64_t for_us) {
    for (unsigned i = 0; i < world->count; i++) {
        if (i == node->index)
            continue;
        bus_cut(world, node, &world->nodes[i], for_us);
        bus_cut(world, &world->nodes[i], node, for_us);
    }
}

static struct end *make_end(struct node *node) {
    struct end *end = calloc(1, sizeof *end);
    ASSERT(end);
    *end = (struct end){.node = node, .life = node->life, .next = node->world->ends};
    end->link.owner = end;
    node->world->ends = end;
    return end;
}

static uint64_t some_delay_us(struct world *world, const struct node *to) {
    uint64_t delay_us = sim_random_between(&world->network, 200, world->delay_max_us);
    return delay_us + (to->slow_us ? sim_random_below(&world->network, to->slow_us) : 0);
}

struct cluster_link *bus_connect(void *context, const char *address, uint16_t bus_port) {
    struct node *node = context, *target = node_by_address(node->world, address);
    if (!target || bus_port != BUS_PORT)
        return NULL;
    struct event *event = event_after(node, EVENT_CONNECT, some_delay_us(node->world, target));
    event->end = make_end(node);
    event->target = target;
    return &event->end->link;
}

void bus_run_connect(struct event *event) {
    struct node *node = event->node, *target = event->target;
    struct world *world = node->world;
    if (event->end->closed || bus_is_cut(world, node, target) || bus_is_cut(world, target, node) ||
        target->powered_off || node->no_connect_until_us > world->queue.now_us)
        return; /* it goes on trying */
    if (!target->cluster) {
        event->end->closed = true;
        cluster_on_link_end(node->cluster, &event->end->link);
        return;
    }
    struct end *peer = make_end(target);
    peer->peer = event->end;
    event->end->peer = peer;
    event_after(target, EVENT_ACCEPT, 0)->end = peer;
    cluster_on_connected(node->cluster, &event->end->link);
}

static void tell_end(struct end *end, uint64_t delay_us) {
    struct world *world = end->node->world;
    uint64_t at_us = world->queue.now_us + delay_us;
    if (end->closed || end->life != end->node->life)
        return;
    if (at_us < end->last_arrival_us)
        at_us = end->last_arrival_us;
    end->last_arrival_us = at_us;
    event_after(end->node, EVENT_END, at_us - world->queue.now_us)->end = end;
}

void bus_reset(struct world *world, const struct node *one, const struct node *other) {
    for (struct end *end = world->ends; end; end = end->next)
        if (end->peer && ((end->node == one && end->peer->node == other) ||
                          (end->node == other && end->peer->node == one)))
            tell_end(end, 0);
}

static void send_once(struct end *peer, uint64_t delay_us, const void *bytes, size_t length) {
    struct world *world = peer->node->world;
    uint64_t at_us = world->queue.now_us + delay_us;
    if (at_us < peer->last_arrival_us)
        at_us = peer->last_arrival_us;
    peer->last_arrival_us = at_us;
    struct event *event = event_after(peer->node, EVENT_PACKET, at_us - world->queue.now_us);
    event->end = peer;
    event->life = peer->life;
    event->bytes = malloc(length);
    ASSERT(event->bytes);
    memcpy(event->bytes, bytes, length);
    event->length = length;
}

void bus_send(void *context, struct cluster_link *link, const void *bytes, size_t length) {
    struct node *node = context;
    struct world *world = node->world;
    struct end *end = link->owner, *peer = end->peer;
    ASSERT(link->open && !end->closed && peer && wire_length(bytes) == (int64_t)length);
    world->sent_bytes += length;
    world->sent_packets++;
    if (((const uint8_t *)bytes)[13] == WIRE_FAILOVER_AUTH_ACK) {
        struct wire_packet packet;
        ASSERT(wire_decode(bytes, length, &packet) == WIRE_OK);
        checks_vote_sent(node, peer->node, packet.header.current_epoch);
    }
    if (peer->life != peer->node->life || !peer->node->cluster) {
        if (!peer->node->powered_off) /* its machine knows nothing of this connection */
            tell_end(end, some_delay_us(world, node));
        return;
    }
    uint64_t delay_us = some_delay_us(world, peer->node);
    bool lossy = world->loss_until_us > world->queue.now_us;
    if (lossy && sim_random_chance(&world->network, world->loss_percent))
        return;
    if (bus_is_cut(world, node, peer->node)) {
        if (!world->resends)
            return;
        delay_us += *way(world, node, peer->node) - world->queue.now_us;
    }
    send_once(peer, delay_us, bytes, length);
    if (lossy && sim_random_chance(&world->network, world->twice_percent))
        send_once(peer, delay_us + some_delay_us(world, peer->node), bytes, length);
}

static void close_end(struct end *end, bool told) {
    struct end *peer = end->peer;
    end->closed = true;
    if (told && peer && !bus_is_cut(end->node->world, end->node, peer->node))
        tell_end(peer, some_delay_us(end->node->world, peer->node));
}

void bus_close(void *context, struct cluster_link *link) {
    (void)context;
    ASSERT(!link->node);
    close_end(link->owner, true);
}

void bus_close_all(struct node *node, bool told) {
    for (struct end *end = node->world->ends; end; end = end->next)
        if (end->node == node && end->life == node->life && !end->closed)
            close_end(end, told);
}

void bus_destroy(struct world *world) {
    for (struct end *end = world->ends, *next; end; end = next) {
        next = end->next;
        free(end);
    }
    world->ends = NULL;
}
