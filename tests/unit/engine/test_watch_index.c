/* The index of watchers against a plain array. */
#include <stdlib.h>

#include <criterion/criterion.h>

#include "engine/memory.h"
#include "engine/watch_index.h"

#define NODES 5000

TestSuite(watch_index, .timeout = 30);

static uint64_t random_state = 1;
static uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static size_t chain_length(const struct watch_index *index, uint64_t hash) {
    size_t length = 0;
    for (const struct watch_node *n = watch_index_chain(index, hash); n; n = n->next)
        length++;
    return length;
}

static bool is_there(const struct watch_index *index, const struct watch_node *node) {
    size_t times = 0;
    for (const struct watch_node *n = watch_index_chain(index, node->hash); n; n = n->next)
        times += n == node;
    cr_assert_leq(times, 1);
    return times;
}

static void check(const struct watch_index *index, const struct watch_node *nodes,
                  const bool *present) {
    size_t count = 0, walked = 0;
    for (size_t i = 0; i < NODES; i++) {
        cr_assert_eq(is_there(index, &nodes[i]), present[i]);
        count += present[i];
    }
    for (size_t i = 0; i < index->buckets; i++)
        for (const struct watch_node *n = watch_index_bucket(index, i); n; n = n->next)
            walked++;
    cr_assert_eq(index->count, count);
    cr_assert_eq(walked, count);
    cr_assert_leq(index->count, index->buckets);
}

Test(watch_index, agrees_with_an_array) {
    uint64_t before = memory_used_bytes();
    static struct watch_node nodes[NODES];
    static bool present[NODES];
    struct watch_index index;
    watch_index_begin(&index);
    for (size_t i = 0; i < NODES; i++)
        nodes[i].hash = i % 10 ? random_next() : i % 7; /* some collide in everything */
    /* Mostly more, then mostly fewer, several times. */
    for (int step = 0; step < 60000; step++) {
        size_t i = random_next() % NODES;
        bool adding = step / 10000 % 2 == 0 ? random_next() % 4 : random_next() % 4 == 0;
        if (adding == present[i])
            continue;
        present[i] = adding;
        if (adding)
            watch_index_add(&index, &nodes[i]);
        else
            watch_index_remove(&index, &nodes[i]);
        if (step % 1000 == 0)
            check(&index, nodes, present);
    }
    for (size_t i = 0; i < NODES; i++)
        if (present[i])
            watch_index_remove(&index, &nodes[i]);
    cr_assert_eq(index.count, 0);
    watch_index_end(&index);
    cr_assert_eq(memory_used_bytes(), before);
}

Test(watch_index, chains_stay_short_and_buckets_go_again) {
    struct watch_node *nodes = malloc(NODES * sizeof *nodes);
    struct watch_index index;
    watch_index_begin(&index);
    size_t seen = 0;
    for (size_t i = 0; i < NODES; i++) {
        nodes[i].hash = random_next();
        watch_index_add(&index, &nodes[i]);
        seen += chain_length(&index, random_next());
    }
    cr_assert_leq(seen, 3 * NODES);
    for (size_t i = 0; i < NODES - 1; i++)
        watch_index_remove(&index, &nodes[i]);
    cr_assert_eq(index.buckets, WATCH_INDEX_FIRST);
    struct watch_node by = {.hash = nodes[NODES - 1].hash};
    watch_index_replace(&index, &nodes[NODES - 1], &by);
    cr_assert(is_there(&index, &by));
    watch_index_remove(&index, &by);
    watch_index_end(&index);
    free(nodes);
}
