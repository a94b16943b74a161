/* Hashes: edits against a plain array, through all forms and encodings; what was lent stays as it
 * was. */
#include "engine/types/hash.h"

#include "tests/unit/engine/collection_fixture.h"

#define FIELDS    150
#define VALUE_MAX 200
#define TEXT_MAX  64

TestSuite(hash, .init = collection_begin, .fini = collection_end, .timeout = 120);

struct model {
    struct {
        bool present;
        size_t length;
        char value[VALUE_MAX];
    } fields[FIELDS];
    uint64_t count;
    bool is_table; /* its encoding */
};

/* Some are integers, some are long. */
static size_t field_text(unsigned number, char text[TEXT_MAX]) {
    if (number % 2 == 0)
        return (size_t)snprintf(text, TEXT_MAX, "%u", number);
    return (size_t)snprintf(text, TEXT_MAX, "%u:%.*s", number, (int)(number % 30),
                            "abcdefghijklmnopqrstuvwxyzabcdef");
}

struct walk {
    const struct model *model;
    bool seen[FIELDS];
    uint64_t met;
};

static bool meet(void *context, const struct element *field, const struct element *value,
                 double score) {
    struct walk *walk = context;
    char room[LISTPACK_INTEGER_ROOM], text[TEXT_MAX];
    size_t length;
    (void)score;
    const char *name = element_text(field, room, &length);
    unsigned number = 0;
    for (size_t i = 0; i < length && name[i] >= '0' && name[i] <= '9'; i++)
        number = number * 10 + (unsigned)(name[i] - '0');
    cr_assert_lt(number, FIELDS);
    cr_assert(element_equals(field, text, field_text(number, text)));
    cr_assert(walk->model->fields[number].present && !walk->seen[number]);
    cr_assert(element_equals(value, walk->model->fields[number].value,
                             walk->model->fields[number].length));
    walk->seen[number] = true;
    walk->met++;
    return true;
}

static void check_body(const struct collection *body, const void *context) {
    const struct model *model = context;
    struct walk walk = {.model = model};
    tree_check(&body->members);
    hash_visit_body(body, meet, &walk);
    cr_assert_eq(walk.met, model->count);
}

static void check_object(const struct object *object, const void *context) {
    const struct model *model = context;
    cr_assert_eq(object != NULL, model->count > 0);
    if (!object)
        return;
    collection_check(object);
    cr_assert_eq(hash_count(object), model->count);
    cr_assert_eq(object_encoding(object), model->is_table ? ENCODING_HASHTABLE : ENCODING_LISTPACK);
    cr_assert(object_needs_token(object) || !model->is_table);
    struct walk walk = {.model = model};
    hash_visit(object, meet, &walk);
    cr_assert_eq(walk.met, model->count);
    walk = (struct walk){.model = model};
    for (uint64_t i = 0; i < model->count; i++) {
        struct element field, value;
        hash_at(object, i, &field, &value);
        meet(&walk, &field, &value, 0);
    }
    walk = (struct walk){.model = model};
    uint64_t cursor = 0;
    do
        cursor = hash_scan(object, cursor, 1 + (uint64_t)random() % 20, meet, &walk);
    while (cursor != 0);
    cr_assert_eq(walk.met, model->count);
    if (object_needs_token(object))
        check_body(collection_body(object), model);
}

static void put_one(struct collection_edit *edit, struct model *model, unsigned number) {
    char text[TEXT_MAX];
    size_t length = field_text(number, text), value_length = (size_t)random() % 12;
    if (random() % 60 == 0)
        value_length = (size_t)random() % VALUE_MAX;
    for (size_t i = 0; i < value_length; i++)
        model->fields[number].value[i] = (char)('0' + random() % 12);
    cr_assert_eq(hash_put(edit, text, length, model->fields[number].value, value_length),
                 !model->fields[number].present);
    model->fields[number].length = value_length;
    model->count += !model->fields[number].present;
    model->fields[number].present = true;
    if (length > collection_limits.hash_listpack_value_bytes ||
        value_length > collection_limits.hash_listpack_value_bytes ||
        model->count > collection_limits.hash_listpack_entries)
        model->is_table = true;
}

static void remove_one(struct collection_edit *edit, struct model *model, unsigned number) {
    char text[TEXT_MAX];
    cr_assert_eq(hash_remove(edit, text, field_text(number, text)), model->fields[number].present);
    model->count -= model->fields[number].present;
    model->fields[number].present = false;
}

/* A few changes that are published together. */
static void edit_some(void *context, bool grows) {
    struct model *model = context;
    struct open_edit open;
    open_begin(&open, OBJECT_HASH, ENCODING_LISTPACK);
    for (long i = random() % 4; i >= 0; i--) {
        struct element value;
        char text[TEXT_MAX];
        unsigned number = (unsigned)random() % FIELDS;
        if (random() % 100 < (grows ? 80 : 25))
            put_one(&open.edit, model, number);
        else if (model->count > 0)
            remove_one(&open.edit, model, number);
        cr_assert_eq(hash_edit_get(&open.edit, text, field_text(number, text), &value),
                     model->fields[number].present);
        if (open.edit.changed > 0 && model->count == 0)
            break;
    }
    open_end(&open, CHANGE_HSET);
    if (model->count == 0)
        model->is_table = false;
}

static void run_edits(uint64_t entries, uint64_t bytes) {
    static struct model model, lent_model;
    collection_limits.hash_listpack_entries = entries;
    collection_limits.hash_listpack_value_bytes = bytes;
    const struct model_run run = {&model,    &lent_model,  sizeof model, hash_count,
                                  edit_some, check_object, check_body};
    run_edits_against_model(&run);
}

Test(hash, edits_with_few_entries) {
    for (unsigned i = 0; i < 2; i++) {
        members_hash = collection_hashes[i];
        run_edits(10, 30);
    }
}

/* A listpack by its encoding which is too large to be packed. */
Test(hash, edits_of_large_listpacks) {
    members_hash = NULL;
    run_edits(100000, 1000);
    run_edits(100, VALUE_MAX);
}

Test(hash, more_fields_than_the_limit_make_a_table_though_they_are_equal) {
    struct open_edit open;
    members_hash = NULL;
    collection_limits.hash_listpack_entries = 2;
    open_begin(&open, OBJECT_HASH, ENCODING_LISTPACK);
    hash_expect(&open.edit, 3, 1);
    for (int i = 0; i < 3; i++)
        hash_put(&open.edit, "f", 1, "v", 1);
    open_end(&open, CHANGE_HSET);
    cr_assert_eq(object_encoding(collection_now()), ENCODING_HASHTABLE);
    cr_assert_eq(hash_count(collection_now()), 1);
    remove_key(0, COLLECTION_NAME);
}

Test(hash, drafts) {
    struct collection_edit draft;
    struct element value;
    for (unsigned count = 0; count < 300; count += 13) {
        char text[TEXT_MAX];
        collection_draft_begin(&draft, OBJECT_HASH, ENCODING_LISTPACK);
        for (unsigned i = 0; i < count; i++)
            cr_assert(
                hash_put(&draft, text, (size_t)snprintf(text, TEXT_MAX, "field %u", i), "17", 2));
        struct object *object = collection_draft_end(&draft, "k", 1, OBJECT_NO_EXPIRY);
        cr_assert_eq(object != NULL, count > 0);
        if (!object)
            continue;
        cr_assert_eq(hash_count(object), count);
        cr_assert(hash_get(object, "field 0", 7, &value) && element_equals(&value, "17", 2));
        struct object *copy = object_duplicate(object, "l", 1, OBJECT_NO_EXPIRY);
        object_free(object);
        cr_assert_eq(hash_count(copy), count);
        object_free(copy);
    }
    collection_draft_begin(&draft, OBJECT_HASH, ENCODING_LISTPACK);
    hash_expect(&draft, 1000000, 1);
    hash_put(&draft, "f", 1, "v", 1);
    collection_draft_drop(&draft);
}
