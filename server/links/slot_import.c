/* See slot_import.h. */
#include "server/links/slot_import.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cluster/slot_takeover.h"
#include "cluster/view.h"
#include "engine/background.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "replication/rdb_read.h"
#include "server/base/log.h"
#include "server/config/config.h"
#include "server/links/cluster_duties.h"
#include "server/links/slot_hold.h"

#define ERROR_REPLICAS   "ERR The target has replicas that do not take part in slot migrations"
/* What a payload may unpack to, whatever proto-max-bulk-len says. */
#define STRING_BYTES_MIN ((uint64_t)512 << 20)
#define REPLICAS_WAIT_US 2000000
#define COMMIT_LATEST_MS 2000
#define SLOT_IMPORTS_MAX 64

/* --- Life ------------------------------------------------------------------------------------- */

void slot_imports_init(struct slot_imports *imports, const struct slot_imports_around *around) {
    *imports = (struct slot_imports){.around = *around};
    pthread_mutex_init(&imports->lock, NULL);
}

static void destroy_staging(void *keyspace) {
    keyspace_destroy(keyspace);
}

/* Nobody uses it. */
static void import_free(struct slot_import *import) {
    change_destroy(&import->change);
    background_submit(destroy_staging, import->staging);
    memory_free(import);
}

static void take_out(struct slot_import *import) {
    struct slot_imports *imports = import->imports;
    pthread_mutex_lock(&imports->lock);
    struct slot_import **at = &imports->first;
    while (*at != import)
        at = &(*at)->next;
    *at = import->next;
    pthread_mutex_unlock(&imports->lock);
}

void slot_import_finish(struct slot_import *import, bool committed, const char *message) {
    struct slot_records *records = import->imports->around.records;
    pthread_mutex_lock(&records->lock);
    import->record->committed = committed;
    pthread_mutex_unlock(&records->lock);
    slot_record_set(records, import->record, committed ? "success" : "failed", true, "%s", message);
    take_out(import);
    import_free(import);
}

void slot_import_drop(struct slot_import *import, const char *why) {
    slot_import_finish(import, false, why);
}

void slot_imports_destroy(struct slot_imports *imports) {
    while (imports->first)
        slot_import_drop(imports->first, "The process ends");
    pthread_mutex_destroy(&imports->lock);
}

void slot_imports_session_ended(struct slot_imports *imports, uint64_t session_id) {
    pthread_mutex_lock(&imports->lock);
    for (struct slot_import *import = imports->first; import; import = import->next)
        if (import->session_id == session_id)
            atomic_store(&import->source_gone, true);
    pthread_mutex_unlock(&imports->lock);
}

/* One that is over; NULL: none is. */
static struct slot_import *find_gone(struct slot_imports *imports) {
    pthread_mutex_lock(&imports->lock);
    struct slot_import *import = imports->first;
    while (import && !(atomic_load(&import->source_gone) && !atomic_load(&import->working)))
        import = import->next;
    pthread_mutex_unlock(&imports->lock);
    return import;
}

static void tell_replicas(const struct slot_import *import, struct change *change) {
    const struct effect_argument effect[] = {
        {"CLUSTER", 7}, {"SYNCSLOTS", 9}, {"DROP", 4}, {import->name, SLOT_RECORD_NAME}};
    change_begin(change);
    change_append(change, 0, effect, 4);
    change_commit(change);
}

void slot_imports_tick(struct slot_imports *imports, struct change *change) {
    struct slot_import *import;
    while ((import = find_gone(imports)) != NULL) {
        tell_replicas(import, change);
        slot_import_drop(import, "Connection lost to source. Check CLUSTER GETSLOTMIGRATIONS on "
                                 "the source node for more information.");
    }
}

/* A replica's is for the history that it follows; it goes with that, and with the role. */
static bool is_stale(const struct slot_import *import) {
    const struct replication *replication = import->imports->around.replication;
    bool replica = replication_is_replica(replication);
    return replica != (import->session_id == 0) ||
           (replica && strcmp(replication->history.id, import->history) != 0);
}

static struct slot_import *find_stale(struct slot_imports *imports) {
    pthread_mutex_lock(&imports->lock);
    struct slot_import *import = imports->first;
    while (import && !(is_stale(import) && !atomic_load(&import->working)))
        import = import->next;
    pthread_mutex_unlock(&imports->lock);
    return import;
}

void slot_imports_role_changed(struct slot_imports *imports) {
    struct slot_import *import;
    while ((import = find_stale(imports)) != NULL)
        slot_import_drop(import, "A failover occurred during slot import");
}

/* --- Beginning -------------------------------------------------------------------------------- */

static void look_at_link(void *context, const struct replica_link *link) {
    bool *unfit = context;
    bool ours = link->capabilities & (PSYNC_CAPABILITY_FRAMES | PSYNC_CAPABILITY_BLOCKS);
    *unfit = *unfit || (!link->snapshot_only && !link->asked_by_sync &&
                        (!ours || replica_link_state(link) != LINK_ONLINE));
}

static bool are_imported(struct slot_imports *imports, const uint8_t *slots) {
    bool found = false;
    pthread_mutex_lock(&imports->lock);
    for (const struct slot_import *import = imports->first; import; import = import->next)
        for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
            found = found || (import->slots[i] & slots[i]);
    pthread_mutex_unlock(&imports->lock);
    return found;
}

/* A source has a connection for each; what they gather takes memory before the first key. */
static const char *refusal_of_another(struct slot_imports *imports, const char *name,
                                      uint64_t session_id) {
    const char *error = NULL;
    unsigned count = 0;
    pthread_mutex_lock(&imports->lock);
    for (const struct slot_import *import = imports->first; import; import = import->next) {
        if (strcmp(import->name, name) == 0 || import->session_id == session_id)
            error = "This connection, or one with this name, imports slots already";
        if (++count >= SLOT_IMPORTS_MAX)
            error = "Too many slot migrations to this target at once";
    }
    pthread_mutex_unlock(&imports->lock);
    return error;
}

static const char *refusal_of_begin(struct slot_imports *imports, const char *name,
                                    const struct node_id *source, const uint8_t *slots,
                                    uint64_t session_id) {
    struct cluster_bus *bus = *imports->around.bus;
    bool unfit = false;
    const char *error = cluster_check_import(cluster_bus_enter(bus), source, slots);
    cluster_bus_leave(bus, false);
    if (!error)
        error = refusal_of_another(imports, name, session_id);
    if (error)
        return error;
    primary_visit(imports->around.primary, look_at_link, &unfit);
    if (unfit)
        return "Target node has replicas that are not synchronized, or that are no Slotwise "
               "servers";
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        if (wire_slot_is(slots, slot) && keyspace_slot_count(imports->around.keyspace, slot) > 0)
            return "Target node has keys in the slots that it is to import";
    return are_imported(imports, slots)
               ? "Slot is already being imported on the target by a different migration"
               : NULL;
}

static bool id_is_given(const struct node_id *id) {
    return id->hex[0] != 0;
}

static struct slot_import *make(struct slot_imports *imports, const char *name,
                                const struct node_id *source, const uint8_t *slots) {
    struct slot_import *import = memory_calloc(1, sizeof *import);
    struct node_id target;
    struct cluster_bus *bus = *imports->around.bus;
    struct cluster_node_view view;
    cluster_view_myself(cluster_bus_enter(bus), &view);
    target = id_is_given(&view.primary) ? view.primary : view.id;
    cluster_bus_leave(bus, false);
    import->imports = imports;
    memcpy(import->name, name, SLOT_RECORD_NAME);
    import->source = *source;
    memcpy(import->slots, slots, WIRE_SLOT_BYTES);
    import->staging = keyspace_make_successor(imports->around.keyspace);
    change_init(&import->change, &import->staging->door, VIEW_APPLYING);
    import->full_syncs = atomic_load(&imports->around.primary->full_syncs);
    memcpy(import->history, imports->around.replication->history.id, sizeof import->history);
    import->record = slot_records_add(imports->around.records, import->name, true, source, &target,
                                      slots, "receiving-snapshot");
    return import;
}

const char *slot_import_begin(struct slot_imports *imports, const char *name,
                              const struct node_id *source, const uint8_t *slots,
                              uint64_t session_id, bool applied) {
    struct slot_import *before = applied ? slot_import_find(imports, name, 0) : NULL;
    if (before)
        slot_import_drop(before, "It begins anew");
    const char *error = applied ? NULL : refusal_of_begin(imports, name, source, slots, session_id);
    if (error)
        return error;
    struct slot_import *import = make(imports, name, source, slots);
    import->session_id = applied ? 0 : session_id;
    pthread_mutex_lock(&imports->lock);
    import->next = imports->first;
    imports->first = import;
    pthread_mutex_unlock(&imports->lock);
    return NULL;
}

struct slot_import *slot_import_find(struct slot_imports *imports, const char *name,
                                     uint64_t session_id) {
    pthread_mutex_lock(&imports->lock);
    struct slot_import *import = imports->first;
    while (import && (strcmp(import->name, name) != 0 || import->session_id != session_id ||
                      atomic_load(&import->source_gone) || atomic_load(&import->refused) ||
                      atomic_load(&import->working)))
        import = import->next;
    pthread_mutex_unlock(&imports->lock);
    return import;
}

enum slot_import_outcome slot_import_resolve(struct slot_imports *imports, const char *name) {
    struct slot_records *records = imports->around.records;
    enum slot_import_outcome outcome = SLOT_IMPORT_UNKNOWN;
    pthread_mutex_lock(&imports->lock);
    for (struct slot_import *import = imports->first; import; import = import->next) {
        if (strcmp(import->name, name) != 0)
            continue;
        if (atomic_load(&import->state) == SLOT_IMPORT_COMMITTING)
            outcome = SLOT_IMPORT_PENDING;
        else
            atomic_store(&import->refused, true); /* COMMIT finds it no more */
    }
    pthread_mutex_lock(&records->lock);
    const struct slot_record *record = slot_records_find(records, name, true);
    if (record && record->committed)
        outcome = SLOT_IMPORT_COMMITTED;
    pthread_mutex_unlock(&records->lock);
    pthread_mutex_unlock(&imports->lock);
    return outcome;
}

/* --- Data ------------------------------------------------------------------------------------- */

const char *slot_import_put(struct slot_import *import, const struct argument *key,
                            int64_t expiry_ms, const struct argument *payload) {
    struct change *change = &import->change;
    struct key hashed = key_make(key->data, key->length);
    uint64_t limit = config_current()->proto_max_bulk_len;
    char message[RDB_MESSAGE_BYTES];
    struct object *object;
    if (!wire_slot_is(import->slots, hashed.slot))
        return "ERR A key of a slot that is not imported";
    import->keys++;
    import->bytes += payload->length;
    if (payload->length == 0) {
        keyspace_delete(change, 0, &hashed, CHANGE_DEL);
        return NULL;
    }
    if (!rdb_payload_is_whole(payload->data, payload->length))
        return "ERR DUMP payload version or checksum are wrong";
    if (rdb_payload_read(payload->data, payload->length,
                         limit < STRING_BYTES_MIN ? STRING_BYTES_MIN : limit, key->data,
                         key->length, expiry_ms, &object, message)) {
        log_write(LOG_LEVEL_VERBOSE, "%s", message);
        return "ERR Bad data format";
    }
    struct object *old = keyspace_find_raw(import->staging, 0, &hashed);
    if (old)
        keyspace_replace(change, 0, &hashed, old, object, CHANGE_LOADED);
    else
        keyspace_add(change, 0, &hashed, object, CHANGE_LOADED);
    return NULL;
}

/* --- The commit ------------------------------------------------------------------------------- */

/* Half a node timeout at most, so that no successor of the source can have been elected since it
 * was prepared, when the source was there. */
static uint64_t commit_latest_us(void) {
    uint64_t half_ms = (uint64_t)config_current()->cluster_node_timeout / 2;
    return (half_ms < COMMIT_LATEST_MS ? half_ms : COMMIT_LATEST_MS) * 1000;
}

const char *slot_import_refusal(struct slot_import *import, uint64_t commands) {
    const struct slot_imports *imports = import->imports;
    struct cluster_bus *bus = *imports->around.bus;
    if (atomic_load(&import->state) != SLOT_IMPORT_PREPARED)
        return "It is not prepared";
    if (import->commands != commands)
        return "Not all data have arrived";
    if (clock_monotonic_us() - import->prepared_us > commit_latest_us())
        return "It comes too late after it was prepared";
    if (atomic_load(&imports->around.primary->full_syncs) != import->full_syncs)
        return "A replica of the target has begun a full synchronization";
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        if (wire_slot_is(import->slots, slot) &&
            (keyspace_slot_count(imports->around.keyspace, slot) > 0 ||
             !slot_is_serving(&imports->around.keyspace->slots[slot])))
            return "Target node has keys in the slots that it is to import";
    const char *error =
        cluster_check_import(cluster_bus_enter(bus), &import->source, import->slots);
    cluster_bus_leave(bus, false);
    return error;
}

/* In an exclusive section, whose thread owns patience. */
static void set_serving(const struct slot_import *import, bool serves) {
    struct keyspace *keyspace = import->imports->around.keyspace;
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        if (!wire_slot_is(import->slots, slot))
            continue;
        slot_acquire_waiting(&keyspace->slots[slot]);
        keyspace_serve_slot(keyspace, slot, serves);
        slot_release(&keyspace->slots[slot]);
    }
}

uint64_t slot_import_adopt(struct slot_import *import) {
    const struct slot_imports *imports = import->imports;
    struct keyspace *keyspace = imports->around.keyspace;
    if (keyspace->door.snapshot && keyspace->door.snapshot_id != import->staging->door.snapshot_id)
        snapshot_walk_abort(imports->around.walker);
    if (import->session_id != 0)
        set_serving(import, false); /* until they are claimed */
    return keyspace_adopt_slots(keyspace, import->staging, import->slots);
}

static void count_online(void *context, const struct replica_link *link) {
    unsigned *count = context;
    *count +=
        replica_link_state(link) == LINK_ONLINE && !link->snapshot_only && !link->asked_by_sync;
}

/* Waits until every replica that is there has acknowledged what has this number. A thread that may
 * block. */
static bool replicas_have(const struct slot_imports *imports, uint64_t number) {
    struct primary *primary = imports->around.primary;
    uint64_t until_us = clock_monotonic_us() + REPLICAS_WAIT_US;
    for (;;) {
        unsigned online = 0, acknowledged;
        primary_visit(primary, count_online, &online);
        if (number == 0 || online == 0 || primary_acknowledged_number(primary, number) >= online)
            return true;
        uint64_t now_us = clock_monotonic_us();
        if (now_us >= until_us)
            return false;
        struct replica_wait *wait =
            primary_wait(primary, number, online, now_us + 20000, &acknowledged);
        if (!wait)
            return true;
        for (bool done = false; !done;) {
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
            pthread_mutex_lock(&wait->queue.lock);
            done = wait->done;
            pthread_mutex_unlock(&wait->queue.lock);
        }
        wait->unfinished.drop(&wait->unfinished);
    }
}

static void serve_slots(void *context) {
    set_serving(context, true);
}

static void fail(struct slot_import_work *work, const char *error) {
    snprintf(work->error, sizeof work->error, "%s", error);
}

static void prepare(struct slot_import_work *work) {
    struct slot_import *import = work->import;
    struct cluster_bus *bus = *import->imports->around.bus;
    uint64_t ticket = 0;
    if (!replicas_have(import->imports, work->number)) {
        fail(work, "Replicas of the target lag behind");
        return;
    }
    const char *error =
        cluster_prepare_import(cluster_bus_enter(bus), &import->source, import->slots,
                               import->source_epoch, &work->epoch, &ticket);
    if (error)
        fail(work, error);
    work->try_again = error == cluster_import_later;
    cluster_bus_leave(bus, true);
    if (!error && ticket && !cluster_store_wait(&bus->store, ticket))
        fail(work, "The cluster config file of the target cannot be updated");
    if (work->error[0])
        return;
    import->epoch = work->epoch;
    import->prepared_us = clock_monotonic_us();
    atomic_store(&import->state, SLOT_IMPORT_PREPARED);
}

/* The claim is told to all when it is durable. */
static const char *claim(struct slot_import_work *work) {
    struct slot_import *import = work->import;
    struct cluster_bus *bus = *import->imports->around.bus;
    uint64_t ticket = 0;
    const char *error =
        cluster_take_slots(cluster_bus_enter(bus), &import->source, import->slots, &ticket);
    cluster_bus_leave(bus, true);
    if (error)
        return error;
    if (cluster_store_wait(&bus->store, ticket))
        return NULL;
    cluster_untake_slots(cluster_bus_enter(bus), &import->source, import->slots);
    cluster_bus_leave(bus, true);
    return "The cluster config file of the target cannot be updated";
}

/* The keys have to go again, at the replicas as well. false: this node is no primary any more, and
 * the one that is may have taken the slots with them. */
static bool undo(struct slot_import *import) {
    struct cluster_bus *bus = *import->imports->around.bus;
    struct cluster_node_view me;
    cluster_view_myself(cluster_bus_enter(bus), &me);
    for (unsigned slot = 0; slot < WIRE_SLOTS && (me.flags & WIRE_NODE_PRIMARY); slot++)
        if (wire_slot_is(import->slots, slot))
            cluster_duty_drop_slot(bus, slot);
    cluster_bus_leave(bus, false);
    return me.flags & WIRE_NODE_PRIMARY;
}

static void commit(struct slot_import_work *work) {
    struct slot_import *import = work->import;
    struct slot_imports *imports = import->imports;
    const char *error = NULL;
    slot_hold(SLOT_HOLD_ADOPTED, imports->around.records, import->record, NULL);
    if (!replicas_have(imports, work->number))
        error = "Replicas of the target lag behind";
    else
        error = claim(work);
    if (error) {
        fail(work, error);
        work->try_again = !undo(import);
    }
    exclusive_run_blocking(serve_slots, import);
    slot_hold(SLOT_HOLD_CLAIMED, imports->around.records, import->record, NULL);
    work->epoch = import->epoch;
    slot_import_finish(import, !error, error ? error : "");
    work->import = NULL;
}

static void run_work(struct background_work *background) {
    struct slot_import_work *work = (struct slot_import_work *)(void *)background;
    struct slot_import *import = work->import;
    if (work->commits) {
        commit(work);
        return;
    }
    prepare(work);
    if (!work->error[0])
        slot_hold(SLOT_HOLD_PREPARED, import->imports->around.records, import->record,
                  &import->source_gone);
    atomic_store(&import->working, false);
}

static void free_work(struct background_work *work) {
    memory_free(work);
}

struct unfinished *slot_import_work_begin(struct slot_import *import, bool commits) {
    struct slot_import_work *work =
        memory_alloc_aligned(_Alignof(struct slot_import_work), sizeof *work);
    *work = (struct slot_import_work){
        .work = {.thread = BACKGROUND_OWN, .run = run_work, .destroy = free_work},
        .import = import,
        .commits = commits,
        .number = import->number};
    atomic_store(&import->working, true);
    if (commits)
        atomic_store(&import->state, SLOT_IMPORT_COMMITTING);
    return background_work_begin(&work->work);
}
