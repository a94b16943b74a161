/* MIGRATE: keys go to another server and are deleted here once it has them.
 *
 * One thread for the process, started with the first MIGRATE, which takes one after the other (as
 * Redis, which does nothing else meanwhile): it keeps the connections to the targets. For each:
 *
 *     fence    under the tokens of all slots: the values are written down as DUMP does, and the
 *              slots serve nobody (SLOT_SERVING is cleared): who comes for one of their keys waits
 *     send     RESTORE for each, and the answers; nobody else is held up
 *     finish   under the tokens: what the target has confirmed is deleted, as one DEL in the stream
 *              of replicas; the slots serve again
 *
 * So nobody sees a key in both servers' hands, and nothing that is written meanwhile is lost. What
 * happens to whole databases does not wait: after SWAPDB the keys are deleted where they are then;
 * after a flush, or where the data have been loaded anew, they are gone already, and what has come
 * instead stays. After a change of the role nothing is deleted. The client may go meanwhile: it is
 * finished all the same, since the target has the keys. */
#ifndef SLOTWISE_SERVER_MIGRATION_H
#define SLOTWISE_SERVER_MIGRATION_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/keyspace.h"
#include "server/dispatch/background_work.h"
#include "server/dispatch/pause.h"
#include "server/dispatch/service.h"
#include "server/links/migration_target.h"

#define MIGRATION_ERROR_BYTES 1200

enum migration_result {
    MIGRATION_DONE,
    MIGRATION_NO_KEY, /* none of them exists */
    MIGRATION_FAILED, /* error: the client's reply */
};

struct migration_key {
    struct argument key; /* into text */
    uint8_t *payload;    /* NULL: it does not exist */
    size_t payload_length;
    int64_t ttl_ms; /* 0: none */
    bool confirmed; /* by the target */
};

/* One MIGRATE. The caller fills in all down to keys; memory_alloc_aligned. */
struct migration {
    struct background_work work; /* first */
    struct migration *next;      /* in the migrator's queue, under its lock */
    char *host, *port;           /* memory_alloc; freed with it */
    int64_t database;            /* of the target */
    uint64_t timeout_ms;
    bool copy, replace, asking;
    char *user, *password; /* NULL: none */
    size_t user_length, password_length;
    unsigned source_database;
    size_t key_count;
    struct migration_key *keys;
    /* The migrator's. */
    uint16_t *slots; /* ascending, without duplicates */
    size_t slot_count;
    unsigned physical; /* number of the source database */
    uint64_t clears;   /* of that, and what role we had, when the keys were written down */
    uint8_t mode;
    uint64_t number; /* in the effect log, of what it changed here; 0: none */
    enum migration_result result;
    char error[MIGRATION_ERROR_BYTES];
};

struct migrator {
    struct keyspace *keyspace;
    const struct service *service;
    const struct pause *pause;
    unsigned thread_number; /* keyspace_thread_set */
    pthread_mutex_t lock;
    pthread_cond_t wanted;
    struct migration *first, *last; /* under lock */
    bool started, stopping;         /* under lock */
    atomic_bool cancelled;          /* the process ends */
    pthread_t thread;
    struct change change;             /* the thread's; its dirty is read by others */
    struct migration_targets targets; /* the thread's */
};

/* Before the workers start, and after they have ended. */
void migrator_init(struct migrator *migrator, struct keyspace *keyspace,
                   const struct service *service, const struct pause *pause,
                   unsigned thread_number);
void migrator_stop(struct migrator *migrator);
/* Begins it; on a worker. What it returns belongs into session->unfinished. Once it is done, result
 * and error tell. */
struct unfinished *migration_begin(struct migrator *migrator, struct migration *migration);

#endif
