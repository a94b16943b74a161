/* The attempt, shared by the sync*.c files. Its thread's unless noted. */
#ifndef SLOTWISE_SERVER_SYNC_PRIVATE_H
#define SLOTWISE_SERVER_SYNC_PRIVATE_H

#include <pthread.h>

#include "server/links/sync_types.h"

struct sync {
    struct message message; /* first: the end */
    struct sync_request request;
    struct sync_environment environment;
    pthread_t thread;
    pthread_mutex_t lock;
    int fd;                     /* written by the thread under lock; -1: none */
    bool cancelled;             /* under lock */
    bool posted;                /* under lock */
    bool resolving;             /* under lock: the name of the host */
    _Atomic bool stopping;      /* the process ends */
    _Atomic int64_t timeout_ms; /* without a byte; written by whoever started it */
    enum sync_result result;
    /* Of the data set that comes, or of the stream that goes on. */
    char id[HISTORY_ID_LENGTH + 1];
    uint64_t offset;
    bool frames; /* the stream comes in frames */
    unsigned database;
    bool by_mark; /* the transfer ends with mark instead of after size bytes */
    bool blocks;  /* it comes in blocks (replication/rdb_block.h) */
    int64_t size; /* of the transfer, unless by_mark or blocks */
    char mark[HISTORY_ID_LENGTH];
    char error[256]; /* why the last call failed */
    bool timed_out;  /* because nothing came for too long */
};

#endif
