/* See cluster_duties.h. Everything runs on worker 0 unless noted. */
#include "server/links/cluster_duties.h"

#include <string.h>
#include <strings.h>

#include "cluster/operate.h"
#include "cluster/slot_map.h"
#include "engine/clock.h"
#include "engine/exclusive.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/config/config.h"
#include "server/dispatch/execution.h"
#include "server/dispatch/redirect.h"
#include "server/links/primary_stream.h"

#define DROP_KEYS       64   /* collected before they are deleted */
#define DROP_SECTION_US 2000 /* of an exclusive section */

enum duty_kind { DUTY_PROMOTE, DUTY_FOLLOW, DUTY_PAUSE, DUTY_DROP_SLOTS, DUTY_DROP_ALL };

struct cluster_duty {
    struct cluster_duty *next;
    enum duty_kind kind;
    bool finished;
    char address[WIRE_ADDRESS_LENGTH];
    uint16_t port;
    uint64_t for_ms;
    uint8_t slots[WIRE_SLOT_BYTES]; /* whose keys go */
    unsigned next_slot;             /* those before are done */
    struct keyspace_garbage *garbage;
};

/* --- Asking ----------------------------------------------------------------------------------- */

static struct cluster_duty *ask(struct cluster_bus *bus, enum duty_kind kind) {
    struct cluster_duties *duties = &bus->duties;
    struct cluster_duty *duty = memory_calloc(1, sizeof *duty);
    duty->kind = kind;
    if (duties->last)
        duties->last->next = duty;
    else
        duties->first = duty;
    duties->last = duty;
    if (!duties->posted) {
        duties->posted = true;
        mailbox_post(bus->around.mailbox, &duties->message);
    }
    return duty;
}

void cluster_duty_promote(struct cluster_bus *bus) {
    if (!bus->around.mailbox)
        return;
    ask(bus, DUTY_PROMOTE);
    bus->role_duties++;
}

void cluster_duty_follow(struct cluster_bus *bus, const char *address, uint16_t port) {
    if (!bus->around.mailbox) {
        replica_start_as(bus->around.replica, address, port);
        return;
    }
    struct cluster_duty *duty = ask(bus, DUTY_FOLLOW);
    bus->role_duties++;
    strncpy(duty->address, address, sizeof duty->address - 1);
    duty->port = port;
}

void cluster_duty_pause(struct cluster_bus *bus, uint64_t for_ms) {
    if (bus->around.mailbox)
        ask(bus, DUTY_PAUSE)->for_ms = for_ms;
}

void cluster_duty_drop_slot(struct cluster_bus *bus, unsigned slot) {
    struct cluster_duty *last = bus->duties.last;
    if (!bus->around.mailbox)
        return;
    if (!last || last->kind != DUTY_DROP_SLOTS)
        last = ask(bus, DUTY_DROP_SLOTS);
    last->slots[slot / 8] |= (uint8_t)(1u << (slot % 8));
}

void cluster_duty_drop_all(struct cluster_bus *bus) {
    if (bus->around.mailbox)
        ask(bus, DUTY_DROP_ALL);
}

/* --- Keys that go ----------------------------------------------------------------------------- */

struct collected {
    struct object *objects[DROP_KEYS];
    size_t count;
};

static void collect(struct object *object, uint64_t hash, void *context) {
    struct collected *collected = context;
    (void)hash;
    if (collected->count < DROP_KEYS)
        collected->objects[collected->count++] = object;
}

/* Some of the keys. false: there are none left. */
static bool drop_some(struct keyspace *keyspace, struct change *change, unsigned slot) {
    struct collected collected = {.count = 0};
    const table_root *root = keyspace_root(keyspace, 0, slot);
    uint64_t next;
    if (!root || table_count(root) == 0)
        return false;
    for (uint64_t from = 0; collected.count == 0; from = next) {
        table_walk(root, from, 0, 1, DROP_KEYS, false, collect, &collected, &next);
        if (next == 0)
            break;
    }
    bool unlink = config_current()->lazyfree_lazy_server_del;
    for (size_t i = 0; i < collected.count; i++) {
        size_t length;
        const char *data = object_key(collected.objects[i], &length);
        struct key key = key_make(data, length);
        change_append_deletion(change, 0, &key, unlink);
        keyspace_delete(change, 0, &key, CHANGE_DEL);
    }
    return collected.count > 0;
}

/* Who reads or writes such a slot has been sent to its owner since the map was published. One that
 * has become ours meanwhile keeps what it has. */
static bool is_ours(uint32_t slot) {
    const struct slot_map *map = redirect_map();
    return !map->is_replica && map->owner[slot] == SLOT_MAP_MINE;
}

/* One that serves nobody is being taken at the moment, or given back: it waits. */
static void drop_slots(struct cluster_bus *bus, struct cluster_duty *duty) {
    struct change *change = &bus->around.execution(bus->around.context)->change;
    uint64_t due_us = clock_monotonic_us() + DROP_SECTION_US;
    change_begin(change);
    while (duty->next_slot < CLUSTER_SLOTS && clock_monotonic_us() < due_us) {
        bool drops = wire_slot_is(duty->slots, duty->next_slot) && !is_ours(duty->next_slot);
        if (drops && !slot_is_serving(&bus->around.keyspace->slots[duty->next_slot]))
            break;
        if (!drops || !drop_some(bus->around.keyspace, change, duty->next_slot))
            duty->next_slot++;
    }
    change_commit(change);
    duty->finished = duty->next_slot == CLUSTER_SLOTS;
}

static void drop_all(struct cluster_bus *bus, struct cluster_duty *duty) {
    struct change *change = &bus->around.execution(bus->around.context)->change;
    change_begin(change);
    duty->garbage = keyspace_clear(change, -1);
    change_commit(change);
}

/* --- Doing ------------------------------------------------------------------------------------ */

static void follow(struct cluster_bus *bus, const struct cluster_duty *duty) {
    const struct replication *replication = bus->around.replication;
    if (replication_is_replica(replication) && replication->port == duty->port &&
        strcasecmp(replication->host, duty->address) == 0)
        return; /* it is already */
    replica_set_primary(bus->around.replica, duty->address, duty->port);
}

static void pause_or_resume(struct cluster_bus *bus, const struct cluster_duty *duty) {
    if (duty->for_ms == 0) {
        bus->around.primary->no_pings = false;
        pause_end(bus->around.pause, PAUSE_FOR_CLUSTER);
        return;
    }
    bus->around.primary->no_pings = true; /* the offset is to stay */
    pause_begin(bus->around.pause, PAUSE_FOR_CLUSTER, clock_monotonic_us() + duty->for_ms * 1000,
                false);
    if (bus->around.primary->on && !replication_is_replica(bus->around.replication))
        primary_merge(bus->around.primary, SIZE_MAX); /* what was written before */
}

static void in_section(void *context) {
    struct cluster_bus *bus = context;
    struct cluster_duty *duty = bus->duties.current;
    duty->finished = true;
    switch (duty->kind) {
    case DUTY_PROMOTE:
        replica_unset_primary(bus->around.replica);
        break;
    case DUTY_FOLLOW:
        follow(bus, duty);
        break;
    case DUTY_PAUSE:
        pause_or_resume(bus, duty);
        break;
    case DUTY_DROP_SLOTS:
        drop_slots(bus, duty);
        break;
    case DUTY_DROP_ALL:
        drop_all(bus, duty);
        break;
    }
}

static void tell(struct cluster_bus *bus, struct cluster_duty *duty) {
    if (duty->garbage)
        keyspace_garbage_free(duty->garbage, true);
    if (duty->kind == DUTY_PAUSE && duty->for_ms == 0)
        bus->around.resume(bus->around.context);
    struct cluster *cluster = cluster_bus_enter(bus);
    if (duty->kind == DUTY_PROMOTE || duty->kind == DUTY_FOLLOW)
        bus->role_duties--;
    if (duty->kind == DUTY_PROMOTE)
        cluster_on_promoted(cluster);
    else if (duty->kind == DUTY_PAUSE && duty->for_ms > 0)
        cluster_on_paused(cluster);
    cluster_bus_leave(bus, true);
}

static struct cluster_duty *take(struct cluster_bus *bus) {
    struct cluster_duties *duties = &bus->duties;
    cluster_bus_enter(bus);
    struct cluster_duty *duty = duties->first;
    if (duty) {
        duties->first = duty->next;
        if (!duties->first)
            duties->last = NULL;
    } else {
        duties->posted = false;
    }
    cluster_bus_leave(bus, false);
    return duty;
}

static void go_on(struct cluster_bus *bus) {
    struct cluster_duties *duties = &bus->duties;
    while (!duties->ended && (duties->current || (duties->current = take(bus)))) {
        if (!wait_for_patience(&duties->wait))
            return;
        exclusive_run(in_section, bus);
        wait_end(&duties->wait);
        struct cluster_duty *duty = duties->current;
        if (!duty->finished)
            continue; /* others come between */
        duties->current = NULL;
        tell(bus, duty);
        memory_free(duty);
    }
}

static void resumed(struct wait *wait) {
    go_on((struct cluster_bus *)(void *)((char *)wait - offsetof(struct cluster_bus, duties.wait)));
}

static void arrived(struct message *message) {
    go_on((struct cluster_bus *)(void *)((char *)message -
                                         offsetof(struct cluster_bus, duties.message)));
}

/* --- Life ------------------------------------------------------------------------------------- */

void cluster_duties_start(struct cluster_bus *bus) {
    bus->duties.message.run = arrived;
    wait_init(&bus->duties.wait, bus->around.mailbox, resumed);
}

void cluster_duties_end(struct cluster_bus *bus) {
    bus->duties.ended = true;
    wait_cancel(&bus->duties.wait);
}

void cluster_duties_destroy(struct cluster_bus *bus) {
    struct cluster_duties *duties = &bus->duties;
    memory_free(duties->current);
    duties->current = NULL;
    while (duties->first) {
        struct cluster_duty *duty = duties->first;
        duties->first = duty->next;
        memory_free(duty);
    }
    duties->last = NULL;
}

/* --- What was loaded -------------------------------------------------------------------------- */

void cluster_duties_verify(struct cluster_bus *bus) {
    uint8_t ours[WIRE_SLOT_BYTES] = {0};
    bool some = false;
    const struct slot_map *map = redirect_map();
    if (map->is_replica)
        return;
    for (unsigned slot = 0; slot < CLUSTER_SLOTS; slot++) {
        unsigned owner = map->owner[slot];
        if (keyspace_slot_count(bus->around.keyspace, slot) == 0 || owner == SLOT_MAP_MINE ||
            (map->importing_from && map->importing_from[slot]))
            continue;
        if (owner == SLOT_MAP_NOBODY) {
            log_write(LOG_LEVEL_NOTICE,
                      "I have keys for unassigned slot %u. Taking responsibility for it.", slot);
            ours[slot / 8] |= (uint8_t)(1u << (slot % 8));
            some = true;
        } else {
            log_write(LOG_LEVEL_NOTICE,
                      "I have keys for slot %u, but the slot is assigned to another node. Setting "
                      "it to importing state.",
                      slot);
            cluster_set_slot(bus->cluster, slot, CLUSTER_SLOT_IMPORTING, map->targets[owner].id.hex,
                             WIRE_ID_LENGTH);
        }
    }
    if (some)
        cluster_add_slots(bus->cluster, ours);
}
