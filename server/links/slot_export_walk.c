/* See slot_export_private.h and slot_export.h.
 *
 * Algorithm. Tokens are taken by trying again, since this thread can neither park nor own patience,
 * and kept for a few dozen small keys; between two it passes a command boundary. A key that would
 * take longer than that to be written down is only noted as changed, or lent.
 *
 * Ordering. A slot's changes are noted from before its first key is looked at, under its token: so
 * each key has been sent as it was at some moment after which every change of it is noted. Slots
 * are fenced under their tokens; what was noted until then is all there will be, but for keys that
 * go by themselves. */
#include <sched.h>
#include <string.h>
#include <time.h>

#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "replication/snapshot_encode.h"
#include "server/config/config.h"
#include "server/dispatch/redirect.h"
#include "server/links/slot_export_private.h"
#include "server/links/slot_hold.h"

#define TRY_AGAIN_US   50
#define SPINS          20 /* a token that is not to be had at once is for a command */
#define PIECE_KEYS     64 /* under one token */
#define PIECE_BUCKETS  512
#define PIECE_BYTES    (64 * 1024)
#define PAUSE_LOOK_US  1000
#define FENCE_SOON_US  200000
#define DELETE_REST_US 100

/* --- Tokens ----------------------------------------------------------------------------------- */

void slot_run_sleep(void) {
    epoch_offline();
    exclusive_sleep_begin();
}

void slot_run_wake(void) {
    exclusive_sleep_end();
    epoch_online();
}

static void rest(unsigned us) {
    slot_run_sleep();
    nanosleep(&(struct timespec){.tv_nsec = us * 1000L}, NULL);
    slot_run_wake();
}

/* Patiently, since who holds it gives it back. */
static struct slot *take(struct slot_run *run, uint32_t number) {
    struct slot *slot = &run->exports->around.keyspace->slots[number];
    for (unsigned i = 0;; i++) {
        epoch_quiescent();
        exclusive_point();
        if (slot_try_acquire(slot))
            return slot;
        if (i % SPINS == SPINS - 1)
            rest(TRY_AGAIN_US);
        else
            sched_yield();
    }
}

uint32_t slot_run_next_slot(const struct slot_run *run, uint32_t slot) {
    while (slot < SLOT_COUNT && !wire_slot_is(run->job->slots, slot))
        slot++;
    return slot;
}

bool slot_run_is_over(struct slot_run *run, enum slot_move_event *event) {
    const struct slot_exports_around *around = &run->exports->around;
    const struct slot_map *map = redirect_map();
    if (map->is_replica || (service_limits(around->service) & SERVICE_READ_ONLY)) {
        *event = SLOT_MOVE_DEMOTED;
        strcpy(run->message, "This node is no master any more");
        return true;
    }
    bool flushed = around->keyspace->clears[around->keyspace->database_map[0]] != run->clears;
    if (!flushed && !atomic_load(&run->exports->halted))
        return false;
    if (flushed)
        strcpy(run->message, "Data was flushed");
    *event = SLOT_MOVE_HALTED;
    return true;
}

/* --- Keys ------------------------------------------------------------------------------------- */

/* Some keys under one token. */
#define PIECE_ROOM (PIECE_KEYS * 2)
struct piece_of_slot {
    struct object *objects[PIECE_ROOM];
    size_t count;
    struct object *lent[PIECE_ROOM]; /* written down without the token */
    size_t lent_count;
    struct slot_dirty *dirty; /* what the chain of an overfull bucket has more; NULL: it may wait */
};

static void piece_init(struct piece_of_slot *piece, struct slot_dirty *dirty) {
    piece->count = piece->lent_count = 0;
    piece->dirty = dirty;
}

static void collect(struct object *object, uint64_t hash, void *context) {
    struct piece_of_slot *piece = context;
    (void)hash;
    if (piece->count < PIECE_ROOM) {
        piece->objects[piece->count++] = object;
    } else if (piece->dirty) {
        size_t length;
        const char *data = object_key(object, &length);
        struct key key = key_make(data, length);
        slot_dirty_note(piece->dirty, &key);
    }
}

/* Under the token. What is large goes without it. */
static void put(struct slot_run *run, struct piece_of_slot *piece, const char *key, size_t length,
                const struct object *object) {
    if (object && !snapshot_is_copied(object))
        piece->lent[piece->lent_count++] = snapshot_lend(object);
    else
        slot_sender_put(&run->sender, key, length, object);
}

static void put_lent(struct slot_run *run, struct piece_of_slot *piece) {
    for (size_t i = 0; i < piece->lent_count; i++) {
        size_t length;
        const char *key = object_key(piece->lent[i], &length);
        slot_sender_put(&run->sender, key, length, piece->lent[i]);
        object_free(piece->lent[i]);
    }
    piece->lent_count = 0;
}

/* One piece of the slot's keys from there on; 0: that was the last. */
static uint64_t put_piece(struct slot_run *run, uint32_t number, uint64_t from) {
    struct slot_exports *exports = run->exports;
    struct piece_of_slot piece;
    uint64_t next = 0;
    struct slot *slot = take(run, number);
    piece_init(&piece, &exports->dirty);
    slot_dirty_follow(&exports->dirty, number);
    change_begin(&exports->change);
    const table_root *root = keyspace_root(exports->around.keyspace, 0, number);
    if (root && table_count(root) > 0)
        table_walk(root, from, 0, PIECE_KEYS, PIECE_BUCKETS, false, collect, &piece, &next);
    size_t before = slot_sender_pending(&run->sender);
    for (size_t i = 0; i < piece.count; i++) {
        size_t length;
        const char *data = object_key(piece.objects[i], &length);
        if (view_is_expired(&exports->change.view, piece.objects[i]))
            continue;
        if (slot_sender_pending(&run->sender) - before < PIECE_BYTES) {
            put(run, &piece, data, length, piece.objects[i]);
        } else {
            struct key key = key_make(data, length);
            slot_dirty_note(&exports->dirty, &key);
        }
    }
    slot_release(slot);
    put_lent(run, &piece);
    return next;
}

/* What was put goes out; false: *event says how it ended. */
static bool flush(struct slot_run *run, enum slot_move_event *event) {
    slot_run_sleep();
    bool sent = slot_sender_flush(&run->sender, SLOT_SEND_TIMEOUT_MS);
    slot_run_wake();
    if (slot_run_is_over(run, event))
        return false;
    *event = run->sender.error[0] ? SLOT_MOVE_REFUSED : SLOT_MOVE_LOST;
    return sent;
}

static void show_progress(struct slot_run *run) {
    slot_record_count(run->exports->around.records, run->job->record, run->sender.keys_sent,
                      run->sender.bytes_sent);
}

enum slot_move_event slot_run_copy(struct slot_run *run) {
    enum slot_move_event event = SLOT_MOVE_DONE;
    unsigned slots = 0, walked = 0;
    for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
        slots += (unsigned)__builtin_popcount(run->job->slots[i]);
    for (uint32_t slot = slot_run_next_slot(run, 0); slot < SLOT_COUNT;
         slot = slot_run_next_slot(run, slot + 1)) {
        if (walked++ == slots / 2) {
            slot_run_sleep();
            slot_hold(SLOT_HOLD_COPYING, run->exports->around.records, run->job->record,
                      &run->exports->halted);
            slot_run_wake();
        }
        uint64_t from = 0;
        do {
            from = put_piece(run, slot, from);
            if (!flush(run, &event))
                return event;
        } while (from != 0);
        show_progress(run);
    }
    return SLOT_MOVE_DONE;
}

/* --- Rounds ----------------------------------------------------------------------------------- */

static void put_changed(struct slot_run *run, const struct slot_dirty_key *changed) {
    struct slot_exports *exports = run->exports;
    struct piece_of_slot piece;
    piece_init(&piece, NULL);
    struct key key = key_make(changed->data, changed->length);
    struct slot *slot = take(run, key.slot);
    change_begin(&exports->change);
    const struct object *object = keyspace_find_raw(exports->around.keyspace, 0, &key);
    if (object && view_is_expired(&exports->change.view, object))
        object = NULL;
    put(run, &piece, changed->data, changed->length, object);
    slot_release(slot);
    put_lent(run, &piece);
}

enum slot_move_event slot_run_round(struct slot_run *run, uint64_t *keys, bool send) {
    enum slot_move_event event = SLOT_MOVE_DONE;
    struct slot_dirty_key *changed = slot_dirty_take(&run->exports->dirty);
    uint64_t bytes = run->sender.bytes_sent;
    bool going = true;
    *keys = 0;
    while (changed) {
        struct slot_dirty_key *next = changed->next;
        if (going)
            put_changed(run, changed);
        going = going && (!send || flush(run, &event));
        memory_free(changed);
        changed = next;
        ++*keys;
    }
    run->round_bytes = run->sender.bytes_sent - bytes;
    show_progress(run);
    return going ? SLOT_MOVE_DONE : event;
}

/* --- The fence -------------------------------------------------------------------------------- */

/* What this job has stopped serves again. A slot that serves nobody for another reason (a key of it
 * is on its way by MIGRATE) is not ours to start. */
static void start_serving(struct slot_run *run) {
    for (uint32_t number = slot_run_next_slot(run, 0); number < SLOT_COUNT;
         number = slot_run_next_slot(run, number + 1)) {
        if (!wire_slot_is(run->stopped, number))
            continue;
        struct slot *slot = take(run, number);
        keyspace_serve_slot(run->exports->around.keyspace, number, true);
        slot_release(slot);
    }
    memset(run->stopped, 0, sizeof run->stopped);
}

/* false: one of them serves nobody already, and they are as before. */
static bool stop_serving(struct slot_run *run) {
    for (uint32_t number = slot_run_next_slot(run, 0); number < SLOT_COUNT;
         number = slot_run_next_slot(run, number + 1)) {
        struct slot *slot = take(run, number);
        bool served = slot_is_serving(slot);
        if (served) {
            keyspace_serve_slot(run->exports->around.keyspace, number, false);
            run->stopped[number / 8] |= (uint8_t)(1u << number % 8);
        }
        slot_release(slot);
        if (!served) {
            start_serving(run);
            return false;
        }
    }
    return true;
}

/* Whoever pauses writes (a failover, CLIENT PAUSE) has other things in mind, and so has MIGRATE. */
enum slot_move_event slot_run_fence(struct slot_run *run) {
    enum slot_move_event event;
    uint64_t began_us = clock_monotonic_us();
    for (;;) {
        run->fenced_us = clock_monotonic_us();
        if (!pause_is_on(run->exports->around.pause) && stop_serving(run))
            break;
        if (slot_run_is_over(run, &event))
            return event;
        rest(PAUSE_LOOK_US);
    }
    if (run->fenced_us - began_us > FENCE_SOON_US) {
        start_serving(run); /* the target does not wait for so long: it prepares once more */
        return SLOT_MOVE_AGAIN;
    }
    run->fenced = true;
    return SLOT_MOVE_DONE;
}

void slot_run_unfence(struct slot_run *run) {
    if (!run->fenced)
        return;
    start_serving(run);
    run->fenced = false;
    uint64_t pause_us = clock_monotonic_us() - run->fenced_us;
    struct slot_records *records = run->exports->around.records;
    pthread_mutex_lock(&records->lock);
    if (run->job->record->pause_us < pause_us)
        run->job->record->pause_us = pause_us;
    pthread_mutex_unlock(&records->lock);
}

/* --- Copies ----------------------------------------------------------------------------------- */

/* Some keys of the slot. false: there are none left, or they are ours again. A slot that serves
 * nobody is being changed by others, who may have brought it back: what they do is waited for. */
static bool delete_some(struct slot_run *run, uint32_t number) {
    struct slot_exports *exports = run->exports;
    struct keyspace *keyspace = exports->around.keyspace;
    struct piece_of_slot piece;
    uint64_t from = 0;
    piece_init(&piece, NULL);
    bool unlink = config_current()->lazyfree_lazy_server_del;
    struct slot *slot = take(run, number);
    const struct slot_map *map = redirect_map();
    const table_root *root = keyspace_root(keyspace, 0, number);
    bool ours = map->is_replica || map->owner[number] == SLOT_MAP_MINE ||
                (service_limits(exports->around.service) & SERVICE_READ_ONLY);
    bool there = !ours && root && table_count(root) > 0;
    bool goes = there && slot_is_serving(slot);
    change_begin(&exports->change);
    do
        if (goes)
            table_walk(root, from, 0, 1, PIECE_BUCKETS, false, collect, &piece, &from);
    while (goes && piece.count == 0 && from != 0);
    for (size_t i = 0; i < piece.count; i++) {
        size_t length;
        const char *data = object_key(piece.objects[i], &length);
        struct key key = key_make(data, length);
        change_append_deletion(&exports->change, 0, &key, unlink);
        keyspace_delete(&exports->change, 0, &key, CHANGE_DEL);
    }
    change_commit(&exports->change);
    slot_release(slot);
    return there && !atomic_load(&exports->stopping);
}

void slot_run_delete(struct slot_run *run) {
    for (uint32_t slot = slot_run_next_slot(run, 0); slot < SLOT_COUNT;
         slot = slot_run_next_slot(run, slot + 1))
        while (delete_some(run, slot)) {
            const struct effect_log *log = run->exports->around.keyspace->door.log;
            epoch_reclaim_for(DELETE_REST_US);
            if (log && log->is_full && log->is_full(log->context))
                rest(PAUSE_LOOK_US);
        }
}
