/* Accounted memory.
 *
 * Every allocation of the data set and of connections goes through here. Each thread owns one
 * counter (a cache line that only it writes); used memory is the sum over all counters, so an
 * allocation never touches a shared line. A counter may be negative: what one thread allocates
 * another may free.
 *
 * For the admission check (maxmemory) a thread also publishes its drift to one shared total
 * whenever it exceeds MEMORY_PUBLISH_STEP_BYTES, so that the check reads one line instead of one
 * per thread and is wrong by less than that step per thread.
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

/* Bytes that an allocation of size_bytes really takes (the allocator's size class). */
size_t memory_class_bytes(size_t size_bytes);
/* Bytes that this allocation really takes. */
size_t memory_usable_bytes(const void *pointer);

/* Memory that is allocated but waits for a grace period: it leaves the maxmemory sum when it is
 * retired (positive) and is taken out of here when it is really freed (negative). Counted per
 * thread. */
void memory_retired_add(int64_t bytes);

/* Sum over all threads, exact when nobody allocates meanwhile. */
uint64_t memory_used_bytes(void);
/* The same without what is retired and waits to be freed: what maxmemory is compared with. */
uint64_t memory_live_bytes(void);
/* Sum of what is retired and not yet freed. */
uint64_t memory_retired_bytes(void);
/* Used minus retired, from the published total: one shared load. For the admission check. */
int64_t memory_admission_bytes(void);
/* Is more live than this? One shared load when it is far from it, the exact sum when it is near. */
bool memory_is_over(uint64_t limit_bytes);
/* Highest memory_used_bytes seen by memory_peak_sample (call it from a timer) or by the call
 * itself. */
void memory_peak_sample(void);
uint64_t memory_peak_bytes(void);

#endif
