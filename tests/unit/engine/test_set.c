/* Sets: edits against a plain array, through intsets, listpacks, bodies and all encodings; what was
 * lent stays as it was. */
#include "engine/types/set.h"

#include "tests/unit/engine/collection_fixture.h"

#define MEMBERS  200 /* the first half are integers */
#define TEXT_MAX 64

TestSuite(set, .init = collection_begin, .fini = collection_end, .timeout = 120);

struct model {
    bool present[MEMBERS];
    uint64_t count;
    enum object_encoding encoding;
};

static bool is_integer(unsigned number) {
    return number < MEMBERS / 2;
}

/* Integers of all widths; texts that differ in length. */
static size_t member_text(unsigned number, char text[TEXT_MAX]) {
    if (!is_integer(number))
        return (size_t)snprintf(text, TEXT_MAX, "%u:%.*s", number, (int)(number % 30),
                                "abcdefghijklmnopqrstuvwxyzabcdef");
    int64_t integer = (int64_t)((uint64_t)1 << (number % 60)) + number;
    return (size_t)snprintf(text, TEXT_MAX, "%lld",
                            (long long)(number % 3 == 0 ? -integer : integer));
}

static unsigned number_of(const struct element *member) {
    char text[TEXT_MAX];
    for (unsigned i = 0; i < MEMBERS; i++)
        if (element_equals(member, text, member_text(i, text)))
            return i;
    cr_assert_fail("a member that nobody has added");
    return 0;
}

struct walk {
    const struct model *model;
    bool seen[MEMBERS];
    uint64_t met;
};

static bool meet(void *context, const struct element *member, const struct element *value,
                 double score) {
    struct walk *walk = context;
    unsigned number = number_of(member);
    (void)score;
    cr_assert_null(value);
    cr_assert(walk->model->present[number] && !walk->seen[number]);
    walk->seen[number] = true;
    walk->met++;
    return true;
}

static void check_body(const struct collection *body, const void *context) {
    const struct model *model = context;
    struct walk walk = {.model = model};
    tree_check(&body->members);
    set_visit_body(body, meet, &walk);
    cr_assert_eq(walk.met, model->count);
}

static void check_object(const struct object *object, const void *context) {
    const struct model *model = context;
    cr_assert_eq(object != NULL, model->count > 0);
    if (!object)
        return;
    collection_check(object);
    cr_assert_eq(set_count(object), model->count);
    cr_assert_eq(object_encoding(object), model->encoding);
    cr_assert(object_needs_token(object) || model->encoding != ENCODING_HASHTABLE);
    struct walk walk = {.model = model};
    set_visit(object, meet, &walk);
    cr_assert_eq(walk.met, model->count);
    walk = (struct walk){.model = model};
    for (uint64_t i = 0; i < model->count; i++) {
        struct element member;
        set_at(object, i, &member);
        meet(&walk, &member, NULL, 0);
        cr_assert(set_has_element(object, &member));
    }
    walk = (struct walk){.model = model};
    uint64_t cursor = 0;
    do
        cursor = set_scan(object, cursor, 1 + (uint64_t)random() % 20, meet, &walk);
    while (cursor != 0);
    cr_assert_eq(walk.met, model->count);
    for (unsigned i = 0; i < MEMBERS; i++) {
        char text[TEXT_MAX];
        cr_assert_eq(set_has(object, text, member_text(i, text)), model->present[i]);
    }
    if (object_needs_token(object))
        check_body(collection_body(object), model);
}

/* What Redis 7.2 makes of an encoding when a new member comes. */
static enum object_encoding encoding_with(const struct model *model, unsigned number) {
    char text[TEXT_MAX];
    size_t length = member_text(number, text), longest = length;
    if (model->encoding == ENCODING_HASHTABLE)
        return ENCODING_HASHTABLE;
    if (model->encoding == ENCODING_INTSET && is_integer(number))
        return model->count + 1 > collection_limits.set_intset_entries ? ENCODING_HASHTABLE
                                                                       : ENCODING_INTSET;
    for (unsigned i = 0; i < MEMBERS && model->encoding == ENCODING_INTSET; i++) {
        size_t other = member_text(i, text);
        if (model->present[i] && other > longest)
            longest = other;
    }
    return model->count < collection_limits.set_listpack_entries &&
                   longest <= collection_limits.set_listpack_value_bytes
               ? ENCODING_LISTPACK
               : ENCODING_HASHTABLE;
}

static void change_one(struct collection_edit *edit, struct model *model, bool grows) {
    unsigned number = (unsigned)random() % MEMBERS;
    char text[TEXT_MAX];
    if (model->encoding == ENCODING_INTSET && random() % 10 != 0)
        number %= MEMBERS / 2; /* they stay intsets for a while */
    size_t length = member_text(number, text);
    if (random() % 100 < (grows ? 80 : 25)) {
        if (!model->present[number])
            model->encoding = encoding_with(model, number);
        cr_assert_eq(set_add(edit, text, length), !model->present[number]);
        model->count += !model->present[number];
        model->present[number] = true;
    } else {
        cr_assert_eq(set_remove(edit, text, length), model->present[number]);
        model->count -= model->present[number];
        model->present[number] = false;
    }
    cr_assert_eq(set_edit_has(edit, text, length), model->present[number]);
}

static void edit_some(void *context, bool grows) {
    struct model *model = context;
    struct open_edit open;
    if (model->count == 0)
        model->encoding = random() % 4 ? ENCODING_INTSET : ENCODING_LISTPACK;
    open_begin(&open, OBJECT_SET, model->encoding);
    for (long i = random() % 4; i >= 0; i--) {
        change_one(&open.edit, model, grows);
        if (model->count == 0)
            break;
    }
    for (uint64_t i = 0; i < model->count && i < 3; i++) {
        struct element member;
        set_edit_at(&open.edit, i, &member);
        cr_assert(model->present[number_of(&member)]);
    }
    open_end(&open, CHANGE_SADD);
}

static void run_edits(struct collection_limits limits) {
    static struct model model, lent_model;
    collection_limits = limits;
    const struct model_run run = {&model,    &lent_model,  sizeof model, set_count,
                                  edit_some, check_object, check_body};
    run_edits_against_model(&run);
}

Test(set, edits) {
    static const struct collection_limits limits[] = {
        {.set_intset_entries = 8, .set_listpack_entries = 6, .set_listpack_value_bytes = 12},
        {.set_intset_entries = 60, .set_listpack_entries = 80, .set_listpack_value_bytes = 30},
        {.set_intset_entries = 20, .set_listpack_entries = 0, .set_listpack_value_bytes = 30},
        {.set_intset_entries = 0, .set_listpack_entries = 1000, .set_listpack_value_bytes = 15}};
    for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++) {
        members_hash = collection_hashes[i % 2];
        run_edits(limits[i]);
    }
}

/* By their encoding intsets and listpacks, but too large to be packed. */
Test(set, large_ones_of_all_encodings) {
    members_hash = NULL;
    collection_limits = (struct collection_limits){
        .set_intset_entries = 5000, .set_listpack_entries = 5002, .set_listpack_value_bytes = 64};
    struct open_edit open;
    char text[TEXT_MAX];
    for (unsigned i = 0; i < 5000; i++) {
        open_begin(&open, OBJECT_SET, ENCODING_INTSET);
        cr_assert(set_add(&open.edit, text, (size_t)snprintf(text, TEXT_MAX, "%u", i * 1000003)));
        cr_assert_not(
            set_add(&open.edit, text, (size_t)snprintf(text, TEXT_MAX, "%u", i / 2 * 1000003)));
        open_end(&open, CHANGE_SADD);
    }
    static const struct {
        const char *member;
        enum object_encoding encoding;
    } steps[] = {{"a", ENCODING_LISTPACK}, {"b", ENCODING_LISTPACK}, {"c", ENCODING_HASHTABLE}};
    cr_assert_eq(object_encoding(collection_now()), ENCODING_INTSET);
    for (unsigned i = 0; i < 3; i++) {
        open_begin(&open, OBJECT_SET, ENCODING_INTSET);
        cr_assert(set_add(&open.edit, steps[i].member, 1));
        open_end(&open, CHANGE_SADD);
        cr_assert_eq(object_encoding(collection_now()), steps[i].encoding);
        cr_assert(object_needs_token(collection_now()));
        tree_check(&collection_body(collection_now())->members);
        cr_assert_eq(set_count(collection_now()), 5001 + i);
    }
    remove_key(0, COLLECTION_NAME);
}

Test(set, encodings_of_new_ones) {
    collection_limits = (struct collection_limits){
        .set_intset_entries = 3, .set_listpack_entries = 5, .set_listpack_value_bytes = 64};
    cr_assert_eq(set_encoding_for("17", 2), ENCODING_INTSET);
    cr_assert_eq(set_encoding_for("017", 3), ENCODING_LISTPACK);
    cr_assert_eq(set_encoding_for_many("17", 2, 3), ENCODING_INTSET);
    cr_assert_eq(set_encoding_for_many("17", 2, 4), ENCODING_LISTPACK);
    cr_assert_eq(set_encoding_for_many("17", 2, 6), ENCODING_HASHTABLE);
    cr_assert_eq(set_encoding_for_many("x", 1, 6), ENCODING_HASHTABLE);
}
