/* Active expiry: see expiry.h.
 *
 * Algorithm. The walk goes round the home slots that have keys with a TTL (a bitmap), database by
 * database, in hash order within a slot, so that it survives rebuilds and never touches keys
 * without a TTL (their table entries say so). As in Redis a step goes on only while a good part of
 * what it looks at has expired; so a keyspace of keys that live long costs next to nothing.
 * A giant slot in which most keys have expired is thinned first, by pieces at places spread evenly
 * over its hash order: emptied from one end to the other, it would crowd what is left into ever
 * fewer buckets of a table that shrinks with the number of keys.
 *
 * Ordering. A piece is looked at like any optimistic read, so a slot where nothing has expired is
 * not disturbed. If something has, the token is taken; if the slot's version is still the one from
 * before, nothing has changed and all that was found goes, else each key is looked up again. What a
 * piece missed because it was changed meanwhile is found in the next round.
 *
 * Progress. A busy slot is tried in a few steps and then left until the next round, which goes on
 * from where it was left (a hot slot of a million keys would else be walked from its beginning for
 * ever).
 *
 * Reclamation. The objects found stay valid until this thread's next quiescent state, which is
 * after the step. If it is the only reader nobody else frees, and a deletion frees only the object
 * that it deletes. */
#include "engine/expiry.h"

#include "engine/assert.h"
#include "engine/clock.h"

#define EXPIRY_BUCKETS_PER_PIECE 256
#define EXPIRY_LOOK_MIN          200 /* keys that a step looks at, times effort, before it may end early */
#define EXPIRY_STALE_PERCENT     10 /* goes on above this; effort lowers it */
#define EXPIRY_BUSY_MAX          4
#define EXPIRY_THIN_KEYS         1024
#define EXPIRY_SPREAD            0x9e3779b97f4a7c15u /* golden ratio: steps of it fill the circle evenly */
#define EXPIRY_HOLD_NS           50000 /* no deletion is begun when the token has been held for so long */
#define EXPIRY_KEYS_PER_PIECE    (EXPIRY_DELETIONS_MAX - 16) /* it ends with a whole bucket */

struct collected {
    size_t count;       /* collected; then: deleted */
    size_t seen, found; /* with a TTL, and expired; more than collected in an overfull bucket */
    int64_t now_ms;
    struct {
        struct object *object;
        uint64_t hash;
    } expired[EXPIRY_DELETIONS_MAX];
};

static void collect(struct object *object, uint64_t hash, void *context) {
    struct collected *c = context;
    c->seen++;
    if (!object_expired_at(object, c->now_ms))
        return;
    c->found++;
    if (c->count < EXPIRY_DELETIONS_MAX) {
        c->expired[c->count].object = object;
        c->expired[c->count++].hash = hash;
    }
}

/* Under the token. unchanged: nothing has happened in the slot since it was looked at. Ends early
 * when the token has been held for long: a deletion may have to move many keys, since what is left
 * of a giant slot is crowded at the end of its hash order. false: not all were done. */
static bool delete_collected(struct keyspace *keyspace, unsigned database, uint32_t slot,
                             bool unchanged, struct collected *c) {
    size_t deleted = 0, i = 0;
    uint64_t start = clock_ticks();
    for (; i < c->count && clock_ticks_to_ns(clock_ticks() - start) < EXPIRY_HOLD_NS; i++) {
        struct object *object = c->expired[i].object;
        struct key key = {.hash = c->expired[i].hash, .slot = slot};
        key.data = object_key(object, &key.length);
        if (!unchanged && (keyspace_find_raw(keyspace, database, &key) != object ||
                           !object_expired_at(object, c->now_ms)))
            continue; /* replaced, deleted, or made to live longer */
        keyspace_expire_now(keyspace, database, &key);
        deleted++;
    }
    bool all = i == c->count;
    c->count = deleted;
    return all;
}

enum piece { PIECE_BUSY, PIECE_MORE, PIECE_LAST };

/* One piece of the cursor's slot; moves the bound, unless the piece is one of a giant slot's
 * thinning. */
static enum piece expire_piece(struct keyspace *keyspace, unsigned database,
                               struct expiry_cursor *cursor, struct collected *c) {
    struct slot *slot = &keyspace->slots[cursor->slot];
    table_root *root = keyspace_root(keyspace, database, cursor->slot);
    uint64_t next = 0, word, from = cursor->bound;
    c->count = c->seen = c->found = 0;
    if (!root || !slot_is_serving(slot))
        return PIECE_LAST;
    if (!slot_read_begin(slot, &word))
        return PIECE_BUSY;
    bool thinning = from == 0 && !cursor->thinned && table_volatile_count(root) >= EXPIRY_THIN_KEYS;
    if (thinning)
        from = cursor->spread += EXPIRY_SPREAD;
    table_walk(root, from, 0, EXPIRY_KEYS_PER_PIECE, EXPIRY_BUCKETS_PER_PIECE, true, collect, c,
               &next);
    bool all = c->found == c->count;
    if (c->count > 0) {
        if (!slot_try_acquire(slot)) {
            c->count = c->seen = c->found = 0;
            return PIECE_BUSY;
        }
        uint64_t now = atomic_load_explicit(&slot->word, memory_order_relaxed);
        bool unchanged = now / SLOT_VERSION_ONE == word / SLOT_VERSION_ONE;
        all &= delete_collected(keyspace, database, cursor->slot, unchanged, c);
        slot_release(slot);
    }
    if (!all)
        return PIECE_MORE; /* the same part again */
    if (thinning) {
        cursor->thinned = c->found * 2 < c->seen;
        return PIECE_MORE;
    }
    cursor->bound = next;
    return next != 0 ? PIECE_MORE : PIECE_LAST;
}

/* The next home slot at or behind cursor->slot with the bit set; false: this database is done. */
static bool next_slot(const struct slot_bitmaps *bitmaps, struct expiry_cursor *cursor,
                      unsigned worker, unsigned workers) {
    for (uint32_t slot = cursor->slot; slot < SLOT_COUNT;) {
        uint64_t bits = atomic_load_explicit(&bitmaps->expiring[slot / 64], memory_order_acquire) >>
                        (slot & 63);
        if (!bits) {
            slot = (slot | 63) + 1;
            continue;
        }
        slot += (uint32_t)__builtin_ctzll(bits);
        if (slot % workers == worker) {
            if (slot != cursor->slot) {
                cursor->bound = 0;
                cursor->thinned = false;
            }
            cursor->slot = slot;
            if (cursor->bound == 0 && cursor->left_bound != 0 && cursor->left_slot == slot &&
                cursor->left_database == cursor->database) {
                cursor->bound = cursor->left_bound;
                cursor->left_bound = 0;
            }
            return true;
        }
        slot++;
    }
    return false;
}

static void next_database(const struct keyspace *keyspace, struct expiry_cursor *cursor) {
    cursor->slot = 0;
    cursor->bound = 0;
    cursor->thinned = false;
    cursor->database = (cursor->database + 1) % keyspace->databases;
}

static void leave_busy(struct expiry_cursor *cursor) {
    cursor->left_slot = cursor->slot;
    cursor->left_database = cursor->database;
    cursor->left_bound = cursor->bound;
}

bool expiry_step(struct keyspace *keyspace, struct expiry_cursor *cursor, unsigned worker,
                 unsigned workers, unsigned effort, uint64_t budget_us) {
    uint64_t end_us = clock_monotonic_us() + budget_us;
    size_t seen = 0, found = 0;
    struct collected c;
    c.now_ms = clock_now_ms();
    size_t stale_percent = EXPIRY_STALE_PERCENT > effort ? EXPIRY_STALE_PERCENT + 1 - effort : 1;
    /* Once round all databases, the rest of the first one included, and no further. */
    for (unsigned ends = 0; ends <= keyspace->databases;) {
        const struct slot_bitmaps *bitmaps =
            atomic_load_explicit(&keyspace->bitmaps[cursor->database], memory_order_acquire);
        if (!bitmaps || !next_slot(bitmaps, cursor, worker, workers)) {
            next_database(keyspace, cursor);
            ends++;
            continue;
        }
        unsigned database = keyspace->database_map_inverse[cursor->database];
        enum piece piece = expire_piece(keyspace, database, cursor, &c);
        if (piece == PIECE_BUSY) {
            if (++cursor->busy < EXPIRY_BUSY_MAX)
                return true;
            leave_busy(cursor);
        }
        cursor->busy = 0;
        if (piece != PIECE_MORE) {
            cursor->bound = 0;
            cursor->thinned = false;
            cursor->slot++; /* SLOT_COUNT is seen by next_slot */
        }
        seen += c.seen;
        found += c.found;
        if (seen >= EXPIRY_LOOK_MIN * effort && found * 100 < seen * stale_percent)
            return false;
        if (clock_monotonic_us() >= end_us) {
            COUNTER_ADD(keyspace_counters_mine(keyspace)->expire_limit_reached, 1);
            return found > 0;
        }
    }
    return false;
}
