/* See redirect.h. Order of the checks and texts are Redis's. */
#include "server/dispatch/redirect.h"

#include <string.h>

#include "cluster/slot_map.h"
#include "engine/assert.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "server/base/numbers.h"
#include "server/dispatch/command_keys.h"
#include "server/dispatch/command_rows.h"
#include "server/dispatch/lease_gate.h"
#include "server/dispatch/session.h"

#define ERROR_CROSS_SLOT "CROSSSLOT Keys in request don't hash to the same slot"
#define ERROR_TRY_AGAIN  "TRYAGAIN Multiple keys request during rehashing of slot"
#define ERROR_UNBOUND    "CLUSTERDOWN Hash slot not served"
#define ERROR_DOWN       "CLUSTERDOWN The cluster is down"
#define ERROR_DOWN_READS "CLUSTERDOWN The cluster is down and only accepts read commands"

struct redirect_state redirect_state;

struct slot_map *redirect_publish(struct slot_map *map) {
    return atomic_exchange_explicit(&redirect_state.map, map, memory_order_acq_rel);
}

/* --- Keys ------------------------------------------------------------------------------------- */

#define FEW_KEYS 64

/* Of these the channels are as keys: a shard channel lives where its slot does. */
static bool names_shard_channels(const struct command *command) {
    return command->row == ROW_ssubscribe || command->row == ROW_sunsubscribe ||
           command->row == ROW_spublish;
}

/* What is found among keys, one after the other. false: enough. */
typedef bool key_visit(const char *data, size_t length, void *context);

static bool visit_keys(const struct command *command, const struct argument *argv, int argc,
                       key_visit *visit, void *context) {
    int few[FEW_KEYS], *indexes = few;
    bool more = true;
    if (UNLIKELY(names_shard_channels(command))) {
        int end = command->row == ROW_spublish ? 2 : argc;
        for (int i = 1; i < end && more; i++)
            more = visit(argv[i].data, argv[i].length, context);
        return more;
    }
    int count = command_keys(command, argv, argc, few, FEW_KEYS);
    if (count > FEW_KEYS) {
        indexes = memory_alloc((size_t)count * sizeof *indexes);
        command_keys(command, argv, argc, indexes, count);
    }
    for (int i = 0; i < count && more; i++)
        more = visit(argv[indexes[i]].data, argv[indexes[i]].length, context);
    if (indexes != few)
        memory_free(indexes);
    return more;
}

static bool is_exec(const struct call *call) {
    return call->command->access == ACCESS_TRANSACTION;
}

/* All keys of the command, of a transaction those of all that is queued. */
static void visit_all(const struct call *call, key_visit *visit, void *context) {
    const struct transaction *transaction = &call->session->transaction;
    if (!is_exec(call)) {
        visit_keys(call->command, call->argv, call->argc, visit, context);
        return;
    }
    for (size_t i = 0; i < transaction->count; i++) {
        const struct queued_command *queued = &transaction->commands[i];
        if (!visit_keys(queued->command, queued->argv, queued->argc, visit, context))
            return;
    }
}

/* --- The slot --------------------------------------------------------------------------------- */

struct slot_search {
    const struct slot_map *map;
    int slot; /* -1: no key yet */
    bool crosses;
};

/* A first slot without owner is told before a second one. */
static bool note_slot(struct slot_search *search, int slot) {
    if (search->slot < 0)
        search->slot = slot;
    else
        search->crosses = slot != search->slot;
    return !search->crosses && search->map->owner[search->slot] != SLOT_MAP_NOBODY;
}

static bool note_key(const char *data, size_t length, void *context) {
    return note_slot(context, (int)slot_of_key(data, length));
}

static void find_slot(const struct call *call, struct slot_search *search) {
    if (UNLIKELY(call->command->flags & COMMAND_PUBSUB)) {
        visit_all(call, note_key, search);
        return;
    }
    if (LIKELY(call->command->single_key && call->first_key)) {
        search->slot = (int)call->key.slot;
        return;
    }
    if (call->keys) {
        for (uint32_t i = 0; i < call->key_count; i++)
            if (!note_slot(search, (int)call->keys[i].slot))
                return;
        return;
    }
    visit_all(call, note_key, search);
}

/* --- Redirections ----------------------------------------------------------------------------- */

/* By hand: a client with an old map gets many of them. */
static void reply_target(struct reply *reply, const char *what, int slot,
                         const struct slot_map_target *target) {
    char text[16 + NUMBER_INT64_SIZE + sizeof target->endpoint], *cursor = text;
    size_t length = strlen(what);
    memcpy(cursor, what, length);
    cursor += length;
    cursor += number_write_int64(cursor, slot);
    *cursor++ = ' ';
    length = strlen(target->endpoint);
    memcpy(cursor, target->endpoint, length);
    reply_error_bytes(reply, text, (size_t)(cursor - text) + length);
}

static const char *down_error(const struct slot_map *map, const struct call *call) {
    if (map->state_ok)
        return NULL;
    if (names_shard_channels(call->command))
        return map->allow_pubsubshard_when_down ? NULL : ERROR_DOWN;
    if (!map->allow_reads_when_down)
        return ERROR_DOWN;
    return call->command->flags & COMMAND_WRITE ? ERROR_DOWN_READS : NULL;
}

static bool is_migrating(const struct slot_map *map, int slot) {
    return map->migrating_to && map->owner[slot] == SLOT_MAP_MINE && map->migrating_to[slot];
}

static bool is_importing(const struct slot_map *map, int slot) {
    return map->importing_from && !is_migrating(map, slot) && map->importing_from[slot];
}

/* It is not as plain as "the slot is ours". */
static bool decide(struct execution *execution, const struct slot_map *map, struct call *call,
                   int slot, uint32_t flags) {
    const struct session *session = call->session;
    unsigned owner = map->owner[slot];
    bool asks = session->asks || (call->command->flags & COMMAND_ASKING);
    const char *error = owner == SLOT_MAP_NOBODY ? ERROR_UNBOUND : down_error(map, call);
    if (error) {
        reply_error(call->reply, error);
        return false;
    }
    bool is_open = is_migrating(map, slot) || is_importing(map, slot);
    if (is_open && call->command->row == ROW_migrate)
        return true; /* moves keys of such a slot as it is told */
    bool shard_channel = names_shard_channels(call->command);
    if (shard_channel && is_open && (asks || owner == SLOT_MAP_MINE))
        return true; /* it stays with the source until the slot has gone */
    if (is_migrating(map, slot) || (is_open && asks)) {
        execution->open_slot = slot;
        return true;
    }
    if (owner == SLOT_MAP_MINE)
        return true;
    if ((session->reads_replica || shard_channel) && !(flags & COMMAND_WRITE) &&
        map->targets[owner].is_my_primary)
        return true;
    reply_target(call->reply, "MOVED ", slot, &map->targets[owner]);
    return false;
}

bool redirect_check(struct execution *execution, const struct slot_map *map, struct call *call,
                    uint32_t flags, bool first) {
    struct session *session = call->session;
    const struct command *command = call->command;
    execution->map = map;
    execution->open_slot = -1;
    if (first && !session->in_multi) {
        session->asks = session->asks_next;
        session->asks_next = false;
    }
    if (command->key_spec_count == 0 && !(is_exec(call) && session->in_multi))
        return true;
    struct slot_search search = {map, -1, false};
    find_slot(call, &search);
    if (search.slot < 0)
        return true;
    if (UNLIKELY(search.crosses)) {
        reply_error(call->reply, ERROR_CROSS_SLOT);
        return false;
    }
    bool is_plain = map->owner[search.slot] == SLOT_MAP_MINE && map->state_ok &&
                    !map->migrating_to && !map->importing_from;
    if (UNLIKELY(!is_plain) && !decide(execution, map, call, search.slot, flags))
        return false;
    if (flags & COMMAND_WRITE)
        lease_gate_note(&session->unacknowledged, lease_gate_mark());
    return true;
}

bool redirect_keeps_channels(uint32_t slot) {
    const struct slot_map *map = redirect_map();
    if (!map)
        return true;
    unsigned owner = map->owner[slot];
    return owner == SLOT_MAP_MINE ||
           (owner != SLOT_MAP_NOBODY && map->targets[owner].is_my_primary);
}

bool redirect_keeps_blocked(uint32_t slot) {
    const struct slot_map *map = redirect_map();
    return !map || (map->state_ok && (map->owner[slot] == SLOT_MAP_MINE ||
                                      (map->importing_from && map->importing_from[slot] != 0)));
}

/* --- Open slots ------------------------------------------------------------------------------- */

struct existence {
    struct call *call;
    const char *first; /* of the keys */
    size_t first_length;
    bool some, some_missing, several;
};

static bool look_for(const char *data, size_t length, void *context) {
    struct existence *existence = context;
    struct view *view = &existence->call->change->view;
    struct key key = key_make(data, length);
    const struct object *object = keyspace_find_raw(existence->call->keyspace, 0, &key);
    if (object && !view_is_expired(view, object))
        existence->some = true;
    else
        existence->some_missing = true;
    if (!existence->first) {
        existence->first = data;
        existence->first_length = length;
    } else if (length != existence->first_length || memcmp(data, existence->first, length) != 0) {
        existence->several = true;
    }
    return true;
}

bool redirect_check_open(struct execution *execution, struct call *call) {
    const struct slot_map *map = execution->map;
    int slot = execution->open_slot;
    struct existence existence = {.call = call};
    visit_all(call, look_for, &existence);
    if (!existence.some_missing)
        return true;
    if (is_migrating(map, slot) && !existence.some) {
        reply_target(call->reply, "ASK ", slot, &map->targets[map->migrating_to[slot]]);
        return false;
    }
    if (!is_migrating(map, slot) && !existence.several)
        return true; /* a new key of a slot that is coming */
    reply_error(call->reply, ERROR_TRY_AGAIN);
    return false;
}
