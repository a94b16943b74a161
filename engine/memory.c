/* Accounted memory over jemalloc (or the C library's allocator where that is off: sanitizers).
 *
 * Invariant: the sum of all counters' used_bytes is the sum of usable sizes of all live
 * allocations. Each counter is written by its own thread only (relaxed store, no
 * read-modify-write); anybody reads it. A thread that ends leaves its counter where it is: the slot
 * is given to the next thread with its value.
 *
 * Publishing. A counter's own part of the counted sum is its used bytes without `uncounted_bytes`
 * (what it has retired, up to its share). published_bytes is what the shared total has of it. While
 * there is a limit the difference is below the step after each of the thread's operations; that
 * cannot be relied on before every thread has had one since the limit was set, so memory_is_over
 * sums exactly until it has once seen that it is so (settled). */
#include "engine/memory.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SLOTWISE_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

#include "engine/assert.h"
#include "engine/slab.h"

#define COUNTERS_MAX 512

struct counter {
    _Alignas(64) _Atomic int64_t used_bytes; /* written by the owner */
    _Atomic int64_t retired_bytes;           /* written by the owner */
    _Atomic int64_t published_bytes;         /* what admission_bytes has of it; by the owner */
    int64_t uncounted_bytes;                 /* owner only: of the retired ones */
    int64_t base_bytes;                      /* owner only: published + uncounted */
    _Atomic uint32_t taken;
};

static struct counter counters[COUNTERS_MAX];
static _Atomic unsigned counters_high; /* counters below this may be in use */
static _Alignas(64) _Atomic int64_t admission_bytes;
static _Alignas(64) _Atomic uint64_t peak_bytes;
static _Atomic int64_t freeing_bytes;
static _Thread_local struct counter *mine;
_Thread_local bool memory_retired_is_over_max;

/* Read by each allocation, written by memory_set_limit (settled also by memory_is_over). */
static struct {
    _Alignas(64) _Atomic int64_t step_bytes; /* INT64_MAX: nobody publishes */
    _Atomic int64_t share_bytes;             /* retired bytes of one thread that do not count */
    _Atomic int64_t retired_max_bytes;       /* of one thread */
    _Atomic bool settled;
} limits = {.step_bytes = INT64_MAX,
            .share_bytes = MEMORY_RETIRED_MAX_BYTES,
            .retired_max_bytes = MEMORY_RETIRED_MAX_BYTES};

static pthread_key_t counter_key;
static pthread_once_t counter_once = PTHREAD_ONCE_INIT;

static void counter_give_back(void *counter) {
    atomic_store_explicit(&((struct counter *)counter)->taken, 0, memory_order_release);
    mine = NULL;
}

static void counter_key_make(void) {
    ASSERT(pthread_key_create(&counter_key, counter_give_back) == 0);
}

static __attribute__((noinline)) struct counter *counter_take(void) {
    pthread_once(&counter_once, counter_key_make);
    for (unsigned i = 0; i < COUNTERS_MAX; i++) {
        uint32_t free_mark = 0;
        if (!atomic_compare_exchange_strong(&counters[i].taken, &free_mark, 1))
            continue;
        unsigned high = atomic_load(&counters_high);
        while (high < i + 1 && !atomic_compare_exchange_weak(&counters_high, &high, i + 1))
            ;
        mine = &counters[i];
        pthread_setspecific(counter_key, mine);
        return mine;
    }
    assert_failed("too many threads", __FILE__, __LINE__);
}

static __attribute__((noinline)) void counter_publish(struct counter *counter, int64_t drift) {
    int64_t published = atomic_load_explicit(&counter->published_bytes, memory_order_relaxed);
    atomic_store_explicit(&counter->published_bytes, published + drift, memory_order_relaxed);
    counter->base_bytes += drift;
    atomic_fetch_add_explicit(&admission_bytes, drift, memory_order_relaxed);
}

static inline void counter_moved(struct counter *counter, int64_t used_bytes) {
    int64_t drift = used_bytes - counter->base_bytes;
    int64_t step = atomic_load_explicit(&limits.step_bytes, memory_order_relaxed);
    if (UNLIKELY(drift >= step || drift <= -step))
        counter_publish(counter, drift);
}

static inline void account(int64_t bytes) {
    struct counter *counter = LIKELY(mine != NULL) ? mine : counter_take();
    int64_t used = atomic_load_explicit(&counter->used_bytes, memory_order_relaxed) + bytes;
    atomic_store_explicit(&counter->used_bytes, used, memory_order_relaxed);
    counter_moved(counter, used);
}

void memory_retired_add(int64_t bytes) {
    struct counter *counter = LIKELY(mine != NULL) ? mine : counter_take();
    int64_t retired = atomic_load_explicit(&counter->retired_bytes, memory_order_relaxed) + bytes;
    int64_t share = atomic_load_explicit(&limits.share_bytes, memory_order_relaxed);
    int64_t uncounted = retired < share ? retired : share;
    atomic_store_explicit(&counter->retired_bytes, retired, memory_order_relaxed);
    memory_retired_is_over_max =
        retired > atomic_load_explicit(&limits.retired_max_bytes, memory_order_relaxed);
    counter->base_bytes += uncounted - counter->uncounted_bytes;
    counter->uncounted_bytes = uncounted;
    counter_moved(counter, atomic_load_explicit(&counter->used_bytes, memory_order_relaxed));
}

void memory_freeing_add(int64_t bytes) {
    atomic_fetch_add_explicit(&freeing_bytes, bytes, memory_order_relaxed);
}

void memory_set_limit(uint64_t limit_bytes, unsigned threads) {
    uint64_t uncounted = limit_bytes / 64, retired_max = limit_bytes / 64;
    if (retired_max < MEMORY_RETIRED_MAX_BYTES)
        retired_max = MEMORY_RETIRED_MAX_BYTES;
    if (limit_bytes == 0)
        uncounted = MEMORY_RETIRED_MAX_BYTES;
    else if (uncounted < MEMORY_UNCOUNTED_MIN_BYTES)
        uncounted = MEMORY_UNCOUNTED_MIN_BYTES;
    ASSERT(threads > 0);
    atomic_store_explicit(&limits.settled, false, memory_order_relaxed);
    atomic_store_explicit(&limits.share_bytes, (int64_t)(uncounted / threads),
                          memory_order_relaxed);
    atomic_store_explicit(&limits.retired_max_bytes, (int64_t)(retired_max / threads),
                          memory_order_relaxed);
    atomic_store_explicit(&limits.step_bytes,
                          limit_bytes > 0 ? MEMORY_PUBLISH_STEP_BYTES : INT64_MAX,
                          memory_order_relaxed);
}

static _Noreturn __attribute__((noinline)) void out_of_memory(size_t size_bytes) {
    fprintf(stderr, "Out Of Memory allocating %zu bytes!\n", size_bytes);
    fflush(stderr);
    assert_failed("Out Of Memory", __FILE__, __LINE__);
}

#ifdef SLOTWISE_JEMALLOC
/* Read by the allocator when it is loaded. A page that nobody has used for about a second goes back
 * to the system at once (muzzy pages would count as resident until the kernel is short of memory);
 * one background thread, which memory_set_background_thread starts, is enough for that. Size
 * classes that are powers of two get slabs of four pages instead of one: an allocator's header of
 * 128 bytes for each page is 3 % of the data, and is never given back. */
const char *malloc_conf =
    "dirty_decay_ms:1000,muzzy_decay_ms:0,max_background_threads:1,"
    "slab_sizes:32-32:4|64-64:4|128-128:4|256-256:4|512-512:4|1024-1024:4|2048-2048:4|4096-4096:4";

void memory_set_background_thread(bool on) {
    mallctl("background_thread", NULL, NULL, &on, sizeof on);
}

void memory_give_back(void) {
    slab_give_back();
    char name[32];
    snprintf(name, sizeof name, "arena.%d.purge", MALLCTL_ARENAS_ALL);
    mallctl(name, NULL, NULL, NULL, 0);
}

static void thread_cache_drop(void) {
    mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
}

/* Size classes of small allocations by (size + 7) / 8, filled on first use with what the allocator
 * says: an allocation and a free each ask for it, and a load is cheaper than the call. Any thread
 * writes the same values. */
#define CLASS_TABLE_MAX_BYTES 4096
static _Atomic uint16_t class_table[CLASS_TABLE_MAX_BYTES / 8 + 1];

static __attribute__((noinline)) size_t class_bytes_slow(size_t size_bytes) {
    size_t bytes = nallocx(size_bytes ? size_bytes : 1, 0);
    if (size_bytes <= CLASS_TABLE_MAX_BYTES)
        atomic_store_explicit(&class_table[(size_bytes + 7) / 8], (uint16_t)bytes,
                              memory_order_relaxed);
    return bytes;
}

static inline size_t class_bytes(size_t size_bytes) {
    if (LIKELY(size_bytes <= CLASS_TABLE_MAX_BYTES)) {
        size_t bytes =
            atomic_load_explicit(&class_table[(size_bytes + 7) / 8], memory_order_relaxed);
        if (LIKELY(bytes != 0))
            return bytes;
    }
    return class_bytes_slow(size_bytes);
}
#else
void memory_set_background_thread(bool on) {
    (void)on;
}

void memory_give_back(void) {
}

static void thread_cache_drop(void) {
}

/* The C library's: 8 bytes of header, multiples of 16, at least 24 usable. */
static inline size_t class_bytes(size_t size_bytes) {
    return size_bytes <= 24 ? 24 : ((size_bytes + 8 + 15) & ~(size_t)15) - 8;
}
#endif

static _Atomic unsigned cache_drops; /* by anybody who wants it */

void memory_thread_caches_drop(void) {
    atomic_fetch_add_explicit(&cache_drops, 1, memory_order_relaxed);
}

void memory_thread_cache_check(void) {
    static _Thread_local unsigned seen;
    unsigned now = atomic_load_explicit(&cache_drops, memory_order_relaxed);
    if (now == seen)
        return;
    seen = now;
    slab_thread_flush();
    thread_cache_drop();
}

size_t memory_class_bytes(size_t size_bytes) {
    return class_bytes(size_bytes);
}

size_t memory_usable_bytes(const void *pointer) {
    return pointer ? malloc_usable_size((void *)pointer) : 0;
}

void *memory_try_alloc(size_t size_bytes) {
    if (size_bytes == 0)
        size_bytes = 1;
    void *pointer = malloc(size_bytes);
    if (LIKELY(pointer != NULL)) {
#ifdef SLOTWISE_JEMALLOC
        account((int64_t)class_bytes(size_bytes));
#else
        account((int64_t)malloc_usable_size(pointer));
#endif
    }
    return pointer;
}

void *memory_alloc(size_t size_bytes) {
    void *pointer = memory_try_alloc(size_bytes);
    if (UNLIKELY(!pointer))
        out_of_memory(size_bytes);
    return pointer;
}

void *memory_calloc(size_t count, size_t size_bytes) {
    void *pointer = calloc(count ? count : 1, size_bytes ? size_bytes : 1);
    if (UNLIKELY(!pointer))
        out_of_memory(count * size_bytes);
    account((int64_t)malloc_usable_size(pointer));
    return pointer;
}

void *memory_alloc_aligned(size_t alignment, size_t size_bytes) {
    void *pointer = NULL;
    if (posix_memalign(&pointer, alignment, size_bytes ? size_bytes : 1) != 0)
        out_of_memory(size_bytes);
    account((int64_t)malloc_usable_size(pointer));
    return pointer;
}

void *memory_realloc(void *pointer, size_t size_bytes) {
    int64_t before = (int64_t)memory_usable_bytes(pointer);
    void *moved = realloc(pointer, size_bytes ? size_bytes : 1);
    if (UNLIKELY(!moved))
        out_of_memory(size_bytes);
    account((int64_t)malloc_usable_size(moved) - before);
    return moved;
}

char *memory_strdup(const char *text) {
    size_t size_bytes = strlen(text) + 1;
    return memcpy(memory_alloc(size_bytes), text, size_bytes);
}

void memory_free(void *pointer) {
    if (!pointer)
        return;
    account(-(int64_t)malloc_usable_size(pointer));
    free(pointer);
}

void memory_free_sized(void *pointer, size_t size_bytes) {
#ifdef SLOTWISE_JEMALLOC
    if (!pointer)
        return;
    if (size_bytes == 0)
        size_bytes = 1;
    account(-(int64_t)class_bytes(size_bytes));
    sdallocx(pointer, size_bytes, 0);
#else
    (void)size_bytes;
    memory_free(pointer);
#endif
}

static unsigned counters_in_use(void) {
    return atomic_load_explicit(&counters_high, memory_order_acquire);
}

#ifdef SLOTWISE_JEMALLOC
void *memory_alloc_object(size_t size_bytes) {
    if (UNLIKELY(size_bytes > SLAB_MAX_BYTES))
        return memory_alloc(size_bytes);
    void *pointer = slab_alloc(size_bytes);
    if (UNLIKELY(!pointer))
        out_of_memory(size_bytes);
    account((int64_t)slab_class_bytes(size_bytes));
    return pointer;
}

void memory_free_object(void *pointer, size_t size_bytes) {
    if (UNLIKELY(size_bytes > SLAB_MAX_BYTES)) {
        memory_free_sized(pointer, size_bytes);
        return;
    }
    account(-(int64_t)slab_class_bytes(size_bytes));
    slab_free(pointer, size_bytes);
}

size_t memory_object_bytes(size_t size_bytes) {
    return size_bytes > SLAB_MAX_BYTES ? class_bytes(size_bytes) : slab_class_bytes(size_bytes);
}
#else
void *memory_alloc_object(size_t size_bytes) {
    return memory_alloc(size_bytes);
}

void memory_free_object(void *pointer, size_t size_bytes) {
    memory_free_sized(pointer, size_bytes);
}

size_t memory_object_bytes(size_t size_bytes) {
    return class_bytes(size_bytes);
}
#endif

uint64_t memory_used_bytes(void) {
    int64_t sum = 0;
    for (unsigned i = 0, high = counters_in_use(); i < high; i++)
        sum += atomic_load_explicit(&counters[i].used_bytes, memory_order_relaxed);
    return sum > 0 ? (uint64_t)sum : 0;
}

uint64_t memory_retired_bytes(void) {
    int64_t sum = 0;
    for (unsigned i = 0, high = counters_in_use(); i < high; i++)
        sum += atomic_load_explicit(&counters[i].retired_bytes, memory_order_relaxed);
    return sum > 0 ? (uint64_t)sum : 0;
}

uint64_t memory_live_bytes(void) {
    int64_t sum = -atomic_load_explicit(&freeing_bytes, memory_order_relaxed);
    for (unsigned i = 0, high = counters_in_use(); i < high; i++)
        sum += atomic_load_explicit(&counters[i].used_bytes, memory_order_relaxed) -
               atomic_load_explicit(&counters[i].retired_bytes, memory_order_relaxed);
    return sum > 0 ? (uint64_t)sum : 0;
}

static int64_t counter_counted(const struct counter *counter, int64_t share) {
    int64_t retired = atomic_load_explicit(&counter->retired_bytes, memory_order_relaxed);
    return atomic_load_explicit(&counter->used_bytes, memory_order_relaxed) -
           (retired < share ? retired : share);
}

uint64_t memory_counted_bytes(void) {
    int64_t share = atomic_load_explicit(&limits.share_bytes, memory_order_relaxed), sum = 0;
    for (unsigned i = 0, high = counters_in_use(); i < high; i++)
        sum += counter_counted(&counters[i], share);
    return sum > 0 ? (uint64_t)sum : 0;
}

int64_t memory_admission_bytes(void) {
    struct counter *counter = LIKELY(mine != NULL) ? mine : counter_take();
    /* Own drift exactly, that of the others up to the step. */
    return atomic_load_explicit(&admission_bytes, memory_order_relaxed) +
           atomic_load_explicit(&counter->used_bytes, memory_order_relaxed) - counter->base_bytes;
}

/* Each thread has published all but less than a step since the limit was set. */
static void try_to_settle(void) {
    int64_t step = atomic_load_explicit(&limits.step_bytes, memory_order_relaxed);
    int64_t share = atomic_load_explicit(&limits.share_bytes, memory_order_relaxed);
    if (step == INT64_MAX)
        return;
    for (unsigned i = 0, high = counters_in_use(); i < high; i++) {
        int64_t drift = counter_counted(&counters[i], share) -
                        atomic_load_explicit(&counters[i].published_bytes, memory_order_relaxed);
        if (drift >= step || drift <= -step)
            return;
    }
    atomic_store_explicit(&limits.settled, true, memory_order_relaxed);
}

static __attribute__((noinline)) bool is_over_exactly(uint64_t limit_bytes) {
    if (!atomic_load_explicit(&limits.settled, memory_order_relaxed))
        try_to_settle();
    return memory_counted_bytes() > limit_bytes;
}

bool memory_is_over(uint64_t limit_bytes) {
    int64_t unpublished = (int64_t)atomic_load_explicit(&counters_high, memory_order_relaxed) *
                          MEMORY_PUBLISH_STEP_BYTES;
    if (LIKELY(atomic_load_explicit(&limits.settled, memory_order_relaxed) &&
               memory_admission_bytes() + unpublished <= (int64_t)limit_bytes))
        return false;
    return is_over_exactly(limit_bytes);
}

void memory_peak_sample(void) {
    uint64_t used = memory_used_bytes(), peak = atomic_load(&peak_bytes);
    while (used > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, used))
        ;
}

uint64_t memory_peak_bytes(void) {
    memory_peak_sample(); /* never less than what the caller sees as used */
    return atomic_load(&peak_bytes);
}
