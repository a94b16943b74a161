/* Trees of packed leaves: finding, changing and sharing, against a sorted array as the model.
 * Leaves are small here, so that a few thousand elements make trees of many levels. */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/memory.h"
#include "engine/types/tree.h"

TestSuite(tree, .timeout = 120);

#define LEAF_MOST  6
#define LEAF_FEW   2
#define MODEL_MOST 6000

/* --- A kind: numbers in order, equal ones told apart by a second number ------------------------
 */

struct item {
    uint32_t number, second;
};

static struct item item_at(const struct tree_leaf *leaf, unsigned i) {
    struct item item;
    memcpy(&item, leaf->data + i * sizeof item, sizeof item);
    return item;
}

static int compare_items(struct item a, struct item b) {
    if (a.number != b.number)
        return a.number < b.number ? -1 : 1;
    return a.second == b.second ? 0 : a.second < b.second ? -1 : 1;
}

static struct tree_key first_key(const struct tree_leaf *leaf) {
    return (struct tree_key){item_at(leaf, 0).number / 4, item_at(leaf, 0).number % 4};
}
static int compare(const void *sought, const struct tree_leaf *leaf) {
    return compare_items(*(const struct item *)sought, item_at(leaf, 0));
}
static bool is_large(const struct tree_leaf *leaf) {
    return leaf->count > LEAF_MOST;
}
static bool is_small(const struct tree_leaf *leaf) {
    return leaf->count <= LEAF_FEW;
}

/* Leaves refer to something outside: so often, as this says. */
static _Atomic long outside_references;

static struct tree_leaf *leaf_of(const struct item *items, unsigned count) {
    struct tree_leaf *leaf = tree_leaf_make(count * sizeof *items);
    leaf->count = (uint16_t)count;
    leaf->bytes = (uint16_t)(count * sizeof *items);
    memcpy(leaf->data, items, count * sizeof *items);
    return leaf;
}
static void acquire(const struct tree_leaf *leaf) {
    outside_references += leaf->count;
}
static void release(const struct tree_leaf *leaf) {
    outside_references -= leaf->count;
}
static size_t outside_bytes(const struct tree_leaf *leaf) {
    return (size_t)leaf->count * 100;
}
static struct tree_leaf *split(struct tree_leaf **leaf) {
    unsigned count = (*leaf)->count, kept = count / 2;
    struct item items[64];
    memcpy(items, (*leaf)->data, count * sizeof items[0]);
    tree_leaf_free(*leaf);
    *leaf = leaf_of(items, kept);
    return leaf_of(items + kept, count - kept);
}
static struct tree_leaf *merge(const struct tree_leaf *left, const struct tree_leaf *right) {
    struct item items[64];
    unsigned sum = (unsigned)left->count + right->count;
    if (sum > LEAF_MOST - 1)
        return NULL;
    memcpy(items, left->data, left->count * sizeof items[0]);
    memcpy(items + left->count, right->data, right->count * sizeof items[0]);
    struct tree_leaf *both = leaf_of(items, sum);
    acquire(both);
    return both;
}
static void check(const struct tree_leaf *leaf) {
    for (unsigned i = 1; i < leaf->count; i++)
        cr_assert_lt(compare_items(item_at(leaf, i - 1), item_at(leaf, i)), 0);
}

static const struct tree_kind kind = {
    .key_words = 2,
    .first = first_key,
    .compare = compare,
    .is_large = is_large,
    .is_small = is_small,
    .split = split,
    .merge = merge,
    .acquire = acquire,
    .release = release,
    .outside_bytes = outside_bytes,
    .check = check,
};

/* --- The tree and its model ------------------------------------------------------------------- */

struct model {
    struct item items[MODEL_MOST];
    unsigned count;
};

static uint64_t random_state = 99;
static uint32_t random_below(uint32_t bound) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % bound;
}

static unsigned model_place(const struct model *model, struct item item, bool *there) {
    unsigned i = 0;
    for (unsigned high = model->count; i < high;) {
        unsigned middle = (i + high) / 2;
        if (compare_items(model->items[middle], item) < 0)
            i = middle + 1;
        else
            high = middle;
    }
    *there = i < model->count && compare_items(model->items[i], item) == 0;
    return i;
}

static void model_toggle(struct model *model, struct item item) {
    bool there;
    unsigned i = model_place(model, item, &there), behind = model->count - i;
    if (there) {
        memmove(&model->items[i], &model->items[i + 1], (behind - 1) * sizeof item);
        model->count--;
    } else {
        memmove(&model->items[i + 1], &model->items[i], behind * sizeof item);
        model->items[i] = item;
        model->count++;
    }
}

/* By a new leaf, or in place if there is room and coin says so. */
static void tree_toggle(struct tree *tree, struct item item, bool in_place) {
    struct tree_path path;
    struct item items[64];
    unsigned count = 0, at = 0;
    struct tree_key key = {item.number / 4, item.number % 4};
    tree_find(tree, key, &item, &path);
    if (path.leaf) {
        count = path.leaf->count;
        memcpy(items, path.leaf->data, count * sizeof item);
    }
    while (at < count && compare_items(items[at], item) < 0)
        at++;
    bool there = at < count && compare_items(items[at], item) == 0;
    path.keeps_first = at > 0;
    if (there) {
        memmove(&items[at], &items[at + 1], (count - at - 1) * sizeof item);
        count--;
    } else {
        memmove(&items[at + 1], &items[at], (count - at) * sizeof item);
        items[at] = item;
        count++;
    }
    if (path.leaf && in_place && count * sizeof item <= path.leaf->capacity) {
        struct tree_leaf *leaf = tree_writable(tree, &path);
        unsigned old = leaf->count;
        memcpy(leaf->data, items, count * sizeof item);
        outside_references += (long)count - (long)old;
        leaf->count = (uint16_t)count;
        leaf->bytes = (uint16_t)(count * sizeof item);
        tree_update(tree, &path, old, (size_t)old * 100);
        return;
    }
    struct tree_leaf *leaf = leaf_of(items, count);
    acquire(leaf);
    tree_put(tree, &path, leaf);
}

static void compare_with_model(const struct tree *tree, const struct model *model) {
    struct tree_path path;
    unsigned i = 0;
    tree_check(tree);
    cr_assert_eq(tree->count, model->count);
    tree_first(tree, &path);
    if (!path.leaf)
        return;
    do {
        cr_assert_eq(tree_before(tree, &path), i);
        for (unsigned j = 0; j < path.leaf->count; j++, i++)
            cr_assert_eq(compare_items(item_at(path.leaf, j), model->items[i]), 0);
    } while (tree_next(tree, &path));
    cr_assert_eq(i, model->count);
    do
        for (unsigned j = path.leaf->count; j > 0; j--)
            cr_assert_eq(compare_items(item_at(path.leaf, j - 1), model->items[--i]), 0);
    while (tree_previous(tree, &path));
    cr_assert_eq(i, 0);
    for (unsigned k = 0; k < 20; k++) {
        unsigned position = random_below(model->count);
        unsigned there = tree_at(tree, position, &path);
        cr_assert_eq(compare_items(item_at(path.leaf, there), model->items[position]), 0);
    }
}

/* A probe of many steps ends where a search by key alone does: at the last leaf that does not begin
 * behind the key. */
static void compare_probes(const struct tree *tree) {
    for (unsigned i = 0; i < 50; i++) {
        struct tree_key key = {random_below(520), random_below(5)};
        struct tree_probe probe;
        struct tree_path path;
        tree_probe_begin(tree, key, &probe);
        while (tree_probe_step(&probe))
            continue;
        tree_find(tree, key, &(struct item){UINT32_MAX, 0}, &path);
        cr_assert_eq(probe.node, path.leaf);
    }
}

/* Grows, and shrinks, and grows; now and then it is shared, and what was shared stays. */
#define SHARED 4

Test(tree, is_what_its_model_is_and_shared_ones_stay) {
    static struct model model, models[SHARED];
    struct tree tree, shared[SHARED];
    size_t used = memory_used_bytes();
    tree_init(&tree, &kind);
    for (unsigned i = 0; i < SHARED; i++)
        tree_init(&shared[i], &kind);
    for (unsigned step = 0; step < 60000; step++) {
        bool grows = step / 12000 % 2 == 0;
        struct item item = {random_below(2000), random_below(grows ? 3 : 2)};
        bool there;
        model_place(&model, item, &there);
        if (there == grows && random_below(4) != 0)
            continue;
        if (model.count == MODEL_MOST)
            continue;
        model_toggle(&model, item);
        tree_toggle(&tree, item, random_below(2));
        if (step % 1500 == 0) {
            unsigned i = random_below(SHARED);
            compare_with_model(&shared[i], &models[i]);
            tree_clear(&shared[i]);
            tree_share(&shared[i], &tree);
            models[i] = model;
            compare_with_model(&tree, &model);
            compare_probes(&tree);
        }
    }
    compare_with_model(&tree, &model);
    for (unsigned i = 0; i < SHARED; i++) {
        compare_with_model(&shared[i], &models[i]);
        tree_clear(&shared[i]);
    }
    compare_with_model(&tree, &model);
    cr_assert_eq(outside_references, (long)tree.count);
    while (model.count > 0) {
        struct item item = model.items[random_below(model.count)];
        model_toggle(&model, item);
        tree_toggle(&tree, item, false);
        if (model.count % 500 == 0)
            compare_with_model(&tree, &model);
    }
    tree_check(&tree);
    cr_assert_eq(outside_references, 0);
    cr_assert_eq(memory_used_bytes(), used);
}

Test(tree, elements_of_equal_keys_are_found_in_whichever_leaf) {
    struct tree tree;
    static struct model model;
    tree_init(&tree, &kind);
    for (unsigned i = 0; i < 3000; i++) {
        struct item item = {8, i * 7919 % 3000};
        model_toggle(&model, item);
        tree_toggle(&tree, item, false);
    }
    compare_with_model(&tree, &model);
    for (unsigned i = 0; i < 3000; i++)
        tree_toggle(&tree, (struct item){8, i}, true);
    tree_check(&tree);
    cr_assert_eq(tree.count, 0);
    cr_assert_eq(outside_references, 0);
}

Test(tree, is_built_in_order) {
    struct tree tree, shared;
    static struct model model;
    tree_init(&tree, &kind);
    tree_init(&shared, &kind);
    for (unsigned i = 0; i < 1000; i++) {
        struct item items[4];
        for (unsigned j = 0; j < 4; j++) {
            items[j] = (struct item){i * 4 + j, 0};
            model_toggle(&model, items[j]);
        }
        if (i == 500)
            tree_share(&shared, &tree);
        struct tree_leaf *leaf = leaf_of(items, 4);
        acquire(leaf);
        tree_append(&tree, leaf);
    }
    compare_with_model(&tree, &model);
    cr_assert_eq(shared.count, 2000);
    tree_check(&shared);
    tree_clear(&tree);
    tree_check(&shared);
    tree_clear(&shared);
    cr_assert_eq(outside_references, 0);
}
