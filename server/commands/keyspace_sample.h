/* Figures about the keys of a database that are estimated from some of them, at a price that does
 * not grow with the database. On a registered reader, online. */
#ifndef SLOTWISE_SERVER_KEYSPACE_SAMPLE_H
#define SLOTWISE_SERVER_KEYSPACE_SAMPLE_H

#include "engine/keyspace.h"

/* Mean time to live of the keys that have one; 0: none was met. */
int64_t keyspace_sample_ttl_ms(struct keyspace *keyspace, unsigned database);
/* Memory of the tables of the database, without its objects. */
uint64_t keyspace_sample_table_bytes(struct keyspace *keyspace, unsigned database);

#endif
