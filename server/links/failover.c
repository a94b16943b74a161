/* See failover.h. */
#include "server/links/failover.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/links/primary_stream.h"

/* --- Replicas --------------------------------------------------------------------------------- */

struct search {
    const char *host; /* NULL: any that has everything */
    int port;
    uint64_t offset; /* of all that was written */
    /* What was found. */
    unsigned replicas; /* of all kinds */
    bool found, online, in_step;
    char address[64]; /* of the one that is in step */
    int address_port;
};

static void look_at(void *context, const struct replica_link *link) {
    struct search *search = context;
    enum replica_link_state state = replica_link_state(link);
    if (state == LINK_DROPPED)
        return;
    search->replicas++;
    if (search->host &&
        (strcasecmp(link->address, search->host) != 0 || link->listening_port != search->port))
        return;
    bool online = state == LINK_ONLINE && !link->snapshot_only;
    search->found = true;
    search->online |= online;
    if (!online || atomic_load(&link->acknowledged_offset) != search->offset)
        return;
    search->in_step = true; /* the list begins with the last that came: the first of them wins */
    snprintf(search->address, sizeof search->address, "%s", link->address);
    search->address_port = link->listening_port;
}

static void look(const struct failover *failover, const char *host, int port,
                 struct search *search) {
    struct primary *primary = failover->around.primary;
    *search = (struct search){
        .host = host, .port = port, .offset = atomic_load(&primary_history(primary)->offset)};
    primary_visit(primary, look_at, search);
}

/* --- States ----------------------------------------------------------------------------------- */

const char *failover_state_name(const struct failover *failover) {
    static const char *const names[] = {
        [FAILOVER_NONE] = "no-failover",
        [FAILOVER_WAIT_FOR_SYNC] = "waiting-for-sync",
        [FAILOVER_IN_PROGRESS] = "failover-in-progress",
    };
    return names[failover->state];
}

const char *failover_refusal(const struct failover *failover,
                             const struct failover_request *request) {
    struct search search;
    look(failover, request->host, (int)request->port, &search);
    if (failover_is_on(failover))
        return "ERR FAILOVER already in progress.";
    if (primary_is_replica(failover->around.primary))
        return "ERR FAILOVER is not valid when server is a replica.";
    if (search.replicas == 0)
        return "ERR FAILOVER requires connected replicas.";
    if (request->force && (!request->timeout_ms || !request->host))
        return "ERR FAILOVER with force option requires both a timeout and target HOST and IP.";
    if (request->host && !search.found)
        return "ERR FAILOVER target HOST and PORT is not a replica.";
    if (request->host && !search.online)
        return "ERR FAILOVER target replica is not online.";
    return NULL;
}

static void set_target(struct failover *failover, const char *host, int port) {
    memory_free(failover->host);
    failover->host = host ? memory_strdup(host) : NULL;
    failover->port = port;
}

void failover_begin(struct failover *failover, const struct failover_request *request) {
    ASSERT(!failover_is_on(failover));
    set_target(failover, request->host, (int)request->port);
    if (request->host)
        log_write(LOG_LEVEL_NOTICE, "FAILOVER requested to %s:%d.", failover->host, failover->port);
    else
        log_write(LOG_LEVEL_NOTICE, "FAILOVER requested to any replica.");
    failover->due_us =
        request->timeout_ms ? clock_monotonic_us() + (uint64_t)request->timeout_ms * 1000 : 0;
    failover->force = request->force;
    failover->state = FAILOVER_WAIT_FOR_SYNC;
    /* Whoever waits for long has to hear from us; who does not is not given more to acknowledge. */
    failover->around.primary->no_pings = failover->due_us != 0;
    pause_begin(failover->around.pause, PAUSE_FOR_FAILOVER, PAUSE_WITHOUT_END, false);
}

static void clear(struct failover *failover) {
    failover->state = FAILOVER_NONE;
    set_target(failover, NULL, 0);
    failover->around.primary->no_pings = false;
    failover->around.replica->failing_over = false;
    pause_end(failover->around.pause, PAUSE_FOR_FAILOVER);
    failover->around.resume(failover->around.context);
}

void failover_abort(struct failover *failover, const char *why) {
    if (!failover_is_on(failover))
        return;
    if (failover->host)
        log_write(LOG_LEVEL_NOTICE, "FAILOVER to %s:%d aborted: %s", failover->host, failover->port,
                  why);
    else
        log_write(LOG_LEVEL_NOTICE, "FAILOVER to any replica aborted: %s", why);
    if (failover->state == FAILOVER_IN_PROGRESS)
        replica_unset_primary(failover->around.replica);
    clear(failover);
}

static void go_over(struct failover *failover) {
    struct replica *replica = failover->around.replica;
    failover->state = FAILOVER_IN_PROGRESS;
    failover->around.primary->no_pings = false;
    replica->failing_over = true;
    atomic_store(&replica->progress.answer, SYNC_NOT_ANSWERED);
    replica_set_primary(replica, failover->host, failover->port);
}

/* --- What happens by itself ------------------------------------------------------------------- */

static bool is_over(const struct failover *failover) {
    return failover->due_us && clock_monotonic_us() >= failover->due_us;
}

static void wait_for_sync(struct failover *failover) {
    struct primary *primary = failover->around.primary;
    struct search search;
    if (is_over(failover) && failover->force) {
        log_write(LOG_LEVEL_NOTICE, "FAILOVER to %s:%d time out exceeded, failing over.",
                  failover->host, failover->port);
        go_over(failover);
        return;
    }
    if (is_over(failover)) {
        failover_abort(failover, "Replica never caught up before timeout");
        return;
    }
    if (primary->on)
        primary_merge(primary, SIZE_MAX); /* what was written before the pause */
    look(failover, failover->host, failover->port, &search);
    if (!search.in_step)
        return;
    if (!failover->host)
        set_target(failover, search.address, search.address_port);
    log_write(LOG_LEVEL_NOTICE, "Failover target %s:%d is synced, failing over.", failover->host,
              failover->port);
    go_over(failover);
}

static enum sync_answer answer_of(const struct failover *failover) {
    return (enum sync_answer)atomic_load(&failover->around.replica->progress.answer);
}

static void advance(void *context) {
    struct failover *failover = context;
    if (failover->state == FAILOVER_WAIT_FOR_SYNC) {
        wait_for_sync(failover);
        return;
    }
    if (failover->state == FAILOVER_NONE)
        return;
    switch (answer_of(failover)) {
    case SYNC_NOT_ANSWERED:
        break;
    case SYNC_ACCEPTED:
        clear(failover);
        break;
    case SYNC_REFUSED:
        failover_abort(failover, "Failover target rejected psync request");
        break;
    case SYNC_NOT_ASKED:
        failover_abort(failover, "Write error to failover target");
        break;
    }
}

static bool may_advance(const struct failover *failover) {
    struct search search;
    switch (failover->state) {
    case FAILOVER_WAIT_FOR_SYNC:
        look(failover, failover->host, failover->port, &search);
        return search.in_step || is_over(failover);
    case FAILOVER_IN_PROGRESS:
        return answer_of(failover) != SYNC_NOT_ANSWERED;
    case FAILOVER_NONE:
        break;
    }
    return false;
}

static void run(struct failover *failover) {
    exclusive_run(advance, failover);
    wait_end(&failover->wait);
}

static void resumed(struct wait *wait) {
    run((struct failover *)(void *)((char *)wait - offsetof(struct failover, wait)));
}

void failover_tick(struct failover *failover) {
    if (LIKELY(!failover_is_on(failover)) || failover->wait.state != WAIT_NONE ||
        !may_advance(failover))
        return;
    if (wait_for_patience(&failover->wait))
        run(failover);
}

void failover_init(struct failover *failover, const struct failover_surroundings *around) {
    *failover = (struct failover){.around = *around};
}

void failover_attach(struct failover *failover, struct mailbox *mailbox) {
    wait_init(&failover->wait, mailbox, resumed);
}

void failover_destroy(struct failover *failover) {
    set_target(failover, NULL, 0);
}
