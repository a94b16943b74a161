/* Publish and subscribe.
 *
 * Algorithm. Who has subscribed to what is known in two places. Each loop has tables of its own,
 * with the connections on it: only its thread touches them. The registry, shared, tells for each
 * channel how many subscribers each loop has; its channels are spread over stripes with a mutex
 * each, held for some hundred nanoseconds, in which nothing waits. Patterns are an immutable list,
 * replaced as a whole.
 *
 * A message is made once. Under the lock of its channel's stripe it is put into the inbox of each
 * loop that has subscribers, whose thread hands it to them: their output refers to the payload, or
 * has a copy if it is short. A loop looks into its inbox before each command that it runs.
 *
 * Ordering. Messages of a channel enter all inboxes in one order, that of its stripe's lock, and
 * inboxes are first in, first out: all subscribers see one order. The message is in the inboxes
 * before PUBLISH is answered: who has heard of that answer, and then asks any loop anything, is
 * answered behind the message. A subscription begins and ends under the stripe's lock, with the
 * inbox emptied: what was published before the beginning is not seen, what was before the end is,
 * and PUBLISH's count is exact; but a pattern that begins or ends during a PUBLISH may get its
 * message uncounted, or be counted without.
 *
 * Progress. A stripe's lock is held by a running thread for a bounded time: the counts of one
 * channel and the matching of all patterns. Reclamation. A message is freed by the last loop that
 * has handed it on. Lists of patterns, and patterns, are read inside RCU read sections and retired.
 */
#ifndef SLOTWISE_SERVER_PUBSUB_H
#define SLOTWISE_SERVER_PUBSUB_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "server/clients/pubsub_inbox.h"
#include "server/resp/reply.h"

struct loop;
struct session;

#define PUBSUB_STRIPES   64
#define PUBSUB_LOOPS_MAX 128

struct pubsub;

/* Of a session: NULL while it has none (session.h). */
struct subscriptions {
    struct pubsub *pubsub;
    struct name_table of[PUBSUB_KINDS];
};

struct pubsub_stripe {
    _Alignas(64) pthread_mutex_t lock;
    struct name_table channels, shard_channels; /* under lock */
};

struct pattern_list;

struct pubsub {
    struct loop *const *loops;
    const unsigned *loop_count; /* at most PUBSUB_LOOPS_MAX */
    struct pubsub_stripe stripes[PUBSUB_STRIPES];
    pthread_mutex_t patterns_lock;           /* who changes patterns */
    _Atomic(struct pattern_list *) patterns; /* RCU; NULL: none */
    _Atomic uint64_t counts[PUBSUB_KINDS];   /* of names with a subscriber */
    _Atomic uint64_t clients;                /* with a subscription */
};

struct pubsub *pubsub_create(struct loop *const *loops, const unsigned *loop_count);
/* Nobody has a subscription any more. */
void pubsub_destroy(struct pubsub *pubsub);
/* Of a loop, before it runs; after it has ended. */
void pubsub_inbox_init(struct loop *loop);
void pubsub_inbox_destroy(struct loop *loop);

/* Hands what is in the inbox to the loop's connections. On the loop's thread, between commands, or
 * within one of the functions below. */
void pubsub_deliver(struct loop *loop);
static inline bool pubsub_has_mail(const struct pubsub_inbox *inbox) {
    return __builtin_expect(atomic_load_explicit(&inbox->newest, memory_order_acquire) != NULL, 0);
}

/* How many will get it. kind: CHANNEL (patterns count too) or SHARD. Any thread that is an RCU
 * reader, online; tokens may be held. */
uint64_t pubsub_publish(struct pubsub *pubsub, enum pubsub_kind kind, const char *channel,
                        size_t channel_length, const char *message, size_t message_length);

/* On the thread of the session's connection, whose reply gets Redis's answer (for each name). */
void pubsub_subscribe(struct pubsub *pubsub, struct session *session, enum pubsub_kind kind,
                      const char *name, size_t length);
void pubsub_unsubscribe(struct pubsub *pubsub, struct session *session, enum pubsub_kind kind,
                        const char *name, size_t length);
/* From all of a kind; answered with nil if there were none. */
void pubsub_unsubscribe_all(struct pubsub *pubsub, struct session *session, enum pubsub_kind kind);
/* The session ends, or is reset: from everything, without an answer. */
void pubsub_leave(struct pubsub *pubsub, struct session *session);
/* Ends the subscriptions to channels of shards whose slot is not this shard's any more, as if the
 * clients had asked for it. On the loop's thread, between commands. */
void pubsub_check_shards(struct pubsub *pubsub, struct loop *loop);
static inline uint64_t pubsub_count(const struct pubsub *pubsub, enum pubsub_kind kind) {
    return atomic_load_explicit(&pubsub->counts[kind], memory_order_relaxed);
}

/* PUBSUB CHANNELS, SHARDCHANNELS: an array; pattern NULL: all. NUMSUB: subscribers of one. */
void pubsub_reply_channels(struct pubsub *pubsub, struct reply *reply, enum pubsub_kind kind,
                           const char *pattern, size_t length);
uint64_t pubsub_subscribers(struct pubsub *pubsub, enum pubsub_kind kind, const char *name,
                            size_t length);

#endif
