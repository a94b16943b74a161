/* See saving.h. */
#include "server/persistence/saving.h"

#include "engine/clock.h"
#include "engine/memory.h"
#include "replication/rdb_save.h"
#include "server/base/log.h"
#include "server/config/config.h"

static int save(struct persistence *persistence, const struct saving_state *state,
                struct rdb_save *save) {
    const struct config *config = config_current();
    struct rdb_save_options options = {
        .path = config->dbfilename,
        .compression = config->rdbcompression,
        .checksum = config->rdbchecksum,
        .incremental_sync = config->rdb_save_incremental_fsync,
        .version = rdb_version_for(keyspace_has_field_times(persistence->keyspace)),
        .info = {.server_version = CONFIG_REDIS_VERSION,
                 .created_s = clock_now_ms() / 1000,
                 .used_memory_bytes = memory_counted_bytes(),
                 .replication_id = state->replication_id,
                 .replication_offset = (int64_t)state->replication_offset,
                 .stream_database = (int)state->database}};
    int error = rdb_save_begin(save, persistence->keyspace, &options);
    if (error)
        return error;
    rdb_save_walk(save);
    return rdb_save_finish(save);
}

int saving_run(struct persistence *persistence, const struct saving_state *state) {
    static struct rdb_save file; /* large; exclusive sections are one at a time */
    atomic_fetch_add(&persistence->saves, 1);
    int error = save(persistence, state, &file);
    if (error) {
        log_write(LOG_LEVEL_WARNING, "%s", file.message);
        return error;
    }
    log_write(LOG_LEVEL_NOTICE, "DB saved on disk");
    atomic_store(&persistence->saved_dirty, state->dirty);
    atomic_store(&persistence->last_save_s, clock_now_ms() / 1000);
    return 0;
}
