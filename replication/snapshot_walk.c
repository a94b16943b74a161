/* See snapshot_walk.h.
 *
 * Run by: workers (the walk, the hook behind the door), whoever frees detached tables (salvage),
 * the walk's own thread (spooling, the end), and exclusive sections (beginning, cut, end, abort).
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "engine/value.h"
#include "replication/snapshot_private.h"

#define TOKEN_OBJECTS_MAX 64    /* no more are taken per token, */
#define TOKEN_NS_MAX      20000 /* nor after so long, */
#define STRIDE_OBJECTS    8     /* as looked at after so many */
#define STRIDE_BUCKETS    64    /* or so many buckets */

#define MEMORY_PART        16 /* of the data set, for what a sink has not taken yet */
#define MEMORY_LEAST_BYTES ((uint64_t)4 << 20)
#define SINK_NICE          5

/* --- Threads and the end -----------------------------------------------------------------------
 */

/* The last act of such a thread. */
static void walker_thread_end(struct snapshot_walker *walker) {
    pthread_mutex_lock(&walker->lock);
    if (--walker->threads == 0)
        pthread_cond_broadcast(&walker->none);
    pthread_mutex_unlock(&walker->lock);
}

/* A new thread that the walker waits for. 0 or a negative errno. */
static int walker_thread(struct snapshot_walker *walker, void *(*main)(void *context),
                         void *context) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_mutex_lock(&walker->lock);
    walker->threads++;
    pthread_mutex_unlock(&walker->lock);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, &attributes, main, context);
    if (!error)
        pthread_setname_np(thread, "sw-snapshot");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error)
        walker_thread_end(walker);
    return -error;
}

/* --- Taking an object ------------------------------------------------------------------------- */

static void walk_release(struct snapshot_walk *walk) {
    if (atomic_fetch_sub(&walk->references, 1) > 1)
        return;
    for (unsigned i = 0; i < walk->sinks; i++)
        transfer_destroy(&walk->transfers[i]); /* and pieces that belong to a taker's pool */
    for (unsigned i = 0; i < KEYSPACE_THREADS_MAX; i++)
        taker_free(atomic_load_explicit(&walk->takers[i], memory_order_relaxed));
    taker_free(walk->salvager);
    sem_destroy(&walk->work);
    pthread_mutex_destroy(&walk->salvage_lock);
    memory_free(walk->numbers);
    memory_free(walk->cut.of);
    memory_free(walk);
}

static void release(void *walk) {
    walk_release(walk);
}

/* A sink's thread takes what workers leave of the processors first: it can wait longer than
 * clients. Failing is no error. */
static void *sink_main(void *context) {
    struct transfer *transfer = context;
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), getpriority(PRIO_PROCESS, 0) + SINK_NICE);
    struct snapshot_walker *walker = ((struct snapshot_walk *)transfer->around.walk)->walker;
    transfer_run(transfer);
    walker_thread_end(walker);
    return NULL;
}

static struct taker *taker_mine(struct snapshot_walk *walk) {
    struct keyspace *keyspace = walk->walker->around.keyspace;
    size_t thread = (size_t)(keyspace_counters_mine(keyspace) - keyspace->counters);
    struct taker *taker = atomic_load_explicit(&walk->takers[thread], memory_order_relaxed);
    if (LIKELY(taker != NULL))
        return taker;
    taker = taker_make(walk->transfers, walk->sinks);
    atomic_store_explicit(&walk->takers[thread], taker, memory_order_release);
    return taker;
}

/* The door's hook. */
static void take_before_change(void *context, unsigned database, const struct key *key,
                               const struct object *object) {
    struct snapshot_walk *walk = context;
    const struct keyspace *keyspace = walk->walker->around.keyspace;
    struct rdb_key_attributes attributes;
    (void)key;
    rdb_key_attributes_of(&keyspace->access, object, &attributes);
    take_object(taker_mine(walk), TAKE_TO_SINKS, walk->numbers[keyspace->database_map[database]],
                object, &attributes);
}

/* --- Salvage: tables that were taken out, before they are freed ------------------------------- */

struct salvage {
    struct snapshot_salvage shown; /* first */
    struct snapshot_walk *walk;
};

struct salvage_visit {
    struct snapshot_walk *walk;
    unsigned number;
};

static void salvage_object(struct object *object, uint64_t hash, void *context) {
    const struct salvage_visit *visit = context;
    /* This thread may not read how access clocks are kept. */
    const struct rdb_key_attributes attributes = {object_expiry(object), -1, -1};
    (void)hash;
    if (object_snapshot_id(object) != visit->walk->id)
        take_object(visit->walk->salvager, TAKE_ENCODED, visit->number, object, &attributes);
}

static void salvage_table(struct snapshot_salvage *shown, unsigned physical,
                          const table_root *root) {
    struct snapshot_walk *walk = ((struct salvage *)(void *)shown)->walk;
    struct salvage_visit visit = {walk, walk->numbers[physical]};
    uint64_t from = 0;
    do {
        if (atomic_load_explicit(&walk->aborted, memory_order_relaxed))
            return;
        pthread_mutex_lock(&walk->salvage_lock);
        if (!walk->salvager)
            walk->salvager = taker_make(walk->transfers, walk->sinks);
        table_walk(root, from, 0, TOKEN_OBJECTS_MAX, STRIDE_BUCKETS, false, salvage_object, &visit,
                   &from);
        taker_tell(walk->salvager);
        pthread_mutex_unlock(&walk->salvage_lock);
    } while (from != 0);
}

static void salvage_end(struct snapshot_salvage *shown) {
    struct snapshot_walk *walk = ((struct salvage *)(void *)shown)->walk;
    atomic_fetch_sub(&walk->salvages, 1);
    sem_post(&walk->work);
    walk_release(walk);
    memory_free(shown);
}

/* The door's hook, in an exclusive section. */
static struct snapshot_salvage *salvage_begin(void *context) {
    struct snapshot_walk *walk = context;
    struct salvage *salvage = memory_alloc(sizeof *salvage);
    *salvage = (struct salvage){{salvage_table, salvage_end}, walk};
    atomic_fetch_add(&walk->salvages, 1);
    atomic_fetch_add(&walk->references, 1);
    return &salvage->shown;
}

/* --- The walk --------------------------------------------------------------------------------- */

struct walk_visit {
    struct snapshot_walk *walk;
    struct taker *taker; /* NULL: objects are only stamped */
    enum taking taking;
    const struct door *door;
    unsigned number;
    size_t objects;
};

static void visit_object(struct object *object, uint64_t hash, void *context) {
    struct walk_visit *visit = context;
    (void)hash;
    visit->objects++;
    if (!snapshot_is_due(visit->door, object))
        return;
    if (visit->taker) {
        struct rdb_key_attributes attributes;
        rdb_key_attributes_of(&visit->walk->walker->around.keyspace->access, object, &attributes);
        take_object(visit->taker, visit->taking, visit->number, object, &attributes);
    }
    snapshot_stamp(visit->door, object);
}

/* Some of the slot's keys from *from on, under its token. false: it is in use. */
static bool walk_piece(struct snapshot_walk *walk, enum snapshot_share share, uint32_t physical,
                       uint32_t slot_number, uint64_t *from) {
    struct keyspace *keyspace = walk->walker->around.keyspace;
    struct slot *slot = &keyspace->slots[slot_number];
    const table_root *root =
        keyspace_root(keyspace, keyspace->database_map_inverse[physical], slot_number);
    struct walk_visit visit = {.walk = walk,
                               .taking = TAKE_TO_WALK,
                               .door = &keyspace->door,
                               .number = walk->numbers[physical]};
    if (walk->phase == WALK_TAKING) {
        visit.taker = taker_mine(walk);
        if (share == SNAPSHOT_SHARE_BUSY && !visit.taker->crowded)
            visit.taking = TAKE_TO_SINKS;
    }
    if (!root) {
        *from = 0;
        return true;
    }
    if (!slot_try_acquire(slot))
        return false;
    uint64_t start = clock_ticks();
    do
        table_walk(root, *from, 0, STRIDE_OBJECTS, STRIDE_BUCKETS, false, visit_object, &visit,
                   from);
    while (*from != 0 && visit.objects < TOKEN_OBJECTS_MAX &&
           clock_ticks_to_ns(clock_ticks() - start) < TOKEN_NS_MAX);
    slot_release(slot);
    if (visit.taker)
        taker_encode_walked(visit.taker);
    return true;
}

/* The next home slot of the cursor's database that may have something to take. false: none. */
static bool next_slot(const struct snapshot_walk *walk, struct walk_cursor *cursor, unsigned worker,
                      uint32_t *slot) {
    const struct keyspace *keyspace = walk->walker->around.keyspace;
    unsigned workers = walk->walker->around.workers;
    const struct slot_bitmaps *bitmaps =
        atomic_load_explicit(&keyspace->bitmaps[cursor->physical], memory_order_acquire);
    if (!bitmaps)
        return false;
    for (; (*slot = cursor->slot * workers + worker) < SLOT_COUNT; cursor->slot++) {
        uint64_t bit = (uint64_t)1 << (*slot & 63);
        if (cursor->again
                ? cursor->busy[*slot / 64] & bit
                : atomic_load_explicit(&bitmaps->occupied[*slot / 64], memory_order_relaxed) & bit)
            return true;
    }
    return false;
}

/* The round is over: the slots that were in use once more, or the next database. */
static bool next_round(const struct snapshot_walk *walk, struct walk_cursor *cursor) {
    uint64_t busy = 0;
    for (unsigned i = 0; i < SLOT_COUNT / 64; i++)
        busy |= cursor->busy[i];
    cursor->slot = 0;
    cursor->again = busy != 0;
    if (busy == 0)
        cursor->physical++;
    return cursor->physical < walk->cut.databases;
}

static void forget_round(struct walk_cursor *cursor, uint32_t slot, bool busy) {
    uint64_t bit = (uint64_t)1 << (slot & 63);
    if (busy)
        cursor->busy[slot / 64] |= bit;
    else
        cursor->busy[slot / 64] &= ~bit;
}

/* One piece. A slot in use is left for the next round if nothing of it has been walked. */
static enum snapshot_step walk_some(struct snapshot_walk *walk, struct walk_cursor *cursor,
                                    unsigned worker, enum snapshot_share share) {
    uint32_t slot;
    if (!next_slot(walk, cursor, worker, &slot)) {
        if (next_round(walk, cursor))
            return cursor->again ? SNAPSHOT_STEP_BUSY : SNAPSHOT_STEP_MORE;
        return SNAPSHOT_STEP_NONE;
    }
    if (!walk_piece(walk, share, cursor->physical, slot, &cursor->from)) {
        if (cursor->from != 0)
            return SNAPSHOT_STEP_BUSY;
        forget_round(cursor, slot, true);
        cursor->slot++;
        return SNAPSHOT_STEP_MORE;
    }
    if (cursor->from == 0) {
        forget_round(cursor, slot, false);
        cursor->slot++;
    }
    return SNAPSHOT_STEP_MORE;
}

enum snapshot_step snapshot_walk_step(struct snapshot_walker *walker, unsigned worker,
                                      enum snapshot_share share, uint64_t budget_us) {
    struct snapshot_walk *walk = walker->walk;
    if (!walk)
        return SNAPSHOT_STEP_NONE;
    ASSERT(worker < walker->around.workers);
    struct walk_cursor *cursor = &walk->cursors[worker];
    enum snapshot_step step = SNAPSHOT_STEP_NONE;
    uint64_t start = clock_ticks();
    if (!cursor->done) {
        do
            step = walk_some(walk, cursor, worker, share);
        while (step == SNAPSHOT_STEP_MORE &&
               clock_ticks_to_ns(clock_ticks() - start) < budget_us * 1000);
    }
    snapshot_walk_tell(walker);
    if (!cursor->done && step == SNAPSHOT_STEP_NONE) {
        cursor->done = true;
        if (atomic_fetch_sub(&walk->workers_left, 1) == 1)
            sem_post(&walk->work);
    }
    return step;
}

void snapshot_walk_tell(struct snapshot_walker *walker) {
    struct snapshot_walk *walk = walker->walk;
    if (walk && walk->phase == WALK_TAKING)
        taker_tell(taker_mine(walk));
}

bool snapshot_walk_is_behind(struct snapshot_walker *walker) {
    struct snapshot_walk *walk = walker->walk;
    return walk && walk->phase == WALK_TAKING && taker_mine(walk)->behind;
}

void snapshot_walk_progress(const struct snapshot_walker *walker,
                            struct snapshot_progress *progress) {
    const struct snapshot_walk *walk = walker->walk;
    *progress = (struct snapshot_progress){.on = walk != NULL};
    if (!walk)
        return;
    progress->keys = walk->cut.keys;
    for (unsigned i = 0; i < KEYSPACE_THREADS_MAX; i++) {
        const struct taker *taker = atomic_load_explicit(&walk->takers[i], memory_order_acquire);
        if (taker)
            progress->keys_taken += atomic_load_explicit(&taker->keys, memory_order_relaxed);
    }
    for (unsigned i = 0; i < walk->sinks; i++) {
        const struct piece_queue *queue = &walk->transfers[i].queue;
        progress->memory_bytes += piece_queue_memory_bytes(queue);
        progress->spooled_bytes +=
            atomic_load_explicit(&queue->spooled_bytes, memory_order_relaxed);
    }
}

/* --- Beginning and end (exclusive sections) --------------------------------------------------- */

static void count_keys(struct snapshot_walk *walk) {
    const struct keyspace *keyspace = walk->walker->around.keyspace;
    walk->cut.keys = walk->cut.field_timed = 0;
    for (unsigned i = 0; i < keyspace->databases; i++) {
        walk->cut.of[i].keys = keyspace_count(keyspace, i);
        walk->cut.of[i].expiring = keyspace_expiring_count(keyspace, i);
        walk->cut.keys += walk->cut.of[i].keys;
        walk->cut.field_timed += keyspace_field_timed_count(keyspace, i);
        walk->numbers[keyspace->database_map[i]] = (uint16_t)i;
    }
}

static void start_round(struct snapshot_walk *walk) {
    const struct snapshot_surroundings *around = &walk->walker->around;
    memset(walk->cursors, 0, around->workers * sizeof walk->cursors[0]);
    atomic_store(&walk->workers_left, around->workers);
    if (around->wake)
        around->wake(around->context);
}

/* The id has moved on. */
static void make_cut(struct snapshot_walk *walk) {
    const struct snapshot_surroundings *around = &walk->walker->around;
    walk->phase = WALK_TAKING;
    walk->id = around->keyspace->door.snapshot_id;
    walk->cut.log_number = around->log_number ? around->log_number(around->context) : 0;
    walk->cut.time_ms = clock_now_ms();
    count_keys(walk);
    for (unsigned i = 0; i < walk->sinks; i++) {
        struct transfer *transfer = &walk->transfers[i];
        if (transfer->sink.cut)
            transfer->sink.cut(transfer->sink.context, &walk->cut);
        sem_post(&transfer->work);
    }
    start_round(walk);
}

/* The walk's work is done, or there is no use in it. */
static void finish(struct snapshot_walk *walk, bool whole) {
    struct door *door = &walk->walker->around.keyspace->door;
    if (walk->phase == WALK_TAKING)
        snapshot_end(door, whole);
    for (unsigned i = 0; i < KEYSPACE_THREADS_MAX && whole; i++)
        taker_push_rest(atomic_load_explicit(&walk->takers[i], memory_order_relaxed));
    if (whole)
        taker_push_rest(walk->salvager);
    walk->ended = true;
    walk->walker->walk = NULL;
    if (!whole)
        atomic_store(&walk->aborted, true);
}

static bool all_failed(const struct snapshot_walk *walk) {
    for (unsigned i = 0; i < walk->sinks; i++)
        if (!transfer_has_failed(&walk->transfers[i]))
            return false;
    return true;
}

static bool all_walked(const struct snapshot_walk *walk) {
    return atomic_load(&walk->workers_left) == 0 && atomic_load(&walk->salvages) == 0;
}

/* A flush may have come between, which salvages, or an abort. */
static void look_in_section(void *context) {
    struct snapshot_walk *walk = context;
    if (walk->ended)
        return;
    if (all_failed(walk)) {
        finish(walk, false);
    } else if (all_walked(walk) && walk->phase == WALK_TAKING) {
        finish(walk, true);
    } else if (all_walked(walk)) {
        struct door *door = &walk->walker->around.keyspace->door;
        snapshot_all_stamped(door);
        ASSERT(snapshot_begin(door, &walk->hooks));
        make_cut(walk);
    }
}

void snapshot_walk_abort(struct snapshot_walker *walker) {
    struct snapshot_walk *walk = walker->walk;
    if (!walk)
        return;
    atomic_fetch_add(&walk->references, 1); /* its thread may see the end before the post */
    finish(walk, false);
    sem_post(&walk->work);
    walk_release(walk);
}

void snapshot_walk_cancel(struct snapshot_walker *walker, const void *context) {
    struct snapshot_walk *walk = walker->walk;
    for (unsigned i = 0; walk && i < walk->sinks; i++)
        if (walk->transfers[i].sink.context == context)
            transfer_fail(&walk->transfers[i], -ECANCELED);
    if (walk && all_failed(walk))
        snapshot_walk_abort(walker);
}

/* --- The walk's thread ------------------------------------------------------------------------ */

static void *walk_main(void *context) {
    struct snapshot_walk *walk = context;
    struct snapshot_walker *walker = walk->walker;
    bool started[SNAPSHOT_SINKS_MAX];
    for (unsigned i = 0; i < walk->sinks; i++) {
        int error = walker_thread(walker, sink_main, &walk->transfers[i]);
        started[i] = error == 0;
        if (error)
            transfer_fail(&walk->transfers[i], error);
    }
    for (;;) {
        while (sem_wait(&walk->work) != 0)
            ;
        if (atomic_load(&walk->aborted))
            break;
        for (unsigned i = 0; i < walk->sinks; i++)
            transfer_relieve(&walk->transfers[i]);
        if (!all_walked(walk) && !all_failed(walk))
            continue;
        exclusive_run_blocking(look_in_section, walk);
        if (walk->ended)
            break;
    }
    for (unsigned i = 0; i < walk->sinks; i++) {
        transfer_relieve(&walk->transfers[i]);
        transfer_close(&walk->transfers[i]);
        if (!started[i])
            transfer_end(&walk->transfers[i]);
    }
    walk_release(walk);
    walker_thread_end(walker);
    return NULL;
}

/* A small part of what there is anyway, so that a small server does not grow by half. */
static uint64_t memory_bound(const struct snapshot_walker *walker) {
    uint64_t part = memory_counted_bytes() / MEMORY_PART;
    if (part < MEMORY_LEAST_BYTES)
        part = MEMORY_LEAST_BYTES;
    return part < walker->around.memory_bytes ? part : walker->around.memory_bytes;
}

static struct snapshot_walk *walk_make(struct snapshot_walker *walker,
                                       const struct snapshot_sink *sinks, unsigned count) {
    const struct keyspace *keyspace = walker->around.keyspace;
    size_t bytes =
        sizeof(struct snapshot_walk) + walker->around.workers * sizeof(struct walk_cursor);
    struct snapshot_walk *walk = memory_alloc_aligned(64, (bytes + 63) & ~(size_t)63);
    memset(walk, 0, bytes);
    walk->walker = walker;
    walk->hooks = (struct snapshot){take_before_change, salvage_begin, walk};
    atomic_store(&walk->references, 1 + count);
    walk->cut.databases = keyspace->databases;
    walk->cut.of = memory_calloc(keyspace->databases, sizeof *walk->cut.of);
    walk->numbers = memory_calloc(keyspace->databases, sizeof *walk->numbers);
    sem_init(&walk->work, 0, 0);
    pthread_mutex_init(&walk->salvage_lock, NULL);
    walk->sinks = count;
    for (unsigned i = 0; i < count; i++)
        transfer_init(&walk->transfers[i],
                      &(struct transfer_surroundings){walker->around.spool_directory,
                                                      memory_bound(walker), &walk->cut,
                                                      &walk->aborted, &walk->work, release, walk},
                      &sinks[i]);
    return walk;
}

int snapshot_walk_begin(struct snapshot_walker *walker, const struct snapshot_sink *sinks,
                        unsigned count) {
    struct door *door = &walker->around.keyspace->door;
    ASSERT(!walker->walk && count > 0 && count <= SNAPSHOT_SINKS_MAX);
    struct snapshot_walk *walk = walk_make(walker, sinks, count);
    bool cut = snapshot_begin(door, &walk->hooks);
    walk->phase = cut ? WALK_TAKING : WALK_STAMPING;
    int error = walker_thread(walker, walk_main, walk);
    if (error) {
        if (cut)
            snapshot_end(door, false);
        atomic_store(&walk->references, 1);
        walk_release(walk);
        return error;
    }
    walker->walk = walk;
    if (cut)
        make_cut(walk);
    else
        start_round(walk);
    return 0;
}

/* --- Walker ----------------------------------------------------------------------------------- */

void snapshot_walker_init(struct snapshot_walker *walker,
                          const struct snapshot_surroundings *around) {
    *walker = (struct snapshot_walker){.around = *around};
    pthread_mutex_init(&walker->lock, NULL);
    pthread_cond_init(&walker->none, NULL);
}

void snapshot_walker_destroy(struct snapshot_walker *walker) {
    pthread_mutex_lock(&walker->lock);
    while (walker->threads > 0)
        pthread_cond_wait(&walker->none, &walker->lock);
    pthread_mutex_unlock(&walker->lock);
    pthread_mutex_destroy(&walker->lock);
    pthread_cond_destroy(&walker->none);
}
