/* See notifications.h. */
#include "server/clients/notifications.h"

#include <string.h>

#include "engine/memory.h"
#include "server/base/text.h"
#include "server/clients/pubsub.h"
#include "server/config/config_values.h"

static unsigned class_of(char letter) {
    switch (letter) {
    case 'g':
        return CONFIG_NOTIFY_GENERIC;
    case '$':
        return CONFIG_NOTIFY_STRING;
    case 'l':
        return CONFIG_NOTIFY_LIST;
    case 's':
        return CONFIG_NOTIFY_SET;
    case 'h':
        return CONFIG_NOTIFY_HASH;
    case 'z':
        return CONFIG_NOTIFY_ZSET;
    case 't':
        return CONFIG_NOTIFY_STREAM;
    case 'x':
        return CONFIG_NOTIFY_EXPIRED;
    case 'e':
        return CONFIG_NOTIFY_EVICTED;
    case 'm':
        return CONFIG_NOTIFY_KEY_MISS;
    case 'n':
        return CONFIG_NOTIFY_NEW;
    default:
        return 0;
    }
}

static void publish(struct pubsub *pubsub, const char *kind, unsigned database, const char *about,
                    size_t about_length, const char *what, size_t what_length) {
    struct text channel = {0};
    text_append_format(&channel, "__%s@%u__:", kind, database);
    text_append(&channel, about, about_length);
    pubsub_publish(pubsub, PUBSUB_CHANNEL, channel.data, channel.length, what, what_length);
    text_free(&channel);
}

/* Under the token of the key, on the thread that changes it. */
static void changed(void *context, const struct change *change, unsigned database,
                    const struct key *key, enum change_event event) {
    const struct notifications *notifications = context;
    struct pubsub *pubsub = notifications->pubsub;
    unsigned classes = notifications->classes;
    const char *name = change_events[event].name;
    (void)change;
    if (!(classes & class_of(change_events[event].class)) ||
        (pubsub_count(pubsub, PUBSUB_CHANNEL) == 0 && pubsub_count(pubsub, PUBSUB_PATTERN) == 0))
        return;
    if (classes & CONFIG_NOTIFY_KEYSPACE)
        publish(pubsub, "keyspace", database, key->data, key->length, name, strlen(name));
    if (classes & CONFIG_NOTIFY_KEYEVENT)
        publish(pubsub, "keyevent", database, name, strlen(name), key->data, key->length);
}

struct notifications *notifications_create(struct pubsub *pubsub) {
    struct notifications *notifications = memory_alloc(sizeof *notifications);
    *notifications =
        (struct notifications){.listener = {changed, notifications, NULL}, .pubsub = pubsub};
    return notifications;
}

void notifications_destroy(struct notifications *notifications) {
    memory_free(notifications);
}

void notifications_configure(struct notifications *notifications, struct door *door,
                             unsigned classes) {
    bool listens = classes & (CONFIG_NOTIFY_KEYSPACE | CONFIG_NOTIFY_KEYEVENT);
    notifications->classes = classes;
    door->tells_misses = listens && (classes & CONFIG_NOTIFY_KEY_MISS);
    change_listen(door, &notifications->listener, listens);
}
