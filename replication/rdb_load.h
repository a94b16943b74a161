/* Loading an RDB into a keyspace, on several threads: at start, by DEBUG RELOAD, from a primary.
 *
 * The calling thread takes the input apart; threads of the load's own make the objects and insert
 * them, each those of its share of the slots. See rdb_load.c. */
#ifndef SLOTWISE_REPLICATION_RDB_LOAD_H
#define SLOTWISE_REPLICATION_RDB_LOAD_H

#include "engine/keyspace.h"
#include "replication/rdb_read.h"

/* What others may look at meanwhile; zero at first. */
struct rdb_load_progress {
    _Atomic uint64_t total_bytes, loaded_bytes; /* of the input; total 0: not known */
    _Atomic uint64_t used_memory_bytes;         /* of who wrote it, as it says */
    _Atomic uint64_t keys_loaded, keys_expired; /* exact at the end */
    _Atomic bool stop;                          /* by anybody: give up */
    /* For tests, by anybody: so many microseconds are waited for each key; negative: one for so
     * many keys. */
    _Atomic int key_delay_us;
};

/* What the file says of the stream of effects that it is a state of. */
struct rdb_load_info {
    char replication_id[41]; /* "": it says nothing */
    int64_t replication_offset;
    int stream_database; /* -1: none */
};

struct rdb_load_options {
    struct keyspace *keyspace;
    unsigned threads; /* that insert; at least 1 */
    /* Their numbers for keyspace_thread_set begin with this one; nobody else has them. */
    unsigned thread_number;
    /* All other threads that run commands are stopped for the whole load, by an exclusive section
     * of the caller. Else the threads join those that stop for sections. */
    bool exclusive;
    bool keep_expired; /* on a replica: the primary decides */
    bool replace;      /* a key that is there already gives way; else it is an error */
    bool checksum;
    uint64_t string_bytes; /* the longest string */
    /* A key that is not loaded since it is over; on the calling thread. info is what the file has
     * said so far, which it says before any key. NULL: nobody wants to know. */
    void (*expired)(void *context, const struct rdb_load_info *info, const struct rdb_entry *key);
    /* A line for the log. */
    void (*note)(void *context, bool warning, const char *text);
    void *context;
};

enum rdb_load_result {
    RDB_LOAD_DONE,
    RDB_LOAD_NO_FILE,
    RDB_LOAD_STOPPED,
    RDB_LOAD_FAILED, /* it was noted why; what has been inserted stays */
};

/* The calling thread holds no token and no published pointer; a registered reader is offline
 * meanwhile. */
enum rdb_load_result rdb_load(const struct rdb_source *source, uint64_t input_bytes,
                              const struct rdb_load_options *options,
                              struct rdb_load_progress *progress, struct rdb_load_info *info);
enum rdb_load_result rdb_load_file(const char *path, const struct rdb_load_options *options,
                                   struct rdb_load_progress *progress, struct rdb_load_info *info);

#endif
