/* Change: the one door through which everything that changes a key goes: commands, expiry when a
 * key is met, by the duty or by SCAN, eviction, FLUSHDB, SWAPDB, loading, applying a stream.
 *
 * One struct change per unit of work (a command, an EXEC, a script, a piece of a background duty).
 * It belongs to one thread, which uses it for one unit after the other:
 *
 *     change_begin      the view is frozen anew
 *       for each command of the unit:
 *         changes       keyspace.h's functions and those of types/; each calls change_before with
 *                       the object as it is and change_after when it is done
 *         change_append effects in another form than the command's own arguments
 *         change_command_done
 *     change_commit     under the unit's tokens, before the first of them is released
 *
 * change_commit may be called several times within a unit that takes and releases one token after
 * the other (SCAN, DEBUG POPULATE, the expiry duty): each time what was gathered since is one entry
 * of the log.
 *
 * Where nobody listens (no log, no snapshot, no listener, no watched key in the slot) the door
 * costs three tests and an addition. What lies behind it changes in exclusive sections only, so it
 * stays what it is for the whole of a unit. */
#ifndef SLOTWISE_ENGINE_CHANGE_H
#define SLOTWISE_ENGINE_CHANGE_H

#include "engine/assert.h"
#include "engine/door.h"
#include "engine/effect_log.h"
#include "engine/key.h"
#include "engine/slot.h"
#include "engine/view.h"

/* What has happened to a key: Redis's keyspace events. */
enum change_event {
    CHANGE_APPEND,
    CHANGE_COPY_TO,
    CHANGE_DEL,
    CHANGE_EVICTED,
    CHANGE_EXPIRE,
    CHANGE_EXPIRED,
    CHANGE_GEOSEARCHSTORE,
    CHANGE_GEORADIUSSTORE,
    CHANGE_HDEL,
    CHANGE_HEXPIRE,
    CHANGE_HEXPIRED,
    CHANGE_HINCRBY,
    CHANGE_HINCRBYFLOAT,
    CHANGE_HPERSIST,
    CHANGE_HSET,
    CHANGE_INCRBY,
    CHANGE_INCRBYFLOAT,
    CHANGE_KEYMISS, /* no change: somebody has looked for what is not there */
    CHANGE_LINSERT,
    CHANGE_LOADED,
    CHANGE_LPOP,
    CHANGE_LPUSH,
    CHANGE_LREM,
    CHANGE_LSET,
    CHANGE_LTRIM,
    CHANGE_MOVE_FROM,
    CHANGE_MOVE_TO,
    CHANGE_NEW, /* beside the event that says how it came */
    CHANGE_PERSIST,
    CHANGE_RENAME_FROM,
    CHANGE_RENAME_TO,
    CHANGE_RESTORE,
    CHANGE_RPOP,
    CHANGE_RPUSH,
    CHANGE_SADD,
    CHANGE_SDIFFSTORE,
    CHANGE_SET,
    CHANGE_SETRANGE,
    CHANGE_SINTERSTORE,
    CHANGE_SORTSTORE,
    CHANGE_SPOP,
    CHANGE_SREM,
    CHANGE_SUNIONSTORE,
    CHANGE_ZADD,
    CHANGE_ZDIFFSTORE,
    CHANGE_ZINCR,
    CHANGE_ZINTERSTORE,
    CHANGE_ZPOPMAX,
    CHANGE_ZPOPMIN,
    CHANGE_ZRANGESTORE,
    CHANGE_ZREM,
    CHANGE_ZREMRANGEBYLEX,
    CHANGE_ZREMRANGEBYRANK,
    CHANGE_ZREMRANGEBYSCORE,
    CHANGE_ZUNIONSTORE,
    CHANGE_EVENTS
};

/* Name and class (a letter of notify-keyspace-events; 0: clients are not told) of each. */
struct change_event_description {
    const char *name;
    char class;
    bool absent; /* the key is gone afterwards */
};
extern const struct change_event_description change_events[CHANGE_EVENTS];

/* Events that are no change by themselves: what goes by itself, and the half of a pair that is
 * counted with the other half. */
#define CHANGES_NOT_COUNTED                                                                        \
    (1ull << CHANGE_EXPIRED | 1ull << CHANGE_EVICTED | 1ull << CHANGE_HEXPIRED |                   \
     1ull << CHANGE_MOVE_FROM | 1ull << CHANGE_RENAME_FROM)
/* Events of keys that come without being told as new by keyspace_add: whoever causes them tells it,
 * since it comes before what else there is to tell, and also if the key takes another's place. */
#define CHANGES_NOT_TOLD_NEW                                                                       \
    (1ull << CHANGE_LOADED | 1ull << CHANGE_COPY_TO | 1ull << CHANGE_MOVE_TO |                     \
     1ull << CHANGE_RENAME_TO | 1ull << CHANGE_RESTORE)

struct change;
struct blocked_key;

/* Hears of every change of a key, under its token: notifications, tracking, blocked clients. Must
 * not change the keyspace. */
struct change_listener {
    void (*changed)(void *context, const struct change *change, unsigned database,
                    const struct key *key, enum change_event event);
    void *context;
    struct change_listener *next; /* of the door's */
};

/* Begins or ends to listen; what is so already stays so. In an exclusive section, or before the
 * workers start. */
void change_listen(struct door *door, struct change_listener *listener, bool listens);

struct change {
    struct view view;
    struct door *door;
    /* Changes of keys so far, counted as Redis does; only grows. Written by the thread of the unit,
     * read by others: relaxed. */
    _Atomic uint64_t dirty;
    /* Whoever runs the unit serves those who wait for its keys, before it releases a token. */
    bool serves_waiters;
    struct blocked_key *ready, **ready_end; /* keys of door->appeared; its business */
    /* Used only while there is a log. */
    uint64_t dirty_before;  /* at the beginning of the command */
    uint64_t log_begun;     /* the door's logs_begun at the beginning of the unit */
    bool own_form;          /* the command has appended its effects itself */
    bool marked;            /* it is to be logged although it may have changed nothing */
    struct effect *effects; /* gathered since the last commit */
    size_t count, room;
    struct change_memory *memory; /* what effects point to */
};

void change_init(struct change *change, struct door *door, enum view_mode mode);
void change_destroy(struct change *change); /* nothing is gathered */

/* --- The unit --------------------------------------------------------------------------------- */

void change_begin_logged(struct change *change);
static inline void change_begin(struct change *change) {
    view_begin(&change->view);
    if (UNLIKELY(change->door->log != NULL))
        change_begin_logged(change);
}

/* A command is done. If it has changed something and has not appended its effects itself, it is
 * logged as it is; argv is not copied, nor what it points to: they live until the commit. */
void change_command_logged(struct change *change, unsigned database,
                           const struct effect_argument *argv, size_t argc);
static inline void change_command_done(struct change *change, unsigned database,
                                       const struct effect_argument *argv, size_t argc) {
    if (UNLIKELY(change->door->log != NULL))
        change_command_logged(change, database, argv, argc);
}

/* Of the command that was done last argv alone is about to go, before the commit. */
void change_keep_arguments(struct change *change);

/* Hands over what was gathered. Returns the number that it got, 0 if there was nothing. */
uint64_t change_commit_logged(struct change *change);
static inline uint64_t change_commit(struct change *change) {
    return UNLIKELY(change->count > 0) ? change_commit_logged(change) : 0;
}

/* An effect of the command, instead of its arguments; copied. No-op without a log. */
void change_append(struct change *change, unsigned database,
                   const struct effect_argument *arguments, size_t count);
/* The same for what goes by itself: beside the effects of the command. */
void change_append_beside(struct change *change, unsigned database,
                          const struct effect_argument *arguments, size_t count);
/* DEL or UNLINK of a key by itself (expiry, eviction): beside the effects of the command. */
void change_append_deletion(struct change *change, unsigned database, const struct key *key,
                            bool unlink);
static inline bool change_is_logged(const struct change *change) {
    return UNLIKELY(change->door->log != NULL);
}

/* --- One key, under its token ------------------------------------------------------------------
 *
 * For whoever changes a value in place; keyspace.h's functions call both themselves. */

void change_before_snapshot(struct change *change, unsigned database, const struct key *key,
                            struct object *object);
/* The object is still as it was; a running snapshot takes it now if it has not yet. */
static inline void change_before(struct change *change, unsigned database, const struct key *key,
                                 struct object *object) {
    if (UNLIKELY(change->door->snapshot != NULL))
        change_before_snapshot(change, database, key, object);
}

static inline void change_count(struct change *change, uint64_t changes) {
    uint64_t dirty = atomic_load_explicit(&change->dirty, memory_order_relaxed);
    atomic_store_explicit(&change->dirty, dirty + changes, memory_order_relaxed);
}

void change_tell(struct change *change, unsigned database, const struct key *key,
                 enum change_event event);
/* A further event of a change that change_after has been called for (SET with a time to live). */
static inline void change_also(struct change *change, unsigned database, const struct key *key,
                               enum change_event event) {
    if (UNLIKELY(change->door->listener != NULL))
        change_tell(change, database, key, event);
}

/* Those who watch the key, and those who wait for it. */
void change_watched(struct change *change, unsigned database, const struct key *key,
                    enum change_event event);
/* It is as it is to be, and nobody who has no token has seen it yet. */
static inline void change_after(struct change *change, unsigned database, const struct key *key,
                                enum change_event event) {
    uint64_t word =
        atomic_load_explicit(&change->door->slots[key->slot].word, memory_order_relaxed);
    if (!(CHANGES_NOT_COUNTED >> event & 1))
        change_count(change, 1);
    if (UNLIKELY(word & (SLOT_WATCHED | SLOT_BLOCKED)))
        change_watched(change, database, key, event);
    change_also(change, database, key, event);
}

/* Changes that are not of single keys (FLUSHDB, SWAPDB), to be logged even if there are none. */
static inline void change_mark(struct change *change, uint64_t changes) {
    change_count(change, changes);
    change->marked = true;
}

#endif
