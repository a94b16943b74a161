/* Eviction: Redis's approximated policies. Samples of keys feed a pool of the best candidates (16,
 * kept between calls); the best is deleted if it is still there and has not been used since.
 *
 * Algorithm. A sample comes from slots that are drawn by their number of keys (random_slot.h), so
 * that every key has the same chance whether its slot holds one or a million. Sampling reads under
 * RCU without tokens: what makes up a score is one atomic word, and keys never change. A pool entry
 * has its own copy of the key.
 *
 * Progress. One evictor at a time: the mutex. A deletion tries for the slot's token; only when
 * several in a row found theirs taken does the evictor wait for one. It holds nothing else then but
 * the mutex, and nobody waits for the mutex with a token, so there is no cycle.
 *
 * Reclamation. What is evicted is retired, which takes it out of memory_live_bytes at once. */
#include "engine/eviction.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "engine/background.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "engine/random_slot.h"

#define POOL_SIZE          16
#define SAMPLES_MAX        64
#define KEY_EMBEDDED_BYTES 120
#define FAILURES_MAX       200 /* rounds in a row without a victim before giving up */
#define BUSY_MAX           16  /* tokens in a row that were taken before it waits for one */
#define CHOICE_TOLERANCE   8
#define WALK_BUCKETS       16384 /* looked at for keys with a TTL that are far between */
#define RANDOM_SAMPLES     8
#define FREEING_WAIT_US    50

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
    enum eviction_policy policy;
    unsigned samples, tenacity;
    uint32_t next_database;
    uint64_t random;
    unsigned busy;                /* tokens in a row that were taken */
    struct slot_choice **choices; /* by physical database; made on first use */
    struct {
        uint32_t database, slot;
        uint64_t bound;
    } walk;                           /* where the last one ended */
    struct candidate pool[POOL_SIZE]; /* ascending by score, empty ones last */
    unsigned pool_count;
};

struct evictor *evictor_create(struct keyspace *keyspace) {
    struct evictor *evictor = memory_calloc(1, sizeof *evictor);
    evictor->keyspace = keyspace;
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
    evictor->keyspace->track_access = is_lru(policy) || is_lfu(policy);
    evictor->keyspace->track_lfu = is_lfu(policy);
    evictor->keyspace->lfu_log_factor = lfu_log_factor;
    evictor->keyspace->lfu_decay_minutes = lfu_decay_minutes;
}

static uint64_t score_of(const struct evictor *evictor, const struct object *object) {
    if (evictor->policy == EVICTION_VOLATILE_TTL)
        return ~((uint64_t)object_expiry(object) ^ (uint64_t)1 << 63);
    if (is_lfu(evictor->policy))
        return 256 - access_lfu_counter(evictor->keyspace, object);
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
            pool_offer(evictor, objects[i], physical, slot);
        seen += n;
    }
}

/* Under the token: it still may go, and nobody has used it since it got this score (0: whatever).
 */
static bool may_go(const struct evictor *evictor, const struct object *object, uint64_t score) {
    if (!object)
        return false;
    if (is_volatile(evictor->policy) && object_expiry(object) == OBJECT_NO_EXPIRY)
        return false;
    return score == 0 || score_of(evictor, object) >= score;
}

/* Deletes the candidate if it may go. */
static bool evict(struct evictor *evictor, uint32_t physical, const struct key *key,
                  uint64_t score) {
    struct keyspace *keyspace = evictor->keyspace;
    unsigned database = keyspace->database_map_inverse[physical];
    struct slot *slot = &keyspace->slots[key->slot];
    struct effect_log *log = keyspace->log;
    bool done = false;
    if (!slot_try_acquire(slot)) {
        if (++evictor->busy < BUSY_MAX)
            return false;
        slot_acquire_waiting(slot);
    }
    evictor->busy = 0;
    if (may_go(evictor, keyspace_find_raw(keyspace, database, key), score)) {
        struct effect_argument arguments[2] = {{"DEL", 3}, {key->data, key->length}};
        uint64_t number = log ? log->begin(log->context) : 0;
        if (log)
            log->append(log->context, database, arguments, 2);
        done = keyspace_delete(keyspace, database, key);
        if (log)
            log->end(log->context, number);
        COUNTER_ADD(keyspace_counters_mine(keyspace)->evicted, 1);
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

/* As Redis: 500 us at tenacity 10, linear below, growing by 15 % a step above, no limit at 100. */
static uint64_t time_limit_us(unsigned tenacity) {
    if (tenacity <= 10)
        return 50 * (uint64_t)tenacity;
    if (tenacity >= 100)
        return UINT64_MAX / 2;
    double limit = 500;
    for (unsigned i = 10; i < tenacity; i++)
        limit *= 1.15;
    return (uint64_t)limit;
}

static bool has_room(uint64_t limit_bytes) {
    return !memory_is_over(limit_bytes);
}

/* A flushed database may be about to give its memory back: waits for that as long as an eviction
 * may take. */
static bool wait_for_freeing(uint64_t limit_bytes, uint64_t end_us) {
    while (background_pending() > 0 && clock_monotonic_us() < end_us) {
        if (has_room(limit_bytes))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = FREEING_WAIT_US * 1000}, NULL);
    }
    return has_room(limit_bytes);
}

/* The evictor's lock is held. */
static bool make_room(struct evictor *evictor, uint64_t limit_bytes, uint64_t start_us) {
    uint64_t limit_us = time_limit_us(evictor->tenacity);
    unsigned failures = 0;
    while (!has_room(limit_bytes)) {
        if (is_random(evictor->policy) ? evict_random(evictor) : evict_best(evictor)) {
            failures = 0;
            if (clock_monotonic_us() - start_us > limit_us)
                return true; /* good progress; the next command goes on */
        } else if (++failures == FAILURES_MAX || nothing_to_evict(evictor)) {
            return wait_for_freeing(limit_bytes, start_us + limit_us);
        }
    }
    return true;
}

bool eviction_make_room(struct evictor *evictor, uint64_t limit_bytes) {
    if (evictor->policy == EVICTION_NONE)
        return false;
    pthread_mutex_lock(&evictor->lock);
    uint64_t start_us = clock_monotonic_us();
    bool room = make_room(evictor, limit_bytes, start_us);
    COUNTER_ADD(keyspace_counters_mine(evictor->keyspace)->evict_us,
                clock_monotonic_us() - start_us);
    pthread_mutex_unlock(&evictor->lock);
    return room;
}
