/* CRC16 (XMODEM, polynomial 0x1021) of keys, and the slot of a key as Redis Cluster
 * defines it: the part between the first '{' and the following '}' if that is not empty, else the
 * whole key. Pure functions, any thread. Source: Redis Cluster specification, "Keys distribution
 * model". */
#ifndef SLOTWISE_ENGINE_CRC16_H
#define SLOTWISE_ENGINE_CRC16_H

#include <stddef.h>
#include <stdint.h>

void crc16_init(void); /* tables, and what the processor can do; once, before threads */
uint16_t crc16(const char *data, size_t length);
/* Two ways of doing it, for tests and bake-offs. */
uint16_t crc16_bytewise(const char *data, size_t length);
uint16_t crc16_sliced(const char *data, size_t length);
uint16_t slot_of_key(const char *key, size_t length);

#endif
