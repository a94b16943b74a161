/* See keyspace_watch.h. */
#include "engine/keyspace_watch.h"

static enum key_presence find(const struct keyspace *keyspace, struct view *view,
                              const struct watcher *watcher) {
    struct key key = watcher_key(watcher);
    const struct object *object = keyspace_find_raw(keyspace, watcher->database, &key);
    if (!object)
        return KEY_ABSENT;
    return view_is_expired(view, object) ? KEY_EXPIRED : KEY_PRESENT;
}

void keyspace_watch_link(const struct keyspace *keyspace, struct view *view,
                         struct watcher *watcher) {
    watcher_link(watcher, find(keyspace, view, watcher));
}

bool keyspace_watch_is_expired(const struct keyspace *keyspace, struct view *view,
                               const struct watcher *watcher) {
    return watcher->existed && find(keyspace, view, watcher) == KEY_EXPIRED;
}

bool keyspace_watch_is_replaced(const struct keyspace *keyspace, const struct view *view,
                                const struct watcher *watcher) {
    enum watch_database database = watcher_database(watcher);
    if (LIKELY(database != WATCH_DATABASE_SWAPPED))
        return database == WATCH_DATABASE_OTHER;
    /* What the swap brought is there still. */
    struct view at_the_swap = *view;
    at_the_swap.now_ms = keyspace->watch.replacements[watcher->database].swapped_ms;
    return find(keyspace, &at_the_swap, watcher) == KEY_PRESENT;
}
