/* Accounted memory.
 *
 * Every allocation of the data set and of connections goes through here. Each thread owns one
 * counter (a cache line that only it writes); used memory is the sum over all counters, so an
 * allocation never touches a shared line. A counter may be negative: what one thread allocates
 * another may free.
 *
 * Three sums matter. What is *used* is allocated. What is *live* is used and neither retired nor on
 * its way to be freed: what would be left if everything dead were freed now, and so what eviction
 * can do something about. What is *counted* is what maxmemory is compared with and what INFO shows
 * as used_memory: used memory without what is retired, and of that only up to a bound
 * (memory_set_limit; a share of it for each thread that retires): above it retired memory
 * counts.
 *
 * For the admission check a thread also publishes its drift to one shared total whenever it exceeds
 * MEMORY_PUBLISH_STEP_BYTES, so that the check reads one line instead of one per thread and is
 * wrong by less than that step per thread. Without a limit nobody publishes and the total is not
 * touched.
 *
 * Any thread may call anything here. Out of memory ends the process with a message, as in Redis,
 * except for memory_try_alloc. */
#ifndef SLOTWISE_ENGINE_MEMORY_H
#define SLOTWISE_ENGINE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Small enough for a limit that is a few hundred KB above what is used; a thread that only adds
 * keys still touches the shared line once in about twenty of them. */
#define MEMORY_PUBLISH_STEP_BYTES (2 * 1024)

void *memory_alloc(size_t size_bytes);
void *memory_try_alloc(size_t size_bytes); /* NULL when there is no memory */
void *memory_calloc(size_t count, size_t size_bytes);
void *memory_alloc_aligned(size_t alignment, size_t size_bytes); /* freed with memory_free */
void *memory_realloc(void *pointer, size_t size_bytes);
char *memory_strdup(const char *text);
void memory_free(void *pointer); /* NULL is fine */

/* As memory_free, cheaper: size_bytes is what was asked for in memory_alloc. */
void memory_free_sized(void *pointer, size_t size_bytes);

/* The same for objects, up to SLAB_MAX_BYTES in finer size classes (engine/slab.h; all from the
 * allocator where that is off: sanitizers). Only memory_free_object frees these, with the size that
 * was asked for. */
void *memory_alloc_object(size_t size_bytes);
void memory_free_object(void *pointer, size_t size_bytes);
size_t memory_object_bytes(size_t size_bytes); /* what it takes */

/* Whether the allocator has a thread of its own that gives unused pages back to the system (without
 * it they go only while somebody allocates or frees). After daemonizing; any thread. Nothing
 * happens where the allocator knows none. */
void memory_set_background_thread(bool on);
/* Gives all unused pages back to the system; the allocator's own thread leaves up to 4 MB until
 * there is more to do. May take milliseconds: see background_give_back_memory. */
void memory_give_back(void);
/* Freed pieces that the allocator keeps for the calling thread hold whole slabs. The first lets all
 * threads know that theirs should go, the second lets the caller's go if somebody has said so since
 * its last call (from a timer of each thread that frees much). */
void memory_thread_caches_drop(void);
void memory_thread_cache_check(void);

/* Bytes that an allocation of size_bytes really takes (the allocator's size class). */
size_t memory_class_bytes(size_t size_bytes);
/* Bytes that this allocation really takes. */
size_t memory_usable_bytes(const void *pointer);

/* The limit under which all this happens (0: none) and how many threads retire memory (workers): by
 * them the bound is divided. In an exclusive section, or before these threads start. */
void memory_set_limit(uint64_t limit_bytes, unsigned threads);
/* Retired memory that does not count: 1/64 of the limit but at least 1 MB; 64 MB without a limit.
 */
#define MEMORY_UNCOUNTED_MIN_BYTES ((uint64_t)1 << 20)
/* Retired memory, counted or not, beside which nobody writes: 1/64 of the limit, at least this. */
#define MEMORY_RETIRED_MAX_BYTES   ((uint64_t)64 << 20)

/* Memory that is allocated but waits for a grace period: added when it is retired (positive) and
 * taken out of here when it is really freed (negative), on the same thread. */
void memory_retired_add(int64_t bytes);
/* The calling thread has more of it than its share of what may be: who wants to write waits. */
static inline bool memory_retired_is_over(void);
/* Memory that nothing refers to any more and that some other thread is about to free. It stays
 * counted. An atomic addition: for large pieces only. */
void memory_freeing_add(int64_t bytes);

/* Sums over all threads, exact when nobody allocates meanwhile. */
uint64_t memory_used_bytes(void);
uint64_t memory_live_bytes(void);
uint64_t memory_counted_bytes(void);
/* What is retired and not yet freed. */
uint64_t memory_retired_bytes(void);
/* The counted bytes from the published total: one shared load. Only while there is a limit. */
int64_t memory_admission_bytes(void);
/* Is more counted than this? One shared load when it is far from it, the exact sum when it is near
 * (or when the limit was just set). */
bool memory_is_over(uint64_t limit_bytes);
/* Highest memory_used_bytes seen by memory_peak_sample (call it from a timer) or by the call
 * itself. */
void memory_peak_sample(void);
uint64_t memory_peak_bytes(void);

/* Written by memory_retired_add of its own thread only. */
extern _Thread_local bool memory_retired_is_over_max;
static inline bool memory_retired_is_over(void) {
    return memory_retired_is_over_max;
}

#endif
