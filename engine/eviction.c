/* Eviction: Redis's approximated policies. Samples of keys from random slots feed a pool of the best candidates
 * (16, kept between calls); the best is deleted if it is still there.
 *
 * One evictor at a time: the mutex. Sampling reads under RCU without tokens (embedded key bytes never change); a
 * deletion takes the slot's token by trying only, so whoever holds the mutex never waits for a token, and waiting for
 * the mutex cannot be part of a cycle. */
#include "engine/eviction.h"

#include <pthread.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"

#define POOL_SIZE 16
#define SAMPLES_MAX 64
#define KEY_EMBEDDED_BYTES 120
#define FAILURES_MAX 200 /* rounds in a row without a victim before giving up */

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
    pthread_mutex_t lock; /* guards all below but the configuration, which changes in exclusive sections */
    enum eviction_policy policy;
    unsigned samples, tenacity;
    uint32_t next_database;
    uint64_t random;
    struct candidate pool[POOL_SIZE]; /* ascending by score, empty ones last */
    unsigned pool_count;
};

struct evictor *evictor_create(struct keyspace *keyspace) {
    struct evictor *evictor = memory_calloc(1, sizeof *evictor);
    evictor->keyspace = keyspace;
    evictor->policy = EVICTION_NONE;
    evictor->samples = 5;
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

void evictor_configure(struct evictor *evictor, enum eviction_policy policy, unsigned samples, unsigned tenacity,
                       int lfu_log_factor, int lfu_decay_minutes) {
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

static uint64_t random_64(struct evictor *evictor) {
    evictor->random += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = evictor->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A slot with keys (with a TTL for the volatile policies) at or behind a random place; SLOT_COUNT if there is none. */
static uint32_t random_slot(struct evictor *evictor, const struct slot_bitmaps *bitmaps) {
    const _Atomic uint64_t *bits = is_volatile(evictor->policy) ? bitmaps->expiring : bitmaps->occupied;
    uint32_t start = (uint32_t)random_64(evictor) & (SLOT_COUNT - 1), words = SLOT_COUNT / 64;
    for (uint32_t i = 0; i <= words; i++) {
        uint32_t word = (start / 64 + i) % words;
        uint64_t value = atomic_load_explicit(&bits[word], memory_order_acquire);
        if (i == 0)
            value &= ~(uint64_t)0 << (start & 63);
        if (value)
            return word * 64 + (uint32_t)__builtin_ctzll(value);
    }
    return SLOT_COUNT;
}

static uint64_t score_of(const struct evictor *evictor, const struct object *object) {
    if (evictor->policy == EVICTION_VOLATILE_TTL)
        return UINT64_MAX - (uint64_t)object_expiry(object);
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

static void pool_offer(struct evictor *evictor, const struct object *object, uint32_t database, uint32_t slot) {
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

static size_t sample(struct evictor *evictor, uint32_t database) {
    struct keyspace *keyspace = evictor->keyspace;
    const struct slot_bitmaps *bitmaps = atomic_load_explicit(&keyspace->bitmaps[database], memory_order_acquire);
    size_t seen = 0;
    if (!bitmaps)
        return 0;
    for (unsigned tries = 0; tries < evictor->samples && seen < evictor->samples; tries++) {
        uint32_t slot = random_slot(evictor, bitmaps);
        if (slot == SLOT_COUNT)
            return seen;
        struct object *objects[SAMPLES_MAX];
        table_root *root = keyspace_root(keyspace, keyspace->database_map_inverse[database], slot);
        size_t n = table_sample(root, random_64(evictor), is_volatile(evictor->policy), evictor->samples - seen,
                                objects);
        for (size_t i = 0; i < n; i++)
            pool_offer(evictor, objects[i], database, slot);
        seen += n;
    }
    return seen;
}

/* Deletes the candidate if it is still there and still may go. */
static bool evict(struct evictor *evictor, uint32_t physical, const struct key *key) {
    struct keyspace *keyspace = evictor->keyspace;
    unsigned database = keyspace->database_map_inverse[physical];
    struct slot *slot = &keyspace->slots[key->slot];
    bool done = false;
    if (!slot_try_acquire(slot))
        return false;
    struct object *object = keyspace_find_raw(keyspace, database, key);
    if (object && !(is_volatile(evictor->policy) && object_expiry(object) == OBJECT_NO_EXPIRY)) {
        uint64_t number = keyspace->log ? keyspace->log->begin(keyspace->log->context) : 0;
        if (keyspace->log) {
            struct effect_argument arguments[2] = {{"DEL", 3}, {key->data, key->length}};
            keyspace->log->append(keyspace->log->context, database, arguments, 2);
        }
        done = keyspace_delete(keyspace, database, key);
        if (keyspace->log)
            keyspace->log->end(keyspace->log->context, number);
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
        bool done = evict(evictor, best->database, &key);
        candidate_drop(best);
        if (done)
            return true;
    }
    return false;
}

static bool evict_random(struct evictor *evictor) {
    struct keyspace *keyspace = evictor->keyspace;
    for (uint32_t i = 0; i < keyspace->databases; i++) {
        uint32_t database = evictor->next_database++ % keyspace->databases;
        const struct slot_bitmaps *bitmaps =
            atomic_load_explicit(&keyspace->bitmaps[database], memory_order_acquire);
        uint32_t slot = bitmaps ? random_slot(evictor, bitmaps) : SLOT_COUNT;
        if (slot == SLOT_COUNT)
            continue;
        struct object *object;
        table_root *root = keyspace_root(keyspace, keyspace->database_map_inverse[database], slot);
        if (table_sample(root, random_64(evictor), is_volatile(evictor->policy), 1, &object) == 0)
            continue;
        size_t length;
        const char *data = object_key(object, &length);
        /* A copy: the object may be freed by its own eviction. */
        char few[KEY_EMBEDDED_BYTES], *copy = length <= sizeof few ? few : memory_alloc(length);
        memcpy(copy, data, length);
        struct key key = {copy, length, table_hash(copy, length), slot};
        bool done = evict(evictor, database, &key);
        if (copy != few)
            memory_free(copy);
        if (done)
            return true;
    }
    return false;
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

bool eviction_make_room(struct evictor *evictor, uint64_t limit_bytes) {
    if (evictor->policy == EVICTION_NONE)
        return false;
    pthread_mutex_lock(&evictor->lock);
    uint64_t start_us = clock_monotonic_us(), limit_us = time_limit_us(evictor->tenacity);
    unsigned failures = 0;
    bool room;
    while (!(room = memory_admission_bytes() <= (int64_t)limit_bytes) && failures < FAILURES_MAX) {
        bool done = is_random(evictor->policy) ? evict_random(evictor) : evict_best(evictor);
        failures = done ? 0 : failures + 1;
        if (clock_monotonic_us() - start_us > limit_us && failures == 0) {
            room = true; /* good progress; the next command goes on */
            break;
        }
    }
    COUNTER_ADD(keyspace_counters_mine(evictor->keyspace)->evict_us, clock_monotonic_us() - start_us);
    pthread_mutex_unlock(&evictor->lock);
    return room;
}
