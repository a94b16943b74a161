/*
 * A latency histogram with logarithmic buckets: 64 to every power of two, so every recorded value
 * is known to within 1.6 % from 1 ns to over an hour, in a fixed 19 KiB and with a handful of
 * instructions per value.
 *
 * A histogram belongs to one thread while it is being filled; merge afterwards.
 */
#ifndef BENCH_COMMON_HISTOGRAM_H
#define BENCH_COMMON_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS     6
#define HISTOGRAM_MAX_BITS     42
#define HISTOGRAM_BUCKET_COUNT ((HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t min;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKET_COUNT];
};

/* Empties a histogram; needed before first use. */
void histogram_reset(struct histogram *histogram);

/* The bucket of a value. Values below 128 have their own; beyond 2^42 all share the last. */
static inline unsigned histogram_index(uint64_t value) {
    const uint64_t largest = (1ULL << HISTOGRAM_MAX_BITS) - 1;
    value = value > largest ? largest : value;
    if (value < (2U << HISTOGRAM_SUB_BITS)) {
        return (unsigned)value;
    }
    unsigned exponent = 63U - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return (exponent << HISTOGRAM_SUB_BITS) + (unsigned)(value >> exponent);
}

/* Records `value` `times` times. */
static inline void histogram_add(struct histogram *histogram, uint64_t value, uint64_t times) {
    histogram->buckets[histogram_index(value)] += times;
    histogram->count += times;
    histogram->sum += value * times;
    histogram->max = value > histogram->max ? value : histogram->max;
    histogram->min = value < histogram->min ? value : histogram->min;
}

/* Adds all of `from` to `into`. */
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The value below or at which `percentile` (0..100) percent of what was recorded lies; 0 when
 * nothing was recorded. */
uint64_t histogram_percentile(const struct histogram *histogram, double percentile);

/* The mean; 0 when nothing was recorded. */
double histogram_mean(const struct histogram *histogram);

#endif
