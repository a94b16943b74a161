/* CRC64 of RDB files and DUMP payloads: the Jones polynomial (0xad93d23594c935a9), bits reflected,
 * neither inverted at the beginning nor at the end. Pure functions, any thread. */
#ifndef SLOTWISE_REPLICATION_CRC64_H
#define SLOTWISE_REPLICATION_CRC64_H

#include <stddef.h>
#include <stdint.h>

void crc64_init(void); /* fills the tables; before threads; a second call changes nothing */
/* crc: 0, or the result for what precedes data. */
uint64_t crc64(uint64_t crc, const void *data, size_t length);

#endif
