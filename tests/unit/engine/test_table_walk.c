/* engine/table_walk.c against the model: walks over rebuilds, random choice and samples. */
#include "tests/unit/engine/table_model.h"

TestSuite(table_walk, .init = model_setup, .fini = model_teardown);

/* --- Walks ------------------------------------------------------------------------------------ */

struct visits {
    uint8_t *times; /* by id */
    uint64_t first; /* hashes must not be below */
    uint64_t highest;
    size_t count;
    bool volatile_only;
};

static void note_visit(struct object *o, uint64_t hash, void *context) {
    struct visits *v = context;
    uint64_t id = object_id(o);
    cr_assert_eq(hash, id_hash(id));
    cr_assert(hash >= v->first);
    cr_assert(!v->volatile_only || object_is_volatile(o));
    v->highest = hash > v->highest ? hash : v->highest;
    v->times[id]++;
    v->count++;
}

/* A whole walk; between the calls churn(m) changes the table. Ids below stable are there all the
 * time. */
static size_t walk_all(struct model *m, unsigned granularity_bits, size_t limit,
                       size_t bucket_limit, bool volatile_only, uint64_t stable,
                       void (*churn)(struct model *m)) {
    struct visits v = {.times = calloc(m->size, 1), .volatile_only = volatile_only};
    uint64_t from = 0;
    size_t calls = 0;
    do {
        uint64_t next;
        v.first = from;
        v.highest = from;
        size_t before = v.count;
        table_walk(&m->root, from, granularity_bits, limit, bucket_limit, volatile_only, note_visit,
                   &v, &next);
        cr_assert(next == 0 || (next > from && v.highest < next));
        cr_assert_eq(next & (((uint64_t)1 << granularity_bits) - 1), 0);
        if (next && bucket_limit == SIZE_MAX)
            cr_assert(v.count - before >= limit);
        from = next;
        calls++;
        if (churn)
            churn(m);
    } while (from);
    for (uint64_t id = 0; id < stable; id++) {
        unsigned expected =
            m->objects[id] && (!volatile_only || object_is_volatile(m->objects[id]));
        cr_assert_eq(v.times[id], expected, "id %lu visited %u times", id, v.times[id]);
    }
    free(v.times);
    return calls;
}

Test(table_walk, walks_visit_once) {
    static const size_t sizes[] = {1, 3, 4, 9, 15, 27, 40, 300, 2000, 20000};
    static const unsigned bits[] = {0, 20, 39, 58, 61, 62, 63};
    for (mode = 0; mode < HASH_MODES; mode++) {
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct model m;
            if (mode != HASH_REAL && sizes[i] > 2000)
                continue;
            model_make(&m, sizes[i]);
            for (uint64_t id = 0; id < sizes[i]; id++)
                model_insert(&m, id, random_below(10) == 0);
            for (unsigned j = 0; j < sizeof bits / sizeof *bits; j++) {
                walk_all(&m, bits[j], 1, SIZE_MAX, false, sizes[i], NULL);
                walk_all(&m, bits[j], 10, SIZE_MAX, true, sizes[i], NULL);
                walk_all(&m, bits[j], SIZE_MAX, 3, true, sizes[i], NULL);
            }
            cr_assert_eq(walk_all(&m, 39, SIZE_MAX, SIZE_MAX, false, sizes[i], NULL), 1);
            model_end(&m);
        }
    }
}

static uint64_t churn_stable;
static int churn_direction;
static size_t churn_writes;

static void churn(struct model *m) {
    for (size_t i = 0; i < churn_writes; i++) {
        if (m->count <= churn_stable + (m->size - churn_stable) / 10)
            churn_direction = 1;
        if (m->count >= m->size - (m->size - churn_stable) / 10)
            churn_direction = -1;
        uint64_t id = churn_stable + random_below(m->size - churn_stable);
        if (churn_direction > 0 && !m->objects[id])
            model_insert(m, id, random_below(5) == 0);
        else if (churn_direction < 0 && m->objects[id])
            model_remove(m, id);
    }
}

static void walks_under_churn(size_t stable, size_t size, size_t writes, size_t walks) {
    struct model m;
    model_make(&m, size);
    churn_stable = stable;
    churn_direction = 1;
    churn_writes = writes;
    for (uint64_t id = 0; id < stable; id++)
        model_insert(&m, id, random_below(5) == 0);
    for (size_t i = 0; i < walks; i++) {
        walk_all(&m, i % 2 ? 39 : i % 60, 1 + random_below(40), SIZE_MAX, i % 3 == 2, stable,
                 churn);
    }
    model_end(&m);
}

Test(table_walk, walks_under_churn_and_rebuilds, .timeout = 120) {
    for (mode = 0; mode < HASH_MODES; mode++) {
        walks_under_churn(3, 50, 5, 300);
        walks_under_churn(100, 1500, 100, 200);
    }
    mode = HASH_REAL;
    walks_under_churn(500, 12000, 50, 200);
}

/* Small steps of churn while a large table is rebuilt: walks cross the bound. */
Test(table_walk, walks_across_the_bound, .timeout = 120) {
    walks_under_churn(6000, 40000, 40, 20);
    struct model m;
    model_make(&m, 40000);
    size_t crossed = 0;
    for (uint64_t id = 0; id < m.size; id++) {
        model_insert(&m, id, id % 7 == 0);
        if (table_rebuild_state(atomic_load(&m.root)) && random_below(50) == 0) {
            walk_all(&m, random_below(62), 1 + random_below(5000), SIZE_MAX, random_below(2),
                     m.size, NULL);
            crossed++;
        }
    }
    cr_assert(crossed > 20);
    model_end(&m);
}

Test(table_walk, a_walk_is_bounded_by_buckets) {
    struct model m;
    model_make(&m, 5000);
    for (uint64_t id = 0; id < m.size; id++)
        model_insert(&m, id, false);
    uint64_t next;
    size_t visited = 0;
    table_walk(&m.root, 0, 0, SIZE_MAX, 5, false, count_visit, &visited, &next);
    cr_assert(visited > 5 && visited <= 5 * 20);
    cr_assert_eq(hash_home(next, table_buckets(atomic_load(&m.root))), 5);
    visited = 0;
    table_walk(&m.root, 0, 0, SIZE_MAX, SIZE_MAX, true, count_visit, &visited, &next);
    cr_assert(visited == 0 && next == 0);
    model_end(&m);
}

/* --- Random choice ---------------------------------------------------------------------------- */

/* Chi squared of table_random over all keys, per degree of freedom: about 1 when it is uniform. */
static double unevenness(struct model *m) {
    enum { PER_KEY = 200 };
    uint32_t *times = calloc(m->size, sizeof *times);
    for (size_t i = 0; i < m->count * PER_KEY; i++) {
        struct object *o = table_random(&m->root, random_next(), random_next());
        cr_assert_neq(o, NULL);
        times[object_id(o)]++;
    }
    double sum = 0;
    for (uint64_t id = 0; id < m->size; id++) {
        if (!m->objects[id])
            cr_assert_eq(times[id], 0);
        else
            sum += ((double)times[id] - PER_KEY) * ((double)times[id] - PER_KEY) / PER_KEY;
    }
    free(times);
    return sum / (double)m->count;
}

Test(table_walk, random_is_uniform) {
    static const size_t sizes[] = {2, 3, 7, 40, 333, 3000};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct model m;
        model_make(&m, sizes[i]);
        for (uint64_t id = 0; id < m.size; id++)
            model_insert(&m, id, false);
        double uneven = unevenness(&m);
        cr_assert(uneven < (sizes[i] < 10 ? 7 : 1.6), "%zu keys: %f", sizes[i], uneven);
        model_end(&m);
    }
}

Test(table_walk, random_is_uniform_with_overflow_and_in_a_rebuild, .timeout = 120) {
    struct model m;
    mode = HASH_CLUSTERED;
    model_make(&m, 2000);
    for (uint64_t id = 0; id < m.size; id++)
        model_insert(&m, id, false);
    cr_assert(table_overflow_buckets(atomic_load(&m.root)) > 0);
    double uneven = unevenness(&m);
    cr_assert(uneven < 1.3, "%f", uneven);
    model_end(&m);

    mode = HASH_REAL;
    model_make(&m, 20000);
    size_t checked = 0;
    for (uint64_t id = 0; id < m.size && checked < 2; id++) {
        model_insert(&m, id, false);
        const struct table_rebuild *r = table_rebuild_state(atomic_load(&m.root));
        if (r && r->next_old > table_buckets(r->old) / 3) {
            uneven = unevenness(&m);
            cr_assert(uneven < 1.2, "%f", uneven);
            checked++;
        }
    }
    cr_assert_eq(checked, 2);
    model_end(&m);
}

Test(table_walk, random_finds_the_last_keys) {
    struct model m;
    mode = HASH_SAME;
    model_make(&m, 3000);
    for (uint64_t id = 0; id < m.size; id++)
        model_insert(&m, id, false);
    for (uint64_t id = 1; id < m.size; id++) {
        model_remove(&m, id);
        cr_assert_neq(table_random(&m.root, random_next(), random_next()), NULL);
    }
    cr_assert_eq(table_random(&m.root, 5, 6), m.objects[0]);
    model_end(&m);
}

Test(table_walk, samples) {
    struct model m;
    struct object *objects[32];
    model_make(&m, 9000);
    for (uint64_t id = 0; id < m.size; id++) {
        model_insert(&m, id, id % 100 == 0);
        if (id % 500 != 0)
            continue;
        size_t count = table_sample(&m.root, random_next(), false, 32, objects);
        cr_assert_eq(count, id + 1 < 32 ? id + 1 : 32);
        for (size_t i = 0; i < count; i++) {
            cr_assert_eq(model_find(&m, object_id(objects[i])), objects[i]);
            for (size_t j = 0; j < i; j++)
                cr_assert_neq(objects[i], objects[j]);
        }
        count = table_sample(&m.root, random_next(), true, 3, objects);
        cr_assert(count > 0 && count <= 3);
        for (size_t i = 0; i < count; i++)
            cr_assert(object_is_volatile(objects[i]));
    }
    model_end(&m);
}
