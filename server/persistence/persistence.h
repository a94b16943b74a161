/* Persistence: what the process knows of its RDB file: the load at start (loading.c), saves
 * (saving.c).
 *
 * One for the process, part of struct server. */
#ifndef SLOTWISE_SERVER_PERSISTENCE_H
#define SLOTWISE_SERVER_PERSISTENCE_H

#include <pthread.h>

#include "engine/keyspace.h"
#include "replication/rdb_load.h"
#include "server/dispatch/service.h"

/* On the load's own thread, when it has ended otherwise than by being stopped: in an exclusive
 * section if it has loaded (info NULL: it has not), before anybody is served. */
typedef void loading_done(void *context, const struct rdb_load_info *info);
/* On the same thread before that, for each key that is over (rdb_load.h). */
typedef void loading_expired(void *context, const struct rdb_load_info *info,
                             const struct rdb_entry *key);

struct persistence {
    /* Set once before threads exist. */
    struct keyspace *keyspace;
    struct service *service; /* is told that clients must wait */

    /* The load at start. Its thread's, except for progress. */
    struct rdb_load_progress progress; /* of the last load */
    _Atomic int64_t loading_since_s;   /* unix time; 0: nothing is being loaded */
    pthread_t load_thread;
    bool load_thread_started; /* main's */
    /* What it is to do: set before it starts. */
    char load_path[4096];
    struct rdb_load_options load_options;
    loading_done *load_done;
    void *load_context;

    /* Saves. Written in exclusive sections, or before threads exist; read by anybody. */
    _Atomic int64_t last_save_s;  /* unix time of the last that succeeded; the start at first */
    _Atomic uint64_t saves;       /* begun since the last CONFIG RESETSTAT */
    _Atomic uint64_t saved_dirty; /* how many changes there had been at the last that succeeded */
};

#endif
