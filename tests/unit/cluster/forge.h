/* Packets that a test makes itself, on a link of its own to a machine of the bus. */
#ifndef SLOTWISE_TESTS_FORGE_H
#define SLOTWISE_TESTS_FORGE_H

#include "tests/unit/cluster/bus_fixture.h"

#define FORGE_ROOM 65536

static struct bus_end *forge_end;
static struct machine *forge_to;
static uint8_t forge_bytes[FORGE_ROOM];
static struct wire_header forge_head;
static struct wire_builder forge_builder;

/* Nobody reads at the other end. */
static inline void forge_open(struct bus *bus, unsigned to) {
    forge_to = &bus->machines[to];
    forge_end = bus_new_end(forge_to);
    forge_end->peer = bus_new_end(&bus->machines[(to + 1) % bus->count]);
    forge_end->peer->closed = true;
    forge_end->peer->peer = forge_end;
    cluster_on_accepted(forge_to->cluster, &forge_end->link);
}

/* As that node would send it, with its slots or its primary's. */
static inline void forge_header(enum wire_type type, const struct cluster_node *sender) {
    const struct cluster_node *owner = sender->primary ? sender->primary : sender;
    forge_head = (struct wire_header){
        .type = (uint16_t)type,
        .port = BUS_PORT,
        .bus_port = BUS_PORT + CLUSTER_BUS_PORT_STEP,
        .current_epoch = 6,
        .config_epoch = owner->config_epoch,
        .sender = sender->id,
        .flags = (uint16_t)sender->flags,
        .state_ok = true,
    };
    if (sender->primary)
        forge_head.primary = sender->primary->id;
    memcpy(forge_head.slots, owner->slots, WIRE_SLOT_BYTES);
}

static inline void forge_begin(void) {
    wire_begin(&forge_builder, forge_bytes, sizeof forge_bytes, &forge_head);
}

/* Whether the link is still open. */
static inline bool forge_deliver(void) {
    size_t length = wire_finish(&forge_builder);
    bool open = cluster_on_packet(forge_to->cluster, &forge_end->link, forge_bytes, length);
    cluster_before_wait(forge_to->cluster);
    return open;
}

static inline bool forge_deliver_plain(void) {
    forge_begin();
    return forge_deliver();
}

#endif
