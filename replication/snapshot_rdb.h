/* A snapshot as an RDB: its form, and what a sink of it does with the bytes. */
#ifndef SLOTWISE_REPLICATION_SNAPSHOT_RDB_H
#define SLOTWISE_REPLICATION_SNAPSHOT_RDB_H

#include "replication/snapshot_walk.h"

extern const struct snapshot_form snapshot_rdb_form;

/* What stands before the keys: the header, and for each database how many keys come. */
void snapshot_rdb_begin(struct rdb_writer *writer, const struct rdb_info *info,
                        const struct snapshot_cut *cut);

#endif
