/* What a node can do beyond Redis's protocol. It says so in the spare bytes of each packet's header
 * (wire.h), which are zero in those of other servers and which they do not read:
 *
 *     0 "SLTW"   4 bits of enum capability [4]   8 hash of the voters [8]   16 zero [14]
 *
 * Only who has said so is sent private messages (WIRE_PRIVATE_). Pure; any thread. */
#ifndef SLOTWISE_CLUSTER_CAPABILITY_H
#define SLOTWISE_CLUSTER_CAPABILITY_H

#include <stdint.h>

enum capability {
    CAPABILITY_LEASES = 1,   /* it is ready for leases, as a primary and as a voter (lease.h) */
    CAPABILITY_MESSAGES = 2, /* it understands private messages; each Slotwise node */
};

/* spare: WIRE_SPARE_LENGTH bytes. */
void capability_write(uint8_t *spare, unsigned capabilities, uint64_t voters);
/* 0: none, or another server. Bits that nobody knows yet may be among them. */
unsigned capability_read(const uint8_t *spare, uint64_t *voters);

#endif
