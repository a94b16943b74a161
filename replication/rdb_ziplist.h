/* Ziplists and zipmaps: what Redis had small collections in before 7.0 and 2.6, and has in its RDB
 * files of these times. They are only read.
 *
 *   ziplist: total bytes (4) | offset of the last entry (4) | number of entries (2) | entries |
 * 0xff entry: bytes of the entry before (1 or 5) | encoding and length | content zipmap:  number of
 * pairs (1) | pairs | 0xff pair:  length of the name | name | length of the value | unused bytes
 * (1) | value | unused
 *
 * All integers are little endian, except for the lengths within ziplists' entries. The bytes may be
 * anything. Pure functions, any thread. */
#ifndef SLOTWISE_REPLICATION_RDB_ZIPLIST_H
#define SLOTWISE_REPLICATION_RDB_ZIPLIST_H

#include "engine/types/listpack.h"

/* An element; what it points to lies in the bytes. false: that is enough. */
typedef bool rdb_element_visit(void *context, const struct element *element);

/* All elements in their order; of a zipmap names and values by turns. false: the bytes are no such
 * thing, which may be seen after some elements, or visit has had enough. */
bool rdb_ziplist_visit(const uint8_t *bytes, size_t length, rdb_element_visit *visit,
                       void *context);
bool rdb_zipmap_visit(const uint8_t *bytes, size_t length, rdb_element_visit *visit, void *context);

#endif
