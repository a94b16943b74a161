/* SHA-256 (FIPS 180-4), for passwords as ACL shows them. Pure, any thread. */
#ifndef SLOTWISE_SERVER_SHA256_H
#define SLOTWISE_SERVER_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

void sha256(const void *data, size_t length, uint8_t out[SHA256_BYTES]);

#endif
