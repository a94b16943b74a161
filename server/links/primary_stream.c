/* See primary_stream.h. */
#include "server/links/primary_stream.h"

#include <stdio.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/exclusive.h"
#include "server/base/log.h"
#include "server/config/config.h"

/* --- The stream ------------------------------------------------------------------------------- */

void primary_append_command(struct primary *primary, const char *text, bool continued) {
    primary->flush_wanted = true;
    backlog_append(primary->backlog, text, strlen(text), continued);
}

static void append_select(struct backlog *backlog, unsigned database) {
    char number[12], text[64];
    int digits = snprintf(number, sizeof number, "%u", database);
    int length = snprintf(text, sizeof text, "*2\r\n$6\r\nSELECT\r\n$%d\r\n%s\r\n", digits, number);
    backlog_append(backlog, text, (size_t)length, true);
}

/* What a transaction changes in another database has its SELECT inside, as in Redis. */
static void append_entry(struct primary *primary, const struct commit_entry *entry) {
    static const char multi[] = "*1\r\n$5\r\nMULTI\r\n";
    size_t begun = 0;
    if ((int)entry->first_database != primary->stream_database) {
        if (entry->length > sizeof multi - 1 && memcmp(entry->data, multi, sizeof multi - 1) == 0) {
            begun = sizeof multi - 1;
            backlog_append(primary->backlog, multi, begun, true);
        }
        append_select(primary->backlog, entry->first_database);
    }
    backlog_append(primary->backlog, entry->data + begun, entry->length - begun, false);
    primary->stream_database = (int)entry->last_database;
}

void primary_publish_offset(struct primary *primary) {
    uint64_t offset = backlog_end_offset(primary->backlog);
    atomic_store(&primary_history(primary)->offset, offset);
    atomic_store(&primary->backlog_first_offset, backlog_first_offset(primary->backlog));
    atomic_store(&primary->backlog_active, true);
}

void primary_note_offset(struct primary *primary, uint64_t now_ms) {
    struct primary_offsets *offsets = &primary->offsets;
    uint64_t offset = atomic_load(&primary_history(primary)->offset);
    if (offsets->count > 0 && offsets->of[(offsets->count - 1) % PRIMARY_OFFSETS].offset == offset)
        return;
    offsets->of[offsets->count % PRIMARY_OFFSETS].offset = offset;
    offsets->of[offsets->count % PRIMARY_OFFSETS].ms = now_ms;
    offsets->count++;
}

uint64_t primary_lag_ms(const struct primary *primary, uint64_t offset, uint64_t now_ms) {
    const struct primary_offsets *offsets = &primary->offsets;
    uint64_t oldest = offsets->count > PRIMARY_OFFSETS ? offsets->count - PRIMARY_OFFSETS : 0;
    uint64_t lag_ms = 0;
    for (uint64_t i = offsets->count; i > oldest; i--) {
        if (offsets->of[(i - 1) % PRIMARY_OFFSETS].offset <= offset)
            break;
        uint64_t then_ms = offsets->of[(i - 1) % PRIMARY_OFFSETS].ms;
        lag_ms = now_ms > then_ms ? now_ms - then_ms : 0;
    }
    return lag_ms;
}

/* WAIT goes by these: without what we ask replicas ourselves behind it. */
static void publish_merged(struct primary *primary) {
    primary_publish_offset(primary);
    atomic_store(&primary->merged_offset, backlog_end_offset(primary->backlog));
    atomic_store(&primary->merged_number, commit_log_read_number(primary->log));
}

/* true: something came. */
bool primary_merge(struct primary *primary, size_t max_bytes) {
    struct commit_entry entry;
    size_t bytes = 0;
    while (bytes < max_bytes && commit_log_next(primary->log, &entry)) {
        append_entry(primary, &entry);
        bytes += entry.length;
    }
    if (bytes > 0) {
        primary->flush_wanted = true;
        primary->acknowledge_asked = false;
        publish_merged(primary);
    }
    return bytes > 0;
}

uint64_t primary_stream_cut(struct primary *primary) {
    if (!primary_is_replica(primary))
        primary_merge(primary, SIZE_MAX);
    primary->stream_database = -1;
    return backlog_end_offset(primary->backlog);
}

uint64_t primary_stream_place(struct primary *primary, unsigned *database) {
    primary_merge(primary, SIZE_MAX);
    *database = primary->stream_database < 0 ? 0 : (unsigned)primary->stream_database;
    return backlog_end_offset(primary->backlog);
}

/* Changes are logged while there is somebody to tell, and they are ours to tell. */
void primary_set_logging(struct primary *primary) {
    struct door *door = &primary->around.keyspace->door;
    bool wanted = primary->on && !primary_is_replica(primary);
    if (wanted && !door->log)
        door->logs_begun++;
    door->log = wanted ? commit_log_effect_log(primary->log) : NULL;
}

void primary_turn_on(struct primary *primary) {
    uint64_t offset = atomic_load(&primary_history(primary)->offset);
    primary->backlog = backlog_create((size_t)config_current()->repl_backlog_size, offset);
    primary->stream_database = -1;
    primary->on = true;
    primary->last_ping_ms = clock_monotonic_us() / 1000; /* the first comes after a period */
    if (!primary_is_replica(primary)) /* else it is off, and others may look at it now */
        primary_set_logging(primary);
    publish_merged(primary);
}

/* --- What a file begins with ------------------------------------------------------------------ */

void primary_load_expired(struct primary *primary, uint64_t offset, unsigned database,
                          const char *key, size_t length) {
    char text[64];
    if (!primary->load_backlog) {
        primary->load_backlog = backlog_create(primary->load_backlog_bytes, offset);
        primary->load_database = -1;
    }
    struct backlog *backlog = primary->load_backlog;
    if (primary->load_database != (int)database)
        append_select(backlog, database);
    primary->load_database = (int)database;
    bool unlink = atomic_load(&primary->around.keyspace->door.unlink_expired);
    int head = snprintf(text, sizeof text, "*2\r\n%s\r\n$%zu\r\n",
                        unlink ? "$6\r\nUNLINK" : "$3\r\nDEL", length);
    backlog_append(backlog, text, (size_t)head, true);
    backlog_append(backlog, key, length, true);
    backlog_append(backlog, "\r\n", 2, false);
}

void primary_resume(struct primary *primary, const char *id, uint64_t offset) {
    struct backlog *loaded = primary->load_backlog;
    primary->load_backlog = NULL;
    place_resumed(primary_history(primary), id, offset);
    primary_turn_on(primary);
    if (!loaded)
        return;
    backlog_destroy(primary->backlog);
    primary->backlog = loaded;
    primary->flush_wanted = true; /* nothing else may come for a while */
    backlog_resize(loaded, (size_t)config_current()->repl_backlog_size); /* as it is by now */
    publish_merged(primary);
}

bool primary_start(struct primary *primary, void *(*function)(void *context)) {
    if (primary->starter_runs)
        pthread_join(primary->starter,
                     NULL); /* what it was for is over, so it is as good as ended */
    primary->starter_runs = pthread_create(&primary->starter, NULL, function, primary) == 0;
    return primary->starter_runs;
}

/* What was committed and not merged is lost: there is nobody to send it to. In a section. */
void primary_drop_backlog(struct primary *primary) {
    struct commit_entry entry;
    primary->on = false;
    primary_set_logging(primary);
    while (commit_log_next(primary->log, &entry))
        ;
    atomic_store(&primary->merged_number, commit_log_read_number(primary->log)); /* for WAIT */
    backlog_destroy(primary->backlog);
    primary->backlog = NULL;
    primary->no_replica_since_ms = 0;
    atomic_store(&primary->backlog_active, false);
}

static void turn_off(void *context) {
    struct primary *primary = context;
    primary->turning_off = false;
    if (primary->links || primary_is_replica(primary))
        return; /* somebody came in between, or the role changed */
    primary_drop_backlog(primary);
    place_unlogged(primary_history(primary));
    log_write(LOG_LEVEL_NOTICE,
              "Replication backlog freed after %lld seconds without connected replicas.",
              (long long)config_current()->repl_backlog_ttl);
}

static void *turn_off_main(void *context) {
    exclusive_run_blocking(turn_off, context);
    return NULL;
}

void primary_turn_off_when_unused(struct primary *primary, uint64_t now_ms) {
    int64_t ttl_s = config_current()->repl_backlog_ttl;
    if (primary->links || primary_is_replica(primary)) { /* a replica keeps it for its promotion */
        primary->no_replica_since_ms = 0;
    } else if (primary->no_replica_since_ms == 0) {
        primary->no_replica_since_ms = now_ms;
    } else if (place_backlog_expired(now_ms - primary->no_replica_since_ms, ttl_s) &&
               !primary->turning_off && !primary->round_wanted) {
        primary->turning_off = true;
        if (!primary_start(primary, turn_off_main))
            primary->turning_off = false;
    }
}

void primary_resize_backlog(struct primary *primary, uint64_t size_bytes) {
    if (primary->backlog)
        backlog_resize(primary->backlog, (size_t)size_bytes);
}

bool primary_is_understood(struct primary *primary, const struct replica_link *link,
                           int64_t offset) {
    if (atomic_exchange(&primary->slots_told, false) && primary->backlog)
        primary->slots_end = backlog_end_offset(primary->backlog);
    return (link->capabilities & (PSYNC_CAPABILITY_FRAMES | PSYNC_CAPABILITY_BLOCKS)) ||
           (uint64_t)offset > primary->slots_end;
}
