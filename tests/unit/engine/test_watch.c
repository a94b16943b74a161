/* WATCH: which changes make a watcher dirty. */
#include <stdlib.h>

#include "engine/keyspace_watch.h"
#include "engine/object_private.h"
#include "tests/unit/engine/keyspace_fixture.h"

static _Atomic bool dirty;

TestSuite(watch, .init = keyspace_begin, .fini = keyspace_end, .timeout = 30);

static struct watcher *watch(unsigned database, const char *name) {
    struct key key = key_of(name);
    struct watcher *watcher = watcher_make(&keyspace->watch, database, &key, &dirty);
    struct slot *slot = token_of(&key);
    keyspace_watch_link(keyspace, &change.view, watcher);
    slot_release(slot);
    atomic_store(&dirty, false);
    return watcher;
}

static void unwatch(struct watcher *watcher) {
    struct slot *slot = &keyspace->slots[watcher->slot];
    cr_assert(slot_try_acquire(slot));
    watcher_unlink(watcher);
    slot_release(slot);
    watcher_free(watcher);
}

static bool was_dirty(void) {
    return atomic_exchange(&dirty, false);
}

static void set_expiry(const char *name, int64_t expiry_ms) {
    struct key key = key_of(name);
    struct slot *slot = token_of(&key);
    keyspace_set_expiry(&change, 0, &key, raw(0, name), expiry_ms);
    slot_release(slot);
}

static bool is_replaced(const struct watcher *w) {
    return keyspace_watch_is_replaced(keyspace, &change.view, w);
}

static bool is_marked(uint32_t slot) {
    bool bit = (atomic_load(&keyspace->slots[slot].word) & SLOT_WATCHED) != 0;
    cr_assert_eq(bit, keyspace->slots[slot].watchers != NULL);
    return bit;
}

Test(watch, every_change_of_the_key_counts) {
    struct watcher *w = watch(0, "k");
    put(0, "k", "1", NEVER);
    cr_assert(was_dirty(), "made");
    put(0, "k", "2", NEVER);
    cr_assert(was_dirty(), "replaced");
    set_expiry("k", FAR_AWAY);
    cr_assert(was_dirty(), "got an expiry");
    set_expiry("k", FAR_AWAY + 1);
    cr_assert(was_dirty(), "another expiry");
    set_expiry("k", FAR_AWAY + 1);
    cr_assert(was_dirty(), "the same expiry again");
    set_expiry("k", NEVER);
    cr_assert(was_dirty(), "lost it");
    set_expiry("k", NEVER);
    cr_assert_not(was_dirty(), "had none to lose");
    struct key key = key_of("k");
    change_after(&change, 0, &key, CHANGE_APPEND);
    cr_assert(was_dirty(), "changed in place");
    remove_key(0, "k");
    cr_assert(was_dirty(), "deleted");
    remove_key(0, "k");
    cr_assert_not(was_dirty(), "was not there");
    unwatch(w);
    put(0, "k", "1", NEVER);
    cr_assert_not(was_dirty());
}

Test(watch, others_do_not_count) {
    put(0, "{k}other", "1", NEVER);
    struct watcher *w = watch(0, "k");
    put(0, "{k}other", "2", NEVER); /* the same slot */
    remove_key(0, "{k}other");
    put(1, "k", "1", NEVER); /* another database */
    keyspace_garbage_free(keyspace_clear(&change, 1), false);
    live(0, "k");
    cr_assert_not(was_dirty());
    unwatch(w);
}

Test(watch, marks_last_as_long_as_there_is_a_watcher) {
    struct watcher *some[5];
    uint32_t slot = key_of("k").slot;
    cr_assert_not(is_marked(slot));
    for (int i = 0; i < 5; i++)
        some[i] = watch(0, i % 2 ? "k" : "{k}2");
    cr_assert(is_marked(slot));
    static const int order[] = {2, 4, 0, 1, 3}; /* from the middle, both ends, the rest */
    for (int i = 0; i < 5; i++) {
        cr_assert(is_marked(slot));
        unwatch(some[order[i]]);
        if (i < 4) {
            put(0, "k", "v", NEVER);
            cr_assert(was_dirty(), "those that are left still see it");
        }
    }
    cr_assert_not(is_marked(slot));
}

Test(watch, an_end_in_an_exclusive_section_needs_no_token) {
    struct watcher *w = watch(0, "k");
    watcher_unlink(w);
    watcher_free(w);
    cr_assert_not(is_marked(key_of("k").slot));
}

Test(watch, expiry_after_the_watch_counts_and_before_it_does_not) {
    put(0, "k", "v", LONG_AGO);
    struct watcher *w = watch(0, "k"); /* logically absent already */
    cr_assert_not(keyspace_watch_is_expired(keyspace, &change.view, w));
    struct key key = key_of("k");
    struct slot *slot = token_of(&key);
    keyspace_expire(&change, 0, &key);
    slot_release(slot);
    cr_assert_not(was_dirty(), "nothing changed for the client");
    put(0, "k", "v", FAR_AWAY);
    cr_assert(was_dirty(), "but now");
    unwatch(w);
    w = watch(0, "k");
    cr_assert_not(keyspace_watch_is_expired(keyspace, &change.view, w));
    object_set_expiry(raw(0, "k"), LONG_AGO); /* time passes */
    cr_assert(keyspace_watch_is_expired(keyspace, &change.view, w));
    slot = token_of(&key);
    keyspace_expire(&change, 0, &key);
    slot_release(slot);
    cr_assert(was_dirty());
    unwatch(w);
}

Test(watch, a_new_value_in_place_of_an_expired_one_counts) {
    put(0, "k", "v", LONG_AGO);
    struct watcher *w = watch(0, "k");
    put(0, "k", "new", NEVER);
    cr_assert(was_dirty());
    unwatch(w);
}

Test(watch, flushing_touches_what_exists) {
    put(0, "there", "v", NEVER);
    put(0, "expired", "v", LONG_AGO);
    put(1, "there", "v", NEVER);
    struct watcher *absent = watch(0, "absent"), *expired = watch(0, "expired"),
                   *there = watch(0, "there"), *other = watch(1, "there");
    keyspace_garbage_free(keyspace_clear(&change, 0), false);
    cr_assert(is_replaced(there));
    cr_assert_not(is_replaced(absent));
    cr_assert_not(is_replaced(expired), "it was absent for the client");
    cr_assert_not(is_replaced(other), "another database");
    unwatch(there);
    there = watch(0, "there");
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
    cr_assert_not(is_replaced(there), "nothing there any more");
    cr_assert(is_replaced(other), "FLUSHALL");
    cr_assert_not(was_dirty(), "no watcher was looked at");
    put(0, "expired", "v", FAR_AWAY);
    cr_assert(was_dirty(), "made anew after the flush");
    unwatch(absent);
    unwatch(expired);
    unwatch(there);
    unwatch(other);
}

/* What a swap has brought and another one, or a flush, has taken away again was seen between. */
Test(watch, flushing_and_swapping) {
    put(1, "k", "v", NEVER);
    struct watcher *w = watch(0, "k"), *other = watch(7, "k");
    keyspace_swap(&change, 0, 1);
    cr_assert(is_replaced(w), "it has come");
    keyspace_swap(&change, 0, 1);
    cr_assert(is_replaced(w), "and gone");
    unwatch(w);
    w = watch(0, "k");
    keyspace_swap(&change, 0, 1);
    keyspace_garbage_free(keyspace_clear(&change, 0), false);
    cr_assert(is_replaced(w), "come, and flushed");
    unwatch(w);
    put(0, "k", "v", NEVER);
    w = watch(0, "k");
    keyspace_garbage_free(keyspace_clear(&change, 1), false);
    cr_assert_not(is_replaced(w), "another database");
    keyspace_garbage_free(keyspace_clear(&change, 0), false);
    cr_assert(is_replaced(w));
    unwatch(w);
    cr_assert_not(is_replaced(other));
    unwatch(other);
}

/* It comes with a swap, and changes afterwards in a way that leaves it absent. */
Test(watch, what_a_swap_brought_and_time_took) {
    put(0, "k", "v", LONG_AGO);
    put(1, "k", "v", FAR_AWAY);
    struct watcher *w = watch(0, "k"); /* absent for the client */
    keyspace_swap(&change, 0, 1);
    cr_assert(is_replaced(w));
    object_set_expiry(raw(0, "k"), LONG_AGO); /* in the time of whoever looks it has expired */
    remove_key(0, "k");
    cr_assert(was_dirty(), "it was there for a while");
    unwatch(w);
}

/* SWAPDB 0 1 with the key in the state before in database 0 and after in database 1. */
static bool swap_is_noticed(int64_t before, int64_t after) {
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
    if (before)
        put(0, "k", "v", before);
    if (after)
        put(1, "k", "w", after);
    struct watcher *w = watch(0, "k");
    keyspace_swap(&change, 0, 1);
    cr_assert_not(was_dirty(), "no watcher was looked at");
    bool noticed = is_replaced(w);
    cr_assert(noticed || !keyspace_watch_is_expired(keyspace, &change.view, w));
    unwatch(w);
    return noticed;
}

Test(watch, swapping_touches_what_exists_before_or_after) {
    cr_assert_not(swap_is_noticed(0, 0));
    cr_assert(swap_is_noticed(NEVER, 0));
    cr_assert(swap_is_noticed(0, NEVER));
    cr_assert(swap_is_noticed(NEVER, NEVER));
    cr_assert(swap_is_noticed(NEVER, LONG_AGO));
    cr_assert(swap_is_noticed(LONG_AGO, NEVER));
    cr_assert_not(swap_is_noticed(0, LONG_AGO), "absent, and then expired");
    cr_assert_not(swap_is_noticed(LONG_AGO, 0), "expired, and then absent");
    cr_assert_not(swap_is_noticed(LONG_AGO, LONG_AGO));
}

Test(watch, swapping_touches_watchers_of_either_number_only) {
    put(2, "k", "v", NEVER);
    put(1, "k", "v", NEVER);
    struct watcher *w = watch(2, "k");
    keyspace_swap(&change, 0, 1);
    cr_assert_not(is_replaced(w));
    keyspace_swap(&change, 2, 7);
    cr_assert(is_replaced(w));
    unwatch(w);
}

/* --- Many watchers in one slot -----------------------------------------------------------------
 */

#define CROWD 30000

static struct watcher **crowd_make(void) {
    struct watcher **crowd = malloc(CROWD * sizeof *crowd);
    char name[32];
    for (int i = 0; i < CROWD; i++) {
        snprintf(name, sizeof name, "{k}%d", i);
        crowd[i] = watch((unsigned)i % 3, name);
    }
    return crowd;
}

/* How many watchers a thousand changes of keys that nobody watches look at. */
static size_t changes_look_at(void) {
    size_t seen = 0;
    char name[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "{k}other%d", i);
        struct key key = key_of(name);
        struct slot *slot = token_of(&key);
        seen += watch_touch(slot, 0, &key, false);
        slot_release(slot);
    }
    return seen;
}

Test(watch, a_change_does_not_look_at_the_watchers_of_other_keys) {
    struct watcher **crowd = crowd_make();
    size_t seen = changes_look_at();
    cr_assert_leq(seen, 3000, "%zu looked at by 1000 changes", seen);
    cr_assert_not(was_dirty());
    for (int i = 0; i < CROWD - 1; i++)
        unwatch(crowd[i]);
    seen = changes_look_at();
    cr_assert_leq(seen, 1000, "%zu looked at with one watcher left", seen);
    struct key key = key_of("{k}29999");
    struct slot *slot = token_of(&key);
    cr_assert_eq(watch_touch(slot, (CROWD - 1) % 3, &key, false), 1);
    slot_release(slot);
    cr_assert(was_dirty());
    unwatch(crowd[CROWD - 1]);
    cr_assert_not(is_marked(key.slot));
    free(crowd);
}

Test(watch, an_owner_finds_its_watcher_among_those_of_others) {
    static _Atomic bool owners[2000];
    struct watcher *watchers[2000];
    struct key key = key_of("k"), other = key_of("{k}2");
    for (int i = 0; i < 2000; i++) {
        cr_assert_eq(watch_find(&keyspace->watch, 0, &key, &owners[i]), NULL);
        watchers[i] = watcher_make(&keyspace->watch, 0, &key, &owners[i]);
        struct slot *slot = token_of(&key);
        keyspace_watch_link(keyspace, &change.view, watchers[i]);
        slot_release(slot);
    }
    /* Every third goes, the first of the ring among them. */
    for (int i = 0; i < 2000; i += 3)
        unwatch(watchers[i]);
    for (int i = 0; i < 2000; i++) {
        cr_assert_eq(watch_find(&keyspace->watch, 0, &key, &owners[i]), i % 3 ? watchers[i] : NULL);
        cr_assert_eq(watch_find(&keyspace->watch, 1, &key, &owners[i]), NULL);
        cr_assert_eq(watch_find(&keyspace->watch, 0, &other, &owners[i]), NULL);
    }
    put(0, "k", "v", NEVER);
    for (int i = 0; i < 2000; i++)
        cr_assert_eq(atomic_load(&owners[i]), i % 3 != 0);
    for (int i = 0; i < 2000; i++)
        if (i % 3)
            unwatch(watchers[i]);
    cr_assert_not(is_marked(key.slot));
}

/* The sections of a flush and of a swap take as long whoever watches. */
Test(watch, flushing_and_swapping_look_at_no_watcher) {
    static struct watcher *watchers[30000];
    char name[32];
    uint64_t took_us[2] = {UINT64_MAX, UINT64_MAX};
    for (unsigned i = 0; i < 10; i++) {
        put(0, "k", "v", NEVER);
        unsigned many = i % 2 ? 30000 : 1;
        for (unsigned w = 0; w < many; w++) {
            snprintf(name, sizeof name, "key:%u", w);
            watchers[w] = watch(0, name);
        }
        uint64_t start_us = busy_us();
        struct keyspace_garbage *garbage = keyspace_clear(&change, -1);
        keyspace_swap(&change, 0, 1);
        uint64_t us = busy_us() - start_us;
        took_us[i % 2] = us < took_us[i % 2] ? us : took_us[i % 2];
        keyspace_garbage_free(garbage, false);
        for (unsigned w = 0; w < many; w++)
            unwatch(watchers[w]);
    }
    cr_assert_leq(took_us[1], took_us[0] * 10 + 100, "%zu us and %zu us", (size_t)took_us[0],
                  (size_t)took_us[1]);
}
