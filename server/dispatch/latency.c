/* See latency.h. */
#include "server/dispatch/latency.h"

#include "engine/clock.h"

uint64_t latency_bucket_top(unsigned bucket) {
    if (bucket < 2 * LATENCY_SUB)
        return bucket;
    unsigned shift = bucket / LATENCY_SUB - 1;
    uint64_t first = (uint64_t)(LATENCY_SUB + bucket % LATENCY_SUB) << shift;
    return first + ((uint64_t)1 << shift) - 1;
}

void latency_add(struct latency_histogram *sum, const struct latency_histogram *histogram) {
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        atomic_store_explicit(&sum->counts[i],
                              latency_bucket_count(sum, i) + latency_bucket_count(histogram, i),
                              memory_order_relaxed);
}

uint64_t latency_count(const struct latency_histogram *histogram) {
    uint64_t count = 0;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        count += latency_bucket_count(histogram, i);
    return count;
}

uint64_t latency_percentile_ns(const struct latency_histogram *histogram, double percentile) {
    uint64_t count = latency_count(histogram), seen = 0;
    if (count == 0)
        return 0;
    double exact = percentile / 100 * (double)count;
    uint64_t rank = (uint64_t)exact + ((double)(uint64_t)exact < exact);
    rank = rank < 1 ? 1 : rank > count ? count : rank;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        seen += latency_bucket_count(histogram, i);
        if (seen >= rank)
            return clock_ticks_to_ns(latency_bucket_top(i));
    }
    return 0;
}

uint64_t latency_count_up_to(const struct latency_histogram *histogram, uint64_t limit_ns) {
    uint64_t count = 0;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        if (latency_bucket_count(histogram, i) &&
            clock_ticks_to_ns(latency_bucket_top(i)) <= limit_ns)
            count += latency_bucket_count(histogram, i);
    return count;
}
