/* Keyspace: 16384 slots of up to 16 databases (or as many as configured), their tables, lookups,
 * and the changes of keys: they keep the counts, go through the door (change.h) and retire what was
 * replaced.
 *
 * Unless said otherwise a function that changes something requires the token of the key's slot (or
 * an exclusive section); one that reads requires it too or runs inside slot_read_begin/validate.
 * Objects returned are valid until the end of the command. */
#ifndef SLOTWISE_ENGINE_KEYSPACE_H
#define SLOTWISE_ENGINE_KEYSPACE_H

#include "engine/access.h"
#include "engine/change.h"
#include "engine/key.h"
#include "engine/object.h"
#include "engine/slot.h"
#include "engine/table.h"
#include "engine/value.h"
#include "engine/view.h"
#include "engine/watch.h"

#define KEYSPACE_THREADS_MAX 272

/* Slots with keys and with volatile keys (object_is_volatile) of one database, a bit per slot,
 * changed under the slot's token (or in an exclusive section) by atomic or/and. An occupied bit may
 * outlast the last key, so a clear one proves without a look at the slot's word that no committed
 * state since it was loaded had a key there. Read by anybody (SCAN, expiry, RANDOMKEY). */
struct slot_bitmaps {
    _Atomic uint64_t cleared; /* how often occupied bits were cleared; counted up before */
    _Atomic uint64_t occupied[SLOT_COUNT / 64];
    _Atomic uint64_t expiring[SLOT_COUNT / 64];
};

/* Tables of a physical database other than 0 by slot, in blocks that are made when the first of
 * their slots is used: a cache line, since each of a few keys may need one of its own, and eviction
 * does not get them back. */
#define TABLE_BLOCK_SLOTS 8
struct table_block {
    table_root tables[TABLE_BLOCK_SLOTS];
};
struct database_tables {
    struct table_block *_Atomic blocks[SLOT_COUNT / TABLE_BLOCK_SLOTS];
};

/* Keys, those of them with a TTL, and hashes with fields that have one. */
struct key_numbers {
    int64_t keys, expiring, field_timed;
};
static inline struct key_numbers key_numbers_negative(struct key_numbers n) {
    return (struct key_numbers){-n.keys, -n.expiring, -n.field_timed};
}

/* The same of one physical database as one thread has added and removed them: it may be negative.
 */
struct key_counts {
    _Atomic int64_t keys, expiring, field_timed;
};

/* Written only by their own thread, summed by readers. One or more cache lines each. */
struct keyspace_counters {
    _Alignas(64) _Atomic uint64_t hits;
    _Atomic uint64_t misses, expired, evicted, expire_cycle_us, evict_us, expire_limit_reached;
    _Atomic uint64_t expired_fields;
    /* Number of publications of counts, twice; odd during one. */
    _Atomic uint64_t version;
    struct key_counts *_Atomic published; /* by physical database; NULL: this thread counts none */
    /* Its own thread only: counts with what is not published yet, and which databases those are. */
    struct key_counts *counted;
    unsigned unpublished_first, unpublished_end;
    bool held;
};

/* Adds to a counter of the calling thread: no read-modify-write. */
#define COUNTER_ADD(counter, amount)                                                               \
    atomic_store_explicit(&(counter),                                                              \
                          atomic_load_explicit(&(counter), memory_order_relaxed) + (amount),       \
                          memory_order_relaxed)

struct keyspace {
    struct door door;   /* first: keyspace.c finds the keyspace of a change by it */
    struct slot *slots; /* SLOT_COUNT, 64-byte aligned */
    uint32_t side;      /* index of slot.table0; changed in exclusive sections */
    /* The table0 of the other side are NULL again. Set by who has emptied them after a flush,
     * cleared in exclusive sections. */
    _Atomic bool other_side_is_empty;
    struct database_tables *_Atomic *tables; /* by physical number, 0 is not used; made on first
                                                use, taken out whole by a flush */
    struct slot_bitmaps *_Atomic *bitmaps;   /* one per database, made on first use */
    struct deadlines *_Atomic *deadlines;    /* one per database that had a TTL */
    unsigned databases;
    /* Database number -> physical number: SWAPDB exchanges two entries (exclusive section). */
    uint16_t *database_map;
    uint16_t *database_map_inverse; /* physical to logical */
    uint64_t *clears; /* by physical number: how often it was emptied as a whole; exclusive */
    struct access_policy access;
    struct watch_map watch;
    _Atomic bool active_expiry; /* DEBUG SET-ACTIVE-EXPIRE */
    /* Slots that serve nobody at the moment: who changes keys with everything stopped, and so looks
     * at no slot, waits until there are none. Written under their tokens, by keyspace_serve_slot;
     * in an exclusive section it stands still. */
    _Atomic unsigned unserved;
    _Atomic unsigned counters_high; /* threads below this number may have counted keys */
    /* Slots with a table that is rebuilt step by step, or was a moment ago: set under the slot's
     * token, cleared by rebuild_continue. */
    _Atomic uint64_t rebuilding[SLOT_COUNT / 64];
    struct keyspace_counters *counters; /* [KEYSPACE_THREADS_MAX] */
};

int keyspace_create(unsigned databases, struct keyspace **keyspace);
void keyspace_destroy(struct keyspace *keyspace); /* single thread, after everybody left */

/* Each thread that calls the functions below: its own number in 0..KEYSPACE_THREADS_MAX-1. */
void keyspace_thread_set(unsigned number);
struct keyspace_counters *keyspace_counters_mine(struct keyspace *keyspace);

/* For walks that meet an occupied bit and no key: clears the bit if that is still so. Holding no
 * token, or exclusive: inside an exclusive section. */
void keyspace_note_empty(struct keyspace *keyspace, unsigned database, uint32_t slot,
                         bool exclusive);

/* Under the slot's token: from now on it serves commands, or nobody. */
static inline void keyspace_serve_slot(struct keyspace *keyspace, uint32_t slot, bool serves) {
    bool served = slot_is_serving(&keyspace->slots[slot]);
    if (serves && !served) {
        slot_set_bits(&keyspace->slots[slot], SLOT_SERVING);
        atomic_fetch_sub(&keyspace->unserved, 1);
    } else if (!serves && served) {
        slot_clear_bits(&keyspace->slots[slot], SLOT_SERVING);
        atomic_fetch_add(&keyspace->unserved, 1);
    }
}

/* The root of (database, slot); NULL if nothing was ever there. */
table_root *keyspace_root(const struct keyspace *keyspace, unsigned database, uint32_t slot);
table_root *keyspace_root_make(struct keyspace *keyspace, unsigned database, uint32_t slot);

/* As it is in the table: may be expired. NULL when absent. */
struct object *keyspace_find_raw(const struct keyspace *keyspace, unsigned database,
                                 const struct key *key);

/* For a command that will write, under the token: a key that has expired for this unit is deleted
 * first, whatever the view's mode, since who writes needs its place. NULL: absent. */
struct object *keyspace_find_write(struct change *change, unsigned database, const struct key *key);

/* The key has expired for this unit and is deleted: logged as DEL or UNLINK beside the effects of
 * the command, counted as expired. Only if view_may_expire. Here and in keyspace_evict and
 * keyspace_delete the key's bytes may be those of the object itself (they are not used after its
 * retirement). */
void keyspace_expire(struct change *change, unsigned database, const struct key *key);
/* The same for a key that makes room, counted as evicted. It is there, expired or not. */
void keyspace_evict(struct change *change, unsigned database, const struct key *key);

/* Publication. The object belongs to the caller and nobody else has ever seen it: it is stamped
 * with the snapshot id and, if its access clock is 0, with a fresh one. What keyspace_take gave
 * back may still be read by others, so it is never published again: object_remake makes a new
 * one. add: the key is absent (delete it first if it is expired). replace: old is there, whether
 * or not it has expired; it is retired, and dead on return if this is the only reader. Its access
 * clock starts anew under LRU and is old's under LFU, as in Redis. */
void keyspace_add(struct change *change, unsigned database, const struct key *key,
                  struct object *object, enum change_event event);
void keyspace_replace(struct change *change, unsigned database, const struct key *key,
                      struct object *old, struct object *object, enum change_event event);
/* true if it was there. */
bool keyspace_delete(struct change *change, unsigned database, const struct key *key,
                     enum change_event event);
/* Takes the key out and hands the object to the caller (RENAME, MOVE), who retires it
 * (object_retire, or object_retire_shell if a pointer moved to another object). */
struct object *keyspace_take(struct change *change, unsigned database, const struct key *key,
                             enum change_event event);
/* OBJECT_NO_EXPIRY removes it. Counts as a change, except that there is nothing to remove. May
 * replace the object: use the returned one, the other is retired. */
struct object *keyspace_set_expiry(struct change *change, unsigned database, const struct key *key,
                                   struct object *object, int64_t expiry_ms);

/* A hash with times to live of fields was changed in place, and one of them may be the earliest
 * now: the expiry duty is to know. */
void keyspace_note_field_times(struct change *change, unsigned database, const struct key *key,
                               const struct object *object);

/* Numbers of keys. A thread publishes what it has added and removed all at once, while it holds the
 * tokens of what it did: at once after each change, or between hold and publish (one command or
 * transaction) when it is published. Not nested. */
void keyspace_counts_hold(struct keyspace *keyspace);
void keyspace_counts_publish(struct keyspace *keyspace);

/* The number of keys at one moment between call and return; this thread holds nothing back. false:
 * others published counts all the time, try again or in an exclusive section. */
bool keyspace_count_at_once(const struct keyspace *keyspace, unsigned database, uint64_t *count);
/* Sums over threads: exact inside an exclusive section. Elsewhere a key that moves while they are
 * read may be counted twice or not at all. */
uint64_t keyspace_count(const struct keyspace *keyspace, unsigned database);
uint64_t keyspace_expiring_count(const struct keyspace *keyspace, unsigned database);
/* Hashes with fields that have a time to live. */
uint64_t keyspace_field_timed_count(const struct keyspace *keyspace, unsigned database);
bool keyspace_has_field_times(const struct keyspace *keyspace); /* in any database */
struct key_numbers keyspace_numbers(const struct keyspace *keyspace, unsigned physical);
uint64_t keyspace_slot_count(const struct keyspace *keyspace, uint32_t slot); /* database 0 */

/* Exclusive sections only. clear takes all tables out at once, whatever the number of keys, slots
 * in use and watched keys (who watches finds out at EXEC). What it returns is to be handed to
 * keyspace_garbage_free after the section, soon: the next clear of the same database that comes
 * before takes its tables out one by one. asynchronous leaves most of the work to the background
 * thread (here a line is touched for each slot in use), else it has been freed on return. No grace
 * period is due, since everybody was at a command boundary. prepare does first what the calling
 * thread is to do in any case, for who wants the rest on another thread. swap exchanges two
 * databases, as quickly. */
struct keyspace_garbage;
struct keyspace_garbage *keyspace_clear(struct change *change, int database /* -1: all */);
void keyspace_garbage_prepare(struct keyspace_garbage *garbage);
void keyspace_garbage_free(struct keyspace_garbage *garbage, bool asynchronous);
void keyspace_swap(struct change *change, unsigned a, unsigned b);

/* Another keyspace, with as many databases, that is to become the content of this one: nobody but
 * threads that fill it (VIEW_APPLYING) uses it. Exclusive section. */
struct keyspace *keyspace_make_successor(const struct keyspace *keyspace);
/* All of it becomes the content, in the same section as keyspace_clear(change, -1) and after it;
 * for who watches keys both together are a swap. The successor is empty then; the caller destroys
 * it. A snapshot that was begun since the successor was made must have ended before. */
void keyspace_adopt(struct change *change, struct keyspace *successor);

/* The tables of these slots (a bit each, SLOT_COUNT / 8 bytes) in database 0 become those of the
 * keyspace, which has no keys there; the successor goes on with the rest. Exclusive section. A
 * snapshot that was begun since the successor was made must have ended before. Nothing is logged.
 * Returns the number of keys. */
uint64_t keyspace_adopt_slots(struct keyspace *keyspace, struct keyspace *successor,
                              const uint8_t *slots);

/* For keyspace_adopt: keys that came or went beside the functions above. */
void keyspace_counts_add(struct keyspace *keyspace, unsigned physical, struct key_numbers change);

/* SCAN (engine/scan.c). A list belongs to one thread; zero-initialised, freed by scan_list_free.
 * What it lists is valid until the end of the command. */
struct scan_part;
struct scan_list {
    const struct object **objects; /* all that were met, expired ones included */
    size_t count, capacity;
    struct scan_part *parts; /* scan.c's */
    size_t part_count, part_capacity;
};
void scan_list_free(struct scan_list *list);

/* One call of SCAN: the objects behind *cursor as they were at one moment; *cursor becomes the next
 * one, 0 at the end. Cursors are below 2^53: slot << 39 | upper 39 bits of a hash. Lists about
 * count objects; fewer if what comes behind changes all the time or if most of the place is empty.
 * exclusive: inside an exclusive section, and then not more than some thousand objects. false:
 * others' changes came between; *cursor is as it was, call again in an exclusive section. The
 * caller holds no token. */
bool keyspace_scan(struct keyspace *keyspace, unsigned database, uint64_t *cursor, size_t count,
                   bool exclusive, struct scan_list *list);

/* A random key that has not expired, fair over keys whatever the slots' sizes; *object NULL: at one
 * moment there was none. false: as keyspace_scan. */
bool keyspace_random(struct keyspace *keyspace, struct view *view, unsigned database,
                     bool exclusive, const struct object **object);

#endif
