/* See primary_round.h. A round begins when a replica has waited for repl-diskless-sync-delay,
 * or as many wait as repl-diskless-sync-max-replicas says, and no other walk goes on.
 *
 * A round is one walk with up to two sinks: an RDB as it is for replicas that can read nothing
 * else, and one in blocks for the others. Which of them there are is decided by who waits when the
 * walk begins; who comes later and has none waits for the next. */
#include "server/links/primary_round.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "replication/snapshot_rdb.h"
#include "server/base/log.h"
#include "server/config/config.h"
#include "server/links/primary_stream.h"
#include "server/links/round_packer.h"

#define RETRY_MS       1000 /* after a round that failed */
#define DELAY_SLICE_US 20000

enum round_form { ROUND_PLAIN, ROUND_BLOCKS, ROUND_FORMS };

/* One form of a round as a sink of its walk. */
struct round_sink {
    struct primary *primary;
    struct sync_round *round;
    enum round_form form;
    struct round_packer *packer; /* of ROUND_BLOCKS */
    struct rdb_writer writer;
    char id[HISTORY_ID_LENGTH + 1];
    uint64_t offset;
    unsigned database; /* that the stream has selected at the cut */
    bool compression, checksum;
    uint64_t delay_us; /* rdb-key-save-delay, for all keys together */
    bool deserted;     /* its replicas have left; the sink's thread */
};

/* --- The sink --------------------------------------------------------------------------------- */

static enum round_form form_for(const struct replica_link *link) {
    return link->blocks ? ROUND_BLOCKS : ROUND_PLAIN;
}

static bool waits(const struct replica_link *link) {
    return replica_link_state(link) == LINK_WAITING && !atomic_load(&link->ended);
}

/* In the section of the cut: all that wait for this form get it, and the stream from here on. */
static void on_cut(void *context, const struct snapshot_cut *cut) {
    struct round_sink *sink = context;
    struct primary *primary = sink->primary;
    int64_t key_delay_us = config_current()->rdb_key_save_delay;
    sink->delay_us = key_delay_us >= 0 ? cut->keys * (uint64_t)key_delay_us
                                       : cut->keys / (uint64_t)-key_delay_us;
    memcpy(sink->id, primary->around.replication->history.id, sizeof sink->id);
    if (!primary->on) /* who waited has been dropped, and the backlog with them */
        return;
    sink->offset = primary_stream_cut(primary);
    if (replication_is_replica(primary->around.replication))
        sink->database = primary->around.stream_database(primary->around.context);
    for (struct replica_link *link = primary->links; link; link = link->next) {
        if (!waits(link) || form_for(link) != sink->form)
            continue;
        link->round = sync_round_use(sink->round);
        link->round_sent = link->round_sent_seen = 0;
        link->round_sent_ms = clock_monotonic_us() / 1000;
        link->round_marked = !link->blocks && (link->capabilities & PSYNC_CAPABILITY_EOF) &&
                             config_current()->repl_diskless_sync;
        if (!link->snapshot_only) { /* else nothing of the stream is kept for it */
            link->cursor = backlog_cursor_open(
                primary->backlog, link->frames ? BACKLOG_FRAMES : BACKLOG_PLAIN, sink->offset);
            ASSERT(link->cursor);
        }
        if (!link->asked_by_sync) {
            size_t length =
                psync_format_full(sink->id, (int64_t)sink->offset, link->frames, link->greeting);
            link->greeting[length] = 0;
        }
        atomic_store(&link->state, LINK_SNAPSHOT);
    }
}

static int write_to_round(void *context, const void *data, size_t length) {
    struct round_sink *sink = context;
    return sink->packer ? round_packer_write(sink->packer, data, length)
                        : sync_round_write(sink->round, data, length);
}

static int on_open(void *context, const struct snapshot_cut *cut) {
    struct round_sink *sink = context;
    const struct rdb_info info = {.server_version = CONFIG_REDIS_VERSION,
                                  .created_s = cut->time_ms / 1000,
                                  .used_memory_bytes = memory_counted_bytes(),
                                  .replication_id = sink->id,
                                  .replication_offset = (int64_t)sink->offset,
                                  .stream_database = (int)sink->database};
    rdb_writer_init(&sink->writer, &(struct rdb_sink){write_to_round, sink}, sink->compression,
                    sink->checksum);
    snapshot_rdb_begin(&sink->writer, &info, cut);
    return sink->writer.error;
}

/* Nobody needs more of it. */
static bool is_deserted(struct round_sink *sink) {
    sink->deserted = sink->deserted || sync_round_is_deserted(sink->round);
    return sink->deserted;
}

static int on_write(void *context, const void *data, size_t length) {
    struct round_sink *sink = context;
    if (is_deserted(sink))
        return -ECANCELED;
    rdb_write_bytes(&sink->writer, data, length);
    rdb_write_flush(&sink->writer);
    return sink->writer.error;
}

/* For tests: a snapshot that takes long, as long as anybody wants it. */
static void delay(const struct round_sink *sink) {
    uint64_t end_us = clock_monotonic_us() + sink->delay_us;
    while (clock_monotonic_us() < end_us && !atomic_load(&sink->primary->stopped) &&
           !sync_round_is_deserted(sink->round))
        usleep(DELAY_SLICE_US);
}

static int on_close(void *context) {
    struct round_sink *sink = context;
    if (UNLIKELY(sink->delay_us > 0))
        delay(sink);
    if (is_deserted(sink))
        return -ECANCELED;
    int error = rdb_write_end(&sink->writer);
    return error || !sink->packer ? error : round_packer_end(sink->packer);
}

static void end_round(struct primary *primary, bool failed) {
    if (failed)
        atomic_store(&primary->round_failed, true);
    atomic_store(&primary->round_over, true);
    primary->around.wake(primary->around.context);
}

static void sink_free(struct round_sink *sink) {
    if (!sink)
        return;
    round_packer_free(sink->packer);
    sync_round_leave(sink->round);
    memory_free(sink);
}

static void on_done(void *context, int error) {
    struct round_sink *sink = context;
    struct primary *primary = sink->primary;
    if (sink->deserted)
        log_write(LOG_LEVEL_WARNING,
                  "Diskless rdb transfer, last replica dropped, killing fork child.");
    else if (error)
        log_write(LOG_LEVEL_WARNING, "Background RDB transfer error: %s", strerror(-error));
    else
        log_write(LOG_LEVEL_NOTICE, "Background RDB transfer terminated with success");
    bool failed = error && !sink->deserted;
    rdb_writer_free(&sink->writer);
    sync_round_end(sink->round, error == 0);
    sink_free(sink);
    if (failed)
        atomic_store(&primary->round_failed, true);
    if (atomic_fetch_sub(&primary->round_sinks, 1) == 1)
        end_round(primary, false);
}

/* --- Beginning -------------------------------------------------------------------------------- */

struct beginning {
    struct primary *primary;
    struct round_sink
        *sinks[ROUND_FORMS]; /* NULL: nobody waits for it, or it belongs to the walk */
    int error;
};

/* 0 or an errno. */
static int sink_make(struct primary *primary, enum round_form form, struct round_sink **sink) {
    int error = 0;
    struct sync_round *round = sync_round_make(".", &error); /* dir: the process is in it */
    if (!round)
        return error;
    *sink = memory_calloc(1, sizeof **sink);
    (*sink)->primary = primary;
    (*sink)->round = round;
    (*sink)->form = form;
    if (form == ROUND_BLOCKS)
        (*sink)->packer = round_packer_make(round);
    return 0;
}

/* The sinks that somebody waits for; how many. */
static unsigned choose_sinks(struct beginning *beginning, struct snapshot_sink *chosen) {
    bool wanted[ROUND_FORMS] = {false};
    unsigned count = 0;
    for (struct replica_link *link = beginning->primary->links; link; link = link->next)
        if (waits(link))
            wanted[form_for(link)] = true;
    for (unsigned form = 0; form < ROUND_FORMS; form++) {
        struct round_sink *sink = beginning->sinks[form];
        /* LZF would only hide from LZ4 what repeats. */
        sink->compression = config_current()->rdbcompression && form == ROUND_PLAIN;
        sink->checksum = config_current()->rdbchecksum;
        if (wanted[form])
            chosen[count++] =
                (struct snapshot_sink){&snapshot_rdb_form, sink->compression, on_cut,  on_open,
                                       on_write,           on_close,          on_done, sink};
    }
    return count;
}

static void begin_in_section(void *context) {
    struct beginning *beginning = context;
    struct primary *primary = beginning->primary;
    struct snapshot_walker *walker = primary->around.walker;
    struct snapshot_sink sinks[ROUND_FORMS];
    _Static_assert(ROUND_FORMS <= SNAPSHOT_SINKS_MAX, "a walk has room for all forms");
    unsigned count = choose_sinks(beginning, sinks);
    if (count == 0 || !primary->on || atomic_load(&primary->stopped))
        beginning->error = -ECANCELED; /* nobody waits any more */
    else if (snapshot_walk_is_on(walker))
        beginning->error = -EBUSY;
    if (beginning->error)
        return;
    atomic_store(&primary->round_sinks, count);
    beginning->error = snapshot_walk_begin(walker, sinks, count);
    for (unsigned i = 0; i < count && !beginning->error; i++)
        beginning->sinks[((struct round_sink *)sinks[i].context)->form] = NULL;
}

static void *starter_main(void *context) {
    struct beginning beginning = {.primary = context};
    int error = 0;
    for (unsigned form = 0; form < ROUND_FORMS && !error; form++)
        error = sink_make(context, form, &beginning.sinks[form]);
    if (!error) {
        exclusive_run_blocking(begin_in_section, &beginning);
        error = -beginning.error;
    }
    for (unsigned form = 0; form < ROUND_FORMS; form++)
        sink_free(beginning.sinks[form]);
    if (error && error != EBUSY && error != ECANCELED)
        log_write(LOG_LEVEL_WARNING, "BGSAVE for replication failed: %s", strerror(error));
    if (error)
        end_round(context, true);
    return NULL;
}

static void begin(struct primary *primary) {
    primary->round_wanted = primary_start(primary, starter_main);
    if (primary->round_wanted)
        log_write(LOG_LEVEL_NOTICE, "Starting BGSAVE for SYNC with target: %s",
                  config_current()->repl_diskless_sync ? "replicas sockets" : "disk");
}

void primary_round_tick(struct primary *primary, uint64_t now_ms) {
    const struct config *config = config_current();
    unsigned waiting = 0;
    uint64_t longest_ms = 0;
    if (atomic_exchange(&primary->round_over, false)) {
        primary->round_wanted = false;
        bool failed = atomic_exchange(&primary->round_failed, false);
        primary->round_again_ms = failed ? now_ms + RETRY_MS : now_ms;
    }
    if (primary->round_wanted || primary->turning_off || now_ms < primary->round_again_ms)
        return;
    for (const struct replica_link *link = primary->links; link; link = link->next) {
        if (!waits(link))
            continue;
        waiting++;
        if (now_ms - link->waiting_since_ms > longest_ms)
            longest_ms = now_ms - link->waiting_since_ms;
    }
    if (waiting == 0)
        return;
    bool enough = !config->repl_diskless_sync || config->repl_diskless_sync_delay == 0 ||
                  longest_ms >= (uint64_t)config->repl_diskless_sync_delay * 1000 ||
                  (config->repl_diskless_sync_max_replicas > 0 &&
                   waiting >= (unsigned)config->repl_diskless_sync_max_replicas);
    if (!enough)
        return;
    primary->round_again_ms = now_ms + RETRY_MS; /* if there is no thread */
    begin(primary);
}
