/* Hashes whose fields have times to live, in RDB: the types of Redis 7.4. Parts of
 * rdb_collection.h.
 *
 *   RDB_TYPE_HASH_TIMES           earliest time (8 bytes, little-endian), number of fields, and for
 *                                 each: time, field, value. The time is a length: 0 if it has none,
 *                                 else the difference to the earliest one, plus 1
 *   RDB_TYPE_HASH_LISTPACK_TIMES  earliest time, listpack of field, value, time, ...: the time
 *                                 itself, 0 if it has none
 *
 * and both as release candidates had them: without the earliest time, all times as they are. What
 * is written is always the first; Redis makes a listpack of it where its limits allow. */
#ifndef SLOTWISE_REPLICATION_RDB_FIELD_TIMES_H
#define SLOTWISE_REPLICATION_RDB_FIELD_TIMES_H

#include "engine/object.h"

struct rdb_reader;
struct rdb_writer;

bool rdb_has_field_times(unsigned type);
/* As rdb_value_write, rdb_value_read and rdb_value_skip. The object has object_has_field_times. */
void rdb_field_times_write(struct rdb_writer *writer, const struct object *hash);
int rdb_field_times_read(struct rdb_reader *reader, unsigned type, const char *key,
                         size_t key_length, int64_t expiry_ms, struct object **object);
int rdb_field_times_skip(struct rdb_reader *reader, unsigned type);

#endif
