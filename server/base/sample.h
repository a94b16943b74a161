/* Random choices for commands: each worker has a generator of its own, seeded by the system. Any
 * thread. */
#ifndef SLOTWISE_SERVER_SAMPLE_H
#define SLOTWISE_SERVER_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

/* Uniform in 0 .. n-1; n is not 0. */
uint64_t sample_below(uint64_t n);

/* count different numbers below n (count <= n), ascending: each choice of so many is as likely as
 * any other. To be freed with memory_free. */
uint64_t *sample_positions(uint64_t n, size_t count);

#endif
