/* See debug_server.h. What is held here is held by a thread of its own, which belongs to no worker,
 * so that every worker meets it as it meets another worker's command. */
#include "server/commands/debug_server.h"

#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "cluster/operate.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "engine/patience.h"
#include "server/clients/conn.h"
#include "server/clients/connections.h"
#include "server/clients/server.h"
#include "server/dispatch/call.h"
#include "server/dispatch/session.h"
#include "server/links/cluster_bus.h"
#include "server/links/slot_hold.h"

#define HOLD_MAX_MS 60000

/* --- Moves ------------------------------------------------------------------------------------ */

struct moving {
    struct unfinished unfinished; /* first */
    struct client_walk walk;
    int64_t id, worker; /* 0: all; negative: any other */
    int64_t moved;
};

static void moving_drop(struct unfinished *unfinished) {
    memory_free(unfinished);
}

/* NULL: error replied. */
static struct moving *moving_begin(struct call *call) {
    int64_t id = 0, worker = -1;
    if (!argument_is(&call->argv[2], "all") && !argument_integer(call, 2, &id))
        return NULL;
    if (call->argc == 4 && !argument_integer(call, 3, &worker))
        return NULL;
    if (worker >= (int64_t)call->server->loop_count) {
        reply_error(call->reply, "ERR no such worker");
        return NULL;
    }
    struct moving *moving = memory_alloc(sizeof *moving);
    *moving = (struct moving){.unfinished.drop = moving_drop,
                              .walk = client_walk_begin(&call->server->clients),
                              .id = id,
                              .worker = worker};
    return moving;
}

static void request_move(const struct server *server, struct conn *conn, int64_t worker) {
    unsigned target = (unsigned)worker;
    if (worker < 0) {
        unsigned step = 1 + (unsigned)clock_ticks() % (server->loop_count - 1);
        target = (conn->loop->number + step) % server->loop_count;
    }
    conn_ask_to_move(conn, server->loops[target]);
}

/* All workers are stopped. true: there is more to do. */
static bool moving_continue(struct moving *moving, struct server *server) {
    struct conn *connections[CONNECTIONS_PIECE];
    bool more;
    size_t count = connections_next(server, &moving->walk, connections, &more);
    for (size_t i = 0; i < count && server->loop_count > 1; i++) {
        if (moving->id != 0 && connections[i]->session.id != (uint64_t)moving->id)
            continue;
        request_move(server, connections[i], moving->worker);
        moving->moved++;
    }
    return more;
}

enum call_result debug_move_client(struct call *call) {
    struct moving *moving = (struct moving *)(void *)call->session->unfinished;
    if (!moving) {
        moving = moving_begin(call);
        if (!moving)
            return CALL_DONE;
        call->session->unfinished = &moving->unfinished;
    }
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    while (moving_continue(moving, call->server))
        if (!call->in_exec)
            return CALL_UNFINISHED;
    reply_integer(call->reply, moving->moved);
    session_drop_unfinished(call->session);
    return CALL_DONE;
}

void debug_workers_awake(struct call *call) {
    int64_t count;
    if (!argument_integer(call, 2, &count))
        return;
    if (count < 0 || count > (int64_t)call->server->loop_count) {
        reply_error(call->reply, ERROR_OUT_OF_RANGE);
        return;
    }
    atomic_store(&call->server->workers_pinned, (unsigned)count);
    if (count > 0)
        atomic_store(&call->server->workers_awake, (unsigned)count);
    reply_ok(call->reply);
}

void debug_drop_cluster_packets(struct call *call) {
    int64_t type;
    if (!argument_integer(call, 2, &type))
        return;
    if (call->server->cluster)
        cluster_bus_drop_packets(call->server->cluster, type >= 0 && type < 32 ? (int)type : -1);
    reply_ok(call->reply);
}

void debug_cluster_link(struct call *call) {
    struct cluster_bus *bus = call->server->cluster;
    const struct argument *way = &call->argv[3], *id = &call->argv[4];
    bool all = argument_is(way, "all");
    bool to = all || argument_is(way, "to"), from = all || argument_is(way, "from");
    if (!argument_is(&call->argv[2], "kill")) {
        call_reply_bad_subcommand(call);
    } else if (!bus) {
        reply_error(call->reply, "ERR Debug option only available for cluster mode enabled setup!");
    } else if (!to && !from) {
        reply_error_format(call->reply, "ERR Unknown direction %.*s", (int)way->length, way->data);
    } else {
        const char *error =
            cluster_kill_links(cluster_bus_enter(bus), id->data, id->length, to, from);
        if (error)
            reply_error(call->reply, error);
        else
            reply_ok(call->reply);
        cluster_bus_leave(bus, true);
    }
}

void debug_lookup_delay(struct call *call) {
    int64_t delay_ms;
    if (!argument_integer(call, 2, &delay_ms))
        return;
    if (delay_ms < 0 || delay_ms > HOLD_MAX_MS) {
        reply_error(call->reply, ERROR_OUT_OF_RANGE);
        return;
    }
    atomic_store(&call->server->lookup_delay_ms, (unsigned)delay_ms);
    reply_ok(call->reply);
}

/* Under an instrument that slows the process down (callgrind) what goes by time would go by the
 * instrument. */
void debug_time_slices(struct call *call) {
    int64_t on;
    if (!argument_integer(call, 2, &on))
        return;
    for (unsigned i = 0; i < call->server->loop_count; i++)
        loop_set_time_slices(call->server->loops[i], on != 0);
    reply_ok(call->reply);
}

/* --- Held tokens ------------------------------------------------------------------------------ */

/* Around a wait for another thread: this worker counts as asleep, so that a section that the other
 * one waits for can run. Not when all is stopped for the command already. */
static void worker_sleeps(const struct call *call) {
    if (call->tokens)
        return;
    epoch_offline();
    exclusive_sleep_begin();
}

static void worker_wakes(const struct call *call) {
    if (call->tokens)
        return;
    exclusive_sleep_end();
    epoch_online();
}

struct hold {
    struct slot *slot; /* NULL: patience */
    int64_t hold_ms;
    struct waiter waiter;
    sem_t owned, began, seen;
};

static void patience_came(struct waiter *waiter) {
    struct hold *hold = (struct hold *)(void *)((char *)waiter - offsetof(struct hold, waiter));
    sem_post(&hold->owned);
}

static void *hold_main(void *context) {
    struct hold *hold = context;
    struct timespec pause = {hold->hold_ms / 1000, hold->hold_ms % 1000 * 1000000};
    if (hold->slot)
        slot_acquire_waiting(hold->slot);
    else if (!patience_enter(&hold->waiter))
        sem_wait(&hold->owned);
    sem_post(&hold->began);
    nanosleep(&pause, NULL);
    if (hold->slot)
        slot_release(hold->slot);
    else
        patience_leave(&hold->waiter);
    sem_wait(&hold->seen); /* by the command: it needs this no more */
    sem_destroy(&hold->owned);
    sem_destroy(&hold->began);
    sem_destroy(&hold->seen);
    memory_free(hold);
    return NULL;
}

/* Replies when it is held, or after a second. */
static void hold_begin(struct call *call, struct slot *slot, int index) {
    int64_t hold_ms;
    if (!argument_integer(call, index, &hold_ms))
        return;
    if (hold_ms < 0 || hold_ms > HOLD_MAX_MS) {
        reply_error(call->reply, ERROR_OUT_OF_RANGE);
        return;
    }
    struct hold *hold = memory_calloc(1, sizeof *hold);
    *hold = (struct hold){.slot = slot, .hold_ms = hold_ms, .waiter = {.resume = patience_came}};
    sem_init(&hold->owned, 0, 0);
    sem_init(&hold->began, 0, 0);
    sem_init(&hold->seen, 0, 0);
    pthread_t thread;
    if (pthread_create(&thread, NULL, hold_main, hold) != 0) {
        memory_free(hold);
        reply_error(call->reply, "ERR cannot start a thread");
        return;
    }
    pthread_detach(thread);
    worker_sleeps(call);
    /* Not for ever: what is waited for may belong to a connection of this worker. */
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 1;
    sem_clockwait(&hold->began, CLOCK_MONOTONIC, &until);
    worker_wakes(call);
    sem_post(&hold->seen);
    reply_ok(call->reply);
}

void debug_slot_hold(struct call *call) {
    struct key key = call_key(call, 2);
    hold_begin(call, &call->keyspace->slots[key.slot], 3);
}

void debug_patience_hold(struct call *call) {
    hold_begin(call, NULL, 2);
}

void debug_slot_serving(struct call *call) {
    int64_t serving;
    struct key key = call_key(call, 2);
    struct slot *slot = &call->keyspace->slots[key.slot];
    if (!argument_integer(call, 3, &serving))
        return;
    if (!slot_try_acquire(slot)) {
        reply_error(call->reply, "ERR the slot is held");
        return;
    }
    keyspace_serve_slot(call->keyspace, key.slot, serving != 0);
    slot_release(slot);
    reply_ok(call->reply);
}

void debug_slot_migration_hold(struct call *call) {
    if (slot_hold_set(call->argv[2].data, call->argv[2].length))
        reply_ok(call->reply);
    else
        reply_error(call->reply, ERROR_SYNTAX);
}
