/* What anybody may ask of the process as a whole; main.c sets it up and waits for its end. */
#include "server/clients/server.h"

#include "server/base/log.h"
#include "server/clients/loop.h"
#include "server/config/config.h"
#include "server/links/primary_stream.h"

uint64_t server_dirty(const struct server *server) {
    uint64_t dirty = atomic_load_explicit(&server->migrator.change.dirty, memory_order_relaxed);
    for (unsigned i = 0; i < server->loop_count; i++)
        dirty +=
            atomic_load_explicit(&server->loops[i]->execution.change.dirty, memory_order_relaxed);
    return dirty;
}

/* A replica's place is that of what it has applied, a primary's that of what it has written. */
void server_saving_state(struct server *server, struct saving_state *result) {
    const struct replica *replica = &server->replica;
    const struct history *history = &server->replication.history;
    const struct primary_surroundings *around = &server->primary.around;
    struct saving_state state = {.dirty = server_dirty(server)};
    if (replication_is_replica(&server->replication) &&
        (replica->connected || server->replication.place.may_continue)) {
        state.replication_id = history->id;
        state.replication_offset = atomic_load(&history->offset);
        state.database = around->stream_database(around->context);
    } else if (!replication_is_replica(&server->replication) && server->primary.on) {
        state.replication_id = history->id;
        state.replication_offset = primary_stream_place(&server->primary, &state.database);
    }
    *result = state;
}

int server_save(struct server *server) {
    struct saving_state state;
    server_saving_state(server, &state);
    return saver_save_now(&server->saver, &state);
}

void server_call_attention(struct server *server) {
    for (unsigned i = 0; i < server->loop_count; i++)
        loop_call_attention(server->loops[i]);
}

static void request_shutdown(struct server *server) {
    atomic_store(&server->stopping, true);
    for (unsigned i = 0; i < server->loop_count; i++)
        loop_wake(server->loops[i]);
    sem_post(&server->wake_watchdog);
}

bool server_shutdown_saves(const struct server *server, unsigned flags) {
    /* What is only half loaded must not take the place of the whole. */
    if (service_limits(&server->service) & SERVICE_LOADING)
        return false;
    return (flags & CONFIG_SHUTDOWN_SAVE) ||
           (atomic_load(&server->save_points) && !(flags & CONFIG_SHUTDOWN_NOSAVE));
}

bool server_shut_down(struct server *server, unsigned flags) {
    if (server_shutdown_saves(server, flags)) {
        unsigned replicas, in_step;
        /* What is saved is where replicas stop: nothing of our own comes into the stream later. */
        if (!(flags & CONFIG_SHUTDOWN_NOW))
            primary_last_words(&server->primary, &replicas, &in_step);
        log_write(LOG_LEVEL_NOTICE, "Saving the final RDB snapshot before exiting.");
        bool saved = server_save(server) == 0;
        if (!saved && !(flags & CONFIG_SHUTDOWN_FORCE)) {
            log_write(LOG_LEVEL_WARNING, "Error trying to save the DB, can't exit.");
            return false;
        }
        if (!saved)
            log_write(LOG_LEVEL_WARNING, "Error trying to save the DB. Exit anyway.");
        /* What would be done from now on would be lost. */
        server->primary.no_pings = true;
        pause_begin(&server->pause, PAUSE_FOR_SHUTDOWN, PAUSE_WITHOUT_END, true);
    }
    if (server->cluster)
        cluster_bus_shutdown(server->cluster);
    atomic_store(&server->shutdown_now, (flags & CONFIG_SHUTDOWN_NOW) != 0);
    request_shutdown(server);
    return true;
}
