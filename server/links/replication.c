/* See replication.h. */
#include "server/links/replication.h"

#include "engine/memory.h"

void replication_init(struct replication *replication) {
    *replication = (struct replication){.host = NULL};
    history_init(&replication->history);
}

void replication_destroy(struct replication *replication) {
    memory_free(replication->host);
    replication->host = NULL;
}

void replication_act(struct replication *replication, unsigned effects) {
    const struct replication_serving *serving = &replication->serving;
    if ((effects & PLACE_DROP_REPLICAS) && serving->drop_replicas)
        serving->drop_replicas(serving->context, !(effects & PLACE_DROP_BACKLOG));
}

void replication_feed_raw(struct replication *replication, const char *bytes, size_t length) {
    const struct replication_serving *serving = &replication->serving;
    struct history *history = &replication->history;
    if (serving->feed)
        serving->feed(serving->context, bytes, length);
    uint64_t offset = atomic_load_explicit(&history->offset, memory_order_relaxed);
    atomic_store_explicit(&history->offset, offset + length, memory_order_release);
}
