/* A modelled node (world.h): the machine's callbacks, its starts, crashes and stops. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "tests/sim/cluster/world.h"

/* --- Events ----------------------------------------------------------------------------------- */

static void free_event(struct event *event) {
    free(event->bytes);
    free(event);
}

static void take_file(struct event *event) {
    struct node *node = event->node;
    bool lies = ablation == ABLATION_DISK_FAILURE_IGNORED;
    if (!event->failed) {
        free(node->file);
        node->file = (char *)event->bytes;
        node->file_length = event->length;
        event->bytes = NULL;
    }
    if (ablation == ABLATION_VOTE_NOT_DURABLE && !event->failed)
        return; /* that has been told already */
    cluster_on_persisted(node->cluster, event->ticket,
                         event->failed && !lies ? CLUSTER_PERSIST_FAILED : CLUSTER_PERSISTED);
}

static void take_packet(struct event *event) {
    struct end *end = event->end;
    struct node *node = event->node, *from = end->peer->node;
    if (end->closed)
        return;
    node->heard_us[from->index] = node->world->queue.now_us;
    if (!node->world->quiet)
        sim_trace_value(&node->world->run->trace,
                        node->world->queue.now_us * 64 + node->index + event->bytes[13]);
    bool open = cluster_on_packet(node->cluster, &end->link, event->bytes, event->length);
    ASSERT(open == !end->closed);
}

static void handle(struct event *event) {
    struct node *node = event->node;
    switch (event->kind) {
    case EVENT_TICK:
        cluster_tick(node->cluster);
        event_after(node, EVENT_TICK, TICK_US + (node->slow_us ? node->slow_us / 2 : 0));
        break;
    case EVENT_PACKET:
        take_packet(event);
        break;
    case EVENT_CONNECT:
        bus_run_connect(event);
        break;
    case EVENT_ACCEPT:
        if (!event->end->closed)
            cluster_on_accepted(node->cluster, &event->end->link);
        break;
    case EVENT_END:
        if (event->end->closed)
            return;
        event->end->closed = true;
        cluster_on_link_end(node->cluster, &event->end->link);
        break;
    case EVENT_PERSISTED:
        take_file(event);
        break;
    case EVENT_PROMOTED:
        cluster_on_promoted(node->cluster);
        break;
    case EVENT_PAUSED:
        cluster_on_paused(node->cluster);
        break;
    case EVENT_SHUTDOWN:
        cluster_on_shutdown(node->cluster, true);
        break;
    case EVENT_CRASH:
        node_crash(node, event->ticket != 0);
        node_restart_after(node, event->length, true);
        return;
    }
    node_settle(node);
}

static void run_event(void *context, uint64_t unused) {
    struct event *event = context;
    struct node *node = event->node;
    (void)unused;
    if (!node->cluster || event->life != node->life) {
        free_event(event);
    } else if (node->stopped && event->kind != EVENT_CRASH) {
        event->next = NULL;
        *node->waiting_end = event;
        node->waiting_end = &event->next;
    } else {
        handle(event);
        free_event(event);
    }
}

struct event *event_after(struct node *node, enum event_kind kind, uint64_t delay_us) {
    struct event *event = calloc(1, sizeof *event);
    ASSERT(event);
    *event = (struct event){.kind = kind, .node = node, .life = node->life};
    sim_queue_after(&node->world->queue, delay_us, run_event, event, 0);
    return event;
}

void node_free_events(struct world *world) {
    for (size_t i = 0; i < world->queue.count; i++)
        if (world->queue.events[i].run == run_event)
            free_event(world->queue.events[i].context);
}

void node_settle(struct node *node) {
    if (!node->cluster)
        return;
    cluster_before_wait(node->cluster);
    checks_step(node);
}

/* --- Callbacks -------------------------------------------------------------------------------- */

static uint64_t call_now(void *context) {
    const struct node *node = context;
    return node->clock_base_ms + world_ms(node->world);
}

static uint64_t call_unix(void *context) {
    const struct node *node = context;
    return (uint64_t)((int64_t)(1700000000000u + world_ms(node->world)) + node->unix_offset_ms);
}

static uint64_t call_random(void *context) {
    return sim_random_next(&((struct node *)context)->world->servers);
}

static bool call_local(void *context, const struct cluster_link *link, char *text, size_t size) {
    (void)link;
    snprintf(text, size, "%s", ((struct node *)context)->address);
    return true;
}

static bool call_peer(void *context, const struct cluster_link *link, char *text, size_t size) {
    const struct end *end = link->owner;
    (void)context;
    if (!end->peer)
        return false;
    snprintf(text, size, "%s", end->peer->node->address);
    return true;
}

static void tell_at_once(struct node *node, uint64_t ticket) {
    struct event *told = event_after(node, EVENT_PERSISTED, 0);
    *told = (struct event){.kind = EVENT_PERSISTED,
                           .node = node,
                           .life = node->life,
                           .ticket = ticket,
                           .failed = true};
}

static void call_persist(void *context, const char *text, size_t length, uint64_t ticket) {
    struct node *node = context;
    uint64_t disk_us = node->disk_us + sim_random_below(&node->world->servers, node->disk_us);
    uint64_t at_us = node->world->queue.now_us + disk_us; /* in the order in which it was asked */
    node->disk_free_us = at_us > node->disk_free_us ? at_us : node->disk_free_us;
    disk_us = node->disk_free_us - node->world->queue.now_us;
    struct event *event = event_after(node, EVENT_PERSISTED, disk_us);
    event->bytes = malloc(length + 1);
    ASSERT(event->bytes);
    memcpy(event->bytes, text, length);
    event->bytes[length] = 0;
    event->length = length;
    event->ticket = ticket;
    event->failed = node->disk_full;
    if (ablation == ABLATION_VOTE_NOT_DURABLE && !event->failed)
        tell_at_once(node, ticket);
}

static void call_publish(void *context, struct slot_map *map) {
    struct node *node = context;
    slot_map_free(node->map);
    node->map = map;
    node->world->config_changes++;
}

static void call_promote(void *context) {
    struct node *node = context;
    checks_promoted(node);
    node->source = -1;
    node->paused_until_us = 0;
    event_after(node, EVENT_PROMOTED, sim_random_below(&node->world->servers, 3000));
}

static void call_lease(void *context, uint64_t until_ms, bool ends) {
    (void)ends;
    ((struct node *)context)->lease_until_ms = until_ms;
}

static void call_slot(void *context, unsigned slot) {
    (void)context, (void)slot;
}
static bool call_has_keys(void *context, unsigned slot) {
    (void)context, (void)slot;
    return false;
}
static void call_drop_all(void *context) {
    ((struct node *)context)->data = NULL;
}
static void call_message(void *context, const void *channel, size_t channel_length,
                         const void *message, size_t message_length, bool sharded) {
    (void)context, (void)channel, (void)channel_length;
    (void)message, (void)message_length, (void)sharded;
}

static void call_log(void *context, enum cluster_log_level level, const char *text) {
    struct node *node = context;
    if (level >= CLUSTER_LOG_NOTICE && !node->world->quiet)
        SAY(node->world, "node %u: %s", node->index, text);
}

static const struct cluster_callbacks callbacks = {
    .now_ms = call_now,
    .unix_ms = call_unix,
    .random = call_random,
    .connect = bus_connect,
    .send = bus_send,
    .close = bus_close,
    .local_address = call_local,
    .peer_address = call_peer,
    .persist = call_persist,
    .publish = call_publish,
    .promote = call_promote,
    .follow = data_follow,
    .position = data_position,
    .pause = data_pause,
    .lease = call_lease,
    .drop_slot_keys = call_slot,
    .slot_has_keys = call_has_keys,
    .drop_all_keys = call_drop_all,
    .message = call_message,
    .log = call_log,
};

/* --- Life ------------------------------------------------------------------------------------- */

struct node *node_by_address(struct world *world, const char *address) {
    unsigned high, low;
    if (sscanf(address, "10.0.%u.%u", &high, &low) != 2 || high * 200 + low >= world->count)
        return NULL;
    return &world->nodes[high * 200 + low];
}

struct node *node_by_id(struct world *world, const struct node_id *id) {
    for (unsigned i = 0; i < world->count; i++)
        if (world->nodes[i].cluster && id_compare(&world->nodes[i].id, id) == 0)
            return &world->nodes[i];
    return NULL;
}

void node_start(struct node *node) {
    struct world *world = node->world;
    const char *error = NULL;
    ASSERT(!node->cluster);
    node->life++;
    node->powered_off = node->stopped = node->tick_waits = node->ending = false;
    node->waiting_end = &node->waiting;
    node->source = -1;
    node->link_up = node->crash_at_vote = false;
    node->synchronised = node->whole = false;
    node->paused_until_us = 0;
    node->started_us = node->went_on_us = world->queue.now_us;
    node->lease_until_ms = CLUSTER_LEASE_FREE;
    node->clock_base_ms = sim_random_between(&world->servers, 1000, 10000000);
    node->cluster = cluster_create(&node->config, &callbacks, node);
    if (node->file && cluster_load(node->cluster, node->file, node->file_length, &error) != 0)
        FAIL(world, "node %u cannot start with its file: %s", node->index, error);
    /* It had met somebody, and was killed before that was on its disk: the others go on calling,
     * but it listens to nobody whom it does not know. */
    if (node->file && node->cluster->node_count == 1 && world->count > 1)
        world->needs_operator = true;
    if (ablation == ABLATION_VOTE_FORGOTTEN)
        node->cluster->last_vote_epoch = 0;
    if (!node->file || id_compare(&node->id, &node->cluster->myself->id) != 0)
        node->vote_epoch = node->config_epoch = 0;
    node->id = node->cluster->myself->id;
    node->current_epoch = node->cluster->current_epoch;
    node->config_epoch = node->cluster->myself->config_epoch;
    cluster_start(node->cluster, node->file == NULL);
    event_after(node, EVENT_TICK, sim_random_between(&world->servers, 1, TICK_US));
    node_settle(node);
}

static void drop_waiting(struct node *node) {
    for (struct event *event = node->waiting, *next; event; event = next) {
        next = event->next;
        free_event(event);
    }
    node->waiting = NULL;
    node->waiting_end = &node->waiting;
}

void node_crash(struct node *node, bool told) {
    if (!node->cluster)
        return;
    SAY(node->world, "node %u ends%s", node->index, told ? "" : ", and nobody is told");
    if (node->cluster->has_ended)
        node->last_data = node->data;
    bus_close_all(node, told);
    drop_waiting(node);
    node->powered_off = !told;
    node->stopped = false;
    cluster_destroy(node->cluster);
    node->cluster = NULL;
    slot_map_free(node->map);
    node->map = NULL;
}

static void restart(void *context, uint64_t with_file) {
    struct node *node = context;
    if (node->cluster || node->gone)
        return;
    node->world->run->figures[FIGURE_RESTARTS]++;
    if (!with_file) {
        free(node->file);
        node->file = NULL;
        node->world->run->figures[FIGURE_LOST_FILES]++;
    }
    if (!with_file || sim_random_chance(&node->world->servers, 30))
        node->data = NULL;
    SAY(node->world, "node %u starts %s its file", node->index, with_file ? "with" : "without");
    node_start(node);
    if (!with_file)
        operator_replace(node);
}

void node_restart_after(struct node *node, uint64_t delay_us, bool with_file) {
    if (!node->cluster)
        sim_queue_after(&node->world->queue, delay_us, restart, node, with_file);
}

static void go_on(void *context, uint64_t life) {
    struct node *node = context;
    if (node->life == life)
        node_go_on(node);
}

void node_stop(struct node *node, uint64_t for_us) {
    if (!node->cluster || node->stopped)
        return;
    SAY(node->world, "node %u is stopped for %.1f s", node->index, (double)for_us / 1e6);
    node->stopped = true;
    sim_queue_after(&node->world->queue, for_us, go_on, node, node->life);
}

/* What has come waits in its sockets; its timer may be first, or not. */
void node_go_on(struct node *node) {
    if (!node->cluster || !node->stopped)
        return;
    struct event *event = node->waiting;
    SAY(node->world, "node %u goes on", node->index);
    node->stopped = false;
    node->waiting = NULL;
    node->waiting_end = &node->waiting;
    node->went_on_us = node->world->queue.now_us;
    if (sim_random_chance(&node->world->servers, 50)) {
        cluster_tick(node->cluster);
        node_settle(node);
    }
    while (event) {
        struct event *next = event->next;
        if (node->cluster && event->life == node->life)
            handle(event);
        free_event(event);
        event = next;
    }
}
