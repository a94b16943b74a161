/* RDB values: what the value of each type looks like, written, read and passed over. The one place
 * that a new type has to be added to. */
#ifndef SLOTWISE_REPLICATION_RDB_VALUE_H
#define SLOTWISE_REPLICATION_RDB_VALUE_H

#include "engine/object.h"
#include "replication/rdb.h"

struct rdb_reader; /* rdb_read.h */
struct rdb_writer; /* rdb_write.h */

/* As what the object is written. */
enum rdb_type rdb_value_type(const struct object *object);

/* Under the object's token, or as a snapshot was handed it. */
void rdb_value_write(struct rdb_writer *writer, const struct object *object);

/* The value behind a type and, in a file, a key: a new object under that key, unpublished, the
 * caller's. key lives elsewhere than in the reader's window. 0 or a negative enum rdb_error. */
int rdb_value_read(struct rdb_reader *reader, unsigned type, const char *key, size_t key_length,
                   int64_t expiry_ms, struct object **object);

/* Goes past the value without making anything of it. Refuses the same types. */
int rdb_value_skip(struct rdb_reader *reader, unsigned type, const char *key, size_t key_length);

#endif
