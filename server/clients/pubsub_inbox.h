/* The part of publish and subscribe that each loop has (pubsub.h): what it is to hand on, and to
 * whom. */
#ifndef SLOTWISE_SERVER_PUBSUB_INBOX_H
#define SLOTWISE_SERVER_PUBSUB_INBOX_H

#include <stdatomic.h>
#include <stdbool.h>

#include "server/base/name_table.h"
#include "server/net/mailbox.h"

enum pubsub_kind { PUBSUB_CHANNEL, PUBSUB_PATTERN, PUBSUB_SHARD };
#define PUBSUB_KINDS 3

struct pubsub_delivery;

/* In each loop. */
struct pubsub_inbox {
    _Alignas(64) _Atomic(struct pubsub_delivery *) newest; /* written by any thread */
    atomic_bool posted;                                    /* the message below is under way */
    struct message wake;
    /* The loop's thread. */
    _Alignas(64) struct name_table of[PUBSUB_KINDS]; /* what its connections have subscribed to */
};

#endif
