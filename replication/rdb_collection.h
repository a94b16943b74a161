/* Lists, sets, hashes and sorted sets in RDB: parts of rdb_value.h for these types. */
#ifndef SLOTWISE_REPLICATION_RDB_COLLECTION_H
#define SLOTWISE_REPLICATION_RDB_COLLECTION_H

#include "engine/object.h"
#include "replication/rdb.h"

struct rdb_reader;
struct rdb_writer;

/* Whether values of this type are read and passed over here. */
bool rdb_collection_has(unsigned type);
/* As rdb_value_type, rdb_value_write, rdb_value_read and rdb_value_skip. */
enum rdb_type rdb_collection_type(const struct object *object);
void rdb_collection_write(struct rdb_writer *writer, const struct object *object);
int rdb_collection_read(struct rdb_reader *reader, unsigned type, const char *key,
                        size_t key_length, int64_t expiry_ms, struct object **object);
int rdb_collection_skip(struct rdb_reader *reader, unsigned type);

/* Whether a value of this type begins with the number of its elements (of a quicklist: nodes);
 * then, for who has read that number, the rest. */
bool rdb_collection_is_counted(unsigned type);
int rdb_collection_read_counted(struct rdb_reader *reader, unsigned type, uint64_t count,
                                const char *key, size_t key_length, int64_t expiry_ms,
                                struct object **object);
int rdb_collection_skip_counted(struct rdb_reader *reader, unsigned type, uint64_t count);

/* Of a list as it is written: nodes, and the bytes of their content. */
void rdb_collection_nodes(const struct object *list, uint64_t *nodes, uint64_t *bytes);

#endif
