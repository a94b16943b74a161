/* Keyspace notifications: every change of a key that notify-keyspace-events asks for is published,
 * to
 * "__keyspace@0__:key" and to "__keyevent@0__:event".
 *
 * It listens at the door for changes (engine/change.h) while the configuration asks for any:
 * otherwise a change costs nothing more. */
#ifndef SLOTWISE_SERVER_NOTIFICATIONS_H
#define SLOTWISE_SERVER_NOTIFICATIONS_H

#include "engine/change.h"

struct pubsub;

struct notifications {
    struct change_listener listener;
    struct pubsub *pubsub;
    unsigned classes; /* of CONFIG_NOTIFY_KEYSPACE and so on; exclusive */
};

struct notifications *notifications_create(struct pubsub *pubsub);
void notifications_destroy(struct notifications *notifications);
/* In an exclusive section, or before the workers start. */
void notifications_configure(struct notifications *notifications, struct door *door,
                             unsigned classes);

#endif
