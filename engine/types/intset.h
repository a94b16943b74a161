/* Intset: a small set of integers in one piece of memory, sorted, byte for byte as Redis has it:
 *
 *   width of an element (4 bytes, little endian: 2, 4 or 8) | count (4) | elements, ascending
 *
 * Reading functions take one that is known to be sound. */
#ifndef SLOTWISE_ENGINE_TYPES_INTSET_H
#define SLOTWISE_ENGINE_TYPES_INTSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/types/listpack.h"

#define INTSET_HEADER_BYTES 8

size_t intset_bytes(const uint8_t *intset);
size_t intset_count(const uint8_t *intset);
int64_t intset_at(const uint8_t *intset, size_t index);
/* index: where it is, or where it belongs. */
bool intset_find(const uint8_t *intset, int64_t integer, size_t *index);
bool intset_is_sound(const uint8_t *bytes, size_t length,
                     bool deep); /* deep: ascending, no doubles */

/* In a buffer that grows (listpack.h's; the bytes are an intset). */
void intset_clear(struct listpack_buffer *buffer);
bool intset_add(struct listpack_buffer *buffer, int64_t integer);    /* false: it was there */
bool intset_remove(struct listpack_buffer *buffer, int64_t integer); /* false: it was not */

#endif
