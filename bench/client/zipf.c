/*
 * Zipf sampling by rejection inversion (W. Hörmann, G. Derflinger: Rejection-inversion to generate
 * variates from monotone discrete distributions, 1996): invert the integral of the density's
 * continuous envelope and reject the little that it has too much. Exact for every exponent > 0,
 * with 1.1 draws on average.
 */
#include "bench/client/zipf.h"

#include <math.h>

#include "bench/common/random.h"

/* The integral of x^-exponent from 1 to x. */
static double envelope(double x, double exponent) {
    double flatness = 1.0 - exponent;
    return fabs(flatness) < 1e-9 ? log(x) : (pow(x, flatness) - 1.0) / flatness;
}

static double envelope_inverse(double area, double exponent) {
    double flatness = 1.0 - exponent;
    return fabs(flatness) < 1e-9 ? exp(area) : pow(1.0 + area * flatness, 1.0 / flatness);
}

/* A step that shares no factor with n, so that multiplying by it modulo n is a permutation. */
static uint64_t scatter_step(uint64_t n) {
    uint64_t step = (uint64_t)((double)n * 0.6180339887) | 1;
    for (;; step += 2) {
        uint64_t a = n;
        uint64_t b = step;
        while (b != 0) {
            uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) {
            return step;
        }
    }
}

void zipf_fill(uint32_t *samples, uint64_t count, uint64_t keyspace, double exponent,
               uint64_t seed) {
    const double n = (double)keyspace;
    const double area_first = envelope(1.5, exponent) - 1.0;
    const double area_last = envelope(n + 0.5, exponent);
    const double accept =
        2.0 - envelope_inverse(envelope(2.5, exponent) - pow(2, -exponent), exponent);
    const uint64_t step = scatter_step(keyspace);
    uint64_t draw = seed << 32;
    for (uint64_t i = 0; i < count;) {
        double area = area_last + random_unit(random_mix(draw++)) * (area_first - area_last);
        double x = envelope_inverse(area, exponent);
        double rank = floor(x + 0.5);
        rank = rank < 1 ? 1 : rank > n ? n : rank;
        if (rank - x <= accept || area >= envelope(rank + 0.5, exponent) - pow(rank, -exponent)) {
            samples[i++] = (uint32_t)((uint64_t)(rank - 1) * step % keyspace);
        }
    }
}
