/* Active expiry: see expiry.h.
 *
 * Algorithm. Every block of 64 slots has a deadline, before which none of its keys expires
 * (deadline.h); where there are more than a few keys each slot has one, and a slot of many keys has
 * one for each group of them. A step goes over the deadlines of the home blocks, which are one
 * array per database, and looks at the keys with a TTL of the groups that are due: so it costs next
 * to nothing while nothing expires, however many keys there are, and a few keys that expire among
 * millions that do not cost a look at their groups. What has expired is deleted,
 * and the deadline becomes the earliest of what is left, but not earlier than EXPIRY_REVISIT_MS
 * from now: so a group in which keys expire all the time is looked at a few times a second, and a
 * key may stay for so long beyond its time (to ask for it finds it expired all the same).
 * A hash whose fields have times to live is looked at with its group, under the token, since what
 * is earliest in it only its body knows; its fields that are due are removed, a few at a time.
 * A giant slot in which most keys have expired is thinned: a piece of each group, in an order that
 * spreads them evenly over its hash order, and so on round after round. Emptied from one end to the
 * other, it would crowd what is left into ever fewer buckets of a table that shrinks with the
 * number of keys.
 *
 * Ordering. A piece is looked at like any optimistic read, so a slot where nothing has expired is
 * not disturbed. If something has, the token is taken; if the slot's version is still the one from
 * before, nothing has changed and all that was found goes, else each key is looked up again. A
 * deadline is set under the token, and only if nobody has changed the slot since the first piece of
 * the group was looked at; else the group is looked at again after EXPIRY_REVISIT_MS.
 *
 * Progress. A busy slot is left until the next step; it stays due.
 *
 * Reclamation. The objects found stay valid until this thread's next quiescent state, which is
 * after the step. If it is the only reader nobody else frees, and a deletion frees only the object
 * that it deletes, and the slot's groups with its last key, which are found anew after each. */
#include "engine/expiry.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/deadline.h"
#include "engine/memory.h"
#include "engine/types/hash_field_expiry.h"

#define EXPIRY_BUCKETS_PER_PIECE 256
#define EXPIRY_REVISIT_MS        500         /* at effort 1; effort divides it */
#define EXPIRY_THIN_KEYS         16          /* so many expired keys in a piece are most of it */
#define EXPIRY_SPREAD            0x9e3779b1u /* odd: steps of it visit all groups, and evenly */
#define EXPIRY_HOLD_NS           50000 /* no deletion is begun when the token has been held for so long */
#define EXPIRY_KEYS_PER_PIECE    (EXPIRY_DELETIONS_MAX - 16) /* it ends with a whole bucket */
#define EXPIRY_FIELDS_AT_ONCE    16 /* of a hash, between two looks at the time */

/* A group of a slot's keys: those with a hash up to last, from the group's first on. */
struct group {
    struct keyspace *keyspace;
    struct change *change;
    struct deadlines *deadlines;
    unsigned database;
    uint32_t slot;
    unsigned bits;
    uint32_t number;
    int64_t now_ms, revisit_ms;
    int64_t due_ms; /* when it is worth the next look */
};

/* An object and the hash of its key. */
struct found {
    struct object *object;
    uint64_t hash;
};

struct collected {
    size_t count;       /* collected; then: deleted */
    size_t seen, found; /* with a TTL, and expired; more than collected in an overfull bucket */
    int64_t now_ms;
    uint64_t last;       /* of the group; a piece ends with a whole bucket and may go beyond */
    int64_t earliest_ms; /* of those that have not expired */
    struct found expired[EXPIRY_DELETIONS_MAX];
    struct found *hashes; /* whose fields have times to live */
    size_t hash_count, hash_room;
};

static void collect_hash(struct collected *c, struct object *object, uint64_t hash) {
    if (c->hash_count == c->hash_room) {
        c->hash_room = c->hash_room ? 2 * c->hash_room : EXPIRY_DELETIONS_MAX;
        c->hashes = memory_realloc(c->hashes, c->hash_room * sizeof *c->hashes);
    }
    c->hashes[c->hash_count++] = (struct found){object, hash};
}

static void collect(struct object *object, uint64_t hash, void *context) {
    struct collected *c = context;
    c->seen++;
    if (!object_expired_at(object, c->now_ms)) {
        int64_t expiry_ms = object_expiry(object);
        if (hash <= c->last && expiry_ms != OBJECT_NO_EXPIRY && expiry_ms < c->earliest_ms)
            c->earliest_ms = expiry_ms;
        if (object_has_field_times(object))
            collect_hash(c, object, hash);
        return;
    }
    c->found++;
    if (c->count < EXPIRY_DELETIONS_MAX)
        c->expired[c->count++] = (struct found){object, hash};
}

static bool is_held_for_long(uint64_t start) {
    return clock_ticks_to_ns(clock_ticks() - start) >= EXPIRY_HOLD_NS;
}

static struct key key_of(const struct found *found, uint32_t slot) {
    struct key key = {.hash = found->hash, .slot = slot};
    key.data = object_key(found->object, &key.length);
    return key;
}

/* Under the token. unchanged: nothing has happened in the slot since it was looked at. Ends early
 * when the token has been held for long: a deletion may have to move many keys, since what is left
 * of a giant slot is crowded at the end of its hash order. false: not all were done. */
static bool delete_collected(struct keyspace *keyspace, struct change *change, unsigned database,
                             uint32_t slot, bool unchanged, struct collected *c) {
    size_t deleted = 0, i = 0;
    uint64_t start = clock_ticks();
    for (; i < c->count && !is_held_for_long(start); i++) {
        struct object *object = c->expired[i].object;
        struct key key = key_of(&c->expired[i], slot);
        if (!unchanged && (keyspace_find_raw(keyspace, database, &key) != object ||
                           !object_expired_at(object, c->now_ms)))
            continue; /* replaced, deleted, or made to live longer */
        keyspace_expire(change, database, &key);
        deleted++;
    }
    bool all = i == c->count;
    c->count = deleted;
    return all;
}

/* Under the token: fields of this hash that are due go. Tells when the next one is; false: it is
 * due, and has to wait for another piece. */
static bool expire_fields(const struct group *group, const struct found *found, bool unchanged,
                          uint64_t start, int64_t *next_ms) {
    struct object *hash = found->object;
    size_t length;
    const char *name = object_key(hash, &length);
    char few[64], *copy = length <= sizeof few ? few : memory_alloc(length);
    memcpy(copy, name, length); /* the object may go, and another one come */
    struct key key = {copy, length, found->hash, group->slot};
    *next_ms = DEADLINE_NEVER;
    if (!unchanged)
        hash = keyspace_find_raw(group->keyspace, group->database, &key);
    while (hash && object_has_field_times(hash) &&
           (*next_ms = type_of(hash)->next_expiry(hash)) <= group->now_ms &&
           !is_held_for_long(start)) {
        hash = hash_expire_due(group->change, group->database, &key, hash, EXPIRY_FIELDS_AT_ONCE);
        *next_ms = DEADLINE_NEVER;
    }
    if (copy != few)
        memory_free(copy);
    return *next_ms > group->now_ms;
}

/* Under the token, as delete_collected. */
static bool expire_hashes(const struct group *group, bool unchanged, struct collected *c) {
    uint64_t start = clock_ticks();
    bool all = true;
    for (size_t i = 0; i < c->hash_count; i++) {
        int64_t next_ms;
        all &= expire_fields(group, &c->hashes[i], unchanged, start, &next_ms);
        if (c->hashes[i].hash <= c->last && next_ms < c->earliest_ms)
            c->earliest_ms = next_ms;
    }
    return all;
}

static uint64_t version_of(uint64_t word) {
    return word / SLOT_VERSION_ONE;
}

enum looked { LOOKED_ALL, LOOKED_IN_PART, LOOKED_BUSY };

/* Under the token: the whole group was looked at, and settled tells whether nobody has changed the
 * slot since. */
static void set_deadline(struct group *group, const table_root *root, bool settled,
                         int64_t earliest_ms) {
    int64_t due_ms = group->now_ms + group->revisit_ms;
    if (table_volatile_count(root) == 0 || (settled && earliest_ms > due_ms))
        due_ms = table_volatile_count(root) == 0 ? DEADLINE_NEVER : earliest_ms;
    deadline_set_group(group->deadlines, group->slot, group->bits, group->number, due_ms);
    group->due_ms = due_ms;
}

/* Pieces of the group, from its first hash on. */
static enum looked look_at_pieces(struct group *group, const table_root *root, uint64_t from,
                                  struct collected *c) {
    struct slot *slot = &group->keyspace->slots[group->slot];
    uint64_t word, version = 0, next, last = c->last;
    bool settled = true;
    for (bool first = true;; first = false, from = next) {
        if (!slot_read_begin(slot, &word))
            return LOOKED_BUSY;
        settled &= first || version == version_of(word);
        version = version_of(word);
        c->count = c->seen = c->found = c->hash_count = 0;
        table_walk(root, from, 0, EXPIRY_KEYS_PER_PIECE, EXPIRY_BUCKETS_PER_PIECE, true, collect, c,
                   &next);
        bool more = next != 0 && next <= last;
        if (c->count > 0 || c->hash_count > 0) {
            if (!slot_try_acquire(slot))
                return LOOKED_BUSY;
            uint64_t now = version_of(atomic_load_explicit(&slot->word, memory_order_relaxed));
            bool all = c->found == c->count;
            settled &= now == version;
            all &= delete_collected(group->keyspace, group->change, group->database, group->slot,
                                    now == version, c);
            all &= expire_hashes(group, now == version, c);
            change_commit(group->change);
            version = now + 1; /* which it has after the release */
            slot_release(slot);
            if (!all ||
                (more && group->bits && c->found >= EXPIRY_THIN_KEYS && c->found * 2 >= c->seen))
                return LOOKED_IN_PART;
        }
        if (!more)
            break;
    }
    if (!slot_try_acquire(slot))
        return LOOKED_BUSY;
    uint64_t now = version_of(atomic_load_explicit(&slot->word, memory_order_relaxed));
    set_deadline(group, root, settled && now == version, c->earliest_ms);
    slot_release(slot);
    return LOOKED_ALL;
}

/* Deletes what has expired of a group. In part: it is still due, for now it is enough. */
static enum looked look_at_group(struct group *group) {
    const table_root *root = keyspace_root(group->keyspace, group->database, group->slot);
    unsigned shift = 64 - group->bits;
    uint64_t first = group->bits ? (uint64_t)group->number << shift : 0;
    uint64_t last = group->bits ? first + (((uint64_t)1 << shift) - 1) : UINT64_MAX;
    struct collected c = {.now_ms = group->now_ms, .last = last, .earliest_ms = DEADLINE_NEVER};
    enum looked looked = look_at_pieces(group, root, first, &c);
    memory_free(c.hashes);
    return looked;
}

/* --- Steps ------------------------------------------------------------------------------------ */

struct step {
    struct keyspace *keyspace;
    struct change *change;
    struct expiry_cursor *cursor;
    uint64_t end_us;
    int64_t now_ms, revisit_ms;
};

static bool time_is_up(const struct step *step) {
    return clock_monotonic_us() >= step->end_us;
}

/* It may have grown by keys without a TTL, too. false: busy. */
static bool regroup(const struct step *step, struct deadlines *deadlines, const table_root *root) {
    uint32_t number = step->cursor->slot;
    size_t keys = table_count(root);
    if (keys <= (size_t)DEADLINE_GROUP_KEYS << deadline_group_bits(deadlines, number))
        return true;
    struct slot *slot = &step->keyspace->slots[number];
    if (!slot_try_acquire(slot))
        return false;
    if (table_volatile_count(root) > 0)
        deadline_regroup(deadlines, number, table_count(root));
    slot_release(slot);
    return true;
}

/* One round over the groups of the cursor's slot, or the rest of a round. LOOKED_IN_PART: time is
 * up. */
static enum looked look_at_groups(const struct step *step, struct group *group) {
    struct expiry_cursor *cursor = step->cursor;
    uint64_t groups = (uint64_t)1 << group->bits;
    while (cursor->group < groups) {
        group->number = (uint32_t)(cursor->group++ * EXPIRY_SPREAD & (groups - 1));
        if (deadline_of_group(group->deadlines, group->slot, group->bits, group->number) >
            group->now_ms)
            continue;
        if (look_at_group(group) == LOOKED_BUSY)
            return LOOKED_BUSY;
        if (time_is_up(step))
            return LOOKED_IN_PART;
    }
    cursor->group = 0;
    if (group->bits == 0)
        return LOOKED_ALL;
    struct slot *slot = &step->keyspace->slots[group->slot];
    if (!slot_try_acquire(slot))
        return LOOKED_BUSY;
    deadline_settle(group->deadlines, group->slot);
    group->due_ms = deadline_of_slot(group->deadlines, group->slot);
    slot_release(slot);
    return LOOKED_ALL;
}

/* false: time is up, and the slot may still be due. Else *due_ms tells when it is; at once if it
 * could not be looked at. */
static bool expire_slot(const struct step *step, struct deadlines *deadlines, int64_t *due_ms) {
    struct expiry_cursor *cursor = step->cursor;
    unsigned database = step->keyspace->database_map_inverse[cursor->database];
    const table_root *root = keyspace_root(step->keyspace, database, cursor->slot);
    uint64_t word;
    *due_ms = step->now_ms;
    if (!root || !slot_read_begin(&step->keyspace->slots[cursor->slot], &word))
        return true;
    int64_t known_ms = deadline_of_slot(deadlines, cursor->slot);
    if (known_ms > step->now_ms) {
        *due_ms = known_ms;
        return true;
    }
    do {
        if (!regroup(step, deadlines, root))
            break;
        struct group group = {step->keyspace,
                              step->change,
                              deadlines,
                              database,
                              cursor->slot,
                              deadline_group_bits(deadlines, cursor->slot),
                              0,
                              step->now_ms,
                              step->revisit_ms,
                              step->now_ms};
        enum looked looked = look_at_groups(step, &group);
        if (looked == LOOKED_IN_PART)
            return false;
        if (looked == LOOKED_BUSY)
            break;
        *due_ms = group.due_ms;
    } while (*due_ms <= step->now_ms);
    cursor->group = 0;
    return !time_is_up(step);
}

/* The slots of a block that is due, from the cursor on. false: time is up, and it is still due. */
static bool expire_block(const struct step *step, struct deadlines *deadlines, uint32_t block) {
    struct expiry_cursor *cursor = step->cursor;
    const struct slot_bitmaps *bitmaps =
        atomic_load_explicit(&step->keyspace->bitmaps[cursor->database], memory_order_acquire);
    uint32_t first =
        cursor->slot / DEADLINE_BLOCK_SLOTS == block ? cursor->slot % DEADLINE_BLOCK_SLOTS : 0;
    /* What a step before this one has looked at is looked at again with the next round. */
    int64_t earliest_ms = first > 0 ? step->now_ms : DEADLINE_NEVER, due_ms;
    bool in_time = true;
    deadline_take_block(deadlines, block);
    uint64_t bits = atomic_load(&bitmaps->expiring[block]) >> first << first;
    for (; bits && in_time; bits &= bits - 1) {
        uint32_t slot = block * DEADLINE_BLOCK_SLOTS + (uint32_t)__builtin_ctzll(bits);
        if (slot != cursor->slot)
            cursor->group = 0;
        cursor->slot = slot;
        in_time = expire_slot(step, deadlines, &due_ms);
        earliest_ms = due_ms < earliest_ms ? due_ms : earliest_ms;
    }
    deadline_lower_block(deadlines, block, in_time ? earliest_ms : step->now_ms);
    return in_time;
}

/* The home blocks of the cursor's database from the cursor on. false: time is up. */
static bool expire_database(const struct step *step, unsigned worker, unsigned workers) {
    struct expiry_cursor *cursor = step->cursor;
    struct deadlines *deadlines =
        atomic_load_explicit(&step->keyspace->deadlines[cursor->database], memory_order_acquire);
    if (!deadlines)
        return true;
    uint32_t block = cursor->slot / DEADLINE_BLOCK_SLOTS;
    block += (worker + workers - block % workers) % workers;
    for (; block < DEADLINE_BLOCKS; block += workers) {
        if (LIKELY(deadline_of_block(deadlines, block) > step->now_ms))
            continue;
        if (!expire_block(step, deadlines, block))
            return false;
    }
    return true;
}

bool expiry_step(struct keyspace *keyspace, struct change *change, struct expiry_cursor *cursor,
                 unsigned worker, unsigned workers, unsigned effort, uint64_t budget_us) {
    change_begin(change);
    if (!view_may_expire(&change->view))
        return false;
    const struct step step = {keyspace,
                              change,
                              cursor,
                              clock_monotonic_us() + budget_us,
                              view_now_ms(&change->view),
                              EXPIRY_REVISIT_MS / (int64_t)effort};
    /* Once round all databases, what was left of the first one included, and no further. */
    for (unsigned n = 0; n <= keyspace->databases; n++) {
        if (!expire_database(&step, worker, workers)) {
            COUNTER_ADD(keyspace_counters_mine(keyspace)->expire_limit_reached, 1);
            return true;
        }
        cursor->slot = 0;
        cursor->group = 0;
        cursor->database = (cursor->database + 1) % keyspace->databases;
    }
    return false;
}
