/* engine/table.c and table_rebuild.c against the model. Walks and random choice: test_table_walk.c.
 */
#include "engine/object_private.h"
#include "tests/unit/engine/table_model.h"

TestSuite(table, .init = model_setup, .fini = model_teardown);

/* --- Basics ----------------------------------------------------------------------------------- */

Test(table, empty_root) {
    struct model m;
    uint64_t next = 1;
    size_t visited = 0;
    struct object *sample[4];
    model_make(&m, 1);
    model_check(&m);
    cr_assert_eq(table_bytes(&m.root), 0);
    cr_assert_eq(table_random(&m.root, 1, 2), NULL);
    cr_assert_eq(table_sample(&m.root, 1, false, 4, sample), 0);
    table_walk(&m.root, 77, 0, 10, 10, false, count_visit, &visited, &next);
    cr_assert(next == 0 && visited == 0);
    model_remove(&m, 0);
    cr_assert_eq(table_detach(&m.root), NULL);
    model_end(&m);
}

Test(table, one_key_is_one_bucket) {
    struct model m;
    model_make(&m, 4);
    model_insert(&m, 0, false);
    model_check(&m);
    cr_assert(table_bytes(&m.root) <= memory_class_bytes(BUCKET_BYTES));
    cr_assert_eq(table_random(&m.root, 1, 2), m.objects[0]);
    model_insert(&m, 1, true);
    model_insert(&m, 2, false);
    model_check(&m);
    cr_assert(table_bytes(&m.root) <= memory_class_bytes(BUCKET_BYTES));
    for (uint64_t id = 0; id < 3; id++)
        model_remove(&m, id);
    model_check(&m);
    cr_assert_eq(atomic_load(&m.root), NULL);
    model_end(&m);
}

Test(table, hash_is_seeded) {
    uint64_t hash = table_hash("foo", 3);
    table_set_seed(2);
    cr_assert_neq(table_hash("foo", 3), hash);
    table_set_seed(0x5eed);
    cr_assert_eq(table_hash("foo", 3), hash);
    cr_assert_neq(table_hash("", 0), hash);
}

Test(table, keys_of_any_length) {
    static char key[100000];
    table_root root = NULL;
    table_hash_for_tests = NULL;
    memset(key, 'k', sizeof key);
    for (size_t length = 0; length < sizeof key; length = length < 70 ? length + 1 : length * 3) {
        struct object *o = object_make_string(key, length, "v", 1, OBJECT_NO_EXPIRY, STRING_SET);
        table_insert(&root, table_hash(key, length), o);
    }
    table_check(&root);
    for (size_t length = 0; length < sizeof key; length = length < 70 ? length + 1 : length * 3) {
        /* One byte off, anywhere, is another key; even when the hash is the same. */
        uint64_t hash = table_hash(key, length);
        cr_assert_neq(table_find(&root, hash, key, length), NULL);
        for (size_t i = 0; i < length && i < 70; i++) {
            key[i] = 'K';
            cr_assert_eq(table_find(&root, hash, key, length), NULL);
            key[i] = 'k';
        }
        if (length > 0)
            cr_assert_eq(table_find(&root, hash, key, length - 1), NULL);
    }
    table_destroy(table_detach(&root));
}

/* Bits of the hash beside the place: every entry gives its hash to the promised precision, at all
 * sizes. */
Test(table, tag_and_place_tell_the_hash) {
    for (uint64_t buckets = 1; buckets < (uint64_t)1 << 32; buckets += 1 + buckets / 5) {
        unsigned position = tag_position_for(buckets);
        struct tag_context c = {buckets, UINT64_MAX / buckets, position};
        for (int i = 0; i < 200; i++) {
            uint64_t hash = i == 0 ? 0 : i == 1 ? UINT64_MAX : random_next();
            uint64_t home = hash_home(hash, buckets);
            uint64_t away = random_below(buckets < REACH_MAX ? buckets : REACH_MAX + 1);
            uint64_t index = bucket_wrap(home + away, buckets);
            struct hash_range r =
                entry_hashes(&c, index, hash_tag(hash, position) << ENTRY_TAG_SHIFT);
            cr_assert(hash >= r.first && hash <= r.last, "buckets %lu home %lu +%lu", buckets, home,
                      away);
            cr_assert_eq(r.last - r.first, ((uint64_t)1 << position) - 1);
            cr_assert(home >= 1 ? home_first_hash(home, buckets) <= hash : true);
            cr_assert_eq(hash_home(home_first_hash(home, buckets), buckets), home);
            if (home > 0)
                cr_assert_eq(hash_home(home_first_hash(home, buckets) - 1, buckets), home - 1);
        }
    }
}

/* --- Random operations against the model ------------------------------------------------------ */

static void random_operation(struct model *m, unsigned insert_percent) {
    uint64_t id = random_below(m->size);
    if (!m->objects[id]) {
        if (random_below(100) < insert_percent)
            model_insert(m, id, random_below(4) == 0);
        else
            cr_assert_eq(model_find(m, id), NULL);
        return;
    }
    cr_assert_eq(model_find(m, id), m->objects[id]);
    switch (random_below(4)) {
    case 0:
        model_replace(m, id, random_below(4) == 0);
        break;
    case 1:
        if (object_flags(m->objects[id]) & OBJECT_HAS_EXPIRY) {
            bool was = object_is_volatile(m->objects[id]);
            object_set_expiry(m->objects[id], was ? OBJECT_NO_EXPIRY : FAR_EXPIRY_MS);
            m->volatile_count += was ? -(size_t)1 : 1;
            table_note_expiry(&m->root, id_hash(id), m->objects[id]);
        }
        break;
    default:
        if (random_below(100) >= insert_percent)
            model_remove(m, id);
    }
}

static void random_operations(size_t size, size_t operations, size_t check_every) {
    struct model m;
    model_make(&m, size);
    /* Phases of growing, of churn and of shrinking to nothing. */
    for (unsigned phase = 0; phase < 6; phase++) {
        static const unsigned insert_percent[] = {95, 60, 50, 5, 80, 0};
        for (size_t i = 0; i < operations; i++) {
            random_operation(&m, insert_percent[phase]);
            if (i % check_every == 0)
                model_check(&m);
        }
        model_check(&m);
    }
    for (uint64_t id = 0; id < size; id++)
        model_remove(&m, id);
    model_check(&m);
    model_end(&m);
}

#define RANDOM_TEST(name, which)                                                                   \
    Test(table, name) {                                                                            \
        mode = which;                                                                              \
        random_operations(10, 300, 1);                                                             \
        random_operations(60, 1000, 11);                                                           \
        random_operations(1000, 5000, 1000);                                                       \
    }
RANDOM_TEST(random_operations_real_hash, HASH_REAL)
RANDOM_TEST(random_operations_same_hash, HASH_SAME)
RANDOM_TEST(random_operations_seven_hashes, HASH_SEVEN)
RANDOM_TEST(random_operations_last_buckets, HASH_LAST)
RANDOM_TEST(random_operations_first_buckets, HASH_FIRST)
RANDOM_TEST(random_operations_clustered, HASH_CLUSTERED)

Test(table, random_operations_large, .timeout = 120) {
    random_operations(60000, 150000, 50000);
}
Test(table, random_operations_large_clustered, .timeout = 120) {
    mode = HASH_CLUSTERED; /* thousands of keys in a home: chains */
    random_operations(12000, 20000, 10000);
}

/* --- Growth, shrinking, bounded steps --------------------------------------------------------- */

/* What one write did: at most so many buckets, and no large table at once. */
struct watcher {
    const struct table *table;
    const struct table_rebuild *rebuild;
    uint64_t next_old;
    size_t rebuilds;
    size_t steps;
};

static void watch(struct watcher *w, const table_root *root) {
    const struct table *t = atomic_load(root);
    const struct table_rebuild *r = t ? table_rebuild_state(t) : NULL;
    if (t && t != w->table) {
        w->rebuilds++;
        cr_assert(r || table_buckets(t) < TABLE_STEP_THRESHOLD_BUCKETS);
        w->next_old = 0;
    }
    if (r) {
        cr_assert(r->next_old - w->next_old <= TABLE_STEP_BUCKETS);
        w->steps += r->next_old != w->next_old;
        w->next_old = r->next_old;
    }
    w->table = t;
    w->rebuild = r;
}

static void grow_and_shrink(size_t keys) {
    struct model m;
    struct watcher w = {0};
    model_make(&m, keys);
    for (uint64_t id = 0; id < keys; id++) {
        model_insert(&m, id, id % 5 == 0);
        watch(&w, &m.root);
        /* Between the size classes of the allocator. */
        if (m.count >= 200 && !w.rebuild)
            cr_assert(table_bytes(&m.root) <= m.count * 12, "%zu keys %zu bytes", m.count,
                      table_bytes(&m.root));
        if (id < 3000 ? id % 97 == 0 : id == keys / 2 || id == keys / 3)
            table_check(&m.root);
    }
    cr_assert(keys < 100000 || w.steps > keys / BUCKET_ENTRIES / TABLE_STEP_BUCKETS);
    model_check(&m);
    for (uint64_t id = 0; id < keys; id++) {
        model_remove(&m, id);
        watch(&w, &m.root);
        if (m.count >= 200 && !w.rebuild)
            cr_assert(table_bytes(&m.root) <= m.count * 26, "%zu keys %zu bytes", m.count,
                      table_bytes(&m.root));
        if (m.count < 3000 ? m.count % 97 == 0 : id == keys / 2)
            table_check(&m.root);
    }
    model_end(&m);
}

Test(table, grows_and_shrinks) {
    grow_and_shrink(20);
    grow_and_shrink(5000);
    grow_and_shrink(60000);
}

Test(table, grows_and_shrinks_two_million, .timeout = 180) {
#if defined(SLOTWISE_TSAN) || defined(SLOTWISE_ASAN)
    grow_and_shrink(300000);
#else
    grow_and_shrink(2000000);
#endif
}

Test(table, does_not_flap) {
    struct model m;
    struct watcher w = {0};
    for (size_t keys = 1; keys < 3000; keys += 1 + keys / 7) {
        model_make(&m, keys + 8);
        for (uint64_t id = 0; id < keys; id++)
            model_insert(&m, id, false);
        watch(&w, &m.root);
        w.rebuilds = 0;
        for (unsigned round = 0; round < 50; round++) {
            for (uint64_t id = keys; id < keys + 2; id++)
                model_insert(&m, id, false);
            watch(&w, &m.root);
            for (uint64_t id = keys; id < keys + 2; id++)
                model_remove(&m, id);
            watch(&w, &m.root);
        }
        cr_assert(w.rebuilds <= 1, "%zu keys: %zu rebuilds", keys, w.rebuilds);
        model_end(&m);
    }
}

/* Memory of the tables of a database with about 300 keys a slot, freshly loaded and after churn. */
Test(table, memory_per_key, .timeout = 120) {
    enum { TABLES = 1000, KEYS = TABLES * 305, ROUNDS = 3 };
    struct model *tables = malloc(TABLES * sizeof *tables);
    uint16_t *table_of = malloc(KEYS * sizeof *table_of);
    for (unsigned i = 0; i < TABLES; i++)
        tables[i] = (struct model){.size = 0};
    size_t bytes = 0;
    for (unsigned round = 0; round <= ROUNDS; round++) {
        for (unsigned i = 0; i < KEYS; i++) {
            uint64_t id = i + (uint64_t)round * KEYS;
            if (round > 0) {
                char key[KEY_BYTES];
                uint64_t old = id - KEYS;
                memcpy(key, &old, KEY_BYTES);
                object_free(table_remove(&tables[table_of[i]].root, id_hash(old), key, KEY_BYTES));
            }
            table_of[i] = (uint16_t)random_below(TABLES);
            table_insert(&tables[table_of[i]].root, id_hash(id), make_object(id, false));
        }
        bytes = 0;
        for (unsigned i = 0; i < TABLES; i++)
            bytes += table_bytes(&tables[i].root);
        cr_log_info("round %u: %.2f bytes a key", round, (double)bytes / KEYS);
        cr_assert((double)bytes / KEYS <= (round ? 12.0 : 11.5), "%.2f bytes a key",
                  (double)bytes / KEYS);
    }
    for (unsigned i = 0; i < TABLES; i++) {
        table_check(&tables[i].root);
        struct table *t = table_detach(&tables[i].root);
        if (t)
            table_destroy(t);
    }
    free(tables);
    free(table_of);
}

/* --- The rest --------------------------------------------------------------------------------- */

Test(table, churn_keeps_keys_near_home) {
    struct model m;
    model_make(&m, 700);
    for (uint64_t id = 0; id < 335; id++)
        model_insert(&m, id, false);
    for (unsigned i = 0; i < 40000; i++) {
        uint64_t from, to;
        do
            from = random_below(m.size);
        while (!m.objects[from]);
        do
            to = random_below(m.size);
        while (m.objects[to]);
        model_remove(&m, from);
        model_insert(&m, to, false);
    }
    model_check(&m);
    const struct table *t = atomic_load(&m.root);
    uint64_t buckets = table_buckets(t);
    size_t looked_at = 0;
    for (uint64_t home = 0; home < buckets; home++)
        looked_at += 1 + home_reach(t, home, buckets);
    cr_log_info("%.2f buckets a miss", (double)looked_at / (double)buckets);
    cr_assert((double)looked_at / (double)buckets < 3.5);
    model_end(&m);
}

Test(table, detach_in_a_rebuild) {
    struct model m;
    model_make(&m, 60000);
    uint64_t id = 0;
    for (unsigned i = 0; i < 3; i++) {
        do
            model_insert(&m, id++, true);
        while (!table_rebuild_state(atomic_load(&m.root)));
        size_t more = random_below(60);
        while (more-- > 0)
            model_insert(&m, id++, false);
        table_destroy(table_detach(&m.root));
        m.count = m.volatile_count = 0;
        memset(m.objects, 0, m.size * sizeof *m.objects);
        id = 0;
    }
    model_end(&m);
}

/* A rebuild that goes on while nearly everything is removed, down to the last key. */
Test(table, emptied_in_a_rebuild) {
    struct model m;
    model_make(&m, 30000);
    uint64_t id = 0;
    while (id < 9000 || !table_rebuild_state(atomic_load(&m.root)))
        model_insert(&m, id++, false);
    model_check(&m);
    while (id > 0)
        model_remove(&m, --id);
    model_check(&m);
    model_end(&m);
}

/* --- In the order of the hashes, as SCAN gives them ---------------------------------------------
 */

static int by_hash(const void *a, const void *b) {
    uint64_t x = id_hash(*(const uint64_t *)a), y = id_hash(*(const uint64_t *)b);
    return x < y ? -1 : x > y;
}

static uint64_t *ids_by_hash(size_t keys) {
    uint64_t *ids = malloc(keys * sizeof *ids);
    for (uint64_t i = 0; i < keys; i++)
        ids[i] = i;
    qsort(ids, keys, sizeof *ids, by_hash);
    return ids;
}

/* What is left is never more crowded than a table may be: no bucket has a long chain, and a random
 * key is found without looking for long. */
static void check_not_crowded(struct model *m) {
    struct table *t = atomic_load(&m->root);
    if (!t)
        return;
    cr_assert_leq(table_longest_chain(t), 12, "%zu keys in %zu buckets, a chain of %zu", m->count,
                  (size_t)table_buckets(t), (size_t)table_longest_chain(t));
    struct object *o = table_random(&m->root, random_next(), random_next());
    cr_assert_not_null(o);
    cr_assert_eq(m->objects[object_id(o)], o);
    cr_assert_eq(table_sample(&m->root, random_next(), false, 1, &o), 1);
    cr_assert_eq(m->objects[object_id(o)], o);
}

static void delete_in_hash_order(size_t keys, bool from_the_end) {
    struct model m;
    model_make(&m, keys);
    uint64_t *ids = ids_by_hash(keys);
    for (uint64_t id = 0; id < keys; id++)
        model_insert(&m, id, false);
    for (size_t i = 0; i < keys; i++) {
        model_remove(&m, ids[from_the_end ? keys - 1 - i : i]);
        if (m.count % (keys / 100) == 0 || m.count < 100) {
            table_check(&m.root);
            check_not_crowded(&m);
        }
        /* Some come back, anywhere. */
        if (i % (keys / 4) == keys / 8)
            for (size_t k = 0; k < i; k += 50)
                if (!m.objects[k])
                    model_insert(&m, k, true);
    }
    for (uint64_t id = 0; id < keys; id++)
        model_remove(&m, id);
    model_check(&m);
    free(ids);
    model_end(&m);
}

Test(table, deleting_in_hash_order_crowds_nothing, .timeout = 120) {
    delete_in_hash_order(6000, false);
    delete_in_hash_order(100000, false);
    delete_in_hash_order(100000, true);
}

/* Overflow chains are long then for a while; nothing else goes wrong. */
Test(table, inserting_in_hash_order, .timeout = 120) {
    struct model m;
    size_t keys = 60000;
    model_make(&m, keys);
    uint64_t *ids = ids_by_hash(keys);
    for (size_t i = 0; i < keys; i++) {
        model_insert(&m, ids[i], i % 3 == 0);
        if (i % 3000 == 0 || i == 700)
            table_check(&m.root);
    }
    model_check(&m);
    for (size_t i = 0; i < keys; i++)
        model_remove(&m, ids[scramble(i) % keys]);
    model_check(&m);
    free(ids);
    model_end(&m);
}

/* An entry in a long chain costs what any other does. */
Test(table, a_long_chain_is_filled_at_its_beginning) {
    struct model m;
    mode = HASH_SAME;
    model_make(&m, 4000);
    for (uint64_t id = 0; id < 4000; id++)
        model_insert(&m, id, false);
    struct table *t = atomic_load(&m.root);
    for (uint64_t index = 0; index < table_buckets(t); index++) {
        const struct bucket *first = bucket_link(table_bucket(t, index));
        for (const struct bucket *b = first ? bucket_link(first) : NULL; b; b = bucket_link(b))
            cr_assert_geq(__builtin_popcount(bucket_objects(b)), BUCKET_ENTRIES - 1);
    }
    for (uint64_t id = 0; id < 4000; id++)
        model_remove(&m, (id * 1237) % 4000);
    model_check(&m);
    model_end(&m);
}

Test(table, a_rebuild_is_finished_without_writes) {
    struct model m;
    uint64_t id = 0, steps = 0;
    model_make(&m, 100000);
    cr_assert_not(table_is_rebuilding(&m.root));
    cr_assert_not(table_rebuild_some(&m.root));
    while (!table_is_rebuilding(&m.root))
        model_insert(&m, id++, false);
    uint64_t old_buckets = table_buckets(table_rebuild_state(atomic_load(&m.root))->old);
    do {
        model_check(&m);
        steps++;
    } while (table_rebuild_some(&m.root));
    cr_assert_eq(steps, (old_buckets - 1) / TABLE_STEP_BUCKETS);
    cr_assert_not(table_is_rebuilding(&m.root));
    model_check(&m);
    model_end(&m);
}
