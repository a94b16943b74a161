/* See replication.h. */
#include "server/links/replication.h"

#include <string.h>

#include "engine/memory.h"
#include "server/base/log.h"

void replication_init(struct replication *replication) {
    *replication = (struct replication){.host = NULL};
    history_init(&replication->history);
}

void replication_destroy(struct replication *replication) {
    memory_free(replication->host);
    replication->host = NULL;
}

void replication_rename(struct replication *replication, const char *id) {
    struct history *history = &replication->history;
    memcpy(history->second_id, history->id, sizeof history->id);
    history->second_offset = (int64_t)atomic_load(&history->offset) + 1;
    memcpy(history->id, id, HISTORY_ID_LENGTH);
}

void replication_promote(struct replication *replication) {
    struct history *history = &replication->history;
    history_promote(history);
    log_write(LOG_LEVEL_NOTICE,
              "Setting secondary replication ID to %s, valid up to offset: %lld. New replication "
              "ID is %s",
              history->second_id, (long long)history->second_offset, history->id);
}

void replication_feed_raw(struct replication *replication, const char *bytes, size_t length) {
    const struct replication_serving *serving = &replication->serving;
    struct history *history = &replication->history;
    if (serving->feed)
        serving->feed(serving->context, bytes, length);
    uint64_t offset = atomic_load_explicit(&history->offset, memory_order_relaxed);
    atomic_store_explicit(&history->offset, offset + length, memory_order_release);
}
