/* Grace periods and deferred freeing. Run by: every reader thread (its own retire list), the epoch
 * thread (grace periods), the watchdog thread (stalls).
 *
 * Algorithm. There are two ways to know that a retired entry is safe; the first that says so
 * counts.
 *
 * Looking at the others: each reader has a public turn count, odd while it is online, that moves on
 * at every quiescent state. At its own quiescent state an owner takes down the counts of all
 * others; what it had retired by then is safe once each of them was seen offline or with another
 * count. With few busy readers that takes some tens of microseconds, so that the memory is still in
 * the cache when it is freed and used again (measured, SET with pipelines: 0.43 us instead of 0.65
 * with grace periods alone). It needs a look at every reader, so it is done for up to
 * LOOK_READERS_MAX of them only.
 *
 * Grace periods, for what a reader that is busy for long (or many readers) would hold up: the epoch
 * thread calls synchronize_rcu and then adds one to grace.count; both only while somebody wants it.
 * Each reader has a FIFO of what it retired, in chunks (a growing array would copy megabytes in the
 * middle of a command). Entries carry no stamp of their own. What was retired since the last
 * quiescent state is stamped as one group with the count c read there, and is safe when the count
 * is c + 2: the grace period c + 1 may have begun before the entries were unpublished, c + 2 has
 * not. So only groups of the stamps c and c - 1 can be unsafe, and four positions in the FIFO say
 * everything:
 *
 *     freed <= safe_end <= previous_end <= current_end <= retired
 *           safe       stamp c - 1     stamp c        no stamp yet
 *
 * Ordering.
 * - Looking: unpublish; full fence (C); acquire load of the turn count. A reader that goes online
 * or passes a quiescent state stores its count (release: its last uses come before) and then has a
 * full fence (D) before it reads again. If the load missed the store, C comes before D and what the
 * reader reads later is not what was unpublished; if it saw an even or another count, all uses
 * before happened before the load.
 * - Stamping: unpublish; full fence (A); load count == c. Epoch thread: store count = c + 1; full
 * fence (B); grace period c + 2. Since the load missed c + 1, A comes before B, so when c + 2
 * begins everybody sees the unpublishing, and who still holds the pointer has yet to pass a
 * quiescent state of c + 2. The fence is paid once per group (a loop turn) instead of once per
 * retire; that is why entries are stamped late.
 * - Freeing: a reader's last use, its quiescent state, the end of synchronize_rcu, the release
 * store of the count, the acquire load by the owner, the destructor: one chain of happens-before.
 * - Wanting: a reader raises grace.wanted and then reads grace.asleep; the epoch thread sets asleep
 * and then reads wanted, all seq_cst: one of them sees the other. The condition variable is
 * signalled under the lock that the epoch thread holds from before it sets asleep until it waits,
 * so the signal cannot get lost. The watchdog sleeps by the same rule with watch.started and
 * watch.asleep.
 *
 * Progress. Readers never wait: no lock, no system call but one wake-up when the epoch thread was
 * asleep. It leaves at least a millisecond between grace periods (none when much memory waits, more
 * when little does), so that their cost is bounded, and sleeps when nobody wants any: an idle
 * process does nothing. A reader that neither reports nor goes offline stops reclamation; liburcu
 * has no polling call, so the watchdog notices by the time at which the running grace period began.
 *
 * Reclamation. Each thread frees what it retired, at most EPOCH_FREES_PER_RETIRE per retire:
 * freeing all of a group when its grace period ends would be a pause and would miss the cache; two
 * per retire drain any backlog, as no more than one comes in. A leaving thread waits for its own
 * grace period and frees all. */
#include "engine/epoch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <urcu-qsbr.h>

#include "engine/assert.h"
#include "engine/memory.h"

/* ThreadSanitizer does not see liburcu's barriers: tell it what a grace period orders. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EPOCH_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(EPOCH_TSAN)
void __tsan_acquire(void *address);
void __tsan_release(void *address);
static char tsan_grace_period;
#define READER_RELEASES() __tsan_release(&tsan_grace_period)
#define WRITER_ACQUIRES() __tsan_acquire(&tsan_grace_period)
#else
#define READER_RELEASES() ((void)0)
#define WRITER_ACQUIRES() ((void)0)
#endif

/* --- State ------------------------------------------------------------------------------------ */

struct retired {
    void *pointer;
    void (*destructor)(void *pointer);
    size_t bytes;
};

#define CHUNK_ENTRIES 170 /* a chunk is 4 KiB */
struct chunk {
    struct chunk *next;
    struct retired entries[CHUNK_ENTRIES];
};

/* One per thread, in its thread-local storage. Only the thread itself writes; others read the two
 * counters, and the links under registry.lock. */
struct reader {
    _Atomic uint64_t retired; /* position after the last entry */
    _Atomic uint64_t freed;   /* position of the first entry not freed */
    uint64_t safe_end;
    uint64_t previous_end;
    uint64_t current_end;
    uint64_t current_stamp;
    uint64_t look_end;    /* what was retired before the counts below were taken down */
    unsigned look_misses; /* looks in a row that found somebody still busy; 0: none under way */
    int turn_index;       /* in turns; -1: there was no room */
    struct chunk *first;  /* holds position freed, at first_index */
    struct chunk *last;   /* holds position retired - 1, at last_index - 1 */
    struct chunk *spare;  /* saves an allocation per chunk in the steady state */
    uint32_t first_index;
    uint32_t last_index;
    bool registered;
    bool online;
    bool freeing; /* inside a destructor: a retire from there must not free */
    struct reader *next;
    struct reader *previous;
};
static _Thread_local struct reader self;

#define LOOK_READERS_MAX 16
#define LOOK_MISSES_MAX  32 /* then the grace periods are asked for as well */

/* The public counts; each written by its own reader. An unused one stays even. */
static struct {
    _Alignas(64) _Atomic uint64_t count;
    bool taken; /* under registry.lock */
} turns[LOOK_READERS_MAX];
static _Atomic int turns_missing; /* readers without one; under registry.lock */
static _Thread_local uint64_t turns_seen[LOOK_READERS_MAX]; /* as taken down by this thread */

static struct {
    pthread_mutex_t lock;
    struct reader *first;
    uint64_t retired_by_gone; /* sums of threads that left */
    uint64_t freed_by_gone;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Read by every reader once a turn; written once per grace period, by the epoch thread. */
static struct {
    _Alignas(64) _Atomic uint64_t count;
    _Alignas(
        64) _Atomic uint64_t wanted; /* somebody waits for this count; only grows; any reader */
    _Atomic bool asleep;             /* the epoch thread, under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* CLOCK_MONOTONIC; made by epoch_start */
    bool stopping;       /* under lock */
    bool running;        /* the thread that starts and stops */
    pthread_t thread;
} grace = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct {
    _Atomic uint64_t started_ns; /* of the running grace period, 0: none; the epoch thread */
    _Atomic uint64_t stalls;     /* the watchdog */
    _Atomic bool asleep;         /* the watchdog, under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping; /* under lock */
    bool running;  /* the thread that starts and stops */
    pthread_t thread;
    uint64_t stall_ns;
    void (*stalled)(uint64_t waited_ms, void *context);
    void *context;
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Atomic bool single_reader;
static _Atomic bool looking = true;

#define NS_PER_MS     UINT64_C(1000000)
#define NS_PER_SECOND UINT64_C(1000000000)

static uint64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static void wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t deadline_ns) {
    struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / NS_PER_SECOND),
        .tv_nsec = (long)(deadline_ns % NS_PER_SECOND),
    };
    pthread_cond_timedwait(condition, lock, &deadline);
}

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

static void retire_append(struct reader *reader, struct retired entry) {
    if (UNLIKELY(reader->last == NULL || reader->last_index == CHUNK_ENTRIES))
        chunk_append(reader);
    reader->last->entries[reader->last_index++] = entry;
    atomic_store_explicit(&reader->retired, position(&reader->retired) + 1, memory_order_relaxed);
}

/* Frees up to limit entries before safe_end. */
static void retire_free(struct reader *reader, size_t limit) {
    if (reader->freeing)
        return;
    reader->freeing = true;
    uint64_t freed = position(&reader->freed);
    while (limit-- > 0 && freed < reader->safe_end) {
        /* Out of the list first: the destructor may retire and so append to it. */
        struct retired entry = reader->first->entries[reader->first_index++];
        if (reader->first_index == CHUNK_ENTRIES)
            chunk_remove_first(reader);
        freed++;
        atomic_store_explicit(&reader->freed, freed, memory_order_relaxed);
        memory_retired_add(-(int64_t)entry.bytes);
        entry.destructor(entry.pointer);
    }
    reader->freeing = false;
    /* What comes next left the cache a while ago; have it here by the next retire. */
    if (freed < reader->safe_end) {
        const struct retired *next = &reader->first->entries[reader->first_index];
        __builtin_prefetch(next->pointer);
        if (reader->first_index + 1 < CHUNK_ENTRIES && freed + 1 < reader->safe_end)
            __builtin_prefetch(next[1].pointer);
    }
}

/* The count is now this: moves the groups on. */
static void retire_advance(struct reader *reader, uint64_t count) {
    if (count == reader->current_stamp)
        return;
    bool both = count - reader->current_stamp >= 2;
    uint64_t safe_end = both ? reader->current_end : reader->previous_end;
    if (safe_end > reader->safe_end) /* looking may have been quicker */
        reader->safe_end = safe_end;
    reader->previous_end = reader->current_end;
    reader->current_stamp = count;
}

static void grace_want(uint64_t target) {
    uint64_t wanted = atomic_load_explicit(&grace.wanted, memory_order_relaxed);
    do {
        if (wanted >= target)
            return; /* whoever raised it so far has seen to the wake-up */
    } while (!atomic_compare_exchange_weak(&grace.wanted, &wanted, target));
    if (atomic_load(&grace.asleep)) {
        pthread_mutex_lock(&grace.lock);
        pthread_cond_signal(&grace.wake);
        pthread_mutex_unlock(&grace.lock);
    }
}

/* true: everybody else was offline or has moved on since the counts were taken down. */
static bool look_done(const struct reader *reader) {
    for (int i = 0; i < LOOK_READERS_MAX; i++) {
        if (i == reader->turn_index || !(turns_seen[i] & 1))
            continue;
        uint64_t now = atomic_load_explicit(&turns[i].count, memory_order_acquire);
        if (now == turns_seen[i])
            return false;
        turns_seen[i] = 0; /* not asked again */
    }
    return true;
}

/* Takes down the counts of all others. true: all are offline. */
static bool look_begin(struct reader *reader) {
    bool idle = true;
    atomic_thread_fence(memory_order_seq_cst); /* fence C */
    for (int i = 0; i < LOOK_READERS_MAX; i++) {
        turns_seen[i] = atomic_load_explicit(&turns[i].count, memory_order_acquire);
        idle = idle && (i == reader->turn_index || !(turns_seen[i] & 1));
    }
    reader->look_end = position(&reader->retired);
    return idle;
}

/* One look at the others. true: nothing needs a grace period for now. */
static bool retire_look(struct reader *reader) {
    if (!atomic_load_explicit(&looking, memory_order_relaxed) || reader->turn_index < 0 ||
        atomic_load_explicit(&turns_missing, memory_order_relaxed) > 0)
        return false;
    if (reader->look_misses > 0 && !look_done(reader))
        return ++reader->look_misses < LOOK_MISSES_MAX;
    if (reader->look_misses > 0 && reader->look_end > reader->safe_end)
        reader->safe_end = reader->look_end;
    reader->look_misses = 0;
    if (reader->safe_end == position(&reader->retired))
        return true;
    if (look_begin(reader))
        reader->safe_end = reader->look_end;
    else
        reader->look_misses = 1;
    return true;
}

/* Moves on what has become safe; stamps what has no stamp yet, if looking is not enough. */
static void retire_stamp(struct reader *reader) {
    uint64_t retired = position(&reader->retired);
    if (retired == position(&reader->freed) || retire_look(reader))
        return;
    bool fresh = retired != reader->current_end;
    if (fresh)
        atomic_thread_fence(memory_order_seq_cst); /* fence A */
    uint64_t count = atomic_load_explicit(&grace.count, memory_order_acquire);
    retire_advance(reader, count);
    if (fresh) {
        reader->current_end = retired;
        grace_want(count + 2);
    }
}

void epoch_retire(void *pointer, size_t bytes, void (*destructor)(void *pointer)) {
    struct reader *reader = &self;
    ASSERT(reader->registered);
    if (atomic_load_explicit(&single_reader, memory_order_relaxed)) {
        atomic_store_explicit(&reader->retired, position(&reader->retired) + 1,
                              memory_order_relaxed);
        atomic_store_explicit(&reader->freed, position(&reader->freed) + 1, memory_order_relaxed);
        destructor(pointer);
        return;
    }
    retire_append(reader, (struct retired){pointer, destructor, bytes});
    memory_retired_add((int64_t)bytes);
    if (position(&reader->freed) < reader->safe_end)
        retire_free(reader, EPOCH_FREES_PER_RETIRE);
}

size_t epoch_reclaim(size_t limit) {
    struct reader *reader = &self;
    ASSERT(reader->registered);
    retire_stamp(reader);
    retire_free(reader, limit);
    return (size_t)(position(&reader->retired) - position(&reader->freed));
}

size_t epoch_reclaim_for(uint64_t budget_us) {
    struct reader *reader = &self;
    ASSERT(reader->registered);
    if (position(&reader->freed) == position(&reader->retired))
        return 0;
    retire_stamp(reader);
    uint64_t end_ns = 0;
    while (position(&reader->freed) < reader->safe_end) {
        retire_free(reader, EPOCH_RECLAIM_STEP);
        uint64_t now_ns = monotonic_ns();
        if (end_ns == 0)
            end_ns = now_ns + budget_us * 1000;
        else if (now_ns >= end_ns)
            break;
    }
    return (size_t)(position(&reader->retired) - position(&reader->freed));
}

void epoch_set_single_reader(bool single) {
    atomic_store_explicit(&single_reader, single, memory_order_relaxed);
}

void epoch_set_looking(bool on) {
    atomic_store_explicit(&looking, on, memory_order_relaxed);
}

/* --- Readers ---------------------------------------------------------------------------------- */

/* A quiescent state (by 2), or between offline and online (by 1). Nothing was read since the last
 * use that needs to be ordered before it but by release; the fence is for the reads to come. */
static inline void turn_move(struct reader *reader, uint64_t by) {
    if (reader->turn_index < 0)
        return;
    _Atomic uint64_t *count = &turns[reader->turn_index].count;
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + by,
                          memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* fence D */
}

void epoch_reader_enter(void) {
    struct reader *reader = &self;
    ASSERT(!reader->registered);
    *reader = (struct reader){.registered = true, .online = true, .turn_index = -1};
    pthread_mutex_lock(&registry.lock);
    for (int i = 0; i < LOOK_READERS_MAX && reader->turn_index < 0; i++)
        if (!turns[i].taken) {
            turns[i].taken = true;
            reader->turn_index = i;
        }
    if (reader->turn_index < 0)
        atomic_fetch_add(&turns_missing, 1);
    turn_move(reader, 1);
    reader->next = registry.first;
    if (registry.first != NULL)
        registry.first->previous = reader;
    registry.first = reader;
    pthread_mutex_unlock(&registry.lock);
    rcu_register_thread();
}

void epoch_reader_leave(void) {
    struct reader *reader = &self;
    ASSERT(reader->registered && !reader->freeing);
    if (reader->online)
        epoch_offline();
    /* A destructor may retire: until nothing is left. */
    while (position(&reader->freed) != position(&reader->retired)) {
        uint64_t end = position(&reader->retired);
        epoch_synchronize();
        reader->safe_end = end;
        retire_free(reader, SIZE_MAX);
    }
    if (reader->first != NULL)
        memory_free_sized(reader->first, sizeof(*reader->first));
    if (reader->spare != NULL)
        memory_free_sized(reader->spare, sizeof(*reader->spare));
    rcu_unregister_thread();

    pthread_mutex_lock(&registry.lock);
    registry.retired_by_gone += position(&reader->retired);
    registry.freed_by_gone += position(&reader->freed);
    if (reader->turn_index >= 0)
        turns[reader->turn_index].taken = false; /* even: it has gone offline */
    else
        atomic_fetch_sub(&turns_missing, 1);
    if (reader->previous != NULL)
        reader->previous->next = reader->next;
    else
        registry.first = reader->next;
    if (reader->next != NULL)
        reader->next->previous = reader->previous;
    pthread_mutex_unlock(&registry.lock);
    *reader = (struct reader){0};
}

void epoch_quiescent(void) {
    ASSERT(self.online);
    turn_move(&self, 2);
    retire_stamp(&self);
    READER_RELEASES();
    rcu_quiescent_state();
}

void epoch_offline(void) {
    ASSERT(self.online);
    retire_stamp(&self);
    self.online = false;
    turn_move(&self, 1);
    READER_RELEASES();
    rcu_thread_offline();
}

void epoch_online(void) {
    ASSERT(self.registered && !self.online);
    rcu_thread_online();
    turn_move(&self, 1);
    self.online = true;
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
        .grace_periods = atomic_load_explicit(&grace.count, memory_order_acquire),
        .stalls = atomic_load_explicit(&watch.stalls, memory_order_relaxed),
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

/* --- The epoch thread ------------------------------------------------------------------------- */

/* How long to leave between two grace periods, by how much memory waits for them. A grace period
 * costs some 10-20 us of this thread and may cost each reader a wake-up call. */
static uint64_t grace_spacing_ns(void) {
    uint64_t bytes = memory_retired_bytes();
    if (bytes >= (uint64_t)64 << 20)
        return 0;
    if (bytes >= (uint64_t)8 << 20)
        return NS_PER_MS / 5;
    return bytes >= (uint64_t)128 << 10 ? NS_PER_MS : 5 * NS_PER_MS;
}

/* Under grace.lock. false: stop. */
static bool grace_wait_wanted(void) {
    while (!grace.stopping) {
        uint64_t count = atomic_load_explicit(&grace.count, memory_order_relaxed);
        if (atomic_load(&grace.wanted) > count)
            return true;
        atomic_store(&grace.asleep, true);
        if (atomic_load(&grace.wanted) <= count)
            pthread_cond_wait(&grace.wake, &grace.lock);
        atomic_store(&grace.asleep, false);
    }
    return false;
}

static void grace_run(void) {
    if (watch.running) {
        atomic_store(&watch.started_ns, monotonic_ns());
        if (atomic_load(&watch.asleep)) {
            pthread_mutex_lock(&watch.lock);
            pthread_cond_signal(&watch.wake);
            pthread_mutex_unlock(&watch.lock);
        }
    }
    atomic_thread_fence(memory_order_seq_cst); /* fence B */
    synchronize_rcu();
    WRITER_ACQUIRES();
    atomic_fetch_add_explicit(&grace.count, 1, memory_order_seq_cst);
    if (watch.running)
        atomic_store(&watch.started_ns, 0);
}

static void *grace_thread(void *unused) {
    (void)unused;
    uint64_t ended_ns = 0;
    pthread_mutex_lock(&grace.lock);
    while (grace_wait_wanted()) {
        uint64_t start_ns = ended_ns + grace_spacing_ns();
        while (!grace.stopping && monotonic_ns() < start_ns)
            wait_until(&grace.wake, &grace.lock, start_ns);
        if (grace.stopping)
            break;
        pthread_mutex_unlock(&grace.lock);
        grace_run();
        ended_ns = monotonic_ns();
        pthread_mutex_lock(&grace.lock);
    }
    pthread_mutex_unlock(&grace.lock);
    return NULL;
}

/* --- The watchdog ----------------------------------------------------------------------------- */

/* Waking it for every grace period would cost a system call each. It looks once per stall_ms while
 * there are grace periods and sleeps for good when it saw none for that long. */
static void *watch_thread(void *unused) {
    (void)unused;
    uint64_t seen_ns = 0; /* the grace period that it last looked at */
    uint64_t reports = 0; /* of that one */
    pthread_mutex_lock(&watch.lock);
    while (!watch.stopping) {
        uint64_t started_ns = atomic_load(&watch.started_ns);
        uint64_t now_ns = monotonic_ns();
        if (started_ns == 0 && seen_ns == 0) {
            atomic_store(&watch.asleep, true);
            if (atomic_load(&watch.started_ns) == 0)
                pthread_cond_wait(&watch.wake, &watch.lock);
            atomic_store(&watch.asleep, false);
            seen_ns = 1; /* look around at least once before sleeping again */
            continue;
        }
        if (started_ns != seen_ns)
            reports = 0;
        seen_ns = started_ns;
        if (started_ns == 0) {
            wait_until(&watch.wake, &watch.lock, now_ns + watch.stall_ns);
            continue;
        }
        uint64_t due_ns = started_ns + (reports + 1) * watch.stall_ns;
        if (now_ns < due_ns) {
            wait_until(&watch.wake, &watch.lock, due_ns);
            continue;
        }
        reports = (now_ns - started_ns) / watch.stall_ns;
        atomic_fetch_add_explicit(&watch.stalls, 1, memory_order_relaxed);
        if (watch.stalled != NULL) {
            pthread_mutex_unlock(&watch.lock);
            watch.stalled((now_ns - started_ns) / NS_PER_MS, watch.context);
            pthread_mutex_lock(&watch.lock);
        }
    }
    pthread_mutex_unlock(&watch.lock);
    return NULL;
}

/* --- Start and stop --------------------------------------------------------------------------- */

static int thread_create(pthread_t *thread, const char *name, void *(*function)(void *)) {
    sigset_t all, before;
    sigfillset(&all); /* signals are for the threads that expect them */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, function, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        pthread_setname_np(*thread, name);
    return -error;
}

static void condition_create(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void watch_stop(void) {
    if (!watch.running)
        return;
    pthread_mutex_lock(&watch.lock);
    watch.stopping = true;
    pthread_cond_signal(&watch.wake);
    pthread_mutex_unlock(&watch.lock);
    pthread_join(watch.thread, NULL);
    watch.running = false;
}

int epoch_start(unsigned stall_ms, void (*stalled)(uint64_t waited_ms, void *context),
                void *context) {
    ASSERT(!grace.running);
    condition_create(&grace.wake);
    condition_create(&watch.wake);
    grace.stopping = false;
    watch.stopping = false;
    watch.stall_ns = stall_ms * NS_PER_MS;
    watch.stalled = stalled;
    watch.context = context;
    atomic_store(&watch.started_ns, 0);

    int error = background_start();
    if (error < 0)
        goto no_background;
    if (stall_ms > 0) {
        error = thread_create(&watch.thread, "sw-watchdog", watch_thread);
        if (error < 0)
            goto no_watch;
        watch.running = true;
    }
    error = thread_create(&grace.thread, "sw-epoch", grace_thread);
    if (error < 0)
        goto no_grace;
    grace.running = true;
    return 0;

no_grace:
    watch_stop();
no_watch:
    background_stop();
no_background:
    pthread_cond_destroy(&watch.wake);
    pthread_cond_destroy(&grace.wake);
    return error;
}

void epoch_stop(void) {
    if (!grace.running)
        return;
    background_stop();
    pthread_mutex_lock(&grace.lock);
    grace.stopping = true;
    pthread_cond_signal(&grace.wake);
    pthread_mutex_unlock(&grace.lock);
    pthread_join(grace.thread, NULL);
    grace.running = false;
    watch_stop();
    pthread_cond_destroy(&watch.wake);
    pthread_cond_destroy(&grace.wake);
}
