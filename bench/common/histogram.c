/*
 * Latency histogram: the parts that are not on the hot path. See histogram.h.
 */
#include "bench/common/histogram.h"

#include <math.h>
#include <string.h>

void histogram_reset(struct histogram *histogram) {
    memset(histogram, 0, sizeof(*histogram));
    histogram->min = UINT64_MAX;
}

void histogram_merge(struct histogram *into, const struct histogram *from) {
    for (unsigned i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        into->buckets[i] += from->buckets[i];
    }
    into->count += from->count;
    into->sum += from->sum;
    into->max = from->max > into->max ? from->max : into->max;
    into->min = from->min < into->min ? from->min : into->min;
}

/* The middle of a bucket's range. */
static uint64_t bucket_value(unsigned index) {
    if (index < (2U << HISTOGRAM_SUB_BITS)) {
        return index;
    }
    unsigned exponent = (index >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t low = (uint64_t)(index - (exponent << HISTOGRAM_SUB_BITS)) << exponent;
    return low + ((1ULL << exponent) - 1) / 2;
}

uint64_t histogram_percentile(const struct histogram *histogram, double percentile) {
    if (histogram->count == 0) {
        return 0;
    }
    double exact_rank = ceil((double)histogram->count * percentile / 100.0);
    uint64_t rank = exact_rank < 1 ? 1 : (uint64_t)exact_rank;
    if (rank >= histogram->count) {
        return histogram->max;
    }
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank) {
            uint64_t value = bucket_value(i);
            value = value > histogram->max ? histogram->max : value;
            return value < histogram->min ? histogram->min : value;
        }
    }
    return histogram->max;
}

double histogram_mean(const struct histogram *histogram) {
    return histogram->count == 0 ? 0 : (double)histogram->sum / (double)histogram->count;
}
