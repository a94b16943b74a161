/* See blocked.h. */
#include "server/dispatch/blocked.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/dispatch/blocked_table.h"
#include "server/dispatch/call.h"
#include "server/dispatch/lease_gate.h"
#include "server/dispatch/session.h"

#define SERVED_ARGUMENTS 16 /* of a command with one key */

enum state { WAITING, CLAIMED, TIMED_OUT, UNBLOCKED, AGAIN, GONE };

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
    uint32_t unacknowledged; /* the mark of who has claimed (lease_gate.h) */
    const char *error;
    bool close;
    struct blocked *next_claimed;
    /* The owner's. */
    struct blocked_list *list;
    struct blocked *next, *previous;
    struct timeout timeout;
    struct blocked_node nodes[];
};

static struct blocked *record_of(struct unfinished *unfinished) {
    return (struct blocked *)(void *)unfinished;
}

/* --- Nodes ------------------------------------------------------------------------------------ */

static void node_link(struct slot *slot, struct blocked_node *node) {
    struct blocked *record = node->record;
    if (blocked_node_link(slot, node, record->database, record->target_slot))
        atomic_fetch_add_explicit(&record->linked, 1, memory_order_relaxed);
}

/* The record may be freed by its owner as soon as its last node is unlinked, unless it is claimed.
 */
static void node_unlink(struct slot *slot, struct blocked_node *node) {
    blocked_node_unlink(slot, node, node->record->target_slot);
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

static void drop(struct unfinished *unfinished) {
    struct blocked *record = record_of(unfinished);
    struct blocked_list *list = record->list;
    if (list) {
        timeouts_remove(&list->timeouts, &record->timeout);
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
    size_t bytes =
        sizeof(struct blocked) + (size_t)request->key_count * sizeof(struct blocked_node);
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
    record->timeout.due_us = request->until_us;
    reply_init(&record->reply);
    record->reply.resp = call->session->resp;
    if (request->target_index) {
        const struct argument *target = &record->argv[request->target_index];
        record->target_slot = (int)slot_of_key(target->data, target->length);
    }
    for (int i = 0; i < request->key_count; i++) {
        const struct argument *key = &record->argv[request->first_key + i];
        struct blocked_node *node = &record->nodes[record->key_count++];
        node->record = record;
        node->key = key_make(key->data, key->length);
        node_link(&call->keyspace->slots[node->key.slot], node);
    }
    call->session->unfinished = &record->unfinished;
    return CALL_UNFINISHED;
}

/* --- Times ------------------------------------------------------------------------------------ */

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
    if (record->timeout.due_us != UINT64_MAX)
        timeouts_add(&list->timeouts, &record->timeout);
}

void blocked_list_destroy(struct blocked_list *list) {
    timeouts_destroy(&list->timeouts);
}

static bool end_by(struct blocked *record, enum state state) {
    if (!leave_waiting(record, state))
        return false;
    waiter_queue_end(&record->queue, &record->done);
    return true;
}

void blocked_time(struct blocked_list *list, uint64_t now_us) {
    struct timeout *due;
    while ((due = timeouts_take_due(&list->timeouts, now_us))) {
        struct blocked *record =
            (struct blocked *)(void *)((char *)due - offsetof(struct blocked, timeout));
        end_by(record, TIMED_OUT); /* or somebody has been faster */
    }
}

/* --- Ready keys ------------------------------------------------------------------------------- */

static void appeared(struct change *change, unsigned database, const struct key *key) {
    struct blocked_key *found = blocked_key_find(&change->door->slots[key->slot], database, key);
    if (found)
        blocked_key_make_ready(change, found);
}

void blocked_init(struct door *door) {
    door->appeared = appeared;
}

struct look {
    struct call *call;
    unsigned database;
};

static void look_at(void *context, struct blocked_key *key) {
    const struct look *look = context;
    struct key name = blocked_key_name(key);
    if (key->database == look->database &&
        keyspace_find_raw(look->call->keyspace, key->database, &name))
        blocked_key_make_ready(look->call->change, key);
}

void blocked_look(struct call *call, unsigned database) {
    struct look look = {call, database};
    ASSERT(call->exclusive);
    for (uint32_t i = 0; i < SLOT_COUNT; i++)
        blocked_keys_visit(&call->keyspace->slots[i], look_at, &look);
}

size_t blocked_targets(const struct keyspace *keyspace, const uint16_t *slots, size_t n,
                       uint16_t *targets) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        found +=
            blocked_table_targets(&keyspace->slots[slots[i]], targets ? targets + found : NULL);
    return found;
}

/* --- Serving ---------------------------------------------------------------------------------- */

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

/* The node of the record that it is served by. current: that of the key which is looked at; it is
 * there. */
static struct blocked_node *choose(const struct call *call, struct blocked *record,
                                   struct blocked_node *current) {
    for (struct blocked_node *node = record->nodes; node != current; node++) {
        if (!blocked_node_is_ready(node, call->change))
            continue;
        const struct object *object = find(call, record->database, &node->key);
        if (object && object_type(object) == record->request.type)
            return node;
    }
    return current; /* not looked at again: its time may just be over for who looks now */
}

static void unlink_ready(const struct call *call, struct blocked *record,
                         const struct blocked_node *current) {
    for (unsigned i = 0; i < record->key_count; i++) {
        struct blocked_node *node = &record->nodes[i];
        if (node == current || blocked_node_is_ready(node, call->change))
            node_unlink(&call->keyspace->slots[node->key.slot], node);
    }
}

/* The command with this key only; returns their number. */
static int served_arguments(const struct blocked *record, const struct blocked_node *node,
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

static void run_for(struct call *call, struct blocked *record, const struct blocked_node *node) {
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
    change_keep_arguments(call->change);
}

/* First come, first served. Those that are served are appended to the chain that ends at *end; the
 * new end. */
static struct blocked **serve_key(struct call *call, struct blocked_key *key,
                                  struct blocked **end) {
    struct slot *slot = &call->keyspace->slots[key->slot];
    struct key name = blocked_key_name(key);
    for (struct blocked_node *node = key->first, *next; node; node = next) {
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
        const struct blocked_node *chosen = choose(call, record, node);
        unlink_ready(call, record, node);
        run_for(call, record, chosen);
        record->commit = change_commit(call->change);
        record->unacknowledged = call->session->unacknowledged;
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
    for (struct blocked_key *key; (key = blocked_key_take_ready(change));) {
        end = serve_key(call, key, end);
        blocked_key_free_if_unused(&call->keyspace->slots[key->slot], key);
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
        if (blocked_node_is_linked(&record->nodes[i]))
            slots[n++] = (uint16_t)record->nodes[i].key.slot;
    return n;
}

void blocked_unlink(struct keyspace *keyspace, struct unfinished *unfinished) {
    struct blocked *record = record_of(unfinished);
    for (unsigned i = 0; i < record->key_count; i++) {
        struct blocked_node *node = &record->nodes[i];
        struct slot *slot = &keyspace->slots[node->key.slot];
        if (!blocked_node_is_linked(node))
            continue;
        node_unlink(slot, node);
        blocked_key_free_if_unused(slot, node->of);
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
        lease_gate_note(&session->unacknowledged, record->unacknowledged);
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
