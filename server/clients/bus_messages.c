/* See bus_messages.h. */
#include "server/clients/bus_messages.h"

#include <string.h>

#include "engine/memory.h"
#include "server/clients/loop.h"
#include "server/clients/pubsub.h"
#include "server/clients/server.h"

struct bus_message {
    struct message message; /* first */
    struct pubsub *pubsub;
    enum pubsub_kind kind;
    size_t channel_length, text_length;
    char bytes[]; /* the channel, then the text */
};

static void arrived(struct message *message) {
    struct bus_message *came = (struct bus_message *)(void *)message;
    pubsub_publish(came->pubsub, came->kind, came->bytes, came->channel_length,
                   came->bytes + came->channel_length, came->text_length);
    memory_free(came);
}

void bus_message_came(void *context, const void *channel, size_t channel_length,
                      const void *message, size_t message_length, bool sharded) {
    struct server *server = context;
    enum pubsub_kind kind = sharded ? PUBSUB_SHARD : PUBSUB_CHANNEL;
    if (pubsub_count(server->pubsub, kind) == 0 &&
        (sharded || pubsub_count(server->pubsub, PUBSUB_PATTERN) == 0))
        return;
    struct bus_message *came = memory_alloc(sizeof *came + channel_length + message_length);
    *came = (struct bus_message){.message.run = arrived,
                                 .pubsub = server->pubsub,
                                 .kind = kind,
                                 .channel_length = channel_length,
                                 .text_length = message_length};
    memcpy(came->bytes, channel, channel_length);
    memcpy(came->bytes + channel_length, message, message_length);
    mailbox_post(&server->loops[0]->mailbox, &came->message);
}
