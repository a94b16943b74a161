/* What an attempt to get in step with a primary (sync.h) is given, and what it tells. */
#ifndef SLOTWISE_SERVER_SYNC_TYPES_H
#define SLOTWISE_SERVER_SYNC_TYPES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/links/replication.h"
#include "server/net/mailbox.h"

struct keyspace;
struct persistence;
struct service;
struct snapshot_walker;
struct sync;

/* What an attempt needs; copied. */
struct sync_request {
    const char *host;
    int port;
    const char *source_address;  /* to connect from; NULL: any */
    const char *user, *password; /* NULL: none; there may be NULs in them */
    size_t user_length, password_length;
    const char *announced_address; /* NULL: what the primary sees */
    int announced_port;
    int64_t timeout_ms; /* without a byte */
    bool failover;      /* ask it to become the primary that it is asked as */
    bool may_continue;  /* ask for the rest of the stream, from id and offset on */
    char id[HISTORY_ID_LENGTH + 1];
    uint64_t offset;   /* of the last byte that was applied */
    unsigned database; /* that the stream had selected then */
    bool lazy_flush;
    bool checksum;
    bool delete_file; /* the received file has no further use */
    const char *file; /* what it is called in the end */
    uint64_t string_bytes;
    bool from_socket;       /* load as the data come, without a file */
    bool beside;            /* from_socket: the old data stay until the new ones are whole */
    unsigned threads;       /* that load */
    unsigned thread_number; /* the first of their numbers for keyspace_thread_set */
};

/* What came of the request to take over. */
enum sync_answer {
    SYNC_NOT_ANSWERED,
    SYNC_ACCEPTED,
    SYNC_REFUSED,   /* or the connection has ended instead */
    SYNC_NOT_ASKED, /* it could not be sent */
};

/* Where it is, for INFO and ROLE: written by the attempt until it is cancelled, read by anybody. */
struct sync_progress {
    _Atomic int link;               /* enum replication_link, up to TRANSFER */
    _Atomic int64_t total_bytes;    /* of the transfer; 0: not known */
    _Atomic int64_t received_bytes; /* of the transfer */
    _Atomic uint64_t all_bytes;     /* of all transfers so far */
    _Atomic uint64_t last_io_ms;    /* monotonic */
    _Atomic int answer;             /* enum sync_answer */
};

/* What it works on. */
struct sync_environment {
    struct keyspace *keyspace;
    struct snapshot_walker *walker; /* of keyspace */
    struct replication *replication;
    struct service *service;
    struct persistence *persistence; /* whose progress is that of the loading */
    struct sync_progress *progress;
    struct mailbox *mailbox; /* where the end is told */
    void (*ended)(struct sync *sync, void *context);
    void *context;
};

enum sync_result {
    SYNC_FAILED,    /* why is in the log; to be tried again in a while */
    SYNC_BROKEN,    /* the transfer broke off: to be tried again at once */
    SYNC_CONTINUED, /* the stream goes on where it was left */
    SYNC_LOADED,    /* the data have been loaded; replication has their id and offset */
};

#endif
