/* See pubsub.h. */
#include "server/clients/pubsub.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/blob.h"
#include "engine/epoch.h"
#include "engine/memory.h"
#include "server/base/glob.h"
#include "server/base/numbers.h"
#include "server/clients/conn.h"
#include "server/clients/loop.h"
#include "server/dispatch/redirect.h"

#define LENGTH_LINE_MAX 25 /* "$", a number, CR LF, and CR LF behind what is so long */

/* One connection and one name: in the session's table by name, and in the list of the name's
 * subscribers. */
struct subscription {
    struct name_entry entry; /* first; the name is the local channel's */
    struct local_channel *local;
    struct conn *conn;
    struct subscription *next, *previous;
};

/* A name that connections of this loop have subscribed to. The loop's thread. */
struct local_channel {
    struct name_entry entry; /* first */
    struct subscription *first, *last;
    size_t count;
    char name[];
};

/* A name in the registry: how many subscribers each loop has. */
struct shared_channel {
    struct name_entry entry;    /* first */
    _Atomic uint32_t *per_loop; /* written under the stripe's lock or that of patterns */
    char *name;
};

struct pattern_list {
    size_t count;
    struct shared_channel *of[];
};

/* A message on its way to one loop. */
struct pubsub_delivery {
    struct pubsub_delivery *next; /* older */
    struct pubsub_message *message;
};

struct pubsub_message {
    _Atomic unsigned users;
    enum pubsub_kind kind;
    /* As a subscriber of the channel gets it in RESP2; made once. Behind the head are name and
     * payload, as they are for everybody. */
    struct blob *text;
    size_t head_length;
    const char *name; /* in the text */
    size_t name_length;
    struct pubsub_delivery deliveries[]; /* one for each loop that gets it */
};

/* --- Handing on ------------------------------------------------------------------------------- */

static void message_drop(struct pubsub_message *message) {
    if (atomic_fetch_sub(&message->users, 1) > 1)
        return;
    blob_return(message->text);
    memory_free(message);
}

/* Pushes are sent whatever CLIENT REPLY says. */
static void push(const struct subscription *subscription, const struct pubsub_message *message,
                 const struct local_channel *pattern) {
    struct conn *conn = subscription->conn;
    struct reply *reply = &conn->reply;
    if (conn->state >= CONN_DRAINING)
        return;
    bool discard = reply->discard;
    reply->discard = false;
    if (pattern) {
        reply_push(reply, 4);
        reply_literal(reply, "$8\r\npmessage\r\n");
        reply_bulk(reply, pattern->name, pattern->entry.length);
        reply_blob(reply, message->text, message->head_length);
    } else if (reply->resp > 2) {
        reply_literal(reply, ">"); /* instead of the array's first byte */
        reply_blob(reply, message->text, 1);
    } else {
        reply_blob(reply, message->text, 0);
    }
    reply->discard = discard;
    conn_mark_dirty(conn);
}

static void hand_on(struct loop *loop, const struct pubsub_message *message) {
    const char *name = message->name;
    size_t length = message->name_length;
    const struct name_table *channels = &loop->pubsub.of[message->kind];
    struct local_channel *channel = (struct local_channel *)(void *)name_table_find(
        channels, name_hash(name, length), name, length);
    for (const struct subscription *s = channel ? channel->first : NULL; s; s = s->next)
        push(s, message, NULL);
    if (message->kind != PUBSUB_CHANNEL)
        return;
    const struct name_table *patterns = &loop->pubsub.of[PUBSUB_PATTERN];
    for (struct name_entry *at = NULL; (at = name_table_next(patterns, at)) != NULL;) {
        const struct local_channel *pattern = (const struct local_channel *)(void *)at;
        if (!glob_match(at->name, at->length, name, length, false))
            continue;
        for (const struct subscription *s = pattern->first; s; s = s->next)
            push(s, message, pattern);
    }
}

void pubsub_deliver(struct loop *loop) {
    struct pubsub_delivery *newest =
        atomic_exchange_explicit(&loop->pubsub.newest, NULL, memory_order_acquire);
    struct pubsub_delivery *oldest = NULL;
    for (struct pubsub_delivery *delivery = newest, *next; delivery; delivery = next) {
        next = delivery->next;
        delivery->next = oldest;
        oldest = delivery;
    }
    for (struct pubsub_delivery *delivery = oldest, *next; delivery; delivery = next) {
        next = delivery->next;
        hand_on(loop, delivery->message);
        message_drop(delivery->message);
    }
}

static void woken(struct message *message) {
    struct loop *loop =
        (struct loop *)(void *)((char *)message - offsetof(struct loop, pubsub.wake));
    atomic_store(&loop->pubsub.posted, false); /* what comes from now on posts it again */
    pubsub_deliver(loop);
}

/* Under the lock of the channel's stripe. */
static void put(struct loop *loop, struct pubsub_delivery *delivery) {
    struct pubsub_inbox *inbox = &loop->pubsub;
    struct pubsub_delivery *newest = atomic_load_explicit(&inbox->newest, memory_order_relaxed);
    do
        delivery->next = newest;
    while (!atomic_compare_exchange_weak(&inbox->newest, &newest, delivery));
    if (!atomic_exchange(&inbox->posted, true))
        mailbox_post(&loop->mailbox, &inbox->wake);
}

/* --- Publishing ------------------------------------------------------------------------------- */

static struct pubsub_stripe *stripe_of(struct pubsub *pubsub, uint64_t hash) {
    return &pubsub->stripes[hash >> 32 & (PUBSUB_STRIPES - 1)];
}

static struct name_table *table_of(struct pubsub_stripe *stripe, enum pubsub_kind kind) {
    return kind == PUBSUB_SHARD ? &stripe->shard_channels : &stripe->channels;
}

static uint64_t add_counts(const struct shared_channel *channel, unsigned loops,
                           uint64_t *per_loop) {
    uint64_t all = 0;
    for (unsigned i = 0; i < loops; i++) {
        uint32_t count = atomic_load_explicit(&channel->per_loop[i], memory_order_relaxed);
        per_loop[i] += count;
        all += count;
    }
    return all;
}

static char *write_bytes(char *out, const char *data, size_t length) {
    memcpy(out, data, length);
    return out + length;
}

/* $length, CR LF. */
static char *write_length(char *out, size_t length) {
    *out++ = '$';
    out += number_write_uint64(out, length);
    return write_bytes(out, "\r\n", 2);
}

static void write_text(struct pubsub_message *message, const char *channel, size_t channel_length,
                       const char *payload, size_t length) {
    const char *head =
        message->kind == PUBSUB_SHARD ? "*3\r\n$8\r\nsmessage\r\n" : "*3\r\n$7\r\nmessage\r\n";
    message->head_length = strlen(head);
    size_t room = message->head_length + channel_length + length + 2 * LENGTH_LINE_MAX;
    struct blob *text = message->text = blob_make(room, room);
    char *out = write_bytes(text->data, head, message->head_length);
    out = write_length(out, channel_length);
    message->name = out;
    message->name_length = channel_length;
    out = write_bytes(out, channel, channel_length);
    out = write_bytes(out, "\r\n", 2);
    out = write_length(out, length);
    out = write_bytes(out, payload, length);
    out = write_bytes(out, "\r\n", 2);
    text->length = (size_t)(out - text->data);
}

static void post(struct pubsub *pubsub, enum pubsub_kind kind, const char *channel,
                 size_t channel_length, const char *text, size_t length, const uint64_t *per_loop) {
    unsigned loops = *pubsub->loop_count, receivers = 0;
    for (unsigned i = 0; i < loops; i++)
        receivers += per_loop[i] > 0;
    struct pubsub_message *message =
        memory_alloc(sizeof *message + receivers * sizeof(struct pubsub_delivery));
    atomic_init(&message->users, receivers);
    message->kind = kind;
    write_text(message, channel, channel_length, text, length);
    struct pubsub_delivery *delivery = message->deliveries;
    for (unsigned i = 0; i < loops; i++)
        if (per_loop[i] > 0) {
            delivery->message = message;
            put(pubsub->loops[i], delivery++); /* the last may free the message */
        }
}

uint64_t pubsub_publish(struct pubsub *pubsub, enum pubsub_kind kind, const char *channel,
                        size_t channel_length, const char *message, size_t message_length) {
    uint64_t per_loop[PUBSUB_LOOPS_MAX] = {0}, receivers = 0;
    unsigned loops = *pubsub->loop_count;
    if (pubsub_count(pubsub, kind) == 0 &&
        (kind == PUBSUB_SHARD || pubsub_count(pubsub, PUBSUB_PATTERN) == 0))
        return 0;
    uint64_t hash = name_hash(channel, channel_length);
    struct pubsub_stripe *stripe = stripe_of(pubsub, hash);
    pthread_mutex_lock(&stripe->lock);
    const struct shared_channel *shared = (const struct shared_channel *)(void *)name_table_find(
        table_of(stripe, kind), hash, channel, channel_length);
    if (shared)
        receivers += add_counts(shared, loops, per_loop);
    const struct pattern_list *patterns =
        kind == PUBSUB_CHANNEL ? atomic_load_explicit(&pubsub->patterns, memory_order_acquire)
                               : NULL;
    for (size_t i = 0; patterns && i < patterns->count; i++) {
        const struct shared_channel *pattern = patterns->of[i];
        if (glob_match(pattern->name, pattern->entry.length, channel, channel_length, false))
            receivers += add_counts(pattern, loops, per_loop);
    }
    if (receivers > 0)
        post(pubsub, kind, channel, channel_length, message, message_length, per_loop);
    pthread_mutex_unlock(&stripe->lock);
    return receivers;
}

/* --- The registry ----------------------------------------------------------------------------- */

static struct shared_channel *shared_make(const struct pubsub *pubsub, const char *name,
                                          size_t length, uint64_t hash) {
    size_t counts = *pubsub->loop_count * sizeof(_Atomic uint32_t);
    struct shared_channel *shared = memory_alloc(sizeof *shared + counts + length);
    shared->per_loop = (_Atomic uint32_t *)(void *)(shared + 1);
    shared->name = (char *)(shared + 1) + counts;
    memset((void *)shared->per_loop, 0, counts);
    memcpy(shared->name, name, length);
    shared->entry = (struct name_entry){.hash = hash, .name = shared->name, .length = length};
    return shared;
}

static bool is_unused(const struct pubsub *pubsub, const struct shared_channel *shared) {
    uint64_t per_loop[PUBSUB_LOOPS_MAX] = {0};
    return add_counts(shared, *pubsub->loop_count, per_loop) == 0;
}

/* Under the stripe's lock. */
static void count_channel(struct pubsub *pubsub, struct pubsub_stripe *stripe,
                          enum pubsub_kind kind, const struct local_channel *local,
                          unsigned loop_number, int change) {
    struct name_table *table = table_of(stripe, kind);
    const struct name_entry *name = &local->entry;
    struct shared_channel *shared = (struct shared_channel *)(void *)name_table_find(
        table, name->hash, name->name, name->length);
    if (!shared) {
        shared = shared_make(pubsub, name->name, name->length, name->hash);
        name_table_add(table, &shared->entry);
        atomic_fetch_add(&pubsub->counts[kind], 1);
    }
    atomic_fetch_add_explicit(&shared->per_loop[loop_number], (uint32_t)change,
                              memory_order_relaxed);
    if (is_unused(pubsub, shared)) {
        name_table_remove(table, &shared->entry);
        memory_free(shared);
        atomic_fetch_sub(&pubsub->counts[kind], 1);
    }
}

static struct pattern_list *list_make(size_t count) {
    struct pattern_list *list =
        memory_alloc(sizeof *list + count * sizeof(struct shared_channel *));
    list->count = count;
    return list;
}

static size_t list_bytes(const struct pattern_list *list) {
    return sizeof *list + list->count * sizeof(struct shared_channel *);
}

/* Publishes the list with one more, or without one. Under patterns_lock. */
static void list_replace(struct pubsub *pubsub, struct shared_channel *added,
                         struct shared_channel *removed) {
    struct pattern_list *old = atomic_load(&pubsub->patterns), *list = NULL;
    size_t count = (old ? old->count : 0) + (added != NULL) - (removed != NULL), at = 0;
    if (count > 0) {
        list = list_make(count);
        for (size_t i = 0; old && i < old->count; i++)
            if (old->of[i] != removed)
                list->of[at++] = old->of[i];
        if (added)
            list->of[at++] = added;
        ASSERT(at == count);
    }
    atomic_store_explicit(&pubsub->patterns, list, memory_order_release);
    atomic_store(&pubsub->counts[PUBSUB_PATTERN], count);
    if (old)
        epoch_retire(old, list_bytes(old), memory_free);
}

static struct shared_channel *pattern_find(struct pubsub *pubsub, const struct name_entry *name) {
    const struct pattern_list *list = atomic_load(&pubsub->patterns);
    for (size_t i = 0; list && i < list->count; i++) {
        struct shared_channel *pattern = list->of[i];
        if (pattern->entry.hash == name->hash && pattern->entry.length == name->length &&
            memcmp(pattern->name, name->name, name->length) == 0)
            return pattern;
    }
    return NULL;
}

static void count_pattern(struct pubsub *pubsub, const struct local_channel *local,
                          unsigned loop_number, int change) {
    const struct name_entry *name = &local->entry;
    pthread_mutex_lock(&pubsub->patterns_lock);
    struct shared_channel *shared = pattern_find(pubsub, name), *added = NULL;
    if (!shared)
        shared = added = shared_make(pubsub, name->name, name->length, name->hash);
    atomic_fetch_add_explicit(&shared->per_loop[loop_number], (uint32_t)change,
                              memory_order_relaxed);
    if (added)
        list_replace(pubsub, added, NULL);
    if (is_unused(pubsub, shared)) {
        list_replace(pubsub, NULL, shared);
        epoch_retire(shared, sizeof *shared + name->length, memory_free);
    }
    pthread_mutex_unlock(&pubsub->patterns_lock);
}

/* --- Subscribing ------------------------------------------------------------------------------ */

static struct local_channel *local_make(struct name_table *table, uint64_t hash, const char *name,
                                        size_t length) {
    struct local_channel *local = memory_alloc(sizeof *local + length);
    memcpy(local->name, name, length);
    *local = (struct local_channel){.entry = {.hash = hash, .name = local->name, .length = length}};
    name_table_add(table, &local->entry);
    return local;
}

/* On the loop's thread; for channels under the stripe's lock, with the inbox emptied. */
static void local_add(struct loop *loop, struct conn *conn, enum pubsub_kind kind,
                      struct subscription *subscription, const char *name, size_t length,
                      uint64_t hash) {
    struct name_table *table = &loop->pubsub.of[kind];
    struct local_channel *local =
        (struct local_channel *)(void *)name_table_find(table, hash, name, length);
    if (!local)
        local = local_make(table, hash, name, length);
    *subscription =
        (struct subscription){.entry = {.hash = hash, .name = local->name, .length = length},
                              .local = local,
                              .conn = conn,
                              .previous = local->last};
    if (local->last)
        local->last->next = subscription;
    else
        local->first = subscription;
    local->last = subscription;
    local->count++;
}

static void local_remove(struct loop *loop, enum pubsub_kind kind,
                         struct subscription *subscription) {
    struct local_channel *local = subscription->local;
    if (subscription->previous)
        subscription->previous->next = subscription->next;
    else
        local->first = subscription->next;
    if (subscription->next)
        subscription->next->previous = subscription->previous;
    else
        local->last = subscription->previous;
    if (--local->count > 0)
        return;
    name_table_remove(&loop->pubsub.of[kind], &local->entry);
    memory_free(local);
}

static void begin(struct pubsub *pubsub, struct conn *conn, enum pubsub_kind kind,
                  struct subscription *subscription, const char *name, size_t length,
                  uint64_t hash) {
    struct loop *loop = conn->loop;
    if (kind == PUBSUB_PATTERN) {
        pubsub_deliver(loop);
        local_add(loop, conn, kind, subscription, name, length, hash);
        count_pattern(pubsub, subscription->local, loop->number, 1);
        return;
    }
    struct pubsub_stripe *stripe = stripe_of(pubsub, hash);
    pubsub_deliver(loop); /* what has piled up, while it holds up no publisher */
    pthread_mutex_lock(&stripe->lock);
    pubsub_deliver(loop);
    local_add(loop, conn, kind, subscription, name, length, hash);
    count_channel(pubsub, stripe, kind, subscription->local, loop->number, 1);
    pthread_mutex_unlock(&stripe->lock);
}

static void end(struct pubsub *pubsub, enum pubsub_kind kind, struct subscription *subscription) {
    struct loop *loop = subscription->conn->loop;
    if (kind == PUBSUB_PATTERN) {
        count_pattern(pubsub, subscription->local, loop->number, -1);
        pubsub_deliver(loop);
        local_remove(loop, kind, subscription);
        return;
    }
    struct pubsub_stripe *stripe = stripe_of(pubsub, subscription->entry.hash);
    pubsub_deliver(loop);
    pthread_mutex_lock(&stripe->lock);
    pubsub_deliver(loop);
    count_channel(pubsub, stripe, kind, subscription->local, loop->number, -1);
    local_remove(loop, kind, subscription);
    pthread_mutex_unlock(&stripe->lock);
}

static size_t count_of(const struct session *session, enum pubsub_kind kind) {
    return session->subscriptions ? session->subscriptions->of[kind].count : 0;
}

/* What Redis tells: shard channels are counted apart. */
static void answer(struct session *session, enum pubsub_kind kind, bool subscribed,
                   const char *name, size_t length) {
    static const char *const words[PUBSUB_KINDS][2] = {{"unsubscribe", "subscribe"},
                                                       {"punsubscribe", "psubscribe"},
                                                       {"sunsubscribe", "ssubscribe"}};
    struct reply *reply = &conn_of_session(session)->reply;
    bool discard = reply->discard;
    reply->discard = false; /* as messages */
    reply_push(reply, 3);
    reply_bulk_text(reply, words[kind][subscribed]);
    if (name)
        reply_bulk(reply, name, length);
    else
        reply_null(reply);
    size_t count = kind == PUBSUB_SHARD
                       ? count_of(session, kind)
                       : count_of(session, PUBSUB_CHANNEL) + count_of(session, PUBSUB_PATTERN);
    reply_integer(reply, (int64_t)count);
    reply->discard = discard;
}

static void unsubscribe(struct session *session) {
    pubsub_leave(session->subscriptions->pubsub, session);
}

void pubsub_subscribe(struct pubsub *pubsub, struct session *session, enum pubsub_kind kind,
                      const char *name, size_t length) {
    uint64_t hash = name_hash(name, length);
    if (!session->subscriptions) {
        session->subscriptions = memory_alloc(sizeof *session->subscriptions);
        *session->subscriptions = (struct subscriptions){.pubsub = pubsub};
        session->unsubscribe = unsubscribe;
        atomic_fetch_add(&pubsub->clients, 1);
    }
    struct name_table *mine = &session->subscriptions->of[kind];
    if (!name_table_find(mine, hash, name, length)) {
        struct subscription *subscription = memory_alloc(sizeof *subscription);
        begin(pubsub, conn_of_session(session), kind, subscription, name, length, hash);
        name_table_add(mine, &subscription->entry);
    }
    answer(session, kind, true, name, length);
}

/* The session has none any more. */
static void settle(struct pubsub *pubsub, struct session *session) {
    if (!session->subscriptions)
        return;
    for (enum pubsub_kind kind = 0; kind < PUBSUB_KINDS; kind++)
        if (session->subscriptions->of[kind].count > 0)
            return;
    memory_free(session->subscriptions);
    session->subscriptions = NULL;
    atomic_fetch_sub(&pubsub->clients, 1);
}

static void leave(struct pubsub *pubsub, struct session *session, enum pubsub_kind kind,
                  struct name_entry *entry) {
    struct subscription *subscription = (struct subscription *)(void *)entry;
    name_table_remove(&session->subscriptions->of[kind], entry);
    end(pubsub, kind, subscription);
    memory_free(subscription);
}

void pubsub_unsubscribe(struct pubsub *pubsub, struct session *session, enum pubsub_kind kind,
                        const char *name, size_t length) {
    struct name_entry *entry = session->subscriptions
                                   ? name_table_find(&session->subscriptions->of[kind],
                                                     name_hash(name, length), name, length)
                                   : NULL;
    if (entry)
        leave(pubsub, session, kind, entry);
    answer(session, kind, false, name, length);
    settle(pubsub, session);
}

void pubsub_unsubscribe_all(struct pubsub *pubsub, struct session *session, enum pubsub_kind kind) {
    if (count_of(session, kind) == 0) {
        answer(session, kind, false, NULL, 0);
        return;
    }
    while (count_of(session, kind) > 0) {
        struct name_entry *entry = name_table_next(&session->subscriptions->of[kind], NULL);
        char *name = memory_alloc(entry->length + 1);
        size_t length = entry->length;
        memcpy(name, entry->name, length);
        leave(pubsub, session, kind, entry);
        answer(session, kind, false, name, length);
        memory_free(name);
    }
    settle(pubsub, session);
}

void pubsub_leave(struct pubsub *pubsub, struct session *session) {
    for (enum pubsub_kind kind = 0; kind < PUBSUB_KINDS; kind++)
        while (count_of(session, kind) > 0)
            leave(pubsub, session, kind, name_table_next(&session->subscriptions->of[kind], NULL));
    settle(pubsub, session);
}

/* Those of a session to channels whose slot is another shard's now. */
static void leave_lost_channels(struct pubsub *pubsub, struct session *session) {
    struct name_table *mine = &session->subscriptions->of[PUBSUB_SHARD];
    for (struct name_entry *at = name_table_next(mine, NULL), *next; at; at = next) {
        next = name_table_next(mine, at);
        if (redirect_keeps_channels(slot_of_key(at->name, at->length)))
            continue;
        char *name = memory_alloc(at->length + 1);
        size_t length = at->length;
        memcpy(name, at->name, length);
        leave(pubsub, session, PUBSUB_SHARD, at);
        answer(session, PUBSUB_SHARD, false, name, length);
        conn_mark_dirty(conn_of_session(session));
        memory_free(name);
    }
    settle(pubsub, session);
}

void pubsub_check_shards(struct pubsub *pubsub, struct loop *loop) {
    const struct name_table *table = &loop->pubsub.of[PUBSUB_SHARD];
    bool lost = false;
    for (struct name_entry *at = NULL; !lost && (at = name_table_next(table, at)) != NULL;)
        lost = !redirect_keeps_channels(slot_of_key(at->name, at->length));
    if (!lost)
        return;
    for (struct conn *conn = loop->connections; conn; conn = conn->next)
        if (conn->session.subscriptions)
            leave_lost_channels(pubsub, &conn->session);
}

/* --- What there is ---------------------------------------------------------------------------- */

void pubsub_reply_channels(struct pubsub *pubsub, struct reply *reply, enum pubsub_kind kind,
                           const char *pattern, size_t length) {
    size_t count = 0;
    struct reply_deferred deferred = reply_deferred_begin(reply);
    for (unsigned i = 0; i < PUBSUB_STRIPES; i++) {
        struct pubsub_stripe *stripe = &pubsub->stripes[i];
        pthread_mutex_lock(&stripe->lock);
        const struct name_table *table = table_of(stripe, kind);
        for (const struct name_entry *at = NULL; (at = name_table_next(table, at)) != NULL;) {
            if (pattern && !glob_match(pattern, length, at->name, at->length, false))
                continue;
            reply_bulk(reply, at->name, at->length);
            count++;
        }
        pthread_mutex_unlock(&stripe->lock);
    }
    reply_deferred_array(reply, deferred, count);
}

uint64_t pubsub_subscribers(struct pubsub *pubsub, enum pubsub_kind kind, const char *name,
                            size_t length) {
    uint64_t per_loop[PUBSUB_LOOPS_MAX] = {0}, count = 0, hash = name_hash(name, length);
    struct pubsub_stripe *stripe = stripe_of(pubsub, hash);
    pthread_mutex_lock(&stripe->lock);
    const struct shared_channel *shared = (const struct shared_channel *)(void *)name_table_find(
        table_of(stripe, kind), hash, name, length);
    if (shared)
        count = add_counts(shared, *pubsub->loop_count, per_loop);
    pthread_mutex_unlock(&stripe->lock);
    return count;
}

/* --- Set-up ----------------------------------------------------------------------------------- */

struct pubsub *pubsub_create(struct loop *const *loops, const unsigned *loop_count) {
    struct pubsub *pubsub = memory_alloc_aligned(_Alignof(struct pubsub), sizeof *pubsub);
    memset(pubsub, 0, sizeof *pubsub);
    pubsub->loops = loops;
    pubsub->loop_count = loop_count;
    for (unsigned i = 0; i < PUBSUB_STRIPES; i++)
        pthread_mutex_init(&pubsub->stripes[i].lock, NULL);
    pthread_mutex_init(&pubsub->patterns_lock, NULL);
    return pubsub;
}

void pubsub_destroy(struct pubsub *pubsub) {
    memory_free(pubsub);
}

void pubsub_inbox_init(struct loop *loop) {
    loop->pubsub.wake.run = woken;
}

void pubsub_inbox_destroy(struct loop *loop) {
    struct pubsub_delivery *delivery = atomic_exchange(&loop->pubsub.newest, NULL);
    for (struct pubsub_delivery *next; delivery; delivery = next) {
        next = delivery->next;
        message_drop(delivery->message);
    }
    for (enum pubsub_kind kind = 0; kind < PUBSUB_KINDS; kind++)
        name_table_free(&loop->pubsub.of[kind]);
}
