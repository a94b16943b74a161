/* A successor becomes the content of a keyspace: keys, counts, bitmaps, deadlines, watchers,
 * snapshot ids, whatever SWAPDB and flushes did to either before. */
#include "engine/keyspace_watch.h"
#include "engine/rebuild.h"
#include "engine/snapshot.h"
#include "tests/unit/engine/keyspace_fixture.h"

static struct keyspace *successor;

/* From here on the fixture works on the successor; back again. */
static void exchange(void) {
    struct keyspace *other = successor;
    successor = keyspace;
    keyspace = other;
    change_destroy(&change);
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
}

static void begin(void) {
    keyspace_begin();
    put_many(0, "old", 2000, NEVER);
    put_many(3, "old", 100, FAR_AWAY);
}

static void make_successor(void) {
    successor = keyspace_make_successor(keyspace);
    exchange();
    put_many(0, "new", 3000, NEVER);
    put_many(1, "{same slot}", 3000, FAR_AWAY); /* a table that may be in a rebuild */
    put_many(7, "new", 50, FAR_AWAY);
    exchange();
}

static void adopt(void) {
    change_begin(&change);
    struct keyspace_garbage *garbage = keyspace_clear(&change, -1);
    keyspace_adopt(&change, successor);
    change_commit(&change);
    keyspace_garbage_free(garbage, false);
    exchange();
    check_keyspace();
    for (unsigned i = 0; i < DATABASES; i++)
        cr_assert_eq(keyspace_count(keyspace, i), 0);
    exchange();
    keyspace_destroy(successor);
}

static void check_content(void) {
    check_keyspace();
    for (unsigned i = 0; i < DATABASES; i++)
        cr_assert_eq(keyspace_count(keyspace, i), i == 0 || i == 1 ? 3000 : i == 7 ? 50 : 0);
    cr_assert_eq(keyspace_expiring_count(keyspace, 1), 3000);
    cr_assert_null(live(0, "old1"));
    cr_assert_null(live(3, "old1"));
    cr_assert_not_null(live(0, "new2999"));
    cr_assert_not_null(live(7, "new49"));
}

TestSuite(keyspace_adopt, .init = begin, .fini = keyspace_end, .timeout = 60);

Test(keyspace_adopt, all_of_it_moves) {
    make_successor();
    adopt();
    check_content();
    put_many(0, "new", 4000, NEVER);
    cr_assert(remove_key(7, "new1"));
    while (rebuild_continue(keyspace, 0, 1, 1000))
        continue;
    check_keyspace();
    make_successor(); /* and again, when the other side may be in use */
    adopt();
    check_content();
}

Test(keyspace_adopt, whatever_was_swapped_and_flushed) {
    keyspace_swap(&change, 0, 3);
    keyspace_swap(&change, 3, 9);
    make_successor();
    struct keyspace_garbage *garbage = keyspace_clear(&change, 9); /* of what is still served */
    put_many(9, "old", 10, NEVER);
    adopt();
    keyspace_garbage_free(garbage, false);
    check_content();
}

static bool is_noticed(unsigned database, const char *name) {
    static _Atomic bool dirty;
    struct key key = key_of(name);
    struct watcher *watcher = watcher_make(&keyspace->watch, database, &key, &dirty);
    struct slot *slot = token_of(&key);
    keyspace_watch_link(keyspace, &change.view, watcher);
    slot_release(slot);
    make_successor();
    adopt();
    change_begin(&change);
    bool noticed = keyspace_watch_is_replaced(keyspace, &change.view, watcher);
    slot = token_of(&key);
    watcher_unlink(watcher);
    slot_release(slot);
    watcher_free(watcher);
    return noticed;
}

Test(keyspace_adopt, watchers_notice_what_is_there_before_or_after) {
    cr_assert(is_noticed(0, "old5"));
    cr_assert(is_noticed(0, "new5"), "it is there now, as before");
    cr_assert(is_noticed(7, "new5"));
    cr_assert_not(is_noticed(0, "nowhere"));
}

static void take(void *context, unsigned database, const struct key *key,
                 const struct object *object) {
    (void)database, (void)key, (void)object;
    ++*(unsigned *)context;
}

static struct snapshot_salvage *salvage(void *context) {
    (void)context;
    return NULL;
}

/* A snapshot that goes on does not take what has come from the successor. */
Test(keyspace_adopt, a_snapshot_from_before) {
    unsigned taken = 0;
    const struct snapshot snapshot = {take, salvage, &taken};
    cr_assert(snapshot_begin(&keyspace->door, &snapshot));
    make_successor();
    adopt();
    put(0, "new1", "changed", NEVER);
    cr_assert_eq(taken, 0);
    snapshot_end(&keyspace->door, true);
    cr_assert(snapshot_begin(&keyspace->door, &snapshot));
    put(0, "new1", "again", NEVER);
    cr_assert(remove_key(0, "new2"));
    cr_assert_eq(taken, 2);
    snapshot_end(&keyspace->door, true);
}

/* After one that was begun meanwhile the ids of the objects mean nothing. */
Test(keyspace_adopt, a_snapshot_begun_meanwhile) {
    unsigned taken = 0;
    const struct snapshot snapshot = {take, salvage, &taken};
    make_successor();
    cr_assert(snapshot_begin(&keyspace->door, &snapshot));
    snapshot_end(&keyspace->door, true);
    adopt();
    cr_assert_not(snapshot_begin(&keyspace->door, &snapshot), "all must be stamped first");
    snapshot_all_stamped(&keyspace->door);
    cr_assert(snapshot_begin(&keyspace->door, &snapshot));
    snapshot_end(&keyspace->door, true);
}

/* --- Some slots ------------------------------------------------------------------------------- */

/* Those in which there is no key of the keyspace yet and bit of the number is set. */
static size_t choose_slots(uint8_t *slots, uint32_t bit) {
    size_t keys = 0;
    memset(slots, 0, SLOT_COUNT / 8);
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        if ((slot & bit) && keyspace_slot_count(keyspace, slot) == 0) {
            slots[slot / 8] |= (uint8_t)(1u << slot % 8);
            keys += keyspace_slot_count(successor, slot);
        }
    return keys;
}

static void begin_successor(int64_t expiry_ms) {
    successor = keyspace_make_successor(keyspace);
    exchange();
    put_many(0, "new", 3000, NEVER);
    put_many(0, "volatile", 3000, expiry_ms);
    exchange();
}

Test(keyspace_adopt, some_slots_move) {
    uint8_t slots[SLOT_COUNT / 8];
    begin_successor(FAR_AWAY);
    size_t wanted = choose_slots(slots, 4), moved = 0;
    cr_assert_gt(wanted, 500);
    cr_assert_eq(keyspace_adopt_slots(keyspace, successor, slots), wanted);
    cr_assert_eq(keyspace_count(keyspace, 0), 2000 + wanted);
    cr_assert_eq(keyspace_count(successor, 0), 6000 - wanted);
    for (unsigned i = 0; i < 3000; i++) {
        char name[32];
        snprintf(name, sizeof name, "volatile%u", i);
        struct key key = key_of(name);
        bool moves = slots[key.slot / 8] >> key.slot % 8 & 1;
        cr_assert_eq(live(0, name) != NULL, moves);
        moved += moves;
    }
    cr_assert_eq(keyspace_expiring_count(keyspace, 0), moved);
    check_keyspace();
    cr_assert_eq(keyspace_adopt_slots(keyspace, successor, slots), 0, "they have moved");
    exchange();
    check_keyspace();
    exchange();
    keyspace_destroy(successor);
    put_many(0, "new", 3000, NEVER);
    check_keyspace();
}

Test(keyspace_adopt, slots_after_a_snapshot) {
    uint8_t slots[SLOT_COUNT / 8];
    unsigned taken = 0;
    const struct snapshot snapshot = {take, salvage, &taken};
    begin_successor(NEVER);
    cr_assert(snapshot_begin(&keyspace->door, &snapshot));
    snapshot_end(&keyspace->door, true);
    choose_slots(slots, 1);
    keyspace_adopt_slots(keyspace, successor, slots);
    cr_assert_not(snapshot_begin(&keyspace->door, &snapshot), "all must be stamped first");
    keyspace_destroy(successor);
}
