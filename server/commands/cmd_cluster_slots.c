/* CLUSTER: slots and the keys in them. See cmd_cluster.c for what runs while all are stopped. */
#include <string.h>

#include "cluster/operate.h"
#include "cluster/slot_map.h"
#include "engine/crc16.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "server/commands/cmd_cluster.h"
#include "server/commands/cmd_data.h"
#include "server/dispatch/redirect.h"

#define READ_TRIES 3

command_handler cmd_cluster_addslots, cmd_cluster_addslotsrange, cmd_cluster_delslots,
    cmd_cluster_delslotsrange, cmd_cluster_flushslots, cmd_cluster_setslot, cmd_cluster_keyslot,
    cmd_cluster_countkeysinslot, cmd_cluster_getkeysinslot;

/* --- Owners ----------------------------------------------------------------------------------- */

/* Slots as they are named, one after the other: Redis tells the first fault. */
struct naming {
    uint8_t slots[WIRE_SLOT_BYTES];
    bool deletes;
    bool stopped; /* one cannot be taken, or given up: the cluster tells */
};

/* false: error replied. */
static bool name_slot(struct call *call, struct naming *naming, unsigned slot) {
    const struct slot_map *map = redirect_map();
    uint8_t bit = (uint8_t)(1u << (slot % 8));
    if (naming->stopped)
        return true;
    if ((map->owner[slot] == SLOT_MAP_NOBODY) == naming->deletes) {
        naming->stopped = true;
    } else if (naming->slots[slot / 8] & bit) {
        reply_error_format(call->reply, "ERR Slot %u specified multiple times", slot);
        return false;
    }
    naming->slots[slot / 8] |= bit;
    return true;
}

static enum call_result change_slots(struct call *call, struct cluster_bus *bus,
                                     const struct naming *naming) {
    struct cluster *cluster = cluster_bus_enter(bus);
    return cluster_answer(call, bus,
                          naming->deletes ? cluster_delete_slots(cluster, naming->slots)
                                          : cluster_add_slots(cluster, naming->slots));
}

static enum call_result single_slots(struct call *call, bool deletes) {
    struct cluster_bus *bus = cluster_of_call(call);
    struct naming naming = {.deletes = deletes};
    unsigned slot;
    if (!bus)
        return CALL_DONE;
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    for (int i = 2; i < call->argc; i++)
        if (!cluster_slot_argument(call, i, &slot))
            return CALL_DONE;
    for (int i = 2; i < call->argc; i++)
        if (!cluster_slot_argument(call, i, &slot) || !name_slot(call, &naming, slot))
            return CALL_DONE;
    return change_slots(call, bus, &naming);
}

static enum call_result slot_ranges(struct call *call, bool deletes) {
    struct cluster_bus *bus = cluster_of_call(call);
    struct naming naming = {.deletes = deletes};
    unsigned first, last;
    if (!bus)
        return CALL_DONE;
    if (call->argc % 2 == 1) {
        command_reply_wrong_arity(call->reply, call->command);
        return CALL_DONE;
    }
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    for (int i = 2; i < call->argc; i += 2) {
        if (!cluster_slot_argument(call, i, &first) || !cluster_slot_argument(call, i + 1, &last))
            return CALL_DONE;
        if (first > last) {
            reply_error_format(call->reply,
                               "ERR start slot number %u is greater than end slot number %u", first,
                               last);
            return CALL_DONE;
        }
        for (unsigned slot = first; slot <= last; slot++)
            if (!name_slot(call, &naming, slot))
                return CALL_DONE;
    }
    return change_slots(call, bus, &naming);
}

enum call_result cmd_cluster_addslots(struct call *call) {
    return single_slots(call, false);
}

enum call_result cmd_cluster_delslots(struct call *call) {
    return single_slots(call, true);
}

enum call_result cmd_cluster_addslotsrange(struct call *call) {
    return slot_ranges(call, false);
}

enum call_result cmd_cluster_delslotsrange(struct call *call) {
    return slot_ranges(call, true);
}

enum call_result cmd_cluster_flushslots(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    if (!bus)
        return CALL_DONE;
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    struct cluster *cluster = cluster_bus_enter(bus);
    return cluster_answer(call, bus,
                          cluster_flush_slots(cluster, keyspace_count(call->keyspace, 0) > 0));
}

/* --- SETSLOT ---------------------------------------------------------------------------------- */

/* false: neither action nor number of arguments fit. */
static bool setslot_state(const struct call *call, enum cluster_slot_state *state) {
    static const struct {
        const char *name;
        int argc;
        enum cluster_slot_state state;
    } actions[] = {{"migrating", 5, CLUSTER_SLOT_MIGRATING},
                   {"importing", 5, CLUSTER_SLOT_IMPORTING},
                   {"stable", 4, CLUSTER_SLOT_STABLE},
                   {"node", 5, CLUSTER_SLOT_NODE}};
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        if (call->argc == actions[i].argc && argument_is(&call->argv[3], actions[i].name)) {
            *state = actions[i].state;
            return true;
        }
    return false;
}

enum call_result cmd_cluster_setslot(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    enum cluster_slot_state state;
    unsigned slot;
    if (!bus)
        return CALL_DONE;
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    if (redirect_map()->is_replica) {
        reply_error(call->reply, "ERR Please use SETSLOT only with masters.");
        return CALL_DONE;
    }
    if (!cluster_slot_argument(call, 2, &slot))
        return CALL_DONE;
    if (!setslot_state(call, &state)) {
        reply_error(call->reply,
                    "ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP");
        return CALL_DONE;
    }
    const struct argument *id = &call->argv[call->argc - 1];
    struct cluster *cluster = cluster_bus_enter(bus);
    return cluster_answer(call, bus,
                          cluster_set_slot(cluster, slot, state,
                                           state == CLUSTER_SLOT_STABLE ? NULL : id->data,
                                           state == CLUSTER_SLOT_STABLE ? 0 : id->length));
}

/* --- Keys ------------------------------------------------------------------------------------- */

enum call_result cmd_cluster_keyslot(struct call *call) {
    if (cluster_of_call(call))
        reply_integer(call->reply, slot_of_key(call->argv[2].data, call->argv[2].length));
    return CALL_DONE;
}

enum call_result cmd_cluster_countkeysinslot(struct call *call) {
    int64_t slot;
    if (!cluster_of_call(call) || !argument_integer(call, 2, &slot))
        return CALL_DONE;
    if (slot < 0 || slot >= CLUSTER_SLOTS)
        reply_error(call->reply, "ERR Invalid slot");
    else
        reply_integer(call->reply, (int64_t)keyspace_slot_count(call->keyspace, (uint32_t)slot));
    return CALL_DONE;
}

struct listed {
    const struct object **objects;
    size_t count, wanted;
};

static void list_object(struct object *object, uint64_t hash, void *context) {
    struct listed *listed = context;
    (void)hash;
    if (listed->count < listed->wanted)
        listed->objects[listed->count++] = object;
}

/* The first keys of the slot's table, in its order. */
static void list_keys(const struct call *call, uint32_t slot, struct listed *listed) {
    const table_root *root = keyspace_root(call->keyspace, 0, slot);
    uint64_t from = 0;
    listed->count = 0;
    if (!root)
        return;
    do
        table_walk(root, from, 0, listed->wanted - listed->count, SIZE_MAX, false, list_object,
                   listed, &from);
    while (from != 0 && listed->count < listed->wanted);
}

static void reply_listed(struct call *call, const struct listed *listed) {
    reply_array(call->reply, listed->count);
    for (size_t i = 0; i < listed->count; i++) {
        size_t length;
        const char *key = object_key(listed->objects[i], &length);
        reply_bulk(call->reply, key, length);
    }
}

/* Without the slot's token, validated as reads are; if others' changes come between again and
 * again, while all are stopped. */
enum call_result cmd_cluster_getkeysinslot(struct call *call) {
    int64_t slot, wanted;
    uint64_t word;
    if (!cluster_of_call(call) || !argument_integer(call, 2, &slot) ||
        !argument_integer(call, 3, &wanted))
        return CALL_DONE;
    if (slot < 0 || slot >= CLUSTER_SLOTS || wanted < 0) {
        reply_error(call->reply, "ERR Invalid slot or number of keys");
        return CALL_DONE;
    }
    uint64_t there = keyspace_slot_count(call->keyspace, (uint32_t)slot);
    struct listed listed = {.wanted = (uint64_t)wanted < there ? (size_t)wanted : (size_t)there};
    listed.objects = memory_alloc((listed.wanted + 1) * sizeof(struct object *));
    const struct slot *state = &call->keyspace->slots[slot];
    bool valid = false;
    for (int i = 0; i < READ_TRIES && !valid && !call->exclusive; i++) {
        if (!slot_read_begin(state, &word))
            continue;
        list_keys(call, (uint32_t)slot, &listed);
        valid = slot_read_validate(state, word);
    }
    if (call->exclusive) {
        list_keys(call, (uint32_t)slot, &listed);
        valid = true;
    }
    if (valid)
        reply_listed(call, &listed);
    memory_free(listed.objects);
    return valid ? CALL_DONE : CALL_NEED_EXCLUSIVE;
}
