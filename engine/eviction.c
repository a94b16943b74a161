/* Eviction: Redis's approximated policies. Samples of keys feed a pool of the best candidates (16,
 * kept between calls); the best is deleted if it is still there and has not been used since.
 *
 * Algorithm. A sample comes from slots that are drawn by their number of keys (random_slot.h), so
 * that every key has the same chance whether its slot holds one or a million. Sampling reads under
 * RCU without tokens: what makes up a score is one atomic word, and keys never change. A pool entry
 * has its own copy of the key.
 *
 * The limit. Keys are evicted while what is *live* (memory.h) exceeds the limit; what is dead but
 * not yet free is no reason to take further keys. A write is admitted when what is *counted* does
 * not exceed it. Between the two lies what has been evicted or deleted and is on its way: the write
 * waits for that. Only bounded slices run here, those of writes that wait (eviction_admit) and
 * those of the workers' timers (eviction_continue), which go on until the limit holds, traffic or
 * not.
 *
 * Progress. One evictor at a time: whoever gets the mutex; nobody waits for it. A deletion tries
 * for the slot's token and takes another key if it is taken; a slice that meets only taken ones
 * ends.
 *
 * Reclamation. What is evicted is retired, which takes it out of memory_live_bytes at once. */
#include "engine/eviction.h"

#include <pthread.h>
#include <string.h>

#include "engine/background.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/memory.h"
#include "engine/random_slot.h"

#define POOL_SIZE          16
#define SAMPLES_MAX        64
#define KEY_EMBEDDED_BYTES 120
#define BUSY_MAX           16 /* tokens in a row that were taken end a slice */
#define CHOICE_TOLERANCE   8
#define WALK_BUCKETS       1024 /* looked at for keys with a TTL that are far between */
#define RANDOM_SAMPLES     8
#define ADMIT_SLICE_US     50
#define SUM_EVERY          16 /* evictions between two looks at all counters */

struct candidate {
    uint64_t score; /* higher: better to evict; 0: empty */
    uint64_t hash;
    uint32_t slot, database; /* physical */
    size_t length;
    char *key; /* own_key, or allocated */
    char own_key[KEY_EMBEDDED_BYTES];
};

struct evictor {
    struct keyspace *keyspace;
    pthread_mutex_t
        lock; /* guards all below but the configuration, which changes in exclusive sections */
    struct change change;
    enum eviction_policy policy;
    unsigned samples, tenacity;
    uint32_t next_database;
    uint64_t random;
    unsigned busy;                /* tokens in a row that were taken */
    uint64_t evicted_bytes;       /* of the last one that went */
    struct slot_choice **choices; /* by physical database; made on first use */
    struct {
        uint32_t database, slot;
        uint64_t bound;
    } walk;                           /* where the last one ended */
    struct candidate pool[POOL_SIZE]; /* ascending by score, empty ones last */
    unsigned pool_count;
    /* Without the lock, by whoever finds the limit exceeded or kept. */
    _Atomic uint64_t exceeded_since_us; /* monotonic; 0: it is kept */
    _Atomic uint64_t exceeded_us;       /* sum of what is over */
};

struct evictor *evictor_create(struct keyspace *keyspace) {
    struct evictor *evictor = memory_calloc(1, sizeof *evictor);
    evictor->keyspace = keyspace;
    change_init(&evictor->change, &keyspace->door, VIEW_PRIMARY);
    evictor->policy = EVICTION_NONE;
    evictor->samples = 5;
    evictor->choices = memory_calloc(keyspace->databases, sizeof *evictor->choices);
    evictor->random = clock_monotonic_ns() | 1;
    pthread_mutex_init(&evictor->lock, NULL);
    return evictor;
}

static void candidate_drop(struct candidate *candidate) {
    if (candidate->key != candidate->own_key)
        memory_free(candidate->key);
    candidate->key = NULL;
    candidate->score = 0;
}

static void pool_clear(struct evictor *evictor) {
    for (unsigned i = 0; i < evictor->pool_count; i++)
        candidate_drop(&evictor->pool[i]);
    evictor->pool_count = 0;
}

void evictor_destroy(struct evictor *evictor) {
    pool_clear(evictor);
    change_destroy(&evictor->change);
    for (unsigned i = 0; i < evictor->keyspace->databases; i++)
        memory_free(evictor->choices[i]);
    memory_free(evictor->choices);
    pthread_mutex_destroy(&evictor->lock);
    memory_free(evictor);
}

static bool is_lru(enum eviction_policy policy) {
    return policy == EVICTION_VOLATILE_LRU || policy == EVICTION_ALLKEYS_LRU;
}

static bool is_lfu(enum eviction_policy policy) {
    return policy == EVICTION_VOLATILE_LFU || policy == EVICTION_ALLKEYS_LFU;
}

static bool is_volatile(enum eviction_policy policy) {
    return policy <= EVICTION_VOLATILE_TTL;
}

static bool is_random(enum eviction_policy policy) {
    return policy == EVICTION_VOLATILE_RANDOM || policy == EVICTION_ALLKEYS_RANDOM;
}

void evictor_configure(struct evictor *evictor, enum eviction_policy policy, unsigned samples,
                       unsigned tenacity, int lfu_log_factor, int lfu_decay_minutes) {
    if (policy != evictor->policy)
        pool_clear(evictor);
    evictor->policy = policy;
    evictor->samples = samples < 1 ? 1 : samples > SAMPLES_MAX ? SAMPLES_MAX : samples;
    evictor->tenacity = tenacity;
    evictor->keyspace->access = (struct access_policy){.tracked = is_lru(policy) || is_lfu(policy),
                                                       .lfu = is_lfu(policy),
                                                       .lfu_log_factor = lfu_log_factor,
                                                       .lfu_decay_minutes = lfu_decay_minutes};
}

static uint64_t score_of(const struct evictor *evictor, const struct object *object) {
    if (evictor->policy == EVICTION_VOLATILE_TTL)
        return ~((uint64_t)object_expiry(object) ^ (uint64_t)1 << 63);
    if (is_lfu(evictor->policy))
        return 256 - access_lfu_counter(&evictor->keyspace->access, object);
    return access_idle_ms(object) + 1;
}

static bool in_pool(const struct evictor *evictor, uint32_t database, uint64_t hash) {
    for (unsigned i = 0; i < evictor->pool_count; i++)
        if (evictor->pool[i].hash == hash && evictor->pool[i].database == database)
            return true;
    return false;
}

static void pool_offer(struct evictor *evictor, const struct object *object, uint32_t database,
                       uint32_t slot) {
    size_t length;
    const char *data = object_key(object, &length);
    uint64_t score = score_of(evictor, object), hash = table_hash(data, length);
    if (in_pool(evictor, database, hash))
        return;
    unsigned place = 0;
    while (place < evictor->pool_count && evictor->pool[place].score < score)
        place++;
    if (evictor->pool_count == POOL_SIZE) {
        if (place == 0)
            return; /* worse than all */
        candidate_drop(&evictor->pool[0]);
        place--;
        for (unsigned i = 0; i < place; i++) {
            evictor->pool[i] = evictor->pool[i + 1];
            if (evictor->pool[i].key == evictor->pool[i + 1].own_key)
                evictor->pool[i].key = evictor->pool[i].own_key;
        }
    } else {
        for (unsigned i = evictor->pool_count++; i > place; i--) {
            evictor->pool[i] = evictor->pool[i - 1];
            if (evictor->pool[i].key == evictor->pool[i - 1].own_key)
                evictor->pool[i].key = evictor->pool[i].own_key;
        }
    }
    struct candidate *candidate = &evictor->pool[place];
    candidate->score = score;
    candidate->hash = hash;
    candidate->slot = slot;
    candidate->database = database;
    candidate->length = length;
    candidate->key = length <= KEY_EMBEDDED_BYTES ? candidate->own_key : memory_alloc(length);
    memcpy(candidate->key, data, length);
}

struct walked {
    size_t count, max;
    struct object **objects;
};

static void walked_visit(struct object *object, uint64_t hash, void *context) {
    (void)hash;
    struct walked *walked = context;
    if (walked->count < walked->max)
        walked->objects[walked->count++] = object;
}

/* In a giant slot keys with a TTL may be too far between for table_sample: goes on from where the
 * last walk ended, so it comes to all of them. */
static size_t sample_walking(struct evictor *evictor, const table_root *root, uint32_t physical,
                             uint32_t slot, size_t max, struct object **objects) {
    struct walked walked = {0, max, objects};
    if (evictor->walk.database != physical || evictor->walk.slot != slot) {
        evictor->walk.database = physical;
        evictor->walk.slot = slot;
        evictor->walk.bound = random_next(&evictor->random);
    }
    table_walk(root, evictor->walk.bound, 0, max, WALK_BUCKETS, is_volatile(evictor->policy),
               walked_visit, &walked, &evictor->walk.bound);
    return walked.count;
}

/* Keys of one slot, drawn by its weight; 0 only if there is none (or the next call may find some).
 */
static size_t sample_slot(struct evictor *evictor, uint32_t physical, size_t max,
                          struct object **objects, uint32_t *slot) {
    struct keyspace *keyspace = evictor->keyspace;
    unsigned database = keyspace->database_map_inverse[physical];
    bool volatile_only = is_volatile(evictor->policy);
    if (!atomic_load_explicit(&keyspace->bitmaps[physical], memory_order_acquire))
        return 0;
    struct slot_choice *choice = evictor->choices[physical];
    if (!choice)
        choice = evictor->choices[physical] = memory_calloc(1, sizeof *choice);
    slot_choice_refresh(choice, keyspace, database, volatile_only, CHOICE_TOLERANCE);
    *slot = slot_choice_pick(choice, &evictor->random);
    if (*slot == SLOT_COUNT && choice->total > 0) {
        slot_choice_make(choice, keyspace, database, volatile_only);
        *slot = slot_choice_pick(choice, &evictor->random);
    }
    if (*slot == SLOT_COUNT)
        return 0;
    const table_root *root = keyspace_root(keyspace, database, *slot);
    size_t n = table_sample(root, random_next(&evictor->random), volatile_only, max, objects);
    return n > 0 ? n : sample_walking(evictor, root, physical, *slot, max, objects);
}

/* It may go by the policy (what is volatile need not have a TTL itself), and nobody has used it
 * since it got this score (0: whatever). */
static bool may_go(const struct evictor *evictor, const struct object *object, uint64_t score) {
    if (!object)
        return false;
    if (is_volatile(evictor->policy) && object_expiry(object) == OBJECT_NO_EXPIRY)
        return false;
    return score == 0 || score_of(evictor, object) >= score;
}

/* Keys of one database into the pool. */
static void sample(struct evictor *evictor, uint32_t physical) {
    size_t seen = 0;
    for (unsigned tries = 0; tries < evictor->samples && seen < evictor->samples; tries++) {
        struct object *objects[SAMPLES_MAX];
        uint32_t slot;
        size_t n = sample_slot(evictor, physical, evictor->samples - seen, objects, &slot);
        if (n == 0)
            return;
        for (size_t i = 0; i < n; i++)
            if (may_go(evictor, objects[i], 0))
                pool_offer(evictor, objects[i], physical, slot);
        seen += n;
    }
}

/* Deletes the candidate if it may go. */
static bool evict(struct evictor *evictor, uint32_t physical, const struct key *key,
                  uint64_t score) {
    struct keyspace *keyspace = evictor->keyspace;
    unsigned database = keyspace->database_map_inverse[physical];
    struct slot *slot = &keyspace->slots[key->slot];
    bool done = false;
    if (!slot_try_acquire(slot)) {
        evictor->busy++;
        return false;
    }
    evictor->busy = 0;
    const struct object *object = keyspace_find_raw(keyspace, database, key);
    if (may_go(evictor, object, score)) {
        evictor->evicted_bytes = object_total_bytes(object);
        change_begin(&evictor->change);
        keyspace_evict(&evictor->change, database, key);
        change_commit(&evictor->change);
        done = true;
    }
    slot_release(slot);
    return done;
}

static bool evict_best(struct evictor *evictor) {
    for (uint32_t i = 0; i < evictor->keyspace->databases; i++)
        sample(evictor, i);
    while (evictor->pool_count > 0) {
        struct candidate *best = &evictor->pool[--evictor->pool_count];
        struct key key = {best->key, best->length, best->hash, best->slot};
        bool done = evict(evictor, best->database, &key, best->score);
        candidate_drop(best);
        if (done)
            return true;
    }
    return false;
}

static bool evict_random(struct evictor *evictor) {
    for (uint32_t i = 0; i < evictor->keyspace->databases; i++) {
        uint32_t database = evictor->next_database++ % evictor->keyspace->databases, slot;
        struct object *objects[RANDOM_SAMPLES];
        size_t n = sample_slot(evictor, database, RANDOM_SAMPLES, objects, &slot);
        if (n == 0)
            continue;
        size_t length;
        const char *data = object_key(objects[random_below(&evictor->random, n)], &length);
        /* A copy: the object may be freed by its own eviction. */
        char few[KEY_EMBEDDED_BYTES], *copy = length <= sizeof few ? few : memory_alloc(length);
        memcpy(copy, data, length);
        struct key key = {copy, length, table_hash(copy, length), slot};
        bool done = evict(evictor, database, &key, 0);
        if (copy != few)
            memory_free(copy);
        if (done)
            return true;
    }
    return false;
}

/* No key at all that the policy may evict. */
static bool nothing_to_evict(const struct evictor *evictor) {
    const struct keyspace *keyspace = evictor->keyspace;
    for (unsigned i = 0; i < keyspace->databases; i++)
        if (is_volatile(evictor->policy) ? keyspace_expiring_count(keyspace, i) > 0
                                         : keyspace_count(keyspace, i) > 0)
            return false;
    return true;
}

/* Redis's curve for how long one command may evict (500 us at 10, linear below, growing by 15 % a
 * step above, no limit at 100), times WAIT_FACTOR: there it stops the server, here one client
 * waits. */
#define WAIT_FACTOR 1000
uint64_t eviction_wait_limit_us(unsigned tenacity) {
    if (tenacity <= 10)
        return 50 * (uint64_t)tenacity * WAIT_FACTOR;
    if (tenacity >= 100)
        return UINT64_MAX;
    double limit = 500;
    for (unsigned i = 10; i < tenacity; i++)
        limit *= 1.15;
    return (uint64_t)limit * WAIT_FACTOR;
}

enum slice {
    SLICE_KEPT,    /* no more is live than the limit */
    SLICE_MORE,    /* the time is over, or the tokens were taken */
    SLICE_NOTHING, /* no key that may go */
};

/* Under the lock. */
static enum slice evict_slice(struct evictor *evictor, uint64_t limit_bytes, uint64_t budget_us) {
    uint64_t start_us = clock_monotonic_us(), live;
    enum slice result = SLICE_KEPT;
    evictor->busy = 0;
    while ((live = memory_live_bytes()) > limit_bytes && result == SLICE_KEPT) {
        int64_t excess = (int64_t)(live - limit_bytes);
        for (unsigned i = 0; i < SUM_EVERY && excess > 0 && result == SLICE_KEPT; i++) {
            if (is_random(evictor->policy) ? evict_random(evictor) : evict_best(evictor))
                excess -= (int64_t)evictor->evicted_bytes;
            else if (nothing_to_evict(evictor))
                result = SLICE_NOTHING;
            if (result == SLICE_KEPT &&
                (evictor->busy >= BUSY_MAX || clock_monotonic_us() - start_us >= budget_us))
                result = SLICE_MORE;
        }
    }
    COUNTER_ADD(keyspace_counters_mine(evictor->keyspace)->evict_us,
                clock_monotonic_us() - start_us);
    return live > limit_bytes ? result : SLICE_KEPT;
}

static enum slice try_slice(struct evictor *evictor, uint64_t limit_bytes, uint64_t budget_us) {
    if (evictor->policy == EVICTION_NONE)
        return memory_live_bytes() > limit_bytes ? SLICE_NOTHING : SLICE_KEPT;
    if (pthread_mutex_trylock(&evictor->lock) != 0)
        return SLICE_MORE; /* somebody else is at it */
    enum slice result = evict_slice(evictor, limit_bytes, budget_us);
    pthread_mutex_unlock(&evictor->lock);
    return result;
}

static void note_exceeded(struct evictor *evictor, bool exceeded) {
    uint64_t since_us = atomic_load_explicit(&evictor->exceeded_since_us, memory_order_relaxed);
    if (exceeded == (since_us != 0))
        return;
    uint64_t now_us = clock_monotonic_us();
    if (atomic_compare_exchange_strong(&evictor->exceeded_since_us, &since_us,
                                       exceeded ? now_us : 0) &&
        !exceeded)
        atomic_fetch_add_explicit(&evictor->exceeded_us, now_us - since_us, memory_order_relaxed);
}

enum admission eviction_admit(struct evictor *evictor, uint64_t limit_bytes, uint64_t waited_us) {
    if (limit_bytes > 0 && memory_is_over(limit_bytes)) {
        enum slice slice = try_slice(evictor, limit_bytes, ADMIT_SLICE_US);
        epoch_quiescent();
        epoch_reclaim_for(ADMIT_SLICE_US);
        bool freeing = background_pending() > 0; /* before the look at what is left */
        bool exceeded = memory_is_over(limit_bytes);
        note_exceeded(evictor, exceeded);
        if (exceeded) {
            bool hopeless = slice == SLICE_NOTHING && !freeing;
            return hopeless || waited_us >= eviction_wait_limit_us(evictor->tenacity) ? ADMIT_NO
                                                                                      : ADMIT_WAIT;
        }
    }
    if (memory_retired_is_over()) {
        epoch_quiescent();
        epoch_reclaim_for(ADMIT_SLICE_US);
    }
    return memory_retired_is_over() ? ADMIT_WAIT : ADMIT_YES;
}

bool eviction_continue(struct evictor *evictor, uint64_t limit_bytes, uint64_t budget_us) {
    bool exceeded = limit_bytes > 0 && memory_is_over(limit_bytes);
    enum slice slice = exceeded ? try_slice(evictor, limit_bytes, budget_us) : SLICE_KEPT;
    note_exceeded(evictor, exceeded && slice != SLICE_KEPT);
    return slice == SLICE_MORE;
}

void eviction_exceeded_ms(const struct evictor *evictor, uint64_t *current, uint64_t *total) {
    uint64_t since_us = atomic_load_explicit(&evictor->exceeded_since_us, memory_order_relaxed);
    uint64_t now_us = clock_monotonic_us();
    uint64_t current_us = since_us != 0 && now_us > since_us ? now_us - since_us : 0;
    *current = current_us / 1000;
    *total =
        (atomic_load_explicit(&evictor->exceeded_us, memory_order_relaxed) + current_us) / 1000;
}

void evictor_reset_statistics(struct evictor *evictor) {
    atomic_store_explicit(&evictor->exceeded_since_us, 0, memory_order_relaxed);
    atomic_store_explicit(&evictor->exceeded_us, 0, memory_order_relaxed);
}
