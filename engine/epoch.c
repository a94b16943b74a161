/* Deferred freeing. Run by every reader thread, on its own retire list.
 *
 * Algorithm. There are two ways to know that a retired entry is safe; the first that says so
 * counts.
 *
 * The sweep. There is one epoch number, and each reader has a public *state*: the epoch that it saw
 * at its last quiescent state, and whether it is online. A sweep goes over all readers and asks
 * whether each is offline or has announced the present epoch; at its end the epoch moves on. Nobody
 * sweeps alone: how far it has come is in the same word as the epoch, and whoever has something to
 * free looks at the next few readers at its own quiescent states (at most SWEEP_PEERS that are
 * online, whose lines are the ones that are likely to be in another core's cache). So a quiescent
 * state costs the same with two readers and with two hundred, and each line is read about once an
 * epoch. Nobody who has nothing to free looks at anything but the word, and the word stands still
 * while nobody has. With few busy readers an epoch takes some tens of microseconds, so that memory
 * is still in the cache when it is freed and used again.
 *
 * Grace periods (epoch_grace.c), for what a reader that is busy for long holds up: they are asked
 * for when the sweep has stood still for SWEEP_MISSES_MAX quiescent states. They free no sooner,
 * but it is by them that the watchdog sees who does not report.
 *
 * Each reader has a FIFO of what it retired, in chunks (a growing array would copy megabytes in the
 * middle of a command). Entries carry no stamp of their own. What was retired since the last
 * quiescent state is stamped as one group with the number c read there (the epoch's, and the grace
 * count's when they are asked for), and is safe when the number is c + 2. So only groups of the
 * stamps c and c - 1 can be unsafe, and for each of the two numbers four positions in the FIFO say
 * everything:
 *
 *     freed <= safe_end <= previous_end <= current_end <= retired
 *           safe       stamp c - 1     stamp c        no stamp yet
 *
 * Ordering. Why c + 2 is safe for the sweep:
 * - An owner unpublishes; full fence (A); loads the epoch: c.
 * - The sweep that ends c + 1 began after the epoch had become c + 1, which the owner's load
 * missed. For each reader R it saw one of two things.
 * - R online with c + 1 announced: R loaded the epoch c + 1, stored its state (release: its uses
 * before come before), had a full fence (D), and then read on. The owner's load missed what R's
 * load saw, so A comes before D, and what R read from then on was not what was unpublished.
 * - R offline (or not there): the sweeper loaded the word with c + 1, had a full fence (F), and
 * then loaded R's state (acquire: R's last uses come before), or the number of places. By the same
 * argument A comes before F. R goes online by storing its state and then a full fence (D); the
 * sweeper's load missed that store, so F comes before D, and R reads nothing that was unpublished.
 * This is why the number of places is read behind the fence too: read before it, the sweep could
 * miss a reader that has just joined and has still read the old pointer.
 * - Freeing: a reader's last use, the release of its state, the sweeper's acquire load, its
 * compare-and-swap of the word (acq_rel, as those of all sweepers after it), the owner's acquire
 * load, the destructor: one chain of happens-before.
 * - A quiescent state at which the epoch has not moved and nothing was retired needs no store and
 * no fence: the state that stands says what is needed. One fence serves as A and D.
 *
 * Progress. Readers never wait: no lock, no system call but one wake-up when the epoch thread was
 * asleep. A reader that neither reports nor goes offline stops reclamation: the others' memory
 * grows until memory_retired_is_over stops their writers.
 *
 * Reclamation. Each thread frees what it retired: EPOCH_FREES_PER_RETIRE per retire, as freeing all
 * of a group at once would be a pause and would miss the cache, and what has piled up for as long
 * as each call of epoch_reclaim_for may take. A leaving thread waits for its own grace period and
 * frees all. */
#include "engine/epoch.h"

#include <pthread.h>
#include <urcu-qsbr.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/epoch_grace.h"
#include "engine/memory.h"

/* --- State ------------------------------------------------------------------------------------ */

struct retired {
    void *pointer;
    void (*destructor)(void *pointer);
    size_t bytes;
};

#define CACHE_LINE    64
#define AHEAD_BYTES   1024
#define CHUNK_ENTRIES 170 /* a chunk is 4 KiB */
struct chunk {
    struct chunk *next;
    struct retired entries[CHUNK_ENTRIES];
};

/* Entries by the number at which they were stamped. */
struct group {
    uint64_t stamp;
    uint64_t previous_end; /* of what was stamped before */
    uint64_t current_end;  /* of what has this stamp */
};

/* One per thread, in its thread-local storage. Only the thread itself writes; others read the two
 * counters, and the links under registry.lock. */
struct reader {
    _Atomic uint64_t retired; /* position after the last entry */
    _Atomic uint64_t freed;   /* position of the first entry not freed */
    uint64_t safe_end;
    struct group swept;
    struct group graced;
    uint64_t state;      /* as it is in its place */
    unsigned misses;     /* in a row that found the sweep where it was */
    unsigned place;      /* in places */
    struct chunk *first; /* holds position freed, at first_index */
    struct chunk *last;  /* holds position retired - 1, at last_index - 1 */
    struct chunk *spare; /* saves an allocation per chunk in the steady state */
    uint32_t first_index;
    uint32_t last_index;
    bool registered;
    bool online;
    bool freeing; /* inside a destructor: a retire from there must not free */
    struct reader *next;
    struct reader *previous;
};
static _Thread_local struct reader self;

#define READERS_MAX      512
#define SWEEP_PEERS      4  /* lines that another core has probably written, in one step */
#define SWEEP_PLACES     64 /* lines in all */
#define SWEEP_ROUNDS     2  /* epochs in one call: enough to free when all others are offline */
#define SWEEP_MISSES_MAX 32 /* then grace periods are asked for as well */

/* The public states: epoch << 1 | online. Each is written by its own reader; that of a place that
 * nobody has is offline. */
static struct {
    _Alignas(64) _Atomic uint64_t state;
    bool taken; /* under registry.lock */
} places[READERS_MAX];

/* epoch << PLACE_BITS | the first place that this sweep has not looked at. Whoever sweeps, by
 * compare-and-swap; only grows. */
#define PLACE_BITS 16
static struct {
    _Alignas(64) _Atomic uint64_t word;
    _Alignas(64) _Atomic unsigned places; /* those below may be taken; grows under registry.lock */
} sweep;

static struct {
    pthread_mutex_t lock;
    struct reader *first;
    uint64_t retired_by_gone; /* sums of threads that left */
    uint64_t freed_by_gone;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Read at every retire and quiescent state, written before the readers start. */
static _Atomic bool single_reader;
static _Atomic bool looking = true;

/* --- The retire list of one thread ------------------------------------------------------------ */

static uint64_t position(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void chunk_append(struct reader *reader) {
    struct chunk *chunk = reader->spare;
    reader->spare = NULL;
    if (chunk == NULL)
        chunk = memory_alloc(sizeof(*chunk));
    chunk->next = NULL;
    if (reader->last != NULL) {
        reader->last->next = chunk;
    } else {
        reader->first = chunk;
        reader->first_index = 0;
    }
    reader->last = chunk;
    reader->last_index = 0;
}

static void chunk_remove_first(struct reader *reader) {
    struct chunk *chunk = reader->first;
    reader->first = chunk->next;
    reader->first_index = 0;
    if (reader->first == NULL)
        reader->last = NULL;
    if (reader->spare == NULL)
        reader->spare = chunk;
    else
        memory_free_sized(chunk, sizeof(*chunk));
}

/* One field after the other: a whole entry that has just been stored in parts would be loaded only
 * when all stores before it are done, those of a value into cold memory among them. */
static void retire_append(struct reader *reader, void *pointer, void (*destructor)(void *pointer),
                          size_t bytes) {
    if (UNLIKELY(reader->last == NULL || reader->last_index == CHUNK_ENTRIES))
        chunk_append(reader);
    struct retired *entry = &reader->last->entries[reader->last_index++];
    entry->pointer = pointer;
    entry->destructor = destructor;
    entry->bytes = bytes;
    atomic_store_explicit(&reader->retired, position(&reader->retired) + 1, memory_order_relaxed);
}

static inline void retired_free(void *pointer, void (*destructor)(void *pointer), size_t bytes) {
    if (LIKELY(destructor == NULL))
        memory_free_object(pointer, bytes);
    else
        destructor(pointer);
}

/* Frees up to limit entries before safe_end. */
static int64_t retire_free(struct reader *reader, size_t limit) {
    int64_t bytes = 0;
    if (reader->freeing)
        return 0;
    reader->freeing = true;
    uint64_t freed = position(&reader->freed);
    while (limit-- > 0 && freed < reader->safe_end) {
        /* Out of the list first: the destructor may retire and so append to it. */
        const struct retired *entry = &reader->first->entries[reader->first_index++];
        void *pointer = entry->pointer;
        void (*destructor)(void *) = entry->destructor;
        size_t entry_bytes = entry->bytes;
        if (reader->first_index == CHUNK_ENTRIES)
            chunk_remove_first(reader);
        freed++;
        atomic_store_explicit(&reader->freed, freed, memory_order_relaxed);
        bytes += (int64_t)entry_bytes;
        retired_free(pointer, destructor, entry_bytes);
    }
    reader->freeing = false;
    /* What comes next left the cache a while ago; have it here by the next retire. All of it: who
     * retires something of this size has just made another, and will make the next one here. */
    if (freed < reader->safe_end) {
        const struct retired *next = &reader->first->entries[reader->first_index];
        for (size_t at = 0; at < next->bytes && at < AHEAD_BYTES; at += CACHE_LINE)
            __builtin_prefetch((const char *)next->pointer + at, 1);
        if (reader->first_index + 1 < CHUNK_ENTRIES && freed + 1 < reader->safe_end)
            __builtin_prefetch(next[1].pointer);
    }
    return bytes;
}

/* The number is now this: moves what was stamped on. */
static void group_advance(struct reader *reader, struct group *group, uint64_t number) {
    if (number == group->stamp)
        return;
    uint64_t safe_end = number - group->stamp >= 2 ? group->current_end : group->previous_end;
    if (safe_end > reader->safe_end) { /* the other number may have been quicker */
        reader->safe_end = safe_end;
        reader->misses = 0;
    }
    group->previous_end = group->current_end;
    group->stamp = number;
}

/* --- The sweep -------------------------------------------------------------------------------- */

static inline uint64_t sweep_load(void) {
    return atomic_load_explicit(&sweep.word, memory_order_acquire);
}

/* Looks at the next few readers. The caller has had a full fence since it saw this epoch. Returns
 * the word as it is then. */
static uint64_t sweep_step(uint64_t word) {
    uint64_t epoch = word >> PLACE_BITS;
    unsigned place = (unsigned)(word & ((1 << PLACE_BITS) - 1));
    unsigned end = atomic_load_explicit(&sweep.places, memory_order_acquire), peers = 0;
    for (unsigned looked = 0; place < end && looked < SWEEP_PLACES; looked++, place++) {
        uint64_t state = atomic_load_explicit(&places[place].state, memory_order_acquire);
        if (!(state & 1))
            continue;
        if (state >> 1 != epoch || peers++ == SWEEP_PEERS)
            break;
    }
    uint64_t next = place < end ? epoch << PLACE_BITS | place : (epoch + 1) << PLACE_BITS;
    if (next == word)
        return word;
    if (atomic_compare_exchange_strong_explicit(&sweep.word, &word, next, memory_order_acq_rel,
                                                memory_order_acquire))
        return next;
    return word; /* somebody else was quicker */
}

/* Where this thread holds nothing: announces the epoch. true: there was a full fence. */
static inline bool announce(struct reader *reader, uint64_t epoch) {
    uint64_t state = epoch << 1 | 1;
    if (LIKELY(state == reader->state))
        return false;
    reader->state = state;
    atomic_store_explicit(&places[reader->place].state, state, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* fence D, A, F */
    return true;
}

static void sweep_some(struct reader *reader, bool quiescent) {
    uint64_t word = sweep_load();
    for (unsigned round = 0; round < SWEEP_ROUNDS; round++) {
        uint64_t epoch = word >> PLACE_BITS;
        if (!quiescent || !announce(reader, epoch))
            atomic_thread_fence(memory_order_seq_cst); /* fence F */
        word = sweep_step(word);
        group_advance(reader, &reader->swept, word >> PLACE_BITS);
        if (word >> PLACE_BITS == epoch || reader->safe_end == position(&reader->retired))
            return;
    }
}

/* Something waits: stamps what has no stamp yet, sweeps, and moves on what has become safe. The
 * caller has had a full fence since it retired the last entry, if fenced. */
static void retire_stamp(struct reader *reader, bool quiescent, bool fenced) {
    uint64_t retired = position(&reader->retired);
    if (!fenced && (retired != reader->swept.current_end || reader->misses >= SWEEP_MISSES_MAX))
        atomic_thread_fence(memory_order_seq_cst); /* fence A */
    bool sweeping = atomic_load_explicit(&looking, memory_order_relaxed);
    if (LIKELY(sweeping)) {
        group_advance(reader, &reader->swept, sweep_load() >> PLACE_BITS);
        reader->swept.current_end = retired;
        if (reader->safe_end < retired)
            sweep_some(reader, quiescent);
        if (reader->safe_end == retired || ++reader->misses < SWEEP_MISSES_MAX)
            return;
    }
    uint64_t count = atomic_load_explicit(&epoch_grace_count.value, memory_order_acquire);
    bool fresh = retired != reader->graced.current_end;
    group_advance(reader, &reader->graced, count);
    reader->graced.current_end = retired;
    if (fresh)
        epoch_grace_want(count + 2);
}

static inline void retire(void *pointer, void (*destructor)(void *pointer), size_t bytes) {
    struct reader *reader = &self;
    ASSERT(reader->registered);
    if (atomic_load_explicit(&single_reader, memory_order_relaxed)) {
        atomic_store_explicit(&reader->retired, position(&reader->retired) + 1,
                              memory_order_relaxed);
        atomic_store_explicit(&reader->freed, position(&reader->freed) + 1, memory_order_relaxed);
        retired_free(pointer, destructor, bytes);
        return;
    }
    retire_append(reader, pointer, destructor, bytes);
    int64_t more = (int64_t)bytes;
    if (position(&reader->freed) < reader->safe_end)
        more -= retire_free(reader, EPOCH_FREES_PER_RETIRE);
    if (more != 0) /* who overwrites values of one size retires as much as is freed */
        memory_retired_add(more);
}

void epoch_retire(void *pointer, size_t bytes, void (*destructor)(void *pointer)) {
    retire(pointer, destructor, bytes);
}

void epoch_retire_object(void *pointer, size_t bytes) {
    retire(pointer, NULL, bytes);
}

static inline size_t waiting(const struct reader *reader) {
    return (size_t)(position(&reader->retired) - position(&reader->freed));
}

size_t epoch_reclaim(size_t limit) {
    struct reader *reader = &self;
    ASSERT(reader->registered);
    if (waiting(reader) > 0)
        retire_stamp(reader, false, false);
    memory_retired_add(-retire_free(reader, limit));
    return waiting(reader);
}

size_t epoch_reclaim_for(uint64_t budget_us) {
    struct reader *reader = &self;
    ASSERT(reader->registered);
    if (waiting(reader) == 0)
        return 0;
    retire_stamp(reader, false, false);
    uint64_t end_us = 0;
    while (position(&reader->freed) < reader->safe_end) {
        memory_retired_add(-retire_free(reader, EPOCH_RECLAIM_STEP));
        uint64_t now_us = clock_monotonic_us();
        if (end_us == 0)
            end_us = now_us + budget_us;
        else if (now_us >= end_us)
            break;
    }
    return waiting(reader);
}

/* --- Start and stop --------------------------------------------------------------------------- */

int epoch_start(unsigned stall_ms, void (*stalled)(uint64_t waited_ms, void *context),
                void *context) {
    return epoch_grace_start(stall_ms, stalled, context);
}

void epoch_stop(void) {
    epoch_grace_stop();
}

void epoch_set_single_reader(bool single) {
    atomic_store_explicit(&single_reader, single, memory_order_relaxed);
}

void epoch_set_looking(bool on) {
    atomic_store_explicit(&looking, on, memory_order_relaxed);
}

/* --- Readers ---------------------------------------------------------------------------------- */

/* Under registry.lock. */
static unsigned place_take(void) {
    for (unsigned i = 0; i < READERS_MAX; i++) {
        if (places[i].taken)
            continue;
        places[i].taken = true;
        if (i >= atomic_load_explicit(&sweep.places, memory_order_relaxed))
            atomic_store_explicit(&sweep.places, i + 1, memory_order_release);
        return i;
    }
    assert_failed("too many readers", __FILE__, __LINE__);
}

static inline void go_offline(struct reader *reader) {
    reader->state = 0;
    atomic_store_explicit(&places[reader->place].state, 0, memory_order_release);
}

void epoch_reader_enter(void) {
    struct reader *reader = &self;
    ASSERT(!reader->registered);
    *reader = (struct reader){.registered = true, .online = true};
    pthread_mutex_lock(&registry.lock);
    reader->place = place_take();
    reader->next = registry.first;
    if (registry.first != NULL)
        registry.first->previous = reader;
    registry.first = reader;
    pthread_mutex_unlock(&registry.lock);
    announce(reader, sweep_load() >> PLACE_BITS);
    rcu_register_thread();
}

void epoch_reader_leave(void) {
    struct reader *reader = &self;
    ASSERT(reader->registered && !reader->freeing);
    if (reader->online)
        epoch_offline();
    /* A destructor may retire: until nothing is left. */
    while (waiting(reader) > 0) {
        uint64_t end = position(&reader->retired);
        epoch_synchronize();
        reader->safe_end = end;
        memory_retired_add(-retire_free(reader, SIZE_MAX));
    }
    if (reader->first != NULL)
        memory_free_sized(reader->first, sizeof(*reader->first));
    if (reader->spare != NULL)
        memory_free_sized(reader->spare, sizeof(*reader->spare));
    rcu_unregister_thread();

    pthread_mutex_lock(&registry.lock);
    registry.retired_by_gone += position(&reader->retired);
    registry.freed_by_gone += position(&reader->freed);
    places[reader->place].taken = false; /* it is offline */
    if (reader->previous != NULL)
        reader->previous->next = reader->next;
    else
        registry.first = reader->next;
    if (reader->next != NULL)
        reader->next->previous = reader->previous;
    pthread_mutex_unlock(&registry.lock);
    *reader = (struct reader){0};
}

static inline void quiesce(struct reader *reader) {
    bool fenced = announce(reader, sweep_load() >> PLACE_BITS);
    if (waiting(reader) > 0)
        retire_stamp(reader, true, fenced);
}

void epoch_quiescent(void) {
    struct reader *reader = &self;
    ASSERT(reader->online);
    quiesce(reader);
    READER_RELEASES();
    rcu_quiescent_state();
}

void epoch_offline(void) {
    struct reader *reader = &self;
    ASSERT(reader->online);
    quiesce(reader);
    reader->online = false;
    go_offline(reader);
    READER_RELEASES();
    rcu_thread_offline();
}

void epoch_online(void) {
    struct reader *reader = &self;
    ASSERT(reader->registered && !reader->online);
    rcu_thread_online();
    announce(reader, sweep_load() >> PLACE_BITS);
    reader->online = true;
}

bool epoch_is_online(void) {
    return self.online;
}

void epoch_synchronize(void) {
    ASSERT(!self.online);
    synchronize_rcu();
    WRITER_ACQUIRES();
}

void epoch_get_statistics(struct epoch_statistics *statistics) {
    *statistics = (struct epoch_statistics){
        .grace_periods = atomic_load_explicit(&epoch_grace_count.value, memory_order_acquire),
        .stalls = epoch_grace_stalls(),
    };
    pthread_mutex_lock(&registry.lock);
    statistics->retired = registry.retired_by_gone;
    statistics->freed = registry.freed_by_gone;
    for (const struct reader *reader = registry.first; reader != NULL; reader = reader->next) {
        statistics->freed += position(&reader->freed);
        statistics->retired += position(&reader->retired);
    }
    pthread_mutex_unlock(&registry.lock);
}
