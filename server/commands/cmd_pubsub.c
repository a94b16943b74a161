/* SUBSCRIBE, PUBLISH and their like (server/clients/pubsub.h). Run by: any worker. */
#include "server/clients/pubsub.h"
#include "server/clients/server.h"
#include "server/dispatch/call.h"

static struct pubsub *pubsub_of(const struct call *call) {
    return call->server->pubsub;
}

static enum call_result subscribe(struct call *call, enum pubsub_kind kind) {
    for (int i = 1; i < call->argc; i++)
        pubsub_subscribe(pubsub_of(call), call->session, kind, call->argv[i].data,
                         call->argv[i].length);
    return CALL_DONE;
}

static enum call_result unsubscribe(struct call *call, enum pubsub_kind kind) {
    if (call->argc == 1)
        pubsub_unsubscribe_all(pubsub_of(call), call->session, kind);
    for (int i = 1; i < call->argc; i++)
        pubsub_unsubscribe(pubsub_of(call), call->session, kind, call->argv[i].data,
                           call->argv[i].length);
    return CALL_DONE;
}

command_handler cmd_subscribe, cmd_psubscribe, cmd_ssubscribe, cmd_unsubscribe, cmd_punsubscribe,
    cmd_sunsubscribe, cmd_publish, cmd_spublish, cmd_pubsub_channels, cmd_pubsub_help,
    cmd_pubsub_numpat, cmd_pubsub_numsub, cmd_pubsub_shardchannels, cmd_pubsub_shardnumsub;

enum call_result cmd_subscribe(struct call *call) {
    return subscribe(call, PUBSUB_CHANNEL);
}

enum call_result cmd_psubscribe(struct call *call) {
    return subscribe(call, PUBSUB_PATTERN);
}

enum call_result cmd_ssubscribe(struct call *call) {
    return subscribe(call, PUBSUB_SHARD);
}

enum call_result cmd_unsubscribe(struct call *call) {
    return unsubscribe(call, PUBSUB_CHANNEL);
}

enum call_result cmd_punsubscribe(struct call *call) {
    return unsubscribe(call, PUBSUB_PATTERN);
}

enum call_result cmd_sunsubscribe(struct call *call) {
    return unsubscribe(call, PUBSUB_SHARD);
}

/* All nodes of a cluster get it over the bus, replicas too. */
static void publish_to_cluster(const struct call *call, enum pubsub_kind kind) {
    const struct argument *channel = &call->argv[1], *message = &call->argv[2];
    cluster_bus_publish(call->server->cluster,
                        &(struct cluster_bus_message){channel->data, message->data, channel->length,
                                                      message->length, kind == PUBSUB_SHARD});
}

/* Replicas get it with the stream, wherever their subscribers are. */
static enum call_result publish(struct call *call, enum pubsub_kind kind) {
    const struct argument *channel = &call->argv[1], *message = &call->argv[2];
    reply_integer(call->reply,
                  (int64_t)pubsub_publish(pubsub_of(call), kind, channel->data, channel->length,
                                          message->data, message->length));
    if (call->server->cluster) {
        publish_to_cluster(call, kind);
    } else if (call_is_logged(call)) {
        struct effect_argument arguments[3];
        for (int i = 0; i < 3; i++)
            arguments[i] = (struct effect_argument){call->argv[i].data, call->argv[i].length};
        call_propagate(call, arguments, 3);
        if (!call->in_exec)
            call_commit(call);
    }
    return CALL_DONE;
}

enum call_result cmd_publish(struct call *call) {
    return publish(call, PUBSUB_CHANNEL);
}

enum call_result cmd_spublish(struct call *call) {
    return publish(call, PUBSUB_SHARD);
}

/* --- PUBSUB ----------------------------------------------------------------------------------- */

static enum call_result channels(struct call *call, enum pubsub_kind kind) {
    if (call->argc > 3) {
        call_reply_bad_subcommand(call);
        return CALL_DONE;
    }
    bool all = call->argc == 2;
    pubsub_reply_channels(pubsub_of(call), call->reply, kind, all ? NULL : call->argv[2].data,
                          all ? 0 : call->argv[2].length);
    return CALL_DONE;
}

static enum call_result subscribers(struct call *call, enum pubsub_kind kind) {
    reply_array(call->reply, ((size_t)call->argc - 2) * 2);
    for (int i = 2; i < call->argc; i++) {
        const struct argument *name = &call->argv[i];
        reply_bulk(call->reply, name->data, name->length);
        reply_integer(call->reply,
                      (int64_t)pubsub_subscribers(pubsub_of(call), kind, name->data, name->length));
    }
    return CALL_DONE;
}

enum call_result cmd_pubsub_channels(struct call *call) {
    return channels(call, PUBSUB_CHANNEL);
}

enum call_result cmd_pubsub_shardchannels(struct call *call) {
    return channels(call, PUBSUB_SHARD);
}

enum call_result cmd_pubsub_numsub(struct call *call) {
    return subscribers(call, PUBSUB_CHANNEL);
}

enum call_result cmd_pubsub_shardnumsub(struct call *call) {
    return subscribers(call, PUBSUB_SHARD);
}

enum call_result cmd_pubsub_numpat(struct call *call) {
    reply_integer(call->reply, (int64_t)pubsub_count(pubsub_of(call), PUBSUB_PATTERN));
    return CALL_DONE;
}

enum call_result cmd_pubsub_help(struct call *call) {
    static const char *const lines[] = {
        "CHANNELS [<pattern>]",
        "    Return the currently active channels matching a <pattern> (default: '*').",
        "NUMPAT",
        "    Return number of subscriptions to patterns.",
        "NUMSUB [<channel> ...]",
        "    Return the number of subscribers for the specified channels, excluding",
        "    pattern subscriptions(default: no channels).",
        "SHARDCHANNELS [<pattern>]",
        "    Return the currently active shard level channels matching a <pattern> (default: '*').",
        "SHARDNUMSUB [<shardchannel> ...]",
        "    Return the number of subscribers for the specified shard level channel(s)",
        NULL};
    call_reply_help(call, lines);
    return CALL_DONE;
}
