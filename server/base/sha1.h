/* SHA-1 (FIPS 180-4), for DEBUG DIGEST. Not for anything that has to resist an attacker. Pure, any
 * thread. */
#ifndef SLOTWISE_SERVER_SHA1_H
#define SLOTWISE_SERVER_SHA1_H

#include <stddef.h>
#include <stdint.h>

#define SHA1_BYTES 20

/* out may be data. */
void sha1(const void *data, size_t length, uint8_t out[SHA1_BYTES]);

#endif
