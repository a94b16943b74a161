/* See snapshot_rdb.h. Any thread. */
#include "replication/snapshot_rdb.h"

static void write_database(struct rdb_writer *writer, unsigned database) {
    rdb_write_byte(writer, RDB_SELECTDB);
    rdb_write_length(writer, database);
}

const struct snapshot_form snapshot_rdb_form = {write_database, rdb_write_key};

void snapshot_rdb_begin(struct rdb_writer *writer, const struct rdb_info *info,
                        const struct snapshot_cut *cut) {
    rdb_write_header(writer, rdb_version_for(cut->field_timed > 0), info);
    for (unsigned i = 0; i < cut->databases; i++)
        if (cut->of[i].keys > 0)
            rdb_write_database(writer, i, cut->of[i].keys, cut->of[i].expiring);
}
