/* What anybody may ask of the process as a whole; main.c sets it up and waits for its end. */
#include "server/clients/server.h"

#include "server/clients/loop.h"
#include "server/links/primary_stream.h"

uint64_t server_dirty(const struct server *server) {
    uint64_t dirty = atomic_load_explicit(&server->migrator.change.dirty, memory_order_relaxed);
    dirty += atomic_load_explicit(&server->slot_exports.change.dirty, memory_order_relaxed);
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
