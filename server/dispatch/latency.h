/* How long commands take: a histogram for each command and worker, for INFO latencystats and
 * LATENCY HISTOGRAM.
 *
 * Buckets are log-linear in ticks of clock_ticks: 32 to a power of two, so a figure read from them
 * is at most 3 % too high. Recording is an increment in memory that only this worker writes. */
#ifndef SLOTWISE_SERVER_LATENCY_H
#define SLOTWISE_SERVER_LATENCY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define LATENCY_SUB_BITS 5
#define LATENCY_SUB      (1u << LATENCY_SUB_BITS)
#define LATENCY_BITS_MAX 45 /* ticks: some hours; what is longer counts as that */
#define LATENCY_BUCKETS  ((LATENCY_BITS_MAX - LATENCY_SUB_BITS + 1) * LATENCY_SUB)

struct latency_histogram {
    _Atomic uint64_t counts[LATENCY_BUCKETS]; /* by one thread, relaxed; read by any */
};

static inline unsigned latency_bucket(uint64_t ticks) {
    if (ticks < LATENCY_SUB)
        return (unsigned)ticks;
    unsigned bits = 64 - (unsigned)__builtin_clzll(ticks); /* at least SUB_BITS + 1 */
    if (__builtin_expect(bits > LATENCY_BITS_MAX, 0))
        return LATENCY_BUCKETS - 1;
    unsigned shift = bits - LATENCY_SUB_BITS - 1;
    return shift * LATENCY_SUB + (unsigned)(ticks >> shift);
}

static inline void latency_record(struct latency_histogram *histogram, uint64_t ticks) {
    _Atomic uint64_t *count = &histogram->counts[latency_bucket(ticks)];
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static inline uint64_t latency_bucket_count(const struct latency_histogram *histogram,
                                            unsigned bucket) {
    return atomic_load_explicit(&histogram->counts[bucket], memory_order_relaxed);
}

/* The largest number of ticks that falls into a bucket. */
uint64_t latency_bucket_top(unsigned bucket);
/* Of a sum that nobody else sees; histogram may be somebody's who is recording. */
void latency_add(struct latency_histogram *sum, const struct latency_histogram *histogram);
uint64_t latency_count(const struct latency_histogram *histogram);
/* The time in ns that so many percent of the calls did not exceed; 0 when there were none. */
uint64_t latency_percentile_ns(const struct latency_histogram *histogram, double percentile);
/* How many calls took at most so long. */
uint64_t latency_count_up_to(const struct latency_histogram *histogram, uint64_t limit_ns);

#endif
