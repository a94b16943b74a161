/* See shutdown.h. */
#include "server/clients/shutdown.h"

#include <stddef.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/clients/loop.h"
#include "server/clients/server.h"
#include "server/config/config.h"
#include "server/dispatch/session.h"

/* --- The end ---------------------------------------------------------------------------------- */

static bool saves(const struct server *server, unsigned flags) {
    /* What is only half loaded must not take the place of the whole. */
    if (service_limits(&server->service) & SERVICE_LOADING)
        return false;
    return (flags & CONFIG_SHUTDOWN_SAVE) ||
           (atomic_load(&server->save_points) && !(flags & CONFIG_SHUTDOWN_NOSAVE));
}

/* false: it failed, and that matters. */
static bool save(struct server *server, unsigned flags) {
    log_write(LOG_LEVEL_NOTICE, "Saving the final RDB snapshot before exiting.");
    if (server_save(server) == 0)
        return true;
    if (flags & CONFIG_SHUTDOWN_FORCE) {
        log_write(LOG_LEVEL_WARNING, "Error trying to save the DB. Exit anyway.");
        return true;
    }
    log_write(LOG_LEVEL_WARNING, "Error trying to save the DB, can't exit.");
    return false;
}

/* It does not come to an end. In an exclusive section. */
static void cancel(struct server *server) {
    atomic_store(&server->shutdown->due_us, 0);
    atomic_store(&server->signals, 0);
    waiter_queue_end(&server->shutdown->clients, &server->shutdown->over);
    pause_end(&server->pause, PAUSE_FOR_SHUTDOWN);
    server_call_attention(server);
}

/* data_is_final: nothing will be written any more. */
static void stop_workers(struct server *server, bool data_is_final) {
    if (server->cluster)
        cluster_bus_shutdown(server->cluster, data_is_final);
    atomic_store(&server->stopping, true);
    for (unsigned i = 0; i < server->loop_count; i++)
        loop_wake(server->loops[i]);
    sem_post(&server->wake_watchdog);
}

/* In an exclusive section. false: it could not be saved. */
static bool finish(struct server *server) {
    unsigned flags = server->shutdown->flags;
    primary_tell_lag(&server->primary);
    if (saves(server, flags) && !save(server, flags)) {
        log_write(LOG_LEVEL_WARNING, "Errors trying to shut down the server. Check the logs for "
                                     "more information.");
        cancel(server);
        return false;
    }
    /* What would be done from now on would be lost. */
    server->primary.no_pings = true;
    pause_begin(&server->pause, PAUSE_FOR_SHUTDOWN, PAUSE_WITHOUT_END, true);
    stop_workers(server, true);
    return true;
}

/* --- Begin, wait, abort ----------------------------------------------------------------------- */

bool shutdown_stops_workers(const struct server *server, unsigned flags) {
    return saves(server, flags) || shutdown_is_waiting(server->shutdown) ||
           primary_link_count(&server->primary) > 0;
}

static bool replicas_lag(struct server *server) {
    unsigned replicas, in_step;
    primary_last_words(&server->primary, &replicas, &in_step);
    return in_step < replicas;
}

static void wait_for_replicas(struct server *server, unsigned timeout_s) {
    struct shutdown *shutdown = server->shutdown;
    pthread_mutex_lock(&shutdown->clients.lock);
    shutdown->over = false;
    pthread_mutex_unlock(&shutdown->clients.lock);
    atomic_store(&shutdown->due_us, clock_monotonic_us() + (uint64_t)timeout_s * 1000000);
    pause_begin(&server->pause, PAUSE_FOR_SHUTDOWN, PAUSE_WITHOUT_END, false);
    log_write(LOG_LEVEL_NOTICE, "Waiting for replicas before shutting down.");
}

enum shutdown_result shutdown_begin(struct server *server, unsigned flags, bool in_section) {
    struct shutdown *shutdown = server->shutdown;
    unsigned timeout_s = atomic_load(&server->shutdown_timeout_s);
    if (in_section && shutdown_is_waiting(shutdown))
        return SHUTDOWN_WAITS;
    log_write(LOG_LEVEL_NOTICE, "User requested shutdown...");
    if (!in_section) {
        stop_workers(server, false);
        return SHUTDOWN_ENDS;
    }
    shutdown->flags = flags;
    if (!(flags & CONFIG_SHUTDOWN_NOW) && timeout_s > 0 && replicas_lag(server)) {
        wait_for_replicas(server, timeout_s);
        return SHUTDOWN_WAITS;
    }
    return finish(server) ? SHUTDOWN_ENDS : SHUTDOWN_FAILED;
}

bool shutdown_abort(struct server *server) {
    if (!shutdown_is_waiting(server->shutdown) || atomic_load(&server->stopping))
        return false;
    cancel(server);
    log_write(LOG_LEVEL_NOTICE, "Shutdown manually aborted.");
    return true;
}

uint64_t shutdown_remaining_ms(const struct shutdown *shutdown) {
    uint64_t due_us = atomic_load(&shutdown->due_us), now_us = clock_monotonic_us();
    return due_us > now_us ? (due_us - now_us) / 1000 : 0;
}

/* --- Who waits for it ------------------------------------------------------------------------- */

struct asked {
    struct unfinished unfinished; /* first */
    struct shutdown *shutdown;
};

static void drop_asked(struct unfinished *unfinished) {
    struct asked *asked = (struct asked *)(void *)unfinished;
    atomic_fetch_sub(&asked->shutdown->clients_waiting, 1);
    memory_free(asked);
}

struct unfinished *shutdown_wait(struct server *server) {
    struct shutdown *shutdown = server->shutdown;
    struct asked *asked = memory_alloc(sizeof *asked);
    *asked = (struct asked){{drop_asked, &shutdown->clients, &shutdown->over, true, NULL, NULL},
                            shutdown};
    atomic_fetch_add(&shutdown->clients_waiting, 1);
    return &asked->unfinished;
}

/* --- What happens by itself ------------------------------------------------------------------- */

static void end_of_waiting(void *context) {
    struct server *server = context;
    if (shutdown_is_waiting(server->shutdown) && !atomic_load(&server->stopping))
        finish(server);
}

static void run(struct server *server) {
    exclusive_run(end_of_waiting, server);
    wait_end(&server->shutdown->wait);
}

static void resumed(struct wait *wait) {
    run(((struct shutdown *)(void *)((char *)wait - offsetof(struct shutdown, wait)))->server);
}

void shutdown_tick(struct server *server) {
    struct shutdown *shutdown = server->shutdown;
    if (LIKELY(!shutdown_is_waiting(shutdown)) || shutdown->wait.state != WAIT_NONE ||
        (clock_monotonic_us() < atomic_load(&shutdown->due_us) && replicas_lag(server)))
        return;
    if (wait_for_patience(&shutdown->wait))
        run(server);
}

struct shutdown *shutdown_create(struct server *server) {
    struct shutdown *shutdown = memory_alloc_aligned(_Alignof(struct shutdown), sizeof *shutdown);
    *shutdown = (struct shutdown){.server = server};
    pthread_mutex_init(&shutdown->clients.lock, NULL);
    return shutdown;
}

void shutdown_attach(struct shutdown *shutdown, struct mailbox *mailbox) {
    wait_init(&shutdown->wait, mailbox, resumed);
}

void shutdown_destroy(struct shutdown *shutdown) {
    pthread_mutex_destroy(&shutdown->clients.lock);
    memory_free(shutdown);
}
