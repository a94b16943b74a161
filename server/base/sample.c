/* See sample.h.
 *
 * The generator is splitmix64. Many positions are chosen by passing over all numbers; few by
 * drawing, and drawing again for those that came twice. */
#include "server/base/sample.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/random.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"

static _Thread_local uint64_t state;
static _Thread_local bool is_seeded;

static uint64_t next_random(void) {
    if (UNLIKELY(!is_seeded)) {
        if (getrandom(&state, sizeof state, GRND_NONBLOCK) != (ssize_t)sizeof state)
            state = clock_monotonic_us() ^ (uint64_t)(uintptr_t)&state;
        is_seeded = true;
    }
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sample_below(uint64_t n) {
    ASSERT(n > 0);
    return (uint64_t)(((unsigned __int128)next_random() * n) >> 64);
}

static int compare_positions(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static size_t sort_unique(uint64_t *positions, size_t count) {
    size_t kept = 0;
    qsort(positions, count, sizeof *positions, compare_positions);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || positions[i] != positions[kept - 1])
            positions[kept++] = positions[i];
    return kept;
}

uint64_t *sample_positions(uint64_t n, size_t count) {
    ASSERT(count <= n);
    uint64_t *positions = memory_alloc((count ? count : 1) * sizeof *positions);
    size_t chosen = 0;
    if (count >= n / 3) {
        for (uint64_t i = 0; chosen < count; i++)
            if (sample_below(n - i) < count - chosen)
                positions[chosen++] = i;
        return positions;
    }
    while (chosen < count) {
        for (size_t i = chosen; i < count; i++)
            positions[i] = sample_below(n);
        chosen = sort_unique(positions, count);
    }
    return positions;
}
