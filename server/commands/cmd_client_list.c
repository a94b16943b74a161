/* CLIENT LIST and CLIENT KILL: the connections of all workers.
 *
 * Both go over all connections in pieces. A piece of some dozens stops all workers for as long as
 * it takes to note what a listing shows, or to mark those that are to end; between two pieces
 * everybody is served. Lines are written outside of the sections, into the blocks that will be
 * sent. So a listing is not a picture of one moment: each line is one, and whoever is connected
 * throughout is in it exactly once. KILL replies when all are marked, and a connection that is
 * marked runs nothing any more. Inside a transaction all of it is one section, which is the
 * transaction's own. */
#include <pthread.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/memory.h"
#include "engine/waiter.h"
#include "server/base/numbers.h"
#include "server/clients/connections.h"
#include "server/clients/server.h"
#include "server/dispatch/call.h"

command_handler cmd_client_kill, cmd_client_list;

#define IDS_PIECE (4 * CONNECTIONS_PIECE) /* looked up at most; most are found to be gone */

/* false: error replied. */
static bool type_argument(struct call *call, int index, enum client_type *type) {
    const struct argument *argument = &call->argv[index];
    if (client_type_by_name(argument, type))
        return true;
    reply_error_format(call->reply, "ERR Unknown client type '%.*s'", (int)argument->length,
                       argument->data);
    return false;
}

/* --- Turns ------------------------------------------------------------------------------------
 *
 * Listings of all clients come one after the other: side by side they would all be late, and the
 * lines that each of many clients has so far of all of them would be memory that nobody bounds. */

struct turn {
    struct unfinished unfinished; /* first */
    struct waiter_queue queue;    /* ended when its turn has come */
    bool come;                    /* under the queue's lock */
    struct turn *next, *previous; /* under turns.lock */
};

static struct {
    pthread_mutex_t lock;
    struct turn *first, *last; /* the first one's turn has come */
} turns = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void turn_begin(struct turn *turn) {
    pthread_mutex_init(&turn->queue.lock, NULL);
    pthread_mutex_lock(&turns.lock);
    turn->previous = turns.last;
    turn->next = NULL;
    if (turns.last)
        turns.last->next = turn;
    else
        turns.first = turn;
    turns.last = turn;
    turn->come = turns.first == turn;
    turn->unfinished.queue = turn->come ? NULL : &turn->queue;
    turn->unfinished.done = &turn->come;
    pthread_mutex_unlock(&turns.lock);
}

/* Its turn is over, or will not be wanted. The next one cannot go away under turns.lock. */
static void turn_end(struct turn *turn) {
    pthread_mutex_lock(&turns.lock);
    if (turn->previous)
        turn->previous->next = turn->next;
    else
        turns.first = turn->next;
    if (turn->next)
        turn->next->previous = turn->previous;
    else
        turns.last = turn->previous;
    if (!turn->previous && turn->next)
        waiter_queue_end(&turn->next->queue, &turn->next->come);
    pthread_mutex_unlock(&turns.lock);
    pthread_mutex_destroy(&turn->queue.lock);
}

/* --- CLIENT LIST ------------------------------------------------------------------------------ */

struct listing {
    struct turn turn; /* first; not if it is by id or inside a transaction */
    bool takes_turns;
    struct client_walk walk;
    bool of_type;
    enum client_type type;
    int next_id; /* index of the next argument of LIST ID, which walks over its arguments; else 0 */
    bool more;
    size_t count; /* of facts: noted and not written yet */
    struct connection_facts facts[CONNECTIONS_PIECE];
    struct reply lines;
};

static void listing_drop(struct unfinished *unfinished) {
    struct listing *listing = (struct listing *)(void *)unfinished;
    for (size_t i = 0; i < listing->count; i++)
        connection_facts_drop(&listing->facts[i]);
    if (listing->takes_turns)
        turn_end(&listing->turn);
    reply_clear(&listing->lines);
    memory_free(listing);
}

/* NULL: error replied. */
static struct listing *listing_begin(struct call *call) {
    enum client_type type = CLIENT_NORMAL;
    bool by_id = call->argc > 3 && argument_is(&call->argv[2], "id");
    bool of_type = call->argc == 4 && argument_is(&call->argv[2], "type");
    if (of_type) {
        if (!type_argument(call, 3, &type))
            return NULL;
    } else if (call->argc != 2 && !by_id) {
        reply_error(call->reply, ERROR_SYNTAX);
        return NULL;
    }
    for (int i = 3; by_id && i < call->argc; i++) {
        int64_t id;
        if (number_parse_int64(call->argv[i].data, call->argv[i].length, &id))
            continue;
        reply_error(call->reply, "ERR Invalid client ID");
        return NULL;
    }
    struct listing *listing = memory_alloc_aligned(_Alignof(struct listing), sizeof *listing);
    listing->turn = (struct turn){.unfinished.drop = listing_drop};
    listing->takes_turns = !by_id && !call->in_exec;
    if (listing->takes_turns)
        turn_begin(&listing->turn);
    listing->of_type = of_type;
    listing->type = type;
    listing->next_id = by_id ? 3 : 0;
    listing->more = true;
    listing->count = 0;
    reply_init(&listing->lines);
    listing->walk = client_walk_begin(&call->server->clients);
    return listing;
}

/* Those of the next arguments, in their order. */
static size_t next_by_id(struct listing *listing, struct call *call, struct conn **connections) {
    size_t count = 0;
    for (int looked_up = 0;
         looked_up < IDS_PIECE && listing->next_id < call->argc && count < CONNECTIONS_PIECE;
         looked_up++) {
        const struct argument *argument = &call->argv[listing->next_id++];
        int64_t id = 0;
        number_parse_int64(argument->data, argument->length, &id);
        struct conn *conn = id > 0 ? connections_find(call->server, (uint64_t)id) : NULL;
        if (conn)
            connections[count++] = conn;
    }
    listing->more = listing->next_id < call->argc;
    return count;
}

/* All workers are stopped. */
static void note_some(struct listing *listing, struct call *call) {
    struct conn *connections[CONNECTIONS_PIECE];
    uint64_t now_ms = clock_monotonic_us() / 1000;
    size_t count = listing->next_id ? next_by_id(listing, call, connections)
                                    : connections_next(call->server, &listing->walk, connections,
                                                       &listing->more);
    for (size_t i = 0; i < count; i++)
        if (!listing->of_type || connections_type(connections[i]) == listing->type)
            connection_facts_note(&listing->facts[listing->count++], connections[i], now_ms);
}

static void write_noted(struct listing *listing, struct call *call) {
    struct text line = {0};
    for (size_t i = 0; i < listing->count; i++) {
        struct connection_facts *facts = &listing->facts[i];
        connection_facts_write(&line, facts, facts->id == call->session->id ? call : NULL);
        connection_facts_drop(facts);
        reply_raw(&listing->lines, text_string(&line), line.length);
        text_clear(&line);
    }
    listing->count = 0;
    text_free(&line);
}

enum call_result cmd_client_list(struct call *call) {
    struct listing *listing = (struct listing *)(void *)call->session->unfinished;
    if (!listing) {
        listing = listing_begin(call);
        if (!listing)
            return CALL_DONE;
        call->session->unfinished = &listing->turn.unfinished;
        if (listing->turn.unfinished.queue)
            return CALL_UNFINISHED;
    }
    listing->turn.unfinished.queue = NULL; /* its turn has come */
    while (call->in_exec && listing->more) {
        note_some(listing, call);
        write_noted(listing, call);
    }
    if (call->exclusive && !call->in_exec) {
        note_some(listing, call);
        return CALL_UNFINISHED;
    }
    write_noted(listing, call);
    if (listing->more)
        return CALL_NEED_EXCLUSIVE;
    reply_verbatim_move(call->reply, "txt", &listing->lines);
    session_drop_unfinished(call->session);
    return CALL_DONE;
}

/* --- CLIENT KILL ------------------------------------------------------------------------------ */

struct kill_filter {
    bool by_peer, by_local, of_type, skip_me;
    bool nobody; /* an address that no connection can have */
    struct address peer, local;
    enum client_type type;
    int64_t id; /* 0: any */
};

static void filter_address(struct kill_filter *filter, const struct argument *text, bool local) {
    struct address *address = local ? &filter->local : &filter->peer;
    *(local ? &filter->by_local : &filter->by_peer) = true;
    if (!conn_address_parse(text->data, text->length, address))
        filter->nobody = true;
}

/* One option and its value; false: error replied. */
static bool kill_option_parse(struct call *call, int index, struct kill_filter *filter) {
    const struct argument *option = &call->argv[index], *value = option + 1;
    if (argument_is(option, "id")) {
        if (number_parse_int64(value->data, value->length, &filter->id) && filter->id > 0)
            return true;
        reply_error(call->reply, "ERR client-id should be greater than 0");
        return false;
    }
    if (argument_is(option, "type")) {
        filter->of_type = true;
        return type_argument(call, index + 1, &filter->type);
    }
    if (argument_is(option, "addr") || argument_is(option, "laddr")) {
        filter_address(filter, value, argument_is(option, "laddr"));
    } else if (argument_is(option, "user")) {
        if (value->length != 7 || memcmp(value->data, "default", 7) != 0) {
            reply_error_format(call->reply, "ERR No such user '%.*s'", (int)value->length,
                               value->data);
            return false;
        }
    } else if (argument_is(option, "skipme") &&
               (argument_is(value, "yes") || argument_is(value, "no"))) {
        filter->skip_me = argument_is(value, "yes");
    } else {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    return true;
}

/* CLIENT KILL address. */
static bool is_old_form(const struct call *call) {
    return call->argc == 3;
}

/* false: error replied. */
static bool kill_filter_parse(struct call *call, struct kill_filter *filter) {
    *filter = (struct kill_filter){.skip_me = !is_old_form(call)};
    if (is_old_form(call)) {
        filter_address(filter, &call->argv[2], false);
        return true;
    }
    for (int i = 2; i < call->argc; i += 2) {
        if (i + 1 == call->argc) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        if (!kill_option_parse(call, i, filter))
            return false;
    }
    return true;
}

static bool kill_matches(const struct kill_filter *filter, const struct conn *conn) {
    return !filter->nobody && (!filter->id || (uint64_t)filter->id == conn->session.id) &&
           (!filter->by_peer || address_equal(&filter->peer, &conn->peer)) &&
           (!filter->by_local || address_equal(&filter->local, &conn->local)) &&
           (!filter->of_type || filter->type == connections_type(conn));
}

struct killing {
    struct unfinished unfinished; /* first */
    struct client_walk walk;
    struct kill_filter filter;
    int64_t killed;
    bool own; /* the own connection is among them, and left for the end */
};

static void killing_drop(struct unfinished *unfinished) {
    memory_free(unfinished);
}

static struct killing *killing_begin(struct call *call) {
    struct kill_filter filter;
    if (!kill_filter_parse(call, &filter))
        return NULL;
    struct killing *killing = memory_alloc(sizeof *killing);
    *killing = (struct killing){.unfinished.drop = killing_drop,
                                .walk = client_walk_begin(&call->server->clients),
                                .filter = filter};
    return killing;
}

/* All workers are stopped. true: there is more to do. */
static bool kill_some(struct killing *killing, struct call *call) {
    const struct kill_filter *filter = &killing->filter;
    struct conn *connections[CONNECTIONS_PIECE];
    bool more = false;
    size_t count;
    if (filter->id) {
        connections[0] = connections_find(call->server, (uint64_t)filter->id);
        count = connections[0] != NULL;
    } else {
        count = connections_next(call->server, &killing->walk, connections, &more);
    }
    for (size_t i = 0; i < count; i++) {
        bool me = connections[i] == conn_of_session(call->session);
        if ((me && filter->skip_me) || !kill_matches(filter, connections[i]))
            continue;
        if (me)
            killing->own = true;
        else
            conn_ask_to_end(connections[i]);
        killing->killed++;
    }
    return more;
}

enum call_result cmd_client_kill(struct call *call) {
    struct killing *killing = (struct killing *)(void *)call->session->unfinished;
    if (!killing) {
        killing = killing_begin(call);
        if (!killing)
            return CALL_DONE;
        call->session->unfinished = &killing->unfinished;
    }
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    while (kill_some(killing, call))
        if (!call->in_exec)
            return CALL_UNFINISHED;
    bool own = killing->own;
    if (!is_old_form(call))
        reply_integer(call->reply, killing->killed);
    else if (killing->killed > 0)
        reply_ok(call->reply);
    else
        reply_error(call->reply, "ERR No such client");
    session_drop_unfinished(call->session);
    return own ? CALL_CLOSE : CALL_DONE;
}
