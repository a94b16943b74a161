/* CRC64 (Jones) by slicing: eight bytes a step through eight tables of 256 entries (16 KB, filled
 * by crc64_init). */
#include "replication/crc64.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the eight bytes of a step are loaded as a little-endian number"
#endif

#define POLYNOMIAL_REFLECTED 0x95ac9329ac4bc9b5u

static uint64_t slices[8][256]; /* read-only after crc64_init */

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
}

uint64_t crc64(uint64_t crc, const void *data, size_t length) {
    const uint8_t *p = data;
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
