/* What becomes of watched keys in a keyspace: WATCH and EXEC, under the token of the watcher's
 * slot. view: of the unit of work. */
#ifndef SLOTWISE_ENGINE_KEYSPACE_WATCH_H
#define SLOTWISE_ENGINE_KEYSPACE_WATCH_H

#include "engine/keyspace.h"

/* watcher_link with the key as the unit finds it. */
void keyspace_watch_link(const struct keyspace *keyspace, struct view *view,
                         struct watcher *watcher);

/* What has not marked the watcher. Whether the key has expired since it was watched (Redis fails
 * EXEC then). */
bool keyspace_watch_is_expired(const struct keyspace *keyspace, struct view *view,
                               const struct watcher *watcher);
/* Whether the database has become another one (FLUSHDB, FLUSHALL, SWAPDB), and with it the key: it
 * was there when it was watched or has come with a swap. A key that was absent is not touched by a
 * flush. Where a swap and another flush or swap came since, what was between is not known, and the
 * answer is true. */
bool keyspace_watch_is_replaced(const struct keyspace *keyspace, const struct view *view,
                                const struct watcher *watcher);

#endif
