/* Lists of both forms, as commands change them, against an array of strings as the model. */
#include <stdlib.h>

#include "engine/types/list.h"
#include "engine/types/list_order.h"
#include "tests/unit/engine/keyspace_fixture.h"

static void begin(void) {
    keyspace_begin();
    collection_limits = (struct collection_limits){.list_listpack_size = -2};
}

static void end(void) {
    collection_thread_exit();
    keyspace_end();
}

TestSuite(list, .init = begin, .fini = end, .timeout = 120);

/* --- The model -------------------------------------------------------------------------------- */

#define MODEL_MOST 4000

struct text {
    char *data;
    size_t length;
};

static struct text model[MODEL_MOST];
static size_t model_count;
static unsigned seed;

static unsigned random_below(unsigned n) {
    return (unsigned)rand_r(&seed) % n;
}

/* Of few kinds, so that some are equal; integers, short, and such that lie outside of leaves. */
static struct text random_text(void) {
    static const size_t lengths[] = {0, 1, 5, 16, 63, 64, 100, 300, 1000, 1024, 1025, 5000};
    char number[32];
    struct text text;
    unsigned kind = random_below(20);
    if (kind < 6) {
        text.length = (size_t)snprintf(number, sizeof number, "%d", (int)random_below(300) - 100);
        text.data = memcpy(malloc(text.length + 1), number, text.length);
        return text;
    }
    text.length = lengths[random_below(kind < 8 ? 12 : 6)];
    text.data = malloc(text.length + 1);
    memset(text.data, 'a' + (int)random_below(3), text.length);
    return text;
}

static void model_insert(size_t at, struct text text) {
    memmove(&model[at + 1], &model[at], (model_count - at) * sizeof model[0]);
    model[at] = text;
    model_count++;
}

static void model_remove(size_t at, size_t count) {
    for (size_t i = 0; i < count; i++)
        free(model[at + i].data);
    memmove(&model[at], &model[at + count], (model_count - at - count) * sizeof model[0]);
    model_count -= count;
}

static bool equal(struct text a, struct text b) {
    return a.length == b.length && memcmp(a.data, b.data, a.length) == 0;
}

static size_t model_remove_equal(struct text sought, size_t limit, bool backwards) {
    size_t removed = 0;
    for (size_t i = 0, n = model_count, at = backwards ? n : 0; i < n && removed < limit; i++) {
        at -= backwards;
        if (equal(model[at], sought)) {
            model_remove(at, 1);
            removed++;
        } else {
            at += !backwards;
        }
    }
    return removed;
}

/* --- The list --------------------------------------------------------------------------------- */

static struct key key;
static struct collection_edit edit;

static struct object *the_list(void) {
    return keyspace_find_raw(keyspace, 0, &key);
}

static void edit_begin(void) {
    change_begin(&change);
    list_edit_begin(&edit, &change, 0, &key, the_list());
}

struct expected {
    const struct text *next;
    size_t seen;
    int step;
};

static bool check_element(void *context, const struct element *element, const struct element *value,
                          double score) {
    (void)value, (void)score;
    struct expected *expected = context;
    cr_assert(element_equals(element, expected->next->data, expected->next->length));
    expected->next += expected->step;
    expected->seen++;
    return true;
}

static void check_list(void) {
    const struct object *object = the_list();
    if (model_count == 0) {
        cr_assert_null(object);
        return;
    }
    cr_assert_eq(list_count(object), model_count);
    collection_check(object);
    struct expected forwards = {model, 0, 1}, backwards = {&model[model_count - 1], 0, -1};
    list_visit(object, check_element, &forwards);
    list_visit_range(object, model_count - 1, UINT64_MAX, true, check_element, &backwards);
    cr_assert(forwards.seen == model_count && backwards.seen == model_count);
    size_t from = random_below((unsigned)model_count), count = random_below(50);
    struct expected part = {&model[from], 0, 1};
    list_visit_range(object, from, count, false, check_element, &part);
    cr_assert_eq(part.seen, from + count < model_count ? count : model_count - from);
    struct element element;
    list_at(object, from, &element);
    cr_assert(element_equals(&element, model[from].data, model[from].length));
}

static void do_push(void) {
    bool head = random_below(2);
    for (unsigned n = random_below(8) + 1; n > 0 && model_count < MODEL_MOST; n--) {
        struct text text = random_text();
        list_grows(&edit, text.length, 1);
        list_push(&edit, head, text.data, text.length);
        model_insert(head ? 0 : model_count, text);
    }
}

static void do_remove(bool many) {
    size_t at = random_below((unsigned)model_count), n = model_count - at;
    if (random_below(2))
        at = random_below(2) ? 0 : model_count - (n = 1);
    size_t most = many ? 2000 : 5;
    n = random_below((unsigned)(n < most ? n : most)) + 1;
    list_remove_range(&edit, at, n);
    model_remove(at, n);
    list_shrank(&edit);
}

static void do_remove_equal(void) {
    struct text text = random_text();
    bool backwards = random_below(2);
    size_t limit = random_below(2) ? random_below(20) + 1 : SIZE_MAX;
    cr_assert_eq(list_remove_equal(&edit, text.data, text.length, limit, backwards),
                 model_remove_equal(text, limit, backwards));
    free(text.data);
}

static void do_insert_or_replace(void) {
    struct text text = random_text();
    size_t at = random_below((unsigned)model_count);
    if (random_below(2) && model_count < MODEL_MOST) {
        list_insert(&edit, at, text.data, text.length);
        model_insert(at, text);
    } else {
        list_replace(&edit, at, text.data, text.length);
        free(model[at].data);
        model[at] = text;
    }
}

static void step(bool grows) {
    enum change_event event = CHANGE_LPUSH;
    edit_begin();
    unsigned what = random_below(100);
    if (model_count == 0 || (what < (grows ? 60u : 35u) && model_count < MODEL_MOST))
        do_push();
    else if (what < 75)
        do_remove(false);
    else if (what < 76)
        do_remove(true);
    else if (what < 80)
        do_remove_equal();
    else
        do_insert_or_replace();
    cr_assert_eq(edit.count, model_count);
    collection_edit_end(&edit, event);
}

/* Who has the body lent sees it as it was. */
static void check_lent(struct collection *lent, const struct text *as_it_was, size_t count) {
    struct expected expected = {as_it_was, 0, 1};
    tree_check(&lent->order);
    list_visit_body(lent, check_element, &expected);
    cr_assert_eq(expected.seen, count);
    collection_return(lent);
}

static void run(unsigned with_seed, unsigned steps) {
    static struct text kept[MODEL_MOST];
    size_t kept_count = 0;
    struct collection *lent = NULL;
    seed = with_seed;
    key = key_of("list");
    struct slot *slot = token_of(&key);
    for (unsigned i = 0; i < steps; i++) {
        if (!lent && the_list() && object_needs_token(the_list()) && random_below(50) == 0) {
            lent = collection_lend(collection_body(the_list()));
            kept_count = model_count;
            for (size_t j = 0; j < kept_count; j++) {
                kept[j].data = memcpy(malloc(model[j].length + 1), model[j].data, model[j].length);
                kept[j].length = model[j].length;
            }
        }
        step(i / 500 % 2 == 0);
        if (i % 16 == 0 || model_count < 20)
            check_list();
        if (lent && random_below(30) == 0) {
            check_lent(lent, kept, kept_count);
            for (size_t j = 0; j < kept_count; j++)
                free(kept[j].data);
            lent = NULL;
        }
        epoch_quiescent();
    }
    check_list();
    if (lent)
        check_lent(lent, kept, kept_count);
    for (size_t j = 0; lent && j < kept_count; j++)
        free(kept[j].data);
    model_remove(0, model_count);
    if (the_list())
        keyspace_delete(&change, 0, &key, CHANGE_DEL);
    slot_release(slot);
}

Test(list, agrees_with_an_array) {
    for (unsigned i = 1; i <= 6; i++)
        run(i, 3000);
}

/* --- Names ------------------------------------------------------------------------------------ */

static void push_filled(size_t length) {
    char *data = malloc(length + 1);
    memset(data, 'x', length);
    edit_begin();
    list_grows(&edit, length, 1);
    list_push(&edit, false, data, length);
    collection_edit_end(&edit, CHANGE_RPUSH);
    free(data);
}

static void pop_some(uint64_t count) {
    edit_begin();
    list_remove_range(&edit, 0, count);
    list_shrank(&edit);
    collection_edit_end(&edit, CHANGE_LPOP);
}

static void check_name(const char *name) {
    cr_assert_str_eq(type_of(the_list())->encoding_name(the_list()), name);
}

Test(list, is_a_listpack_up_to_the_limit_of_bytes) {
    key = key_of("list");
    struct slot *slot = token_of(&key);
    for (unsigned i = 0; i < 80; i++)
        push_filled(98); /* an entry of 101 */
    check_name("listpack");
    cr_assert(object_needs_token(the_list()), "it is no longer packed");
    push_filled(98); /* 7 + 80 * 101 + 98 */
    check_name("listpack");
    push_filled(98);
    check_name("quicklist");
    pop_some(41); /* 41 are left: more than half of the limit */
    check_name("quicklist");
    pop_some(1);
    check_name("listpack");
    keyspace_delete(&change, 0, &key, CHANGE_DEL);
    slot_release(slot);
}

Test(list, is_a_listpack_up_to_the_limit_of_elements) {
    collection_limits.list_listpack_size = 4;
    key = key_of("list");
    struct slot *slot = token_of(&key);
    for (unsigned i = 0; i < 4; i++)
        push_filled(1);
    check_name("listpack");
    push_filled(1);
    check_name("quicklist");
    cr_assert(!object_needs_token(the_list()), "its form goes by its size");
    pop_some(2);
    check_name("quicklist");
    pop_some(1);
    check_name("listpack");
    push_filled(8200);
    check_name("quicklist");
    keyspace_delete(&change, 0, &key, CHANGE_DEL);
    slot_release(slot);
}

/* --- Memory ----------------------------------------------------------------------------------- */

/* Pushes at an end leave full leaves behind. */
Test(list, grows_without_waste) {
    key = key_of("list");
    struct slot *slot = token_of(&key);
    for (int end_of = 0; end_of < 2; end_of++) {
        edit_begin();
        for (unsigned i = 0; i < 20000; i++)
            list_push(&edit, end_of, "0123456789abcdef", 16); /* an entry of 18 */
        collection_edit_end(&edit, CHANGE_LPUSH);
        size_t bytes = collection_bytes(collection_body(the_list()));
        cr_assert_lt(bytes, 20000 * 19, "%zu", bytes);
        tree_check(&collection_body(the_list())->order);
        keyspace_delete(&change, 0, &key, CHANGE_DEL);
        epoch_quiescent();
    }
    slot_release(slot);
}

/* A queue stays as small as what is in it. */
Test(list, queue_stays_small) {
    key = key_of("list");
    struct slot *slot = token_of(&key);
    for (unsigned i = 0; i < 100000; i++) {
        edit_begin();
        list_push(&edit, false, "0123456789abcdef", 16);
        if (i >= 1000)
            list_remove_range(&edit, 0, 1);
        collection_edit_end(&edit, CHANGE_RPUSH);
        if (i % 997 == 0)
            check_keyspace();
        epoch_quiescent();
    }
    size_t bytes = collection_bytes(collection_body(the_list()));
    cr_assert_lt(bytes, 1000 * 18 + 3 * 4096, "%zu", bytes);
    tree_check(&collection_body(the_list())->order);
    keyspace_delete(&change, 0, &key, CHANGE_DEL);
    slot_release(slot);
}

/* A listpack from outside may have entries in a longer form than they need. */
Test(list, strange_entries_are_taken_as_they_are_meant) {
    uint8_t bytes[2000] = {0};
    size_t at = LISTPACK_HEADER_BYTES;
    static const uint8_t strange[] = {0xf0, 8, 0, 0, 0, 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 13};
    memcpy(bytes + at, strange, sizeof strange);
    at += sizeof strange;
    at = (size_t)(listpack_entry_write(bytes + at, "x", 1) - bytes);
    bytes[at++] = 0xff;
    bytes[0] = (uint8_t)at;
    bytes[4] = 2;
    key = key_of("list");
    struct slot *slot = token_of(&key);
    keyspace_add(
        &change, 0, &key,
        object_make_packed(key.data, key.length, OBJECT_LIST, ENCODING_LISTPACK, bytes, at, NEVER),
        CHANGE_RESTORE);
    for (unsigned i = 0; i < 100; i++)
        push_filled(50);
    cr_assert(object_needs_token(the_list()));
    struct element element;
    list_at(the_list(), 0, &element);
    cr_assert(element_equals(&element, "ABCDEFGH", 8));
    tree_check(&collection_body(the_list())->order);
    keyspace_delete(&change, 0, &key, CHANGE_DEL);
    slot_release(slot);
}
