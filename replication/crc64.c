/* CRC64 (Jones) by slicing: eight bytes a step through eight tables of 256 entries (16 KB, filled
 * by crc64_init). Long data, where the processor multiplies without carry: sixteen bytes a step are
 * multiplied by the power of x that moves them over the next ones, four such lanes side by side
 * since each step waits for the one before it; what is left at the end goes through the tables. */
#include "replication/crc64.h"

#include <stdbool.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the eight bytes of a step are loaded as a little-endian number"
#endif

#define POLYNOMIAL_REFLECTED 0x95ac9329ac4bc9b5u

static uint64_t slices[8][256]; /* read-only after crc64_init, as all that follows */

static uint64_t by_slices(uint64_t crc, const uint8_t *p, size_t length) {
    for (; length >= 8; p += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        word ^= crc;
        crc = slices[7][word & 0xff] ^ slices[6][word >> 8 & 0xff] ^ slices[5][word >> 16 & 0xff] ^
              slices[4][word >> 24 & 0xff] ^ slices[3][word >> 32 & 0xff] ^
              slices[2][word >> 40 & 0xff] ^ slices[1][word >> 48 & 0xff] ^ slices[0][word >> 56];
    }
    while (length-- > 0)
        crc = crc >> 8 ^ slices[0][(crc ^ *p++) & 0xff];
    return crc;
}

#ifdef __x86_64__

#include <immintrin.h>

#define LANES           4
#define LANE_BYTES      16
#define FOLDED_LEAST    256 /* shorter data are not worth it */
#define WITH_CARRY_LESS __attribute__((target("pclmul,sse2")))

static bool can_fold;
/* What moves the two halves of sixteen bytes over one lane, and over all of them. */
static uint64_t over_lane[2], over_lanes[2];

/* x to the power, modulo the polynomial, reflected. */
static uint64_t power_of_x(unsigned power) {
    uint64_t result = (uint64_t)1 << 63;
    for (; power > 0; power--)
        result = result >> 1 ^ (result & 1 ? POLYNOMIAL_REFLECTED : 0);
    return result;
}

/* The product of reflected factors has one x too many, so the powers have one less. The first half
 * is the higher one. */
static void fold_init(void) {
    const unsigned lane_bits = LANE_BYTES * 8, lanes_bits = LANES * LANE_BYTES * 8;
    over_lane[0] = power_of_x(lane_bits + 63);
    over_lane[1] = power_of_x(lane_bits - 1);
    over_lanes[0] = power_of_x(lanes_bits + 63);
    over_lanes[1] = power_of_x(lanes_bits - 1);
    can_fold = __builtin_cpu_supports("pclmul");
}

WITH_CARRY_LESS static __m128i load(const void *from) {
    return _mm_loadu_si128(from);
}

WITH_CARRY_LESS static __m128i fold(__m128i lane, __m128i powers, __m128i next) {
    return _mm_xor_si128(next, _mm_xor_si128(_mm_clmulepi64_si128(lane, powers, 0x00),
                                             _mm_clmulepi64_si128(lane, powers, 0x11)));
}

/* length is at least that of all lanes; what is left over is told by *rest. */
WITH_CARRY_LESS static uint64_t by_folding(uint64_t crc, const uint8_t *p, size_t length,
                                           size_t *rest) {
    __m128i lanes[LANES], powers = load(over_lanes);
    for (unsigned i = 0; i < LANES; i++)
        lanes[i] = load(p + i * sizeof lanes[0]);
    lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi64_si128((long long)crc));
    for (p += sizeof lanes, length -= sizeof lanes; length >= sizeof lanes;
         p += sizeof lanes, length -= sizeof lanes)
        for (unsigned i = 0; i < LANES; i++)
            lanes[i] = fold(lanes[i], powers, load(p + i * sizeof lanes[0]));
    powers = load(over_lane);
    for (unsigned i = 1; i < LANES; i++)
        lanes[i] = fold(lanes[i - 1], powers, lanes[i]);
    *rest = length;
    uint8_t last[LANE_BYTES];
    _mm_storeu_si128((void *)last, lanes[LANES - 1]);
    return by_slices(0, last, sizeof last);
}

#endif

void crc64_init(void) {
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL_REFLECTED : 0);
        slices[0][byte] = crc;
    }
    /* slices[k][b]: what byte b contributes when k more bytes follow it. */
    for (unsigned k = 1; k < 8; k++)
        for (unsigned byte = 0; byte < 256; byte++) {
            uint64_t crc = slices[k - 1][byte];
            slices[k][byte] = crc >> 8 ^ slices[0][crc & 0xff];
        }
#ifdef __x86_64__
    fold_init();
#endif
}

uint64_t crc64(uint64_t crc, const void *data, size_t length) {
    const uint8_t *p = data;
#ifdef __x86_64__
    if (length >= FOLDED_LEAST && can_fold) {
        size_t rest;
        crc = by_folding(crc, p, length, &rest);
        p += length - rest;
        length = rest;
    }
#endif
    return by_slices(crc, p, length);
}
