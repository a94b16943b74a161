/* Grace periods: the epoch thread, and the watchdog thread that looks after it. The other way to
 * know that retired memory is safe is in epoch.c.
 *
 * Algorithm. The epoch thread calls synchronize_rcu and then adds one to the count; both only while
 * somebody wants a higher one. What was retired before a reader read the count c (behind a fence)
 * is safe at c + 2: the grace period c + 1 may have begun before it was unpublished, c + 2 has not.
 *
 * Ordering.
 * - Counting: a reader unpublishes; full fence (its own); loads count == c. Epoch thread: stores
 * count = c + 1; full fence (B); grace period c + 2. Since the load missed c + 1, the reader's
 * fence comes before B, so when c + 2 begins everybody sees the unpublishing, and who still holds
 * the pointer has yet to pass a quiescent state of c + 2. Freeing: a reader's last use, its
 * quiescent state, the end of synchronize_rcu, the store of the count, its acquire load: one chain.
 * - Wanting: a reader raises grace.wanted and then reads grace.asleep; the epoch thread sets asleep
 * and then reads wanted, all seq_cst: one of them sees the other. The condition variable is
 * signalled under the lock that the epoch thread holds from before it sets asleep until it waits,
 * so the signal cannot get lost. The watchdog sleeps by the same rule with watch.started and
 * watch.asleep.
 *
 * Progress. Nobody waits for the epoch thread. It leaves at least a millisecond between grace
 * periods (none when much memory waits, more when little does), so that their cost is bounded, and
 * sleeps when nobody wants any: an idle process does nothing. A reader that neither reports nor
 * goes offline stops it; liburcu has no polling call, so the watchdog notices by the time at which
 * the running grace period began.
 *
 * Reclamation. Frees nothing itself. */
#include "engine/epoch_grace.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <urcu-qsbr.h>

#include "engine/assert.h"
#include "engine/memory.h"

#if defined(__SANITIZE_THREAD__) || defined(EPOCH_TSAN)
char epoch_tsan_grace_period;
#endif

struct epoch_grace_count epoch_grace_count;

static struct {
    _Alignas(
        64) _Atomic uint64_t wanted; /* for this count somebody waits; only grows; any reader */
    _Atomic bool asleep;             /* the epoch thread, under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* CLOCK_MONOTONIC; made by epoch_grace_start */
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

void epoch_grace_want(uint64_t target) {
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

uint64_t epoch_grace_stalls(void) {
    return atomic_load_explicit(&watch.stalls, memory_order_relaxed);
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
        uint64_t count = atomic_load_explicit(&epoch_grace_count.value, memory_order_relaxed);
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
    atomic_fetch_add_explicit(&epoch_grace_count.value, 1, memory_order_seq_cst);
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

int epoch_grace_start(unsigned stall_ms, void (*stalled)(uint64_t waited_ms, void *context),
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

    int error = 0;
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
    pthread_cond_destroy(&watch.wake);
    pthread_cond_destroy(&grace.wake);
    return error;
}

void epoch_grace_stop(void) {
    if (!grace.running)
        return;
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
