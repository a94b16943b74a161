/* See change.h.
 *
 * Effects. They and what they point to lie in memory that the change keeps: a chain of blocks whose
 * addresses do not move, of which the first is reused by the next unit. Nothing is allocated before
 * the first effect, and so never where nothing is logged. */
#include "engine/change.h"

#include <string.h>

#include "engine/memory.h"
#include "engine/object_private.h"
#include "engine/snapshot.h"
#include "engine/watch.h"

#define MEMORY_BLOCK_BYTES ((size_t)16 * 1024)
#define EFFECTS_KEPT       1024 /* room for more is given back after the commit */

const struct change_event_description change_events[CHANGE_EVENTS] = {
    [CHANGE_APPEND] = {"append", '$', false},
    [CHANGE_COPY_TO] = {"copy_to", 'g', false},
    [CHANGE_DEL] = {"del", 'g', true},
    [CHANGE_EVICTED] = {"evicted", 'e', true},
    [CHANGE_EXPIRE] = {"expire", 'g', false},
    [CHANGE_EXPIRED] = {"expired", 'x', true},
    [CHANGE_GEOSEARCHSTORE] = {"geosearchstore", 'z', false},
    [CHANGE_GEORADIUSSTORE] = {"georadiusstore", 'z', false},
    [CHANGE_HDEL] = {"hdel", 'h', false},
    [CHANGE_HEXPIRE] = {"hexpire", 'h', false},
    [CHANGE_HEXPIRED] = {"hexpired", 'h', false},
    [CHANGE_HINCRBY] = {"hincrby", 'h', false},
    [CHANGE_HINCRBYFLOAT] = {"hincrbyfloat", 'h', false},
    [CHANGE_HPERSIST] = {"hpersist", 'h', false},
    [CHANGE_HSET] = {"hset", 'h', false},
    [CHANGE_INCRBY] = {"incrby", '$', false},
    [CHANGE_INCRBYFLOAT] = {"incrbyfloat", '$', false},
    [CHANGE_KEYMISS] = {"keymiss", 'm', true},
    [CHANGE_LINSERT] = {"linsert", 'l', false},
    [CHANGE_LOADED] = {"loaded", 0, false},
    [CHANGE_LPOP] = {"lpop", 'l', false},
    [CHANGE_LPUSH] = {"lpush", 'l', false},
    [CHANGE_LREM] = {"lrem", 'l', false},
    [CHANGE_LSET] = {"lset", 'l', false},
    [CHANGE_LTRIM] = {"ltrim", 'l', false},
    [CHANGE_MOVE_FROM] = {"move_from", 'g', true},
    [CHANGE_MOVE_TO] = {"move_to", 'g', false},
    [CHANGE_NEW] = {"new", 'n', false},
    [CHANGE_PERSIST] = {"persist", 'g', false},
    [CHANGE_RENAME_FROM] = {"rename_from", 'g', true},
    [CHANGE_RENAME_TO] = {"rename_to", 'g', false},
    [CHANGE_RESTORE] = {"restore", 'g', false},
    [CHANGE_RPOP] = {"rpop", 'l', false},
    [CHANGE_RPUSH] = {"rpush", 'l', false},
    [CHANGE_SADD] = {"sadd", 's', false},
    [CHANGE_SDIFFSTORE] = {"sdiffstore", 's', false},
    [CHANGE_SET] = {"set", '$', false},
    [CHANGE_SETRANGE] = {"setrange", '$', false},
    [CHANGE_SINTERSTORE] = {"sinterstore", 's', false},
    [CHANGE_SORTSTORE] = {"sortstore", 'l', false},
    [CHANGE_SPOP] = {"spop", 's', false},
    [CHANGE_SREM] = {"srem", 's', false},
    [CHANGE_SUNIONSTORE] = {"sunionstore", 's', false},
    [CHANGE_ZADD] = {"zadd", 'z', false},
    [CHANGE_ZDIFFSTORE] = {"zdiffstore", 'z', false},
    [CHANGE_ZINCR] = {"zincr", 'z', false},
    [CHANGE_ZINTERSTORE] = {"zinterstore", 'z', false},
    [CHANGE_ZPOPMAX] = {"zpopmax", 'z', false},
    [CHANGE_ZPOPMIN] = {"zpopmin", 'z', false},
    [CHANGE_ZRANGESTORE] = {"zrangestore", 'z', false},
    [CHANGE_ZREM] = {"zrem", 'z', false},
    [CHANGE_ZREMRANGEBYLEX] = {"zremrangebylex", 'z', false},
    [CHANGE_ZREMRANGEBYRANK] = {"zremrangebyrank", 'z', false},
    [CHANGE_ZREMRANGEBYSCORE] = {"zremrangebyscore", 'z', false},
    [CHANGE_ZUNIONSTORE] = {"zunionstore", 'z', false},
};

struct change_memory {
    struct change_memory *next;
    size_t size, used;
    _Alignas(8) char data[];
};

void change_init(struct change *change, struct door *door, enum view_mode mode) {
    *change = (struct change){.door = door};
    view_init(&change->view, &door->view, mode);
}

static void memory_free_chain(struct change_memory *block) {
    while (block) {
        struct change_memory *next = block->next;
        memory_free(block);
        block = next;
    }
}

void change_destroy(struct change *change) {
    ASSERT(change->count == 0);
    memory_free_chain(change->memory);
    memory_free(change->effects);
    change->memory = NULL;
    change->effects = NULL;
    change->room = 0;
}

/* --- Effects ---------------------------------------------------------------------------------- */

/* Bytes that stay where they are until the commit. The newest block is the first of the chain. */
static void *take(struct change *change, size_t size) {
    struct change_memory *block = change->memory;
    size = (size + 7) & ~(size_t)7;
    if (!block || block->size - block->used < size) {
        size_t room = size > MEMORY_BLOCK_BYTES ? size : MEMORY_BLOCK_BYTES;
        block = memory_alloc(sizeof *block + room);
        block->next = change->memory;
        block->size = room;
        block->used = 0;
        change->memory = block;
    }
    void *taken = block->data + block->used;
    block->used += size;
    return taken;
}

static void push(struct change *change, unsigned database, const struct effect_argument *arguments,
                 size_t count) {
    if (change->count == change->room) {
        change->room = change->room ? change->room * 2 : 16;
        change->effects = memory_realloc(change->effects, change->room * sizeof *change->effects);
    }
    change->effects[change->count++] = (struct effect){database, (unsigned)count, arguments};
}

static void push_copy(struct change *change, unsigned database,
                      const struct effect_argument *arguments, size_t count) {
    struct effect_argument *copies = take(change, count * sizeof *copies);
    for (size_t i = 0; i < count; i++) {
        char *data = take(change, arguments[i].length);
        memcpy(data, arguments[i].data, arguments[i].length);
        copies[i] = (struct effect_argument){data, arguments[i].length};
    }
    push(change, database, copies, count);
}

static uint64_t dirty_of(const struct change *change) {
    return atomic_load_explicit(&change->dirty, memory_order_relaxed);
}

void change_begin_logged(struct change *change) {
    ASSERT(change->count == 0); /* the unit before has committed */
    change->log_begun = change->door->logs_begun;
    change->dirty_before = dirty_of(change);
    change->own_form = change->marked = false;
}

void change_command_logged(struct change *change, unsigned database,
                           const struct effect_argument *argv, size_t argc) {
    if (change->log_begun != change->door->logs_begun) {
        change_begin_logged(change); /* by this command the log has begun: it is not in it */
        return;
    }
    bool changed = change->marked || dirty_of(change) != change->dirty_before;
    if (changed && !change->own_form)
        push(change, database, argv, argc);
    change->dirty_before = dirty_of(change);
    change->own_form = change->marked = false;
}

void change_keep_arguments(struct change *change) {
    if (change->count == 0)
        return;
    struct effect *effect = &change->effects[change->count - 1];
    struct effect_argument *arguments = take(change, effect->count * sizeof *arguments);
    memcpy(arguments, effect->arguments, effect->count * sizeof *arguments);
    effect->arguments = arguments;
}

void change_append(struct change *change, unsigned database,
                   const struct effect_argument *arguments, size_t count) {
    if (!change_is_logged(change))
        return;
    push_copy(change, database, arguments, count);
    change->own_form = true;
}

void change_append_beside(struct change *change, unsigned database,
                          const struct effect_argument *arguments, size_t count) {
    if (change_is_logged(change))
        push_copy(change, database, arguments, count);
}

void change_append_deletion(struct change *change, unsigned database, const struct key *key,
                            bool unlink) {
    struct effect_argument arguments[2] = {{unlink ? "UNLINK" : "DEL", unlink ? 6 : 3},
                                           {key->data, key->length}};
    change_append_beside(change, database, arguments, 2);
}

uint64_t change_commit_logged(struct change *change) {
    struct effect_log *log = change->door->log;
    ASSERT(log);
    uint64_t number = log->commit(log->context, change->effects, change->count);
    change->count = 0;
    if (change->room > EFFECTS_KEPT) {
        memory_free(change->effects);
        change->effects = NULL;
        change->room = 0;
    }
    struct change_memory *kept = change->memory;
    if (kept && kept->size > MEMORY_BLOCK_BYTES) {
        memory_free_chain(kept);
        change->memory = NULL;
    } else if (kept) {
        memory_free_chain(kept->next);
        kept->next = NULL;
        kept->used = 0;
    }
    return number;
}

/* --- One key ---------------------------------------------------------------------------------- */

void change_before_snapshot(struct change *change, unsigned database, const struct key *key,
                            struct object *object) {
    const struct door *door = change->door;
    if (!snapshot_is_due(door, object))
        return;
    door->snapshot->take(door->snapshot->context, database, key, object);
    snapshot_stamp(door, object);
}

void change_tell(struct change *change, unsigned database, const struct key *key,
                 enum change_event event) {
    for (struct change_listener *listener = change->door->listener; listener;
         listener = listener->next)
        listener->changed(listener->context, change, database, key, event);
}

void change_listen(struct door *door, struct change_listener *listener, bool listens) {
    struct change_listener **link = &door->listener;
    while (*link && *link != listener)
        link = &(*link)->next;
    if (listens && !*link) {
        listener->next = NULL;
        *link = listener;
    } else if (!listens && *link) {
        *link = listener->next;
    }
}

void change_watched(struct change *change, unsigned database, const struct key *key,
                    enum change_event event) {
    struct slot *slot = &change->door->slots[key->slot];
    uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
    bool absent = change_events[event].absent;
    if (word & SLOT_WATCHED)
        watch_touch(slot, database, key, absent);
    if ((word & SLOT_BLOCKED) && change->serves_waiters && !absent)
        change->door->appeared(change, database, key);
}
