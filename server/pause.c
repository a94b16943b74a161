/* See pause.h. */
#include "server/pause.h"

#include "engine/clock.h"
#include "server/commands.h"

void pause_begin(struct server *server, int64_t until_ms, bool all) {
    bool on = pause_is_on(server);
    /* One that holds everybody back is not turned into one that only holds writers back. */
    server->pause_all = all || (on && server->pause_all);
    if (!on || atomic_load(&server->pause_until_ms) < until_ms)
        atomic_store(&server->pause_until_ms, until_ms);
}

void pause_end(struct server *server) {
    atomic_store(&server->pause_until_ms, 0);
    for (unsigned i = 0; i < server->worker_count; i++) {
        atomic_store(&server->workers[i]->attention, true);
        worker_wake(server->workers[i]);
    }
}

bool pause_is_on(const struct server *server) {
    int64_t until_ms = atomic_load_explicit(&server->pause_until_ms, memory_order_relaxed);
    return UNLIKELY(until_ms != 0) && clock_now_ms() < until_ms;
}

bool pause_holds_slow(const struct server *server, const struct call *call) {
    if (!pause_is_on(server))
        return false;
    if (server->pause_all)
        return true;
    uint32_t flags = call->command->flags;
    const struct transaction *transaction = &call->session->transaction;
    if (call->command->handler == cmd_exec)
        for (size_t i = 0; i < transaction->count; i++)
            flags |= transaction->commands[i].command->flags;
    return flags & (COMMAND_WRITE | COMMAND_MAY_REPLICATE);
}

/* The timers run at the end of the pause and not up to a period later. */
static void set_timer(struct worker *worker) {
    int64_t left_ms = atomic_load(&worker->server->pause_until_ms) - clock_now_ms();
    uint64_t due_us = clock_monotonic_us() + (left_ms > 0 ? (uint64_t)left_ms * 1000 : 0);
    if (due_us < worker->timer_due_us)
        worker->timer_due_us = due_us;
}

void pause_park(struct conn *conn) {
    dispatch_wait_ends(conn); /* it may have waited for a slot before */
    conn->wait = WAIT_PAUSE;
    COUNTER_ADD(conn->worker->paused, 1);
    set_timer(conn->worker);
}

void pause_forget(struct conn *conn) {
    conn->wait = WAIT_NONE;
    COUNTER_ADD(conn->worker->paused, -1u);
}

void pause_tick(struct worker *worker) {
    struct server *server = worker->server;
    if (pause_is_on(server)) {
        if (worker->paused > 0)
            set_timer(worker);
        return;
    }
    int64_t until_ms = atomic_load(&server->pause_until_ms);
    if (until_ms != 0 &&
        clock_now_ms() >= until_ms) /* so that commands need not look at the clock */
        atomic_compare_exchange_strong(&server->pause_until_ms, &until_ms, 0);
    for (struct conn *conn = worker->connections, *next; conn && worker->paused > 0; conn = next) {
        next = conn->next;
        if (conn->wait != WAIT_PAUSE)
            continue;
        pause_forget(conn);
        conn_resume(conn);
    }
}
