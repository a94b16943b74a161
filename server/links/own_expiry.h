/* Own expiry: on a replica that its clients may write to (replica-read-only no) the keys to which
 * these have given a time to live. Nobody else would delete them: the primary does not know them.
 * All others expire when the primary says so.
 *
 * A key belongs here from the moment at which a client gives it a time to live until a command of
 * the primary touches it, or it has none any more, or it has expired: then worker 0 deletes it.
 *
 * Listens behind the door (engine/change.h) while there may be such keys, and costs nothing
 * elsewhere. The keys are under a lock that is taken under the token of the key's slot; whoever has
 * the lock takes no token. */
#ifndef SLOTWISE_SERVER_OWN_EXPIRY_H
#define SLOTWISE_SERVER_OWN_EXPIRY_H

#include <pthread.h>

#include "engine/keyspace.h"
#include "engine/watch_index.h"

struct own_expiry {
    struct change_listener listener;
    struct keyspace *keyspace;
    bool writable; /* clients may write, and do so to a replica; exclusive */
    pthread_mutex_t lock;
    struct watch_index keys; /* by hash; under the lock */
    size_t next;             /* bucket to be looked at; worker 0 */
    _Atomic uint64_t count;  /* that of keys, for who does not have the lock; written under it */
};

/* Before the workers start. */
void own_expiry_init(struct own_expiry *own, struct keyspace *keyspace);
void own_expiry_destroy(struct own_expiry *own);
/* The role, or whether clients may write to a replica, has changed. Exclusive, or before the
 * workers start. */
void own_expiry_configure(struct own_expiry *own, bool is_replica, bool writable);

/* Ten times a second on worker 0, which holds no token and whose change is between two units:
 * deletes some of what has expired. */
void own_expiry_tick(struct own_expiry *own, struct change *change);

#endif
