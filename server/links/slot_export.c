/* See slot_export.h.
 *
 * Algorithm. slot_move.c decides; each action is a function here that ends with an event. The
 * thread is one of those that run commands (exclusive_join), so that it passes command boundaries,
 * and counts as asleep while it waits for the target. For exclusive sections, in which it begins
 * and ends to listen to changes, it leaves them.
 *
 * Progress. A target that does not answer holds up its own job and those behind it, and no command,
 * except between COMMIT and its answer: then the slots serve nobody until the outcome is known.
 * Reclamation: a job is freed by the thread when it is over. */
#include "server/links/slot_export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "cluster/slot_takeover.h"
#include "cluster/view.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/config/config.h"
#include "server/dispatch/redirect.h"
#include "server/links/slot_export_private.h"
#include "server/links/slot_hold.h"

#define CONNECT_TIMEOUT_MS 5000
#define ANSWER_TIMEOUT_MS  10000
#define COMMIT_TIMEOUT_MS  5000 /* then the target is asked again, over another connection */
#define RESOLVE_EACH_MS    50
#define IDLE_LOOK_MS       1000
#define LINE_BYTES         256
/* So many changes may come while the target is being prepared. */
#define PREPARE_KEYS_MAX   4096

/* --- Talking ---------------------------------------------------------------------------------- */

static enum slot_move_event lost(struct slot_run *run, const char *what) {
    enum slot_move_event event;
    if (run->job->move.state < SLOT_MOVE_GRANTED && slot_run_is_over(run, &event))
        return event;
    if (run->sender.error[0]) {
        snprintf(run->message, sizeof run->message, "Target: %.200s", run->sender.error);
        return SLOT_MOVE_REFUSED;
    }
    snprintf(run->message, sizeof run->message, "%s", what);
    return SLOT_MOVE_LOST;
}

/* Says it, and reads the answer to it into line (LINE_BYTES). */
static bool ask(struct slot_run *run, const char *const *words, char *line, uint64_t timeout_ms) {
    slot_run_sleep();
    slot_sender_say(&run->sender, words);
    bool answered = slot_sender_finish(&run->sender, line, LINE_BYTES, timeout_ms);
    slot_run_wake();
    if (answered)
        slot_record_heard(run->exports->around.records, run->job->record);
    return answered && !run->sender.error[0];
}

/* The node, or who has taken its place. false: nobody knows it. */
static bool find_peer(struct slot_run *run, struct cluster_peer *peer) {
    struct cluster_bus *bus = *run->exports->around.bus;
    bool found = cluster_find_peer(cluster_bus_enter(bus), &run->job->target, peer);
    cluster_bus_leave(bus, false);
    return found;
}

static char *copy_of(const char *text) {
    return text && text[0] ? memory_strdup(text) : NULL;
}

static bool say_password(struct slot_run *run, const char *user, const char *password) {
    char line[LINE_BYTES];
    const char *with_user[] = {"AUTH", user, password, NULL};
    const char *without[] = {"AUTH", password, NULL};
    return ask(run, user ? with_user : without, line, ANSWER_TIMEOUT_MS);
}

static bool connect_to(struct slot_run *run, const struct cluster_peer *peer) {
    char port[16];
    /* Copies: no configuration stays while this thread sleeps. */
    char *user = copy_of(config_current()->masteruser);
    char *password = copy_of(config_current()->masterauth);
    snprintf(port, sizeof port, "%u", peer->port);
    slot_sender_close(&run->sender);
    run->sender.error[0] = '\0';
    slot_run_sleep();
    run->sender.target =
        migration_target_open(&run->exports->targets, peer->address, port, CONNECT_TIMEOUT_MS);
    slot_run_wake();
    bool connected = run->sender.target && (!password || say_password(run, user, password));
    memory_free(user);
    memory_free(password);
    return connected;
}

static enum slot_move_event do_connect(struct slot_run *run) {
    char line[LINE_BYTES];
    struct cluster_peer peer;
    struct cluster_bus *bus = *run->exports->around.bus;
    enum slot_move_event event;
    if (slot_run_is_over(run, &event))
        return event;
    if (!find_peer(run, &peer) || memcmp(&peer.id, &run->job->target, sizeof peer.id) != 0 ||
        peer.failed) {
        strcpy(run->message, "Unable to connect to target node: it has failed, or is unknown");
        return SLOT_MOVE_REFUSED;
    }
    if (!connect_to(run, &peer))
        return lost(run, "Unable to connect to target node");
    struct cluster_node_view me;
    cluster_view_myself(cluster_bus_enter(bus), &me);
    char source[WIRE_ID_LENGTH + 1] = "";
    memcpy(source, me.id.hex, WIRE_ID_LENGTH);
    cluster_bus_leave(bus, false);
    const char *words[] = {"CLUSTER",
                           "SYNCSLOTS",
                           "ESTABLISH",
                           "SLOTWISE-1",
                           run->sender.name,
                           source,
                           run->job->record->ranges,
                           NULL};
    if (ask(run, words, line, ANSWER_TIMEOUT_MS))
        return SLOT_MOVE_DONE;
    enum slot_move_event ended = lost(run, "Connection lost to target during the handshake");
    if (run->sender.error[0])
        snprintf(run->message, sizeof run->message,
                 "Received error during handshake to target: %.190s", run->sender.error);
    return ended;
}

/* --- Sections --------------------------------------------------------------------------------- */

static void run_section(void (*section)(void *context), void *context) {
    exclusive_leave();
    epoch_reader_leave();
    exclusive_run_blocking(section, context);
    epoch_reader_enter();
    exclusive_join();
}

static void begin_listening(void *context) {
    struct slot_exports *exports = context;
    slot_dirty_begin(&exports->dirty);
}

static void end_listening(void *context) {
    struct slot_exports *exports = context;
    slot_dirty_end(&exports->dirty);
}

static void stop_listening(struct slot_exports *exports) {
    run_section(end_listening, exports);
    for (struct slot_dirty_key *key = slot_dirty_take(&exports->dirty), *next; key; key = next) {
        next = key->next;
        memory_free(key);
    }
}

/* --- Actions ---------------------------------------------------------------------------------- */

static enum slot_move_event with_reason(struct slot_run *run, enum slot_move_event event) {
    return event == SLOT_MOVE_LOST || event == SLOT_MOVE_REFUSED
               ? lost(run, "Connection lost to target. Check CLUSTER GETSLOTMIGRATIONS on the "
                           "target node for more information.")
               : event;
}

static enum slot_move_event do_copy(struct slot_run *run) {
    struct slot_exports *exports = run->exports;
    uint64_t total = 0;
    run_section(begin_listening, exports);
    for (uint32_t slot = slot_run_next_slot(run, 0); slot < SLOT_COUNT;
         slot = slot_run_next_slot(run, slot + 1))
        total += keyspace_slot_count(exports->around.keyspace, slot);
    pthread_mutex_lock(&exports->around.records->lock);
    run->job->record->keys_total = total;
    pthread_mutex_unlock(&exports->around.records->lock);
    return with_reason(run, slot_run_copy(run));
}

/* Two nodes that hand slots to each other raise their epochs in turn; whoever comes first ends it.
 */
static void rest_at_random(void) {
    uint64_t rest_ns = 1000000 + clock_monotonic_ns() % 16000000;
    slot_run_sleep();
    nanosleep(&(struct timespec){.tv_nsec = (long)rest_ns}, NULL);
    slot_run_wake();
}

static enum slot_move_event prepare(struct slot_run *run) {
    char line[LINE_BYTES] = "", epoch[24];
    struct cluster_bus *bus = *run->exports->around.bus;
    struct cluster_node_view me;
    cluster_view_myself(cluster_bus_enter(bus), &me);
    cluster_bus_leave(bus, false);
    snprintf(epoch, sizeof epoch, "%llu", (unsigned long long)me.config_epoch);
    const char *words[] = {"CLUSTER", "SYNCSLOTS", "PREPARE", run->sender.name, epoch, NULL};
    if (!ask(run, words, line, ANSWER_TIMEOUT_MS)) {
        if (strncmp(line, "-TRYAGAIN", 9) != 0)
            return with_reason(run, SLOT_MOVE_LOST);
        run->sender.error[0] = '\0';
        rest_at_random();
        return SLOT_MOVE_AGAIN;
    }
    if (strncmp(line, "+PREPARED ", 10) != 0)
        return SLOT_MOVE_LOST;
    run->epoch = strtoull(line + 10, NULL, 10);
    return SLOT_MOVE_DONE;
}

static enum slot_move_event do_catch_up(struct slot_run *run) {
    uint64_t keys;
    const struct slot_move *move = &run->job->move;
    enum slot_move_event event = slot_run_round(run, &keys, true);
    if (event != SLOT_MOVE_DONE)
        return with_reason(run, event);
    if (keys > PREPARE_KEYS_MAX && move->rounds < SLOT_MOVE_PATIENT_ROUNDS)
        return SLOT_MOVE_AGAIN;
    event = prepare(run);
    if (event != SLOT_MOVE_DONE)
        return event;
    /* What has come meanwhile, so that the pause begins with next to nothing. */
    event = slot_run_round(run, &keys, true);
    if (event != SLOT_MOVE_DONE)
        return with_reason(run, event);
    slot_run_sleep();
    slot_hold(SLOT_HOLD_CAUGHT_UP, run->exports->around.records, run->job->record,
              &run->exports->halted);
    slot_run_wake();
    uint64_t left = slot_dirty_count(&run->exports->dirty);
    uint64_t bytes = keys ? run->round_bytes / keys * left : 0;
    return slot_move_is_small(move, left, bytes) ? SLOT_MOVE_DONE : SLOT_MOVE_AGAIN;
}

static enum slot_move_event take_hold(struct slot_run *run) {
    struct cluster_bus *bus = *run->exports->around.bus;
    enum cluster_hold hold =
        cluster_hold_slots(cluster_bus_enter(bus), run->job->slots, run->epoch);
    cluster_bus_leave(bus, false);
    run->held = hold == CLUSTER_HOLD_DONE;
    if (hold == CLUSTER_HOLD_STALE) {
        slot_run_unfence(run);
        rest_at_random();
        return SLOT_MOVE_AGAIN;
    }
    if (!run->held)
        strcpy(run->message, "Slots are no longer owned by myself");
    return run->held ? SLOT_MOVE_DONE : SLOT_MOVE_DEMOTED;
}

static enum slot_move_event do_fence(struct slot_run *run) {
    uint64_t keys;
    enum slot_move_event event;
    if (slot_run_is_over(run, &event))
        return event;
    event = slot_run_fence(run);
    if (event != SLOT_MOVE_DONE)
        return event;
    uint64_t left = slot_dirty_count(&run->exports->dirty);
    if (!slot_move_is_small(&run->job->move, left / 2, 0)) {
        slot_run_unfence(run);
        return SLOT_MOVE_AGAIN;
    }
    slot_run_sleep();
    slot_hold(SLOT_HOLD_FENCED, run->exports->around.records, run->job->record,
              &run->exports->halted);
    slot_run_wake();
    event = slot_run_round(run, &keys, false);
    enum slot_move_event over;
    if (event == SLOT_MOVE_DONE && slot_run_is_over(run, &over))
        event = over;
    return event == SLOT_MOVE_DONE ? take_hold(run) : event;
}

/* From here on the outcome is the target's. */
static enum slot_move_event do_commit(struct slot_run *run) {
    char line[LINE_BYTES], commands[32];
    struct slot_exports *exports = run->exports;
    slot_run_sleep();
    bool sent = slot_sender_send(&run->sender, COMMIT_TIMEOUT_MS); /* ends the last DATA */
    snprintf(commands, sizeof commands, "%llu", (unsigned long long)run->sender.commands);
    const char *words[] = {"CLUSTER", "SYNCSLOTS", "COMMIT", run->sender.name, commands, NULL};
    slot_sender_say(&run->sender, words);
    sent = sent && slot_sender_send(&run->sender, COMMIT_TIMEOUT_MS);
    slot_hold(SLOT_HOLD_GRANTED, exports->around.records, run->job->record, NULL);
    bool answered = sent && slot_sender_answers(&run->sender, line, LINE_BYTES, COMMIT_TIMEOUT_MS);
    slot_hold(SLOT_HOLD_ANSWERED, exports->around.records, run->job->record, NULL);
    slot_run_wake();
    if (!answered)
        return SLOT_MOVE_LOST;
    if (strncmp(line, "+COMMITTED ", 11) == 0)
        return SLOT_MOVE_DONE;
    snprintf(run->message, sizeof run->message, "Target: %.200s", run->sender.error);
    return line[0] == '-' && strncmp(line, "-TRYAGAIN", 9) != 0 ? SLOT_MOVE_REFUSED
                                                                : SLOT_MOVE_LOST;
}

/* Whether this node is the primary still; the process's end is as good as a demotion. */
static bool is_demoted(const struct slot_run *run) {
    return redirect_map()->is_replica || atomic_load(&run->exports->stopping);
}

static enum slot_move_event do_resolve(struct slot_run *run) {
    char line[LINE_BYTES];
    struct cluster_peer peer;
    const char *words[] = {
        "CLUSTER", "SYNCSLOTS", "RESOLVE", run->sender.name, run->job->record->ranges, NULL};
    slot_run_sleep();
    nanosleep(&(struct timespec){.tv_nsec = RESOLVE_EACH_MS * 1000000L}, NULL);
    slot_run_wake();
    if (is_demoted(run)) {
        strcpy(run->message, "This node is no master any more");
        return SLOT_MOVE_DEMOTED;
    }
    if (!find_peer(run, &peer) || (peer.failed && !peer.has_successors)) {
        strcpy(run->message, "The target has failed, and nobody has taken its place");
        return SLOT_MOVE_GONE;
    }
    if (peer.failed || !connect_to(run, &peer) || !ask(run, words, line, ANSWER_TIMEOUT_MS))
        return SLOT_MOVE_LOST;
    if (strcmp(line, "+COMMITTED") == 0) {
        run->job->target = peer.id;
        return SLOT_MOVE_DONE;
    }
    if (strcmp(line, "+UNKNOWN") != 0)
        return SLOT_MOVE_LOST;
    if (!run->message[0])
        strcpy(run->message, "Connection lost to target while the slots were handed over");
    return SLOT_MOVE_REFUSED;
}

static void tell_end(struct slot_run *run) {
    struct slot_job *job = run->job;
    if (job->move.state == SLOT_MOVE_CANCELLED || job->move.state == SLOT_MOVE_SUCCESS)
        run->message[0] = '\0';
    slot_record_set(run->exports->around.records, job->record,
                    slot_move_state_name(job->move.state), true, "%s", run->message);
}

static enum slot_move_event do_give(struct slot_run *run) {
    struct cluster_bus *bus = *run->exports->around.bus;
    cluster_give_slots(cluster_bus_enter(bus), &run->job->target, run->job->slots, run->epoch);
    cluster_bus_leave(bus, true);
    run->held = false;
    slot_run_unfence(run);
    tell_end(run); /* before the copies are deleted */
    slot_sender_close(&run->sender);
    stop_listening(run->exports);
    slot_run_delete(run);
    return SLOT_MOVE_DONE;
}

static enum slot_move_event do_take_back(struct slot_run *run) {
    struct cluster_bus *bus = *run->exports->around.bus;
    uint64_t ticket = 0;
    const char *error =
        cluster_take_back(cluster_bus_enter(bus), run->job->slots, run->epoch, &ticket);
    cluster_bus_leave(bus, true);
    slot_run_sleep();
    bool durable = !error && (ticket == 0 || cluster_store_wait(&bus->store, ticket));
    if (!durable)
        nanosleep(&(struct timespec){.tv_nsec = RESOLVE_EACH_MS * 1000000L}, NULL);
    slot_run_wake();
    return durable || is_demoted(run) ? SLOT_MOVE_DONE : SLOT_MOVE_LOST;
}

static enum slot_move_event do_release(struct slot_run *run) {
    struct cluster_bus *bus = *run->exports->around.bus;
    if (run->held)
        cluster_let_go(cluster_bus_enter(bus), run->job->slots);
    if (run->held)
        cluster_bus_leave(bus, true);
    run->held = false;
    slot_run_unfence(run);
    slot_sender_close(&run->sender);
    stop_listening(run->exports);
    return SLOT_MOVE_DONE;
}

static enum slot_move_event perform(struct slot_run *run, enum slot_move_action action) {
    switch (action) {
    case SLOT_MOVE_CONNECT:
        return do_connect(run);
    case SLOT_MOVE_COPY:
        return do_copy(run);
    case SLOT_MOVE_CATCH_UP:
        return do_catch_up(run);
    case SLOT_MOVE_FENCE:
        return do_fence(run);
    case SLOT_MOVE_COMMIT:
        return do_commit(run);
    case SLOT_MOVE_RESOLVE:
        return do_resolve(run);
    case SLOT_MOVE_GIVE:
        return do_give(run);
    case SLOT_MOVE_TAKE_BACK:
        return do_take_back(run);
    case SLOT_MOVE_RELEASE:
        return do_release(run);
    case SLOT_MOVE_END:
        break;
    }
    return SLOT_MOVE_DONE;
}

/* --- Jobs ------------------------------------------------------------------------------------- */

static enum slot_move_action decide(struct slot_run *run, enum slot_move_event event) {
    struct slot_exports *exports = run->exports;
    struct slot_job *job = run->job;
    enum slot_move_state before = job->move.state;
    pthread_mutex_lock(&exports->lock);
    if (event == SLOT_MOVE_DONE && job->move.cancelled && slot_move_may_cancel(before))
        event = SLOT_MOVE_HALTED; /* at the last moment */
    enum slot_move_action action = slot_move_on(&job->move, event);
    pthread_mutex_unlock(&exports->lock);
    if (job->move.state != before && !slot_move_is_over(job->move.state))
        slot_record_set(exports->around.records, job->record, slot_move_state_name(job->move.state),
                        false, NULL);
    return action;
}

static void run_job(struct slot_exports *exports, struct slot_job *job) {
    struct slot_run run = {.exports = exports, .job = job};
    const struct keyspace *keyspace = exports->around.keyspace;
    run.clears = keyspace->clears[keyspace->database_map[0]];
    slot_sender_init(&run.sender, &exports->targets, job->record->name);
    enum slot_move_action action = decide(&run, SLOT_MOVE_BEGUN);
    while (action != SLOT_MOVE_END) {
        epoch_quiescent();
        exclusive_point();
        action = decide(&run, perform(&run, action));
    }
    slot_sender_free(&run.sender);
    if (job->move.state != SLOT_MOVE_SUCCESS)
        tell_end(&run);
}

/* The next one, which stays in the queue; NULL after a second without. */
static struct slot_job *next_job(struct slot_exports *exports, bool *stop) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += IDLE_LOOK_MS / 1000;
    pthread_mutex_lock(&exports->lock);
    if (!exports->first && !exports->stopping)
        pthread_cond_timedwait(&exports->wanted, &exports->lock, &until);
    struct slot_job *job = exports->first;
    *stop = exports->stopping;
    if (job && !exports->stopping)
        atomic_store(&exports->halted, job->move.cancelled);
    pthread_mutex_unlock(&exports->lock);
    return job;
}

static void end_job(struct slot_exports *exports, struct slot_job *job) {
    pthread_mutex_lock(&exports->lock);
    exports->first = job->next;
    pthread_mutex_unlock(&exports->lock);
    memory_free(job);
}

static void *exports_main(void *context) {
    struct slot_exports *exports = context;
    pthread_setname_np(pthread_self(), "slots");
    keyspace_thread_set(exports->around.thread_number);
    epoch_reader_enter();
    exclusive_join();
    for (bool stop = false; !stop;) {
        slot_run_sleep();
        struct slot_job *job = next_job(exports, &stop);
        slot_run_wake();
        if (job && !stop) {
            run_job(exports, job);
            end_job(exports, job);
        }
        migration_targets_close_idle(&exports->targets);
        epoch_reclaim_for(1000);
    }
    migration_targets_close(&exports->targets);
    exclusive_leave();
    epoch_reader_leave();
    return NULL;
}

/* --- From outside ----------------------------------------------------------------------------- */

void slot_exports_init(struct slot_exports *exports, const struct slot_exports_around *around) {
    exports->around = *around;
    pthread_mutex_init(&exports->lock, NULL);
    pthread_cond_init(&exports->wanted, NULL);
    exports->targets.cancelled = &exports->halted;
    slot_dirty_init(&exports->dirty, &around->keyspace->door);
    change_init(&exports->change, &around->keyspace->door, VIEW_PRIMARY);
}

void slot_exports_stop(struct slot_exports *exports) {
    pthread_mutex_lock(&exports->lock);
    bool started = exports->started;
    atomic_store(&exports->stopping, true);
    atomic_store(&exports->halted, true);
    pthread_cond_signal(&exports->wanted);
    pthread_mutex_unlock(&exports->lock);
    if (started)
        pthread_join(exports->thread, NULL);
    for (struct slot_job *job; (job = exports->first) != NULL; memory_free(job))
        exports->first = job->next;
    slot_dirty_destroy(&exports->dirty);
    change_destroy(&exports->change);
}

static void random_name(char name[SLOT_RECORD_NAME + 1]) {
    uint8_t bytes[SLOT_RECORD_NAME / 2];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(clock_monotonic_ns() >> i);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(name + 2 * i, 3, "%02x", bytes[i]);
}

static struct slot_job *make_job(struct slot_exports *exports, const struct slot_request *request) {
    struct slot_job *job = memory_calloc(1, sizeof *job);
    char name[SLOT_RECORD_NAME + 1];
    const struct slot_map *map = redirect_map();
    random_name(name);
    job->target = request->target;
    memcpy(job->slots, request->slots, sizeof job->slots);
    job->record =
        slot_records_add(exports->around.records, name, false, &map->targets[SLOT_MAP_MINE].id,
                         &request->target, request->slots, slot_move_state_name(SLOT_MOVE_QUEUED));
    return job;
}

bool slot_exports_submit(struct slot_exports *exports, const struct slot_request *requests,
                         size_t count) {
    pthread_mutex_lock(&exports->lock);
    if (!exports->started)
        exports->started = pthread_create(&exports->thread, NULL, exports_main, exports) == 0;
    bool started = exports->started;
    struct slot_job **last = &exports->first;
    while (*last)
        last = &(*last)->next;
    for (size_t i = 0; i < count && started; i++) {
        *last = make_job(exports, &requests[i]);
        last = &(*last)->next;
    }
    pthread_cond_signal(&exports->wanted);
    pthread_mutex_unlock(&exports->lock);
    return started;
}

void slot_exports_busy(struct slot_exports *exports, uint8_t *slots) {
    memset(slots, 0, WIRE_SLOT_BYTES);
    pthread_mutex_lock(&exports->lock);
    for (const struct slot_job *job = exports->first; job; job = job->next)
        for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
            slots[i] |= job->slots[i];
    pthread_mutex_unlock(&exports->lock);
}

const char *slot_exports_cancel(struct slot_exports *exports) {
    bool some = false, late = false;
    pthread_mutex_lock(&exports->lock);
    for (struct slot_job *job = exports->first; job; job = job->next) {
        bool may = slot_move_may_cancel(job->move.state);
        late = late || (!may && !slot_move_is_over(job->move.state));
        job->move.cancelled = job->move.cancelled || may;
        some = some || may;
        if (may && job == exports->first)
            atomic_store(&exports->halted, true);
    }
    pthread_mutex_unlock(&exports->lock);
    if (some)
        return NULL;
    return late ? "ERR Slots are being handed over, which cannot be cancelled any more"
                : "ERR No migrations ongoing";
}
