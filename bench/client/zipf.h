/*
 * Keys by Zipf's law: the k-th most popular of n is asked for in proportion to 1/k^exponent.
 *
 * Drawing such a number takes logarithms and powers, far too slow beside a server that needs a
 * quarter of a microsecond per command. So a long sequence is drawn once and replayed by everyone
 * from different places.
 */
#ifndef BENCH_CLIENT_ZIPF_H
#define BENCH_CLIENT_ZIPF_H

#include <stdint.h>

/*
 * Fills `samples` with `count` draws from [0, keyspace). Popularity is scattered over the keyspace
 * by a fixed permutation: popular keys are no neighbours. exponent > 0.
 */
void zipf_fill(uint32_t *samples, uint64_t count, uint64_t keyspace, double exponent,
               uint64_t seed);

#endif
