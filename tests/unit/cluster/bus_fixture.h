/* Whole clusters in one thread: machines that run the state machine of cluster/, with virtual time,
 * links as queues and one seed for everything that is random. The same seed gives the same run.
 *
 * Time moves by events (a packet arrives, a file is durable, ten ticks a second). A machine can be
 * stopped (its links end, connections to it are refused) and started again with the nodes.conf that
 * was durable; the way between two machines can be cut, which drops packets and lets connections
 * hang. Replication is a number: a replica that reaches its primary has its offset. */
#ifndef SLOTWISE_TESTS_BUS_FIXTURE_H
#define SLOTWISE_TESTS_BUS_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "cluster/cluster.h"
#include "cluster/operate.h"
#include "cluster/slot_map.h"
#include "cluster/state.h"
#include "cluster/view.h"
#include "engine/memory.h"

#define BUS_MAX_MACHINES 64
#define BUS_START_MS     1000000u
#define BUS_UNIX_MS      1700000000000u /* Unix time when the clock shows 0 */
#define BUS_DELAY_MS     1              /* of packets, at least */
#define BUS_JITTER_MS    3
#define BUS_TICK_MS      100
#define BUS_PORT         7001

struct machine;

/* One end of a connection. Kept until the bus is freed, so that late events find it. */
struct bus_end {
    struct cluster_link link;
    struct machine *machine;
    struct bus_end *peer; /* NULL: never connected */
    struct bus_end *next;
    uint64_t last_arrival_ms; /* of packets to it: they stay in order */
    unsigned life;            /* the machine's, in which it was made */
    bool closed;
};

enum bus_event_kind {
    BUS_TICK,
    BUS_PACKET,
    BUS_CONNECT,
    BUS_END,
    BUS_PERSISTED,
    BUS_PROMOTED,
    BUS_PAUSED
};

struct bus_event {
    uint64_t at_ms, order, ticket;
    enum bus_event_kind kind;
    struct machine *machine;
    unsigned life;
    struct bus_end *end;
    unsigned target; /* BUS_CONNECT */
    uint8_t *bytes;  /* BUS_PACKET: a packet; BUS_PERSISTED: a file */
    size_t length;
};

struct machine {
    struct bus *bus;
    struct cluster *cluster;
    struct cluster_config config;
    unsigned index;
    unsigned life;    /* counts starts: what was begun before is void */
    uint64_t disk_ms; /* until a file is durable */
    bool up, disk_fails, paused, never_synchronised;
    char address[16];
    char *file; /* nodes.conf as it is durable */
    size_t file_length;
    struct slot_map *map;
    unsigned maps, promotions, follows;
    int primary; /* index of the machine that it follows, -1: none */
    uint64_t offset, link_down_since_ms;
    uint8_t keys[WIRE_SLOT_BYTES]; /* slots with keys */
    unsigned dropped_slots;
    uint64_t lease_until_ms;
    bool dropped_all;
    unsigned messages;
    char *log;
    size_t log_length;
};

struct bus {
    struct machine machines[BUS_MAX_MACHINES];
    unsigned count;
    uint64_t now_ms, random, order;
    struct bus_event *heap;
    size_t heap_count, heap_capacity;
    struct bus_end *ends;
    bool cut[BUS_MAX_MACHINES][BUS_MAX_MACHINES];
    uint64_t packets, bytes;
    /* Called before a packet is delivered; false drops it. */
    bool (*filter)(struct bus *bus, struct machine *to, uint8_t *bytes, size_t length);
};

/* --- Events ----------------------------------------------------------------------------------- */

static inline uint64_t bus_random(struct bus *bus) {
    uint64_t z = bus->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline bool bus_event_before(const struct bus_event *a, const struct bus_event *b) {
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

static inline void bus_add_event(struct bus *bus, struct bus_event event) {
    if (bus->heap_count == bus->heap_capacity) {
        bus->heap_capacity = bus->heap_capacity ? bus->heap_capacity * 2 : 256;
        bus->heap = realloc(bus->heap, bus->heap_capacity * sizeof *bus->heap);
    }
    event.order = bus->order++;
    size_t at = bus->heap_count++;
    while (at > 0 && bus_event_before(&event, &bus->heap[(at - 1) / 2])) {
        bus->heap[at] = bus->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    bus->heap[at] = event;
}

static inline struct bus_event bus_take_event(struct bus *bus) {
    struct bus_event first = bus->heap[0], moved = bus->heap[--bus->heap_count];
    size_t at = 0, child;
    while ((child = at * 2 + 1) < bus->heap_count) {
        if (child + 1 < bus->heap_count &&
            bus_event_before(&bus->heap[child + 1], &bus->heap[child]))
            child++;
        if (!bus_event_before(&bus->heap[child], &moved))
            break;
        bus->heap[at] = bus->heap[child];
        at = child;
    }
    bus->heap[at] = moved;
    return first;
}

static inline void machine_event(struct machine *machine, enum bus_event_kind kind,
                                 uint64_t after_ms, uint64_t ticket) {
    bus_add_event(machine->bus, (struct bus_event){.at_ms = machine->bus->now_ms + after_ms,
                                                   .kind = kind,
                                                   .machine = machine,
                                                   .life = machine->life,
                                                   .ticket = ticket});
}

/* --- Callbacks -------------------------------------------------------------------------------- */

static inline uint64_t bus_call_now(void *context) {
    return ((struct machine *)context)->bus->now_ms;
}
static inline uint64_t bus_call_unix(void *context) {
    return ((struct machine *)context)->bus->now_ms + BUS_UNIX_MS;
}
static inline uint64_t bus_call_random(void *context) {
    return bus_random(((struct machine *)context)->bus);
}

static inline int bus_find_address(const struct bus *bus, const char *address) {
    for (unsigned i = 0; i < bus->count; i++)
        if (strcmp(bus->machines[i].address, address) == 0)
            return (int)i;
    return -1;
}

static inline struct bus_end *bus_new_end(struct machine *machine) {
    struct bus_end *end = calloc(1, sizeof *end);
    end->machine = machine;
    end->life = machine->life;
    end->link.owner = end;
    end->next = machine->bus->ends;
    machine->bus->ends = end;
    return end;
}

static inline struct cluster_link *bus_call_connect(void *context, const char *address,
                                                    uint16_t bus_port) {
    struct machine *machine = context;
    int target = bus_find_address(machine->bus, address);
    if (target < 0 || bus_port != BUS_PORT + CLUSTER_BUS_PORT_STEP)
        return NULL;
    struct bus_end *end = bus_new_end(machine);
    bus_add_event(machine->bus, (struct bus_event){.at_ms = machine->bus->now_ms + BUS_DELAY_MS,
                                                   .kind = BUS_CONNECT,
                                                   .machine = machine,
                                                   .life = machine->life,
                                                   .end = end,
                                                   .target = (unsigned)target});
    return &end->link;
}

static inline void bus_call_send(void *context, struct cluster_link *link, const void *bytes,
                                 size_t length) {
    struct machine *machine = context;
    struct bus *bus = machine->bus;
    struct bus_end *end = link->owner;
    cr_assert(link->open && !end->closed && wire_length(bytes) == (int64_t)length);
    bus->packets++;
    bus->bytes += length;
    struct bus_end *peer = end->peer;
    if (bus->cut[machine->index][peer->machine->index])
        return;
    uint64_t at_ms = bus->now_ms + BUS_DELAY_MS + bus_random(bus) % BUS_JITTER_MS;
    if (at_ms < peer->last_arrival_ms)
        at_ms = peer->last_arrival_ms;
    peer->last_arrival_ms = at_ms;
    uint8_t *copy = malloc(length);
    memcpy(copy, bytes, length);
    bus_add_event(bus, (struct bus_event){.at_ms = at_ms,
                                          .kind = BUS_PACKET,
                                          .machine = peer->machine,
                                          .life = peer->life,
                                          .end = peer,
                                          .bytes = copy,
                                          .length = length});
}

/* The peer learns of it, unless the way is cut. */
static inline void bus_close_end(struct bus_end *end) {
    struct bus_end *peer = end->peer;
    end->closed = true;
    if (!peer || peer->closed)
        return;
    struct bus *bus = end->machine->bus;
    uint64_t at_ms = bus->now_ms + BUS_DELAY_MS;
    if (at_ms < peer->last_arrival_ms)
        at_ms = peer->last_arrival_ms;
    if (!bus->cut[end->machine->index][peer->machine->index])
        bus_add_event(bus, (struct bus_event){.at_ms = at_ms,
                                              .kind = BUS_END,
                                              .machine = peer->machine,
                                              .life = peer->life,
                                              .end = peer});
}

static inline void bus_call_close(void *context, struct cluster_link *link) {
    (void)context;
    cr_assert_null(link->node);
    bus_close_end(link->owner);
}

static inline bool bus_call_local(void *context, const struct cluster_link *link, char *text,
                                  size_t size) {
    (void)link;
    snprintf(text, size, "%s", ((struct machine *)context)->address);
    return true;
}
static inline bool bus_call_peer(void *context, const struct cluster_link *link, char *text,
                                 size_t size) {
    const struct bus_end *end = link->owner;
    (void)context;
    if (!end->peer)
        return false;
    snprintf(text, size, "%s", end->peer->machine->address);
    return true;
}

static inline void bus_call_persist(void *context, const char *text, size_t length,
                                    uint64_t ticket) {
    struct machine *machine = context;
    uint8_t *copy = malloc(length + 1);
    memcpy(copy, text, length);
    copy[length] = 0;
    bus_add_event(machine->bus, (struct bus_event){.at_ms = machine->bus->now_ms + machine->disk_ms,
                                                   .kind = BUS_PERSISTED,
                                                   .machine = machine,
                                                   .life = machine->life,
                                                   .ticket = ticket,
                                                   .bytes = copy,
                                                   .length = length});
}

static inline void bus_call_publish(void *context, struct slot_map *map) {
    struct machine *machine = context;
    slot_map_free(machine->map);
    machine->map = map;
    machine->maps++;
}

static inline void bus_call_promote(void *context) {
    struct machine *machine = context;
    machine->primary = -1;
    machine->promotions++;
    machine_event(machine, BUS_PROMOTED, 1, 0);
}

static inline void bus_call_follow(void *context, const char *address, uint16_t port) {
    struct machine *machine = context;
    cr_assert_eq(port, BUS_PORT);
    machine->primary = bus_find_address(machine->bus, address);
    machine->link_down_since_ms = machine->bus->now_ms;
    machine->follows++;
}

static inline void machine_replicate(struct machine *machine) {
    struct bus *bus = machine->bus;
    if (machine->primary < 0)
        return;
    const struct machine *primary = &bus->machines[machine->primary];
    bool reached = primary->up && !bus->cut[primary->index][machine->index] &&
                   !bus->cut[machine->index][primary->index] && primary->primary < 0;
    if (reached) {
        machine->offset = primary->offset;
        machine->link_down_since_ms = 0;
    } else if (machine->link_down_since_ms == 0) {
        machine->link_down_since_ms = bus->now_ms;
    }
}

static inline void bus_call_position(void *context, struct cluster_data_position *position) {
    struct machine *machine = context;
    machine_replicate(machine);
    uint64_t since_ms = machine->link_down_since_ms;
    *position = (struct cluster_data_position){
        .offset = machine->offset,
        .link_is_up = machine->primary >= 0 && since_ms == 0,
        .knows_primary_data = !machine->never_synchronised,
        .link_down_ms = since_ms ? machine->bus->now_ms - since_ms : 0,
    };
}

static inline void bus_call_pause(void *context, uint64_t for_ms) {
    struct machine *machine = context;
    machine->paused = for_ms > 0;
    if (for_ms > 0)
        machine_event(machine, BUS_PAUSED, 1, 0);
}

static inline void bus_call_lease(void *context, uint64_t until_ms, bool ends) {
    (void)ends;
    ((struct machine *)context)->lease_until_ms = until_ms;
}

static inline void bus_call_drop_slot(void *context, unsigned slot) {
    struct machine *machine = context;
    machine->keys[slot / 8] &= (uint8_t) ~(1u << slot % 8);
    machine->dropped_slots++;
}
static inline bool bus_call_has_keys(void *context, unsigned slot) {
    return wire_slot_is(((struct machine *)context)->keys, slot);
}
static inline void bus_call_drop_all(void *context) {
    ((struct machine *)context)->dropped_all = true;
}
static inline void bus_call_message(void *context, const void *channel, size_t channel_length,
                                    const void *message, size_t message_length, bool sharded) {
    (void)channel, (void)channel_length, (void)message, (void)message_length, (void)sharded;
    ((struct machine *)context)->messages++;
}

static inline void bus_call_log(void *context, enum cluster_log_level level, const char *text) {
    struct machine *machine = context;
    size_t length = strlen(text);
    if (getenv("BUS_LOG"))
        fprintf(stderr, "%8llu %u %d %s\n",
                (unsigned long long)(machine->bus->now_ms - BUS_START_MS), machine->index, level,
                text);
    machine->log = realloc(machine->log, machine->log_length + length + 2);
    memcpy(machine->log + machine->log_length, text, length);
    machine->log_length += length;
    machine->log[machine->log_length++] = '\n';
    machine->log[machine->log_length] = 0;
}

static const struct cluster_callbacks bus_callbacks = {
    .now_ms = bus_call_now,
    .unix_ms = bus_call_unix,
    .random = bus_call_random,
    .connect = bus_call_connect,
    .send = bus_call_send,
    .close = bus_call_close,
    .local_address = bus_call_local,
    .peer_address = bus_call_peer,
    .persist = bus_call_persist,
    .publish = bus_call_publish,
    .promote = bus_call_promote,
    .follow = bus_call_follow,
    .position = bus_call_position,
    .pause = bus_call_pause,
    .lease = bus_call_lease,
    .drop_slot_keys = bus_call_drop_slot,
    .slot_has_keys = bus_call_has_keys,
    .drop_all_keys = bus_call_drop_all,
    .message = bus_call_message,
    .log = bus_call_log,
};

/* --- Machines --------------------------------------------------------------------------------- */

static inline struct cluster_config bus_config(uint64_t node_timeout_ms) {
    return (struct cluster_config){
        .node_timeout_ms = node_timeout_ms,
        .replica_validity_factor = 10,
        .migration_barrier = 1,
        .allow_replica_migration = true,
        .fast_failover = true,
        .require_full_coverage = true,
        .allow_pubsubshard_when_down = true,
        .replica_ping_period_ms = 10000,
        .port = BUS_PORT,
    };
}

/* With what was durable; without a file for the first time. */
static inline void machine_start(struct machine *machine) {
    const char *error = NULL;
    cr_assert(!machine->up);
    machine->up = true;
    machine->life++;
    machine->primary = -1;
    machine->cluster = cluster_create(&machine->config, &bus_callbacks, machine);
    if (machine->file)
        cr_assert_eq(cluster_load(machine->cluster, machine->file, machine->file_length, &error), 0,
                     "%s", error);
    cluster_start(machine->cluster, machine->file == NULL);
    machine_event(machine, BUS_TICK, 1 + machine->index * 7 % BUS_TICK_MS, 0);
}

/* As by kill -9: the kernel closes its connections. */
static inline void machine_stop(struct machine *machine) {
    cr_assert(machine->up);
    machine->up = false;
    machine->paused = false;
    for (struct bus_end *end = machine->bus->ends; end; end = end->next)
        if (end->machine == machine && !end->closed)
            bus_close_end(end);
    cluster_destroy(machine->cluster);
    machine->cluster = NULL;
    slot_map_free(machine->map);
    machine->map = NULL;
}

static inline struct bus *bus_new(unsigned count, uint64_t seed, uint64_t node_timeout_ms) {
    struct bus *bus = calloc(1, sizeof *bus);
    cr_assert(count <= BUS_MAX_MACHINES);
    bus->count = count;
    bus->random = seed;
    bus->now_ms = BUS_START_MS;
    for (unsigned i = 0; i < count; i++) {
        struct machine *machine = &bus->machines[i];
        machine->bus = bus;
        machine->index = i;
        machine->disk_ms = 2;
        machine->config = bus_config(node_timeout_ms);
        snprintf(machine->address, sizeof machine->address, "10.0.0.%u", i + 1);
        machine_start(machine);
    }
    return bus;
}

static inline void bus_free(struct bus *bus) {
    for (unsigned i = 0; i < bus->count; i++) {
        if (bus->machines[i].up)
            machine_stop(&bus->machines[i]);
        free(bus->machines[i].file);
        free(bus->machines[i].log);
    }
    while (bus->heap_count > 0)
        free(bus_take_event(bus).bytes);
    free(bus->heap);
    while (bus->ends) {
        struct bus_end *next = bus->ends->next;
        free(bus->ends);
        bus->ends = next;
    }
    free(bus);
}

/* --- Running ---------------------------------------------------------------------------------- */

static inline void bus_run_connect(struct bus *bus, const struct bus_event *event) {
    struct machine *machine = event->machine, *target = &bus->machines[event->target];
    if (event->end->closed || bus->cut[machine->index][target->index] ||
        bus->cut[target->index][machine->index])
        return;
    if (!target->up) {
        event->end->closed = true;
        cluster_on_link_end(machine->cluster, &event->end->link);
        return;
    }
    struct bus_end *peer = bus_new_end(target);
    peer->peer = event->end;
    event->end->peer = peer;
    cluster_on_accepted(target->cluster, &peer->link);
    cluster_on_connected(machine->cluster, &event->end->link);
    cluster_before_wait(target->cluster);
}

static inline void bus_run_packet(struct bus *bus, const struct bus_event *event) {
    struct machine *machine = event->machine;
    struct bus_end *end = event->end;
    if (end->closed || (bus->filter && !bus->filter(bus, machine, event->bytes, event->length)))
        return;
    bool open = cluster_on_packet(machine->cluster, &end->link, event->bytes, event->length);
    cr_assert_eq(open, !end->closed);
}

static inline void bus_run_persisted(struct bus_event *event) {
    struct machine *machine = event->machine;
    if (!machine->disk_fails) {
        free(machine->file);
        machine->file = (char *)event->bytes;
        machine->file_length = event->length;
        event->bytes = NULL;
    }
    cluster_on_persisted(machine->cluster, event->ticket,
                         machine->disk_fails ? CLUSTER_PERSIST_FAILED : CLUSTER_PERSISTED);
}

static inline void bus_run_event(struct bus *bus, struct bus_event *event) {
    struct machine *machine = event->machine;
    if (!machine->up || event->life != machine->life)
        return;
    switch (event->kind) {
    case BUS_TICK:
        cluster_tick(machine->cluster);
        machine_event(machine, BUS_TICK, BUS_TICK_MS, 0);
        break;
    case BUS_PACKET:
        bus_run_packet(bus, event);
        break;
    case BUS_CONNECT:
        bus_run_connect(bus, event);
        break;
    case BUS_END:
        if (!event->end->closed) {
            event->end->closed = true;
            cluster_on_link_end(machine->cluster, &event->end->link);
        }
        break;
    case BUS_PERSISTED:
        bus_run_persisted(event);
        break;
    case BUS_PROMOTED:
        cluster_on_promoted(machine->cluster);
        break;
    case BUS_PAUSED:
        cluster_on_paused(machine->cluster);
        break;
    }
    cluster_before_wait(machine->cluster);
}

static inline void bus_run(struct bus *bus, uint64_t for_ms) {
    uint64_t until_ms = bus->now_ms + for_ms;
    while (bus->heap_count > 0 && bus->heap[0].at_ms <= until_ms) {
        struct bus_event event = bus_take_event(bus);
        bus->now_ms = event.at_ms;
        bus_run_event(bus, &event);
        free(event.bytes);
    }
    bus->now_ms = until_ms;
}

/* Whether the condition came true within that time. */
static inline bool bus_wait(struct bus *bus, uint64_t for_ms, bool (*condition)(struct bus *)) {
    for (uint64_t waited_ms = 0; waited_ms < for_ms; waited_ms += 10) {
        if (condition(bus))
            return true;
        bus_run(bus, 10);
    }
    return condition(bus);
}

/* Both ways between the two. */
static inline void bus_set_cut(struct bus *bus, unsigned a, unsigned b, bool cut) {
    bus->cut[a][b] = bus->cut[b][a] = cut;
}
static inline void bus_isolate(struct bus *bus, unsigned machine, bool cut) {
    for (unsigned i = 0; i < bus->count; i++)
        if (i != machine)
            bus_set_cut(bus, machine, i, cut);
}

/* --- Looking and operating -------------------------------------------------------------------- */

static inline struct cluster *bus_cluster(struct bus *bus, unsigned i) {
    return bus->machines[i].cluster;
}
static inline const char *bus_id(struct bus *bus, unsigned i) {
    return bus_cluster(bus, i)->myself->id.hex;
}
/* What machine i knows of machine j. */
static inline struct cluster_node_view bus_view(struct bus *bus, unsigned i, const char *id) {
    struct cluster_node_view view = {0};
    cluster_view_node(bus_cluster(bus, i), id, WIRE_ID_LENGTH, &view);
    return view;
}
static inline bool bus_logged(struct bus *bus, unsigned i, const char *text) {
    return bus->machines[i].log && strstr(bus->machines[i].log, text);
}
static inline void bus_slots(uint8_t *slots, unsigned first, unsigned last) {
    memset(slots, 0, WIRE_SLOT_BYTES);
    for (unsigned slot = first; slot <= last; slot++)
        slots[slot / 8] |= (uint8_t)(1u << slot % 8);
}

/* The invariants of state.h. */
static inline void bus_check_state(const struct cluster *cluster) {
    unsigned owned = 0, counted = 0, handshakes = 0;
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        owned += cluster->owners[slot] != NULL;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        counted += node->slot_count;
        handshakes += node_in_handshake(node);
        cr_assert_eq(node->index, i);
        cr_assert(node->primary != node);
        cr_assert_not(node_is_primary(node) && node_is_replica(node));
        cr_assert(!node->link || node->link->node == node);
        cr_assert(!node->inbound_link || node->inbound_link->node == node);
        cr_assert((node == cluster->myself) == !!(node->flags & WIRE_NODE_MYSELF));
    }
    for (unsigned i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        for (unsigned j = 0; j < node->replica_count; j++)
            cr_assert_eq(node->replicas[j]->primary, node);
        for (unsigned j = 0; j < node->report_count; j++)
            cr_assert_eq(cluster->nodes[node->reports[j].reporter->index],
                         node->reports[j].reporter);
    }
    cr_assert_eq(owned, counted);
    cr_assert_eq(handshakes, cluster->handshake_count);
}

/* All that are up know each other, agree on every owner and are well. */
static inline bool bus_agrees(struct bus *bus) {
    const struct cluster *first = NULL;
    for (unsigned i = 0; i < bus->count; i++) {
        const struct cluster *cluster = bus_cluster(bus, i);
        if (!cluster)
            continue;
        if (!cluster->state_ok || cluster->promoting)
            return false;
        first = first ? first : cluster;
        for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
            if (!cluster->owners[slot] || !first->owners[slot] ||
                id_compare(&cluster->owners[slot]->id, &first->owners[slot]->id) != 0)
                return false;
        for (unsigned j = 0; j < bus->count; j++) {
            struct cluster_node *node;
            if (!bus_cluster(bus, j))
                continue;
            struct cluster_node_view view = bus_view(bus, i, bus_id(bus, j));
            node = bus_cluster(bus, j)->myself;
            bool primary = node_is_primary(node);
            if (!(view.flags & (primary ? WIRE_NODE_PRIMARY : WIRE_NODE_REPLICA)) ||
                view.flags & (WIRE_NODE_FAIL | WIRE_NODE_PFAIL | WIRE_NODE_HANDSHAKE) ||
                (!primary && id_compare(&view.primary, &node->primary->id) != 0))
                return false;
        }
    }
    return true;
}

static inline void bus_apply(const char *error) {
    cr_assert_null(error, "%s", error);
}

/* As redis-cli --cluster create: the slots are divided among the first `primaries` machines, the
 * others replicate them in turn. */
static inline void bus_form(struct bus *bus, unsigned primaries) {
    uint8_t slots[WIRE_SLOT_BYTES];
    for (unsigned i = 0; i < bus->count; i++)
        bus_apply(cluster_set_config_epoch(bus_cluster(bus, i), i + 1));
    for (unsigned i = 0; i < primaries; i++) {
        bus_slots(slots, i * WIRE_SLOTS / primaries, (i + 1) * WIRE_SLOTS / primaries - 1);
        bus_apply(cluster_add_slots(bus_cluster(bus, i), slots));
    }
    for (unsigned i = 1; i < bus->count; i++)
        bus_apply(cluster_meet(bus_cluster(bus, i), bus->machines[0].address, BUS_PORT,
                               BUS_PORT + CLUSTER_BUS_PORT_STEP));
    for (unsigned i = primaries; i < bus->count; i++) {
        const char *primary = bus_id(bus, (i - primaries) % primaries);
        for (unsigned waits = 0; !bus_view(bus, i, primary).flags && waits < 1000; waits++)
            bus_run(bus, 10);
        bus_apply(cluster_replicate(bus_cluster(bus, i), primary, WIRE_ID_LENGTH, false));
    }
    cr_assert(bus_wait(bus, 30000, bus_agrees));
}

#endif
