/* See sha1.h. The whole input is at hand, so there is no state to feed piece by piece. */
#include "server/base/sha1.h"

#include <string.h>

#define BLOCK_BYTES  64
#define LENGTH_BYTES 8

static uint32_t rotate(uint32_t x, unsigned n) {
    return x << n | x >> (32 - n);
}

static uint32_t load_big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Round functions and constants by quarter of the 80 rounds (FIPS 180-4, 4.1.1 and 4.2.1). */
static uint32_t mix(unsigned round, uint32_t b, uint32_t c, uint32_t d) {
    switch (round / 20) {
    case 0:
        return ((b & c) | (~b & d)) + 0x5a827999;
    case 1:
        return (b ^ c ^ d) + 0x6ed9eba1;
    case 2:
        return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
    default:
        return (b ^ c ^ d) + 0xca62c1d6;
    }
}

static void add_block(uint32_t state[5], const uint8_t *block) {
    uint32_t schedule[80];
    for (unsigned i = 0; i < 16; i++)
        schedule[i] = load_big_endian(block + 4 * i);
    for (unsigned i = 16; i < 80; i++)
        schedule[i] =
            rotate(schedule[i - 3] ^ schedule[i - 8] ^ schedule[i - 14] ^ schedule[i - 16], 1);
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (unsigned i = 0; i < 80; i++) {
        uint32_t next = rotate(a, 5) + mix(i, b, c, d) + e + schedule[i];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

void sha1(const void *data, size_t length, uint8_t out[SHA1_BYTES]) {
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    const uint8_t *bytes = data;
    size_t left = length;
    for (; left >= BLOCK_BYTES; left -= BLOCK_BYTES, bytes += BLOCK_BYTES)
        add_block(state, bytes);
    uint8_t tail[2 * BLOCK_BYTES] = {0};
    if (left > 0)
        memcpy(tail, bytes, left);
    tail[left] = 0x80;
    size_t tail_bytes = left + 1 + LENGTH_BYTES <= BLOCK_BYTES ? BLOCK_BYTES : 2 * BLOCK_BYTES;
    uint64_t bits = (uint64_t)length * 8;
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        tail[tail_bytes - 1 - i] = (uint8_t)(bits >> (8 * i));
    for (size_t at = 0; at < tail_bytes; at += BLOCK_BYTES)
        add_block(state, tail + at);
    for (unsigned i = 0; i < SHA1_BYTES; i++)
        out[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}
