/* See primary.h. Full syncs: primary_round.c. */
#include "server/links/primary.h"

#include <stdio.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/config/config.h"
#include "server/links/primary_round.h"
#include "server/links/primary_stream.h"

#define MERGE_MAX_BYTES ((size_t)4 * 1024 * 1024) /* of a turn */
#define SHARE_MAX_BYTES ((uint64_t)4 * 1024 * 1024)
#define FLUSH_US        500   /* a frame that is not full goes out after so long */
#define MERGE_PERIOD_US 500   /* while others commit, they are not to wake worker 0 */
#define LIMITS_MS       100   /* how often output limits are looked at, and figures kept */
#define ACTIVE_US       10000 /* that long after the last commit */

/* --- Links ------------------------------------------------------------------------------------ */

/* Out of the list, and freed with what it uses. */
static void link_remove(struct primary *primary, struct replica_link *link) {
    pthread_mutex_lock(&primary->lock);
    if (link->attached) {
        if (link->previous)
            link->previous->next = link->next;
        else
            primary->links = link->next;
        if (link->next)
            link->next->previous = link->previous;
        link->attached = false;
    }
    pthread_mutex_unlock(&primary->lock);
    backlog_cursor_close(link->cursor);
    link->cursor = NULL;
    sync_round_leave(link->round);
    link->round = NULL;
    replica_link_free(link);
}

static void attach(struct primary *primary, struct replica_link *link) {
    pthread_mutex_lock(&primary->lock);
    link->previous = NULL;
    link->next = primary->links;
    if (link->next)
        link->next->previous = link;
    primary->links = link;
    link->attached = true;
    pthread_mutex_unlock(&primary->lock);
    primary->no_replica_since_ms = 0;
}

static void write_log(const struct psync_log *log) {
    for (int i = 0; i < log->count; i++)
        log_write(log->lines[i].level == PSYNC_LOG_WARNING ? LOG_LEVEL_WARNING : LOG_LEVEL_NOTICE,
                  "%s", log->lines[i].text);
}

/* id NULL: SYNC, which asks for everything. */
static void decide(struct primary *primary, const struct replica_link *link, const char *id,
                   int64_t offset, struct psync_decision *decision) {
    const struct psync_request request = {.id = id ? id : "?",
                                          .offset = offset,
                                          .capabilities = link->capabilities,
                                          .replica = link->name};
    struct psync_backlog backlog = {0};
    if (primary->backlog) {
        backlog.first = (int64_t)backlog_first_offset(primary->backlog) + 1;
        backlog.length = (int64_t)(backlog_end_offset(primary->backlog) -
                                   backlog_first_offset(primary->backlog));
    }
    psync_decide(primary_history(primary), primary->backlog ? &backlog : NULL, &request, decision);
    write_log(&decision->log);
}

void primary_sync(struct primary *primary, struct replica_link *link, const char *id,
                  int64_t offset) {
    uint64_t now_ms = clock_monotonic_us() / 1000;
    struct psync_decision decision;
    log_write(LOG_LEVEL_NOTICE, "Replica %s asks for synchronization", link->name);
    if (primary->on && !primary_is_replica(primary))
        primary_merge(primary, SIZE_MAX);
    decide(primary, link, id, offset, &decision);
    if (!primary->on) {
        if (!primary_is_replica(primary))
            place_unlogged(primary_history(primary));
        primary_turn_on(primary);
        log_write(LOG_LEVEL_NOTICE,
                  "Replication backlog created, my new replication IDs are '%s' and '%s'",
                  primary_history(primary)->id, primary_history(primary)->second_id);
    }
    attach(primary, link);
    link->waiting_since_ms = now_ms;
    link->frames =
        (link->capabilities & PSYNC_CAPABILITY_FRAMES) && config_current()->repl_compression;
    link->blocks =
        (link->capabilities & PSYNC_CAPABILITY_BLOCKS) && config_current()->repl_compression;
    primary->last_second_ms = 0; /* a round may be due at once */
    atomic_store(&link->acknowledged_ms, now_ms);
    if (!primary_is_understood(primary, link, offset) || !decision.continues) {
        atomic_fetch_add(&primary->full_syncs, 1);
        if (decision.counts_as_refused)
            atomic_fetch_add(&primary->partial_syncs_refused, 1);
        atomic_store(&link->state, LINK_WAITING);
        return;
    }
    link->cursor = backlog_cursor_open(
        primary->backlog, link->frames ? BACKLOG_FRAMES : BACKLOG_PLAIN, (uint64_t)offset - 1);
    ASSERT(link->cursor);
    atomic_store(&link->state, LINK_ONLINE);
    atomic_store(&link->acknowledged_offset, (uint64_t)offset - 1);
    atomic_fetch_add(&primary->partial_syncs, 1);
    size_t length = psync_format_continue(primary_history(primary)->id, link->capabilities,
                                          link->frames, link->greeting);
    link->greeting[length] = 0;
}

void primary_welcome(struct primary *primary, struct replica_link *link) {
    link->at_home = true;
    primary->around.wake(primary->around.context);
}

void primary_forget(struct primary *primary, struct replica_link *link) {
    if (!link->attached) {
        replica_link_free(link);
        return;
    }
    atomic_store(&link->ended, true);
    primary->around.wake(primary->around.context);
}

/* --- Acknowledgements ------------------------------------------------------------------------- */

static unsigned acknowledged_locked(const struct primary *primary, uint64_t offset) {
    unsigned count = 0;
    for (const struct replica_link *link = primary->links; link; link = link->next)
        count += replica_link_state(link) == LINK_ONLINE && !link->snapshot_only &&
                 atomic_load(&link->acknowledged_offset) >= offset;
    return count;
}

unsigned primary_acknowledged(struct primary *primary, uint64_t offset) {
    pthread_mutex_lock(&primary->lock);
    unsigned count = acknowledged_locked(primary, offset);
    pthread_mutex_unlock(&primary->lock);
    return count;
}

/* Where the commit ends in the stream; UINT64_MAX: it is not in it yet. */
static uint64_t offset_of(struct primary *primary, uint64_t number) {
    if (number == 0)
        return 0;
    /* In this order: the offset is not that of an earlier number. */
    bool merged = atomic_load(&primary->merged_number) >= number;
    return merged ? atomic_load(&primary->merged_offset) : UINT64_MAX;
}

unsigned primary_acknowledged_number(struct primary *primary, uint64_t number) {
    uint64_t offset = offset_of(primary, number);
    return offset == UINT64_MAX ? 0 : primary_acknowledged(primary, offset);
}

static void wait_unlink(struct replica_wait *wait) {
    struct primary *primary = wait->primary;
    if (!wait->linked)
        return;
    if (wait->previous)
        wait->previous->next = wait->next;
    else
        primary->waits = wait->next;
    if (wait->next)
        wait->next->previous = wait->previous;
    wait->linked = false;
    atomic_fetch_sub(&primary->wait_count, 1);
}

static void wait_drop(struct unfinished *unfinished) {
    struct replica_wait *wait = (struct replica_wait *)(void *)unfinished;
    pthread_mutex_lock(&wait->primary->lock);
    wait_unlink(wait);
    pthread_mutex_unlock(&wait->primary->lock);
    pthread_mutex_destroy(&wait->queue.lock);
    memory_free(wait);
}

/* CLIENT UNBLOCK. */
static bool unblock_wait(struct unfinished *unfinished, const char *error) {
    struct replica_wait *wait = (struct replica_wait *)(void *)unfinished;
    struct primary *primary = wait->primary;
    pthread_mutex_lock(&primary->lock);
    bool waited = wait->linked;
    if (waited) {
        wait->refusal = error;
        wait_unlink(wait);
        waiter_queue_end(&wait->queue, &wait->done);
    }
    pthread_mutex_unlock(&primary->lock);
    return waited;
}

struct replica_wait *primary_wait(struct primary *primary, uint64_t number, unsigned replicas,
                                  uint64_t due_us, unsigned *count) {
    uint64_t offset = offset_of(primary, number);
    *count = offset == UINT64_MAX ? 0 : primary_acknowledged(primary, offset);
    if (*count >= replicas && offset != UINT64_MAX)
        return NULL;
    struct replica_wait *wait = memory_alloc_aligned(_Alignof(struct replica_wait), sizeof *wait);
    *wait = (struct replica_wait){.primary = primary,
                                  .number = number,
                                  .offset = offset,
                                  .replicas = replicas,
                                  .due_us = due_us ? due_us : UINT64_MAX};
    wait->unfinished = (struct unfinished){.drop = wait_drop,
                                           .queue = &wait->queue,
                                           .done = &wait->done,
                                           .ends_with_input = true,
                                           .unblock = unblock_wait};
    pthread_mutex_init(&wait->queue.lock, NULL);
    pthread_mutex_lock(&primary->lock);
    wait->next = primary->waits;
    if (wait->next)
        wait->next->previous = wait;
    primary->waits = wait;
    wait->linked = true;
    atomic_fetch_add(&primary->wait_count, 1);
    pthread_mutex_unlock(&primary->lock);
    primary->around.wake(primary->around.context);
    return wait;
}

#define GET_ACKNOWLEDGEMENT "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"

/* What a replica must have acknowledged to have all data. The question itself, if it is the last
 * thing in the stream, need not be: some answer it before they count it. */
static uint64_t data_offset(struct primary *primary) {
    uint64_t offset = atomic_load(&primary_history(primary)->offset);
    return offset - (primary->acknowledge_asked ? sizeof GET_ACKNOWLEDGEMENT - 1 : 0);
}

static void ask_for_acknowledgements(struct primary *primary) {
    primary_append_command(primary, GET_ACKNOWLEDGEMENT, false);
    primary->acknowledge_asked = true;
    primary_publish_offset(primary);
    backlog_flush(primary->backlog); /* somebody waits: not for a frame that is full, too */
}

/* Ends the waits that are over. Asks for acknowledgements for the others. */
static void look_after_waits(struct primary *primary) {
    uint64_t now_us = clock_monotonic_us();
    bool ask = false;
    pthread_mutex_lock(&primary->lock);
    for (struct replica_wait *wait = primary->waits, *next; wait; wait = next) {
        next = wait->next;
        if (wait->offset == UINT64_MAX)
            wait->offset = offset_of(primary, wait->number);
        bool enough = wait->offset != UINT64_MAX &&
                      acknowledged_locked(primary, wait->offset) >= wait->replicas;
        if (enough || now_us >= wait->due_us) {
            wait_unlink(wait);
            waiter_queue_end(&wait->queue, &wait->done);
        } else {
            ask = true;
        }
    }
    pthread_mutex_unlock(&primary->lock);
    /* Not during a pause: who waits for replicas to be in step would never see it. */
    if (ask && primary->on && !primary_is_replica(primary) && !primary->acknowledge_asked &&
        primary->links && !atomic_load(&primary->around.keyspace->door.view.paused))
        ask_for_acknowledgements(primary);
}

/* --- What the role brings (struct replication_serving) ---------------------------------------- */

static void feed(void *context, const char *bytes, size_t length) {
    struct primary *primary = context;
    if (UNLIKELY(!primary->on))
        primary_turn_on(primary); /* whoever is promoted has what its siblings miss */
    if (length == 0)
        return;
    backlog_append(primary->backlog, bytes, length, false);
    primary->flush_wanted = true;
    atomic_store_explicit(&primary->backlog_first_offset, backlog_first_offset(primary->backlog),
                          memory_order_relaxed);
}

static void drop_link(struct replica_link *link) {
    backlog_cursor_close(link->cursor);
    link->cursor = NULL;
    sync_round_leave(link->round);
    link->round = NULL;
    link->greeting[0] = 0;
    link->newline = false;
    atomic_store(&link->state, LINK_DROPPED);
}

static void drop_replicas(void *context, bool keep_backlog) {
    struct primary *primary = context;
    if (primary->on && !primary_is_replica(primary))
        primary_merge(primary, SIZE_MAX);
    for (struct replica_link *link = primary->links; link; link = link->next)
        drop_link(link);
    if (primary->on && !keep_backlog)
        primary_drop_backlog(primary);
}

static void list_replica(const struct replica_link *link, struct reply *reply) {
    char text[24];
    reply_array(reply, 3);
    reply_bulk_text(reply, link->address);
    snprintf(text, sizeof text, "%d", link->listening_port);
    reply_bulk_text(reply, text);
    snprintf(text, sizeof text, "%llu",
             (unsigned long long)atomic_load(&link->acknowledged_offset));
    reply_bulk_text(reply, text);
}

static void list_replicas(void *context, struct reply *reply) {
    struct primary *primary = context;
    size_t online = 0;
    struct reply_deferred deferred = reply_deferred_begin(reply);
    pthread_mutex_lock(&primary->lock);
    for (const struct replica_link *link = primary->links; link; link = link->next)
        if (replica_link_state(link) == LINK_ONLINE) {
            list_replica(link, reply);
            online++;
        }
    pthread_mutex_unlock(&primary->lock);
    reply_deferred_array(reply, deferred, online);
}

/* Those who wait on a primary that is none any more. */
static void refuse_waits(struct primary *primary) {
    pthread_mutex_lock(&primary->lock);
    for (struct replica_wait *wait = primary->waits, *next; wait; wait = next) {
        next = wait->next;
        wait->refusal = "UNBLOCKED force unblock from blocking operation, instance state changed "
                        "(master -> replica?)";
        wait->closes = true;
        wait_unlink(wait);
        waiter_queue_end(&wait->queue, &wait->done);
    }
    pthread_mutex_unlock(&primary->lock);
}

/* What was committed while it was a primary is part of the history that it goes on with, so it is
 * merged before anybody is asked to continue that. When the offset has moved otherwise than by the
 * stream the backlog is not of it. */
static void role_changed(void *context) {
    struct primary *primary = context;
    if (primary_is_replica(primary)) {
        refuse_waits(primary);
        if (primary->around.end_blocked)
            primary->around.end_blocked(primary->around.context);
    }
    if (primary_is_replica(primary) && primary->around.keyspace->door.log)
        primary_merge(primary, SIZE_MAX);
    if (primary->on &&
        backlog_end_offset(primary->backlog) != atomic_load(&primary_history(primary)->offset))
        drop_replicas(primary, false);
    primary->stream_database = -1;
    primary_set_logging(primary);
    primary->around.role_changed(primary->around.context);
}

void primary_init(struct primary *primary, const struct primary_surroundings *around) {
    *primary = (struct primary){.around = *around,
                                .stream_database = -1,
                                .load_backlog_bytes = (size_t)config_current()->repl_backlog_size};
    pthread_mutex_init(&primary->lock, NULL);
    primary->log = commit_log_make(around->wake, around->context);
    primary->compressor = backlog_compressor_create(around->wake, around->context);
    around->replication->serving =
        (struct replication_serving){feed, drop_replicas, list_replicas, role_changed, primary};
}

static void count_link(void *context, const struct replica_link *link) {
    (void)link;
    ++*(unsigned *)context;
}

unsigned primary_link_count(const struct primary *primary) {
    unsigned count = 0;
    primary_visit(primary, count_link, &count);
    return count;
}

/* Not who wants a snapshot only, nor a tool, which acknowledges nothing. */
static bool is_to_have_all(const struct replica_link *link) {
    return replica_link_state(link) != LINK_DROPPED && !link->snapshot_only &&
           !link->asked_by_sync && !atomic_load(&link->ended);
}

static bool has_all(const struct replica_link *link, uint64_t offset) {
    return replica_link_state(link) == LINK_ONLINE &&
           atomic_load(&link->acknowledged_offset) >= offset;
}

void primary_last_words(struct primary *primary, unsigned *replicas, unsigned *in_step) {
    *replicas = *in_step = 0;
    if (!primary->on || primary_is_replica(primary))
        return;
    primary_merge(primary, SIZE_MAX);
    uint64_t offset = data_offset(primary);
    for (const struct replica_link *link = primary->links; link; link = link->next) {
        *replicas += is_to_have_all(link);
        *in_step += is_to_have_all(link) && has_all(link, offset);
    }
    if (*in_step < *replicas && !primary->acknowledge_asked)
        ask_for_acknowledgements(primary);
}

void primary_tell_lag(struct primary *primary) {
    unsigned replicas = 0, in_step = 0;
    uint64_t now_ms = clock_monotonic_us() / 1000;
    if (primary->on && !primary_is_replica(primary))
        primary_merge(primary, SIZE_MAX);
    uint64_t offset = data_offset(primary);
    for (const struct replica_link *link = primary->links; link; link = link->next) {
        if (!is_to_have_all(link))
            continue;
        replicas++;
        if (has_all(link, offset)) {
            in_step++;
            continue;
        }
        enum replica_link_state state = replica_link_state(link);
        uint64_t heard_ms = state == LINK_ONLINE ? atomic_load(&link->acknowledged_ms) : now_ms;
        log_write(LOG_LEVEL_NOTICE,
                  "Lagging replica %s reported offset %llu behind master, lag=%llu, state=%s.",
                  link->name,
                  (unsigned long long)(offset - atomic_load(&link->acknowledged_offset)),
                  (unsigned long long)(now_ms > heard_ms ? (now_ms - heard_ms) / 1000 : 0),
                  replica_link_state_name(state));
    }
    if (replicas > 0)
        log_write(LOG_LEVEL_NOTICE, "%u of %u replicas are in sync when shutting down.", in_step,
                  replicas);
}

void primary_stop(struct primary *primary) {
    atomic_store(&primary->stopped, true);
    if (primary->starter_runs)
        pthread_join(primary->starter, NULL);
    primary->starter_runs = false;
    backlog_compressor_destroy(primary->compressor);
    primary->compressor = NULL;
}

void primary_destroy(struct primary *primary) {
    for (struct replica_link *link = primary->links, *next; link; link = next) {
        next = link->next;
        link_remove(primary, link);
    }
    backlog_destroy(primary->backlog);
    backlog_destroy(primary->load_backlog);
    commit_log_free(primary->log);
    pthread_mutex_destroy(&primary->lock);
}

/* --- Turns ------------------------------------------------------------------------------------ */

void primary_count_good(struct primary *primary, const struct config *config) {
    uint64_t now_ms = clock_monotonic_us() / 1000;
    unsigned good = 0;
    bool wanted = config->min_replicas_to_write > 0 && config->min_replicas_max_lag > 0;
    pthread_mutex_lock(&primary->lock);
    for (const struct replica_link *link = primary->links; link; link = link->next)
        good += replica_link_state(link) == LINK_ONLINE && !link->snapshot_only &&
                now_ms - atomic_load(&link->acknowledged_ms) <=
                    (uint64_t)config->min_replicas_max_lag * 1000;
    atomic_store(&primary->good_replicas, good);
    service_set(primary->around.service, SERVICE_FEW_REPLICAS,
                wanted && !primary_is_replica(primary) &&
                    good < (unsigned)config->min_replicas_to_write);
    pthread_mutex_unlock(&primary->lock);
}

static void remove_ended(struct primary *primary) {
    for (struct replica_link *link = primary->links, *next; link; link = next) {
        next = link->next;
        if (atomic_load_explicit(&link->ended, memory_order_acquire))
            link_remove(primary, link);
    }
}

/* A quarter more than has come, so that a link that is behind catches up. */
static size_t share_of_turn(struct primary *primary) {
    uint64_t end = primary->on ? backlog_end_offset(primary->backlog) : primary->shared_end;
    uint64_t bytes = end > primary->shared_end ? end - primary->shared_end : 0;
    primary->shared_end = end;
    bytes += bytes / 4;
    return bytes < SHARE_MAX_BYTES ? bytes : SHARE_MAX_BYTES;
}

static void wake_links(struct primary *primary) {
    size_t share_bytes = share_of_turn(primary);
    for (struct replica_link *link = primary->links; link; link = link->next) {
        if (!link->at_home || atomic_load_explicit(&link->ended, memory_order_acquire))
            continue;
        link->share_bytes = share_bytes;
        if (UNLIKELY(replica_link_state(link) == LINK_DROPPED))
            link->connection->close(link->session);
        else if (replica_link_is_due(link))
            link->connection->wake(link->session);
    }
}

/* client-output-buffer-limit of the class "replica", against what is kept for it alone and what its
 * socket has not taken. The limit is at least the backlog's size, as in Redis. */
static bool over_output_limit(struct replica_link *link, uint64_t now_ms) {
    const struct config *config = config_current();
    const struct config_output_limit *limit =
        &config->client_output_buffer_limit.of[CONFIG_CLIENT_REPLICA];
    uint64_t backlog_bytes = (uint64_t)config->repl_backlog_size;
    uint64_t hard_bytes = limit->hard_bytes, soft_bytes = limit->soft_bytes;
    uint64_t bytes = (link->at_home ? link->connection->unsent_bytes(link->session) : 0) +
                     (link->cursor ? backlog_cursor_pinned_bytes(link->cursor) : 0);
    if (hard_bytes && hard_bytes < backlog_bytes)
        hard_bytes = backlog_bytes;
    if (soft_bytes && soft_bytes < backlog_bytes)
        soft_bytes = backlog_bytes;
    if (soft_bytes == 0 || bytes < soft_bytes)
        link->output_soft_since_ms = 0;
    else if (link->output_soft_since_ms == 0)
        link->output_soft_since_ms = now_ms;
    return (hard_bytes && bytes >= hard_bytes) ||
           (link->output_soft_since_ms &&
            now_ms - link->output_soft_since_ms > (uint64_t)limit->soft_seconds * 1000);
}

static void enforce_limits(struct primary *primary, uint64_t now_ms) {
    primary->last_limits_ms = now_ms;
    pthread_mutex_lock(&primary->lock);
    backlog_get_statistics(primary->backlog, &primary->figures);
    primary_note_offset(primary, now_ms);
    pthread_mutex_unlock(&primary->lock);
    for (struct replica_link *link = primary->links; link; link = link->next) {
        if (replica_link_state(link) == LINK_DROPPED || atomic_load(&link->ended) ||
            !over_output_limit(link, now_ms))
            continue;
        log_write(LOG_LEVEL_WARNING,
                  "Client id=%llu addr=%s scheduled to be closed ASAP for overcoming of output "
                  "buffer limits.",
                  (unsigned long long)link->client_id, link->name);
        if (link->at_home)
            link->connection->close(link->session);
        else
            drop_link(link); /* closed when it arrives */
    }
}

/* Whatever comes is a sign of life: while it loads a replica sends empty lines only. */
static uint64_t silent_ms_of(struct replica_link *link, uint64_t now_ms) {
    uint64_t heard_ms = link->at_home ? link->connection->heard_ms(link->session) : 0;
    if (heard_ms > atomic_load(&link->acknowledged_ms))
        atomic_store(&link->acknowledged_ms, heard_ms);
    heard_ms = atomic_load(&link->acknowledged_ms);
    return now_ms > heard_ms ? now_ms - heard_ms : 0;
}

/* It takes nothing of a snapshot that is there for it, and keeps the stream since the cut. */
static bool is_stuck(struct replica_link *link, uint64_t now_ms, uint64_t timeout_ms) {
    bool moves = link->round_sent != link->round_sent_seen ||
                 (replica_link_state(link) == LINK_SNAPSHOT &&
                  atomic_load(&link->round->written) == link->round_sent);
    if (moves)
        link->round_sent_ms = now_ms;
    link->round_sent_seen = link->round_sent;
    return replica_link_state(link) == LINK_SNAPSHOT && link->at_home &&
           now_ms - link->round_sent_ms > timeout_ms;
}

/* Who wanted the snapshot only has it. */
static void close_when_sent(struct replica_link *link) {
    if (!link->at_home || link->connection->unsent_bytes(link->session) > 0)
        return;
    log_write(LOG_LEVEL_NOTICE,
              "RDB transfer completed, rdb only replica (%s) should be disconnected asap",
              link->name);
    link->connection->close(link->session);
}

/* PING, signs of life, who lags, who is gone. */
static void every_second(struct primary *primary, uint64_t now_ms) {
    const struct config *config = config_current();
    unsigned online = 0;
    for (struct replica_link *link = primary->links; link; link = link->next) {
        uint64_t silent_ms = silent_ms_of(link, now_ms);
        enum replica_link_state state = replica_link_state(link);
        link->newline =
            state < LINK_ONLINE && !link->length_told && now_ms - link->waiting_since_ms >= 1000;
        if (is_stuck(link, now_ms, (uint64_t)config->repl_timeout * 1000)) {
            log_write(LOG_LEVEL_WARNING, "Disconnecting timedout replica (full sync): %s",
                      link->name);
            link->connection->close(link->session);
        }
        if (state == LINK_ONLINE && link->snapshot_only)
            close_when_sent(link);
        if (state != LINK_ONLINE || link->snapshot_only)
            continue;
        online++;
        if (silent_ms > (uint64_t)config->repl_timeout * 1000 && link->at_home &&
            !link->asked_by_sync) { /* tools never acknowledge */
            log_write(LOG_LEVEL_WARNING, "Disconnecting timedout replica (streaming sync): %s",
                      link->name);
            link->connection->close(link->session);
        }
    }
    if (online > 0 && !primary_is_replica(primary) && !primary->no_pings &&
        now_ms - primary->last_ping_ms >= (uint64_t)config->repl_ping_replica_period * 1000) {
        primary->last_ping_ms = now_ms;
        primary_append_command(primary, "*1\r\n$4\r\nPING\r\n", false);
        primary->acknowledge_asked = false;
        primary_publish_offset(primary);
    }
    backlog_trim(primary->backlog);
    primary_turn_off_when_unused(primary, now_ms);
    primary_round_tick(primary, now_ms);
}

void primary_turn(struct primary *primary) {
    if (LIKELY(!primary->on)) {
        if (UNLIKELY(atomic_load_explicit(&primary->wait_count, memory_order_relaxed) > 0))
            look_after_waits(primary);
        if (UNLIKELY(primary->links != NULL)) { /* dropped with the backlog */
            remove_ended(primary);
            wake_links(primary);
        }
        return;
    }
    uint64_t now_us = clock_monotonic_us();
    commit_log_awake(primary->log);
    if (!primary_is_replica(primary) && primary_merge(primary, MERGE_MAX_BYTES))
        primary->last_merge_us = now_us;
    remove_ended(primary);
    if (now_us / 1000 - primary->last_second_ms >= 1000 ||
        atomic_load_explicit(&primary->round_over, memory_order_relaxed)) {
        primary->last_second_ms = now_us / 1000;
        every_second(primary, now_us / 1000);
    }
    if (now_us / 1000 - primary->last_limits_ms >= LIMITS_MS)
        enforce_limits(primary, now_us / 1000);
    if (atomic_load_explicit(&primary->wait_count, memory_order_relaxed) > 0)
        look_after_waits(primary);
    if (primary->flush_wanted && now_us - primary->last_flush_us >= FLUSH_US) {
        primary->flush_wanted = false;
        primary->last_flush_us = now_us;
        backlog_flush(primary->backlog);
    }
    backlog_compressor_turn(primary->compressor, primary->backlog,
                            config_current()->repl_compression);
    wake_links(primary);
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

uint64_t primary_due_us(struct primary *primary) {
    uint64_t due_us = UINT64_MAX, now_us = clock_monotonic_us();
    if (atomic_load_explicit(&primary->wait_count, memory_order_relaxed) > 0) {
        pthread_mutex_lock(&primary->lock);
        for (const struct replica_wait *wait = primary->waits; wait; wait = wait->next)
            due_us = earlier(due_us, wait->due_us);
        pthread_mutex_unlock(&primary->lock);
    }
    if (!primary->on)
        return due_us;
    for (const struct replica_link *link = primary->links; link; link = link->next)
        if (atomic_load_explicit(&link->ended, memory_order_relaxed) ||
            (link->at_home && replica_link_is_due(link)))
            return 0;
    if (primary->flush_wanted)
        due_us = earlier(due_us, primary->last_flush_us + FLUSH_US);
    if (now_us - primary->last_merge_us < ACTIVE_US)
        return earlier(due_us, now_us + MERGE_PERIOD_US);
    return commit_log_sleep(primary->log) ? due_us : 0;
}

void primary_visit(const struct primary *primary,
                   void (*visit)(void *context, const struct replica_link *link), void *context) {
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&primary->lock; /* not what is told */
    pthread_mutex_lock(lock);
    for (const struct replica_link *link = primary->links; link; link = link->next)
        if (!atomic_load(&link->ended))
            visit(context, link);
    pthread_mutex_unlock(lock);
}

void primary_figures(const struct primary *primary, struct backlog_statistics *figures) {
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&primary->lock; /* not what is told */
    bool active = atomic_load(&primary->backlog_active);
    pthread_mutex_lock(lock);
    *figures = active ? primary->figures : (struct backlog_statistics){0};
    pthread_mutex_unlock(lock);
}
