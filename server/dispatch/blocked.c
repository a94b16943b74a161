/* See blocked.h. */
#include "server/dispatch/blocked.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/dispatch/call.h"
#include "server/dispatch/session.h"

#define SERVED_ARGUMENTS 16 /* of a command with one key */
#define BUCKETS_FIRST    4
#define NOWHERE          SIZE_MAX

enum state { WAITING, CLAIMED, TIMED_OUT, UNBLOCKED, AGAIN, GONE };

/* A record waits for a key. All under the token of its slot but key, which does not change. */
struct node {
    struct blocked *record;
    struct key key; /* its bytes are the record's */
    struct blocked_key *of;
    struct node *next, *previous; /* in the order of arrival */
    _Atomic bool linked;          /* read by the owner to know which tokens it needs */
};

struct blocked {
    struct unfinished unfinished; /* first */
    struct waiter_queue queue;
    bool done; /* under the queue's lock */
    _Atomic unsigned state;
    _Atomic unsigned users;
    _Atomic unsigned linked; /* nodes */
    /* Not changed after the beginning. */
    const struct command *command;
    struct server *server;
    struct argument *argv;
    int argc;
    struct blocked_request request;
    unsigned database, key_count;
    int target_slot; /* -1: none */
    bool no_touch;
    /* By who claims or ends it, until it is done. */
    struct reply reply;
    uint64_t commit;
    const char *error;
    bool close;
    struct blocked *next_claimed;
    /* The owner's. */
    struct blocked_list *list;
    struct blocked *next, *previous;
    size_t heap_index;
    struct node nodes[];
};

/* All that wait for a key. Under the token of its slot. */
struct blocked_key {
    struct blocked_key *next;       /* in the bucket */
    struct blocked_key *next_ready; /* in a change */
    struct node *first, *last;
    uint64_t hash;
    size_t length;
    unsigned database;
    uint32_t slot;
    bool ready; /* in the list of a change */
    char data[];
};

/* Of a slot; NULL there while it is empty. Under its token. */
struct blocked_table {
    struct blocked_key **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
    struct target {
        uint16_t slot;
        int32_t nodes; /* whose records have it */
    } * targets;       /* each once */
    size_t target_count;
};

static _Atomic uint64_t keys_waited_for; /* in all tables; a statistic */

static struct blocked *record_of(struct unfinished *unfinished) {
    return (struct blocked *)(void *)unfinished;
}

/* --- Tables ----------------------------------------------------------------------------------- */

static struct blocked_key **place_of(const struct blocked_table *table, unsigned database,
                                     const struct key *key) {
    struct blocked_key **place = &table->buckets[key->hash & (table->bucket_count - 1)];
    for (; *place; place = &(*place)->next)
        if ((*place)->hash == key->hash && (*place)->database == database &&
            (*place)->length == key->length && memcmp((*place)->data, key->data, key->length) == 0)
            break;
    return place;
}

static void table_grow(struct blocked_table *table) {
    struct blocked_key **old = table->buckets;
    size_t old_count = table->bucket_count;
    table->bucket_count *= 2;
    table->buckets = memory_calloc(table->bucket_count, sizeof *table->buckets);
    for (size_t i = 0; i < old_count; i++)
        for (struct blocked_key *key = old[i], *next; key; key = next) {
            next = key->next;
            struct blocked_key **bucket = &table->buckets[key->hash & (table->bucket_count - 1)];
            key->next = *bucket;
            *bucket = key;
        }
    memory_free(old);
}

static struct blocked_key *key_find_or_make(struct slot *slot, unsigned database,
                                            const struct key *key) {
    struct blocked_table *table = slot->blocked;
    if (!table) {
        table = slot->blocked = memory_calloc(1, sizeof *table);
        table->bucket_count = BUCKETS_FIRST;
        table->buckets = memory_calloc(BUCKETS_FIRST, sizeof *table->buckets);
        slot_set_bits(slot, SLOT_BLOCKED);
    }
    struct blocked_key *found = *place_of(table, database, key);
    if (found)
        return found;
    if (table->count >= table->bucket_count * 2)
        table_grow(table);
    found = memory_calloc(1, sizeof *found + key->length);
    found->hash = key->hash;
    found->length = key->length;
    found->database = database;
    found->slot = key->slot;
    memcpy(found->data, key->data, key->length);
    *place_of(table, database, key) = found;
    table->count++;
    atomic_fetch_add_explicit(&keys_waited_for, 1, memory_order_relaxed);
    return found;
}

static struct key name_of(const struct blocked_key *key) {
    return (struct key){key->data, key->length, key->hash, key->slot};
}

/* Nobody waits for it any more, and no change is to look at it. */
static void key_free_if_unused(struct slot *slot, struct blocked_key *key) {
    struct blocked_table *table = slot->blocked;
    if (key->first || key->ready)
        return;
    struct key name = name_of(key);
    struct blocked_key **place = place_of(table, key->database, &name);
    ASSERT(*place == key);
    *place = key->next;
    memory_free(key);
    atomic_fetch_sub_explicit(&keys_waited_for, 1, memory_order_relaxed);
    if (--table->count > 0)
        return;
    ASSERT(table->target_count == 0);
    memory_free(table->targets);
    memory_free(table->buckets);
    memory_free(table);
    slot->blocked = NULL;
    slot_clear_bits(slot, SLOT_BLOCKED);
}

/* One more node whose record has this target, or one less; -1: none. */
static void count_target(struct blocked_table *table, int slot, bool more) {
    size_t i = 0;
    if (slot < 0)
        return;
    while (i < table->target_count && table->targets[i].slot != slot)
        i++;
    if (i == table->target_count) {
        ASSERT(more);
        table->targets =
            memory_realloc(table->targets, ++table->target_count * sizeof *table->targets);
        table->targets[i] = (struct target){.slot = (uint16_t)slot};
    }
    table->targets[i].nodes += more ? 1 : -1;
    if (table->targets[i].nodes == 0)
        table->targets[i] = table->targets[--table->target_count];
}

static void node_link(struct slot *slot, struct node *node, unsigned database) {
    struct blocked_key *key = key_find_or_make(slot, database, &node->key);
    if (key->last && key->last->record == node->record)
        return; /* the command names it twice */
    node->of = key;
    node->previous = key->last;
    if (key->last)
        key->last->next = node;
    else
        key->first = node;
    key->last = node;
    count_target(slot->blocked, node->record->target_slot, true);
    atomic_store_explicit(&node->linked, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&node->record->linked, 1, memory_order_relaxed);
}

/* The record may be freed by its owner as soon as its last node is unlinked, unless it is claimed.
 * The key stays. */
static void node_unlink(struct slot *slot, struct node *node) {
    struct blocked_key *key = node->of;
    if (node->previous)
        node->previous->next = node->next;
    else
        key->first = node->next;
    if (node->next)
        node->next->previous = node->previous;
    else
        key->last = node->previous;
    count_target(slot->blocked, node->record->target_slot, false);
    atomic_store_explicit(&node->linked, false, memory_order_relaxed);
    atomic_fetch_sub_explicit(&node->record->linked, 1, memory_order_release);
}

/* --- Beginning -------------------------------------------------------------------------------- */

static void leave(struct blocked *record) {
    if (atomic_fetch_sub(&record->users, 1) > 1)
        return;
    ASSERT(atomic_load(&record->linked) == 0);
    reply_clear(&record->reply);
    pthread_mutex_destroy(&record->queue.lock);
    memory_free(record);
}

static void heap_remove(struct blocked_list *list, struct blocked *record);

static void drop(struct unfinished *unfinished) {
    struct blocked *record = record_of(unfinished);
    struct blocked_list *list = record->list;
    if (list) {
        heap_remove(list, record);
        if (record->previous)
            record->previous->next = record->next;
        else
            list->first = record->next;
        if (record->next)
            record->next->previous = record->previous;
        atomic_fetch_sub_explicit(&list->count, 1, memory_order_relaxed);
    }
    leave(record);
}

/* true: the record has left WAITING for this state. */
static bool leave_waiting(struct blocked *record, enum state state) {
    unsigned waiting = WAITING;
    return atomic_compare_exchange_strong(&record->state, &waiting, state);
}

static void cancel(struct unfinished *unfinished) {
    leave_waiting(record_of(unfinished), GONE);
}

static bool end_one(struct blocked *record, const char *error, bool close);

static bool unblock(struct unfinished *unfinished, const char *error) {
    return end_one(record_of(unfinished), error, false);
}

bool blocked_is(const struct unfinished *unfinished) {
    return unfinished && unfinished->drop == drop;
}

/* With copies of the arguments behind its nodes. */
static struct blocked *record_make(const struct call *call, const struct blocked_request *request) {
    size_t bytes = sizeof(struct blocked) + (size_t)request->key_count * sizeof(struct node);
    size_t at = bytes;
    bytes += (size_t)call->argc * sizeof(struct argument);
    for (int i = 0; i < call->argc; i++)
        bytes += call->argv[i].length;
    struct blocked *record = memory_alloc_aligned(_Alignof(struct blocked), bytes);
    memset(record, 0, at);
    record->argv = (struct argument *)(void *)((char *)record + at);
    record->argc = call->argc;
    char *text = (char *)(record->argv + call->argc);
    for (int i = 0; i < call->argc; i++) {
        record->argv[i] = (struct argument){text, call->argv[i].length};
        memcpy(text, call->argv[i].data, call->argv[i].length);
        text += call->argv[i].length;
    }
    return record;
}

enum call_result blocked_begin(struct call *call, const struct blocked_request *request) {
    ASSERT(call->tokens && !call->in_exec && !call->session->unfinished);
    struct blocked *record = record_make(call, request);
    record->unfinished = (struct unfinished){
        .drop = drop,
        .queue = &record->queue,
        .done = &record->done,
        .ends_with_input = true,
        .cancel = cancel,
        .unblock = unblock,
    };
    pthread_mutex_init(&record->queue.lock, NULL);
    atomic_init(&record->users, 1);
    record->command = call->command;
    record->server = call->server;
    record->request = *request;
    record->database = call->database;
    record->no_touch = call->session->no_touch;
    record->target_slot = -1;
    record->heap_index = NOWHERE;
    reply_init(&record->reply);
    record->reply.resp = call->session->resp;
    if (request->target_index) {
        const struct argument *target = &record->argv[request->target_index];
        record->target_slot = (int)slot_of_key(target->data, target->length);
    }
    for (int i = 0; i < request->key_count; i++) {
        const struct argument *key = &record->argv[request->first_key + i];
        struct node *node = &record->nodes[record->key_count++];
        node->record = record;
        node->key = key_make(key->data, key->length);
        node_link(&call->keyspace->slots[node->key.slot], node, record->database);
    }
    call->session->unfinished = &record->unfinished;
    return CALL_UNFINISHED;
}

/* --- Times ------------------------------------------------------------------------------------ */

static void heap_put(struct blocked_list *list, size_t at, struct blocked *record) {
    list->by_time[at] = record;
    record->heap_index = at;
}

static void heap_up(struct blocked_list *list, size_t at, struct blocked *record) {
    for (; at > 0; at = (at - 1) / 2) {
        struct blocked *above = list->by_time[(at - 1) / 2];
        if (above->request.until_us <= record->request.until_us)
            break;
        heap_put(list, at, above);
    }
    heap_put(list, at, record);
}

static void heap_down(struct blocked_list *list, size_t at, struct blocked *record) {
    for (size_t child; (child = 2 * at + 1) < list->timed; at = child) {
        if (child + 1 < list->timed &&
            list->by_time[child + 1]->request.until_us < list->by_time[child]->request.until_us)
            child++;
        if (list->by_time[child]->request.until_us >= record->request.until_us)
            break;
        heap_put(list, at, list->by_time[child]);
    }
    heap_put(list, at, record);
}

static void heap_add(struct blocked_list *list, struct blocked *record) {
    if (list->timed == list->room) {
        list->room = list->room ? list->room * 2 : 16;
        list->by_time = memory_realloc(list->by_time, list->room * sizeof *list->by_time);
    }
    heap_up(list, list->timed++, record);
    atomic_store_explicit(&list->timed_count, (unsigned)list->timed, memory_order_relaxed);
}

static void heap_remove(struct blocked_list *list, struct blocked *record) {
    size_t at = record->heap_index;
    if (at == NOWHERE)
        return;
    record->heap_index = NOWHERE;
    struct blocked *last = list->by_time[--list->timed];
    atomic_store_explicit(&list->timed_count, (unsigned)list->timed, memory_order_relaxed);
    if (last == record)
        return;
    if (at > 0 && list->by_time[(at - 1) / 2]->request.until_us > last->request.until_us)
        heap_up(list, at, last);
    else
        heap_down(list, at, last);
}

void blocked_enlist(struct blocked_list *list, struct unfinished *unfinished) {
    struct blocked *record = record_of(unfinished);
    if (!blocked_is(unfinished) || record->list)
        return;
    record->list = list;
    record->next = list->first;
    if (list->first)
        list->first->previous = record;
    list->first = record;
    atomic_fetch_add_explicit(&list->count, 1, memory_order_relaxed);
    if (record->request.until_us != UINT64_MAX)
        heap_add(list, record);
}

void blocked_list_destroy(struct blocked_list *list) {
    memory_free(list->by_time);
}

static bool end_by(struct blocked *record, enum state state) {
    if (!leave_waiting(record, state))
        return false;
    waiter_queue_end(&record->queue, &record->done);
    return true;
}

uint64_t blocked_due_us(const struct blocked_list *list) {
    return list->timed > 0 ? list->by_time[0]->request.until_us : UINT64_MAX;
}

void blocked_time(struct blocked_list *list, uint64_t now_us) {
    while (blocked_due_us(list) <= now_us) {
        struct blocked *record = list->by_time[0];
        heap_remove(list, record);
        end_by(record, TIMED_OUT); /* or somebody has been faster */
    }
}

/* --- Ready keys ------------------------------------------------------------------------------- */

static void make_ready(struct change *change, struct blocked_key *key) {
    if (key->ready)
        return;
    key->ready = true;
    key->next_ready = NULL;
    if (change->ready)
        *change->ready_end = key;
    else
        change->ready = key;
    change->ready_end = &key->next_ready;
}

static void appeared(struct change *change, unsigned database, const struct key *key) {
    const struct blocked_table *table = change->door->slots[key->slot].blocked;
    struct blocked_key *found = *place_of(table, database, key);
    if (found)
        make_ready(change, found);
}

uint64_t blocked_keys(void) {
    return atomic_load_explicit(&keys_waited_for, memory_order_relaxed);
}

void blocked_init(struct door *door) {
    door->appeared = appeared;
}

void blocked_look(struct call *call, unsigned database) {
    ASSERT(call->exclusive);
    for (uint32_t i = 0; i < SLOT_COUNT; i++) {
        const struct blocked_table *table = call->keyspace->slots[i].blocked;
        for (size_t b = 0; table && b < table->bucket_count; b++)
            for (struct blocked_key *key = table->buckets[b]; key; key = key->next) {
                struct key name = name_of(key);
                if (key->database == database && keyspace_find_raw(call->keyspace, database, &name))
                    make_ready(call->change, key);
            }
    }
}

size_t blocked_targets(const struct keyspace *keyspace, const uint16_t *slots, size_t n,
                       uint16_t *targets) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        const struct blocked_table *table = keyspace->slots[slots[i]].blocked;
        for (size_t t = 0; table && t < table->target_count; t++, found++)
            if (targets)
                targets[found] = table->targets[t].slot;
    }
    return found;
}

/* --- Serving ---------------------------------------------------------------------------------- */

static bool is_named(const struct blocked_key *key, const struct node *node) {
    return key->hash == node->key.hash && key->database == node->record->database &&
           key->length == node->key.length && memcmp(key->data, node->key.data, key->length) == 0;
}

/* NULL: nothing is there, or what expires before the unit is over: time stands still within it, but
 * not for who waits. */
static const struct object *find(const struct call *call, unsigned database,
                                 const struct key *key) {
    const struct object *object = keyspace_find_raw(call->keyspace, database, key);
    if (!object || view_is_expired(&call->change->view, object) ||
        (object_expiry(object) != OBJECT_NO_EXPIRY && object_expired_at(object, clock_now_ms())))
        return NULL;
    return object;
}

/* Whether this unit has made the key of a record's node ready, whose slot it holds then. */
static bool is_ready(const struct change *change, const struct blocked_key *current,
                     const struct node *node) {
    if (is_named(current, node))
        return true;
    for (const struct blocked_key *key = change->ready; key; key = key->next_ready)
        if (is_named(key, node))
            return true;
    return false;
}

/* The node of the record that it is served by; the current key is there. */
static struct node *choose(const struct call *call, struct blocked *record,
                           const struct blocked_key *current) {
    for (unsigned i = 0; i < record->key_count; i++) {
        struct node *node = &record->nodes[i];
        if (is_named(current, node))
            return node; /* not looked at again: its time may just be over for who looks now */
        if (!is_ready(call->change, current, node))
            continue;
        const struct object *object = find(call, record->database, &node->key);
        if (object && object_type(object) == record->request.type)
            return node;
    }
    ASSERT(!"served with a key that is not there");
    return NULL;
}

static void unlink_ready(const struct call *call, struct blocked *record,
                         const struct blocked_key *current) {
    for (unsigned i = 0; i < record->key_count; i++) {
        struct node *node = &record->nodes[i];
        if (atomic_load_explicit(&node->linked, memory_order_relaxed) &&
            is_ready(call->change, current, node))
            node_unlink(&call->keyspace->slots[node->key.slot], node);
    }
}

/* The command with this key only; returns their number. */
static int served_arguments(const struct blocked *record, const struct node *node,
                            struct argument argv[SERVED_ARGUMENTS]) {
    const struct blocked_request *request = &record->request;
    int behind = request->first_key + request->key_count;
    int argc = request->first_key + 1 + record->argc - behind;
    ASSERT(argc <= SERVED_ARGUMENTS);
    memcpy(argv, record->argv, (size_t)request->first_key * sizeof *argv);
    argv[request->first_key] = (struct argument){node->key.data, node->key.length};
    memcpy(&argv[request->first_key + 1], &record->argv[behind],
           (size_t)(record->argc - behind) * sizeof *argv);
    if (request->number_index)
        argv[request->number_index] = (struct argument){"1", 1};
    return argc;
}

static void run_for(struct call *call, struct blocked *record, const struct node *node) {
    struct argument argv[SERVED_ARGUMENTS];
    struct session session = {.database = record->database,
                              .resp = record->reply.resp,
                              .authenticated = true,
                              .no_touch = record->no_touch};
    struct call served = {
        .command = record->command,
        .argv = argv,
        .argc = served_arguments(record, node, argv),
        .first_key = record->request.first_key,
        .key = node->key,
        .reply = &record->reply,
        .session = &session,
        .server = record->server,
        .keyspace = call->keyspace,
        .change = call->change,
        .database = record->database,
        .tokens = true,
        .exclusive = call->exclusive,
        .in_exec = true, /* it cannot wait */
    };
    enum call_result result = record->command->handler(&served);
    ASSERT(result == CALL_DONE);
    call_done(&served);
}

/* First come, first served. Those that are served are appended to the chain that ends at *end; the
 * new end. */
static struct blocked **serve_key(struct call *call, struct blocked_key *key,
                                  struct blocked **end) {
    struct slot *slot = &call->keyspace->slots[key->slot];
    struct key name = name_of(key);
    for (struct node *node = key->first, *next; node; node = next) {
        struct blocked *record = node->record;
        const struct object *object = find(call, key->database, &name);
        next = node->next;
        if (!object)
            break;
        if (object_type(object) != record->request.type)
            continue;
        atomic_fetch_add(&record->users, 1);
        if (!leave_waiting(record, CLAIMED)) {
            node_unlink(slot, node);
            leave(record);
            continue;
        }
        const struct node *chosen = choose(call, record, key);
        unlink_ready(call, record, key);
        run_for(call, record, chosen);
        record->commit = change_commit(call->change);
        record->next_claimed = NULL;
        *end = record;
        end = &record->next_claimed;
    }
    return end;
}

static void publish(struct blocked *claimed) {
    for (struct blocked *record = claimed, *next; record; record = next) {
        next = record->next_claimed;
        waiter_queue_end(&record->queue, &record->done);
        leave(record);
    }
}

void blocked_serve(struct call *call) {
    struct change *change = call->change;
    struct blocked *claimed = NULL, **end = &claimed;
    call_commit(call); /* in the log, each that is served comes by itself behind it, as in Redis */
    while (change->ready) {
        struct blocked_key *key = change->ready;
        change->ready = key->next_ready;
        key->ready = false; /* who is served may push to it again */
        end = serve_key(call, key, end);
        key_free_if_unused(&call->keyspace->slots[key->slot], key);
    }
    publish(claimed);
}

/* --- Ending ----------------------------------------------------------------------------------- */

size_t blocked_key_count(const struct unfinished *unfinished) {
    return ((const struct blocked *)(const void *)unfinished)->key_count;
}

size_t blocked_slots(const struct unfinished *unfinished, uint16_t *slots) {
    const struct blocked *record = (const struct blocked *)(const void *)unfinished;
    size_t n = 0;
    if (atomic_load_explicit(&record->linked, memory_order_acquire) == 0)
        return 0;
    for (unsigned i = 0; i < record->key_count; i++)
        if (atomic_load_explicit(&record->nodes[i].linked, memory_order_relaxed))
            slots[n++] = (uint16_t)record->nodes[i].key.slot;
    return n;
}

void blocked_unlink(struct keyspace *keyspace, struct unfinished *unfinished) {
    struct blocked *record = record_of(unfinished);
    for (unsigned i = 0; i < record->key_count; i++) {
        struct node *node = &record->nodes[i];
        struct slot *slot = &keyspace->slots[node->key.slot];
        if (!atomic_load_explicit(&node->linked, memory_order_relaxed))
            continue;
        node_unlink(slot, node);
        key_free_if_unused(slot, node->of);
    }
}

/* Moves what has been written to one reply to another. */
static void reply_move(struct reply *to, struct reply *from) {
    uint64_t errors = from->errors;
    struct output_block *blocks = reply_take(from);
    for (const struct output_block *block = blocks; block; block = block->next)
        reply_raw(to, block->data, block->length);
    output_blocks_free(blocks);
    to->errors += errors;
}

enum blocked_end blocked_result(struct unfinished *unfinished, struct session *session,
                                struct reply *reply, bool *close) {
    struct blocked *record = record_of(unfinished);
    *close = record->close;
    switch ((enum state)atomic_load(&record->state)) {
    case CLAIMED:
        if (record->commit)
            session->last_commit = record->commit;
        reply_move(reply, &record->reply);
        return BLOCKED_SERVED;
    case UNBLOCKED:
        reply_error(reply, record->error);
        return BLOCKED_BY_ERROR;
    case AGAIN:
        return BLOCKED_AGAIN;
    case TIMED_OUT:
        return BLOCKED_TIMED_OUT;
    case WAITING:
    case GONE:
        break;
    }
    ASSERT(!"the wait has not ended");
    return BLOCKED_AGAIN;
}

static bool end_one(struct blocked *record, const char *error, bool close) {
    if (!leave_waiting(record, error ? UNBLOCKED : TIMED_OUT))
        return false;
    record->error = error;
    record->close = close;
    waiter_queue_end(&record->queue, &record->done);
    return true;
}

void blocked_end_all(struct blocked_list *list, const char *error) {
    for (struct blocked *record = list->first; record; record = record->next)
        end_one(record, error, true);
}

void blocked_check_slots(struct blocked_list *list, bool (*is_kept)(uint32_t slot)) {
    for (struct blocked *record = list->first; record; record = record->next)
        if (!is_kept(record->nodes[0].key.slot))
            end_by(record, AGAIN);
}
