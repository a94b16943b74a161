/* Times to live of hash fields: edits against a plain array; what was lent stays as it was; numbers
 * of keys; expiry. */
#include "engine/types/field_times.h"

#include "engine/types/hash.h"
#include "engine/types/hash_field_expiry.h"
#include "tests/unit/engine/collection_fixture.h"

#define FIELDS 120
#define EDITS  4000
#define SOON   1000 /* unix time in ms: long over */

TestSuite(field_times, .init = collection_begin, .fini = collection_end, .timeout = 120);

struct model {
    bool present[FIELDS];
    int64_t time_ms[FIELDS]; /* FIELD_TIME_NEVER: none */
    uint64_t count;
};

static size_t field_text(unsigned number, char text[256]) {
    return (size_t)snprintf(text, 256, "%u:%.*s", number, number % 7 == 0 ? 150 : (int)number % 9,
                            "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqr"
                            "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqr"
                            "abcdefghijklmnopqrstuvwxyz");
}

static void check_body(const struct collection *body, const struct model *model) {
    int64_t first_ms = FIELD_TIME_NEVER, time_ms;
    uint64_t due = 0;
    char text[256];
    tree_check(&body->members);
    field_times_check(body);
    for (unsigned i = 0; i < FIELDS; i++) {
        size_t length = field_text(i, text);
        bool has = model->present[i] && model->time_ms[i] != FIELD_TIME_NEVER;
        cr_assert_eq(field_times_get(body, text, length, &time_ms), has);
        if (!has)
            continue;
        cr_assert_eq(time_ms, model->time_ms[i]);
        first_ms = time_ms < first_ms ? time_ms : first_ms;
        due += time_ms <= 50;
    }
    cr_assert_eq(field_times_first(body, NULL), first_ms);
    cr_assert_eq(field_times_due(body, 50), due);
    cr_assert_eq(body->field_times != NULL, first_ms != FIELD_TIME_NEVER);
}

static void check_object(const struct object *object, const struct model *model) {
    cr_assert_eq(object != NULL, model->count > 0);
    bool timed = object && object_has_field_times(object);
    cr_assert_eq(keyspace_field_timed_count(keyspace, 0), timed);
    if (!object)
        return;
    cr_assert_eq(hash_count(object), model->count);
    if (object_needs_token(object))
        check_body(collection_body(object), model);
    if (timed)
        cr_assert(collection_body(object)->field_times);
}

static void change_one(struct collection_edit *edit, struct model *model) {
    unsigned number = (unsigned)random() % FIELDS;
    char text[256];
    size_t length = field_text(number, text);
    bool *present = &model->present[number], keeps = random() % 2;
    int64_t *time_ms = &model->time_ms[number];
    switch (random() % 5) {
    case 0:
        if (keeps)
            cr_assert_eq(hash_put_keeping_time(edit, text, length, "v", 1), !*present);
        else
            cr_assert_eq(hash_put(edit, text, length, "value", 5), !*present);
        if (!*present || !keeps)
            *time_ms = FIELD_TIME_NEVER;
        model->count += !*present;
        *present = true;
        return;
    case 1:
        if (model->count < 2)
            return;
        cr_assert_eq(hash_remove(edit, text, length), *present);
        model->count -= *present;
        *present = false;
        return;
    case 2:
        cr_assert_eq(hash_clear_time(edit, text, length), *present && *time_ms != FIELD_TIME_NEVER);
        *time_ms = FIELD_TIME_NEVER;
        return;
    default:
        if (!*present)
            return;
        *time_ms = random() % 4 ? random() % 100 : FIELD_TIME_MAX - random() % 3;
        hash_set_time(edit, text, length, *time_ms);
    }
}

static void run(uint64_t entries_max) {
    static struct model model, lent_model;
    struct collection *lent = NULL;
    collection_limits.hash_listpack_entries = entries_max;
    collection_limits.hash_listpack_value_bytes = 64;
    model = (struct model){.count = 0};
    for (unsigned n = 0; n < EDITS; n++) {
        struct open_edit open;
        open_begin(&open, OBJECT_HASH, ENCODING_LISTPACK);
        for (long i = random() % 3; i >= 0; i--)
            change_one(&open.edit, &model);
        open_end(&open, CHANGE_HSET);
        struct object *object = collection_now();
        check_object(object, &model);
        if (random() % 50 || !object || !object_needs_token(object))
            continue;
        if (lent) {
            check_body(lent, &lent_model);
            collection_return(lent);
        }
        lent = collection_lend(collection_body(object));
        lent_model = model;
    }
    if (lent) {
        check_body(lent, &lent_model);
        collection_return(lent);
    }
}

Test(field_times, random_edits_of_a_listpack) {
    run(FIELDS);
}

Test(field_times, random_edits_of_a_table) {
    run(0);
}

Test(field_times, random_edits_with_equal_hashes) {
    members_hash = hash_of_few;
    run(30);
}

static void put_timed(const char *field, int64_t time_ms) {
    struct open_edit open;
    open_begin(&open, OBJECT_HASH, ENCODING_LISTPACK);
    hash_put(&open.edit, field, strlen(field), "v", 1);
    if (time_ms != FIELD_TIME_NEVER)
        hash_set_time(&open.edit, field, strlen(field), time_ms);
    open_end(&open, CHANGE_HSET);
}

Test(field_times, encodings_say_whether_there_are_times) {
    struct open_edit open;
    collection_limits.hash_listpack_entries = 100;
    collection_limits.hash_listpack_value_bytes = 64;
    put_timed("a", FIELD_TIME_NEVER);
    cr_assert_eq(object_encoding(collection_now()), ENCODING_LISTPACK);
    put_timed("b", FIELD_TIME_MAX);
    cr_assert_eq(object_encoding(collection_now()), ENCODING_LISTPACK_EX_TIMED);
    put_timed("b", FIELD_TIME_NEVER);
    cr_assert_eq(object_encoding(collection_now()), ENCODING_LISTPACK_EX);
    cr_assert(!object_is_volatile(collection_now()));
    put_timed("b", 17);
    collection_limits.hash_listpack_entries = 2;
    put_timed("c", FIELD_TIME_NEVER);
    cr_assert_eq(object_encoding(collection_now()), ENCODING_HASHTABLE_TIMED);
    open_begin(&open, OBJECT_HASH, ENCODING_LISTPACK);
    cr_assert(hash_clear_time(&open.edit, "b", 1));
    open_end(&open, CHANGE_HPERSIST);
    cr_assert_eq(object_encoding(collection_now()), ENCODING_HASHTABLE);
}

Test(field_times, expiry_takes_what_is_over_and_counts_no_change) {
    struct key key = key_of(COLLECTION_NAME);
    static const char *const fields[] = {"a", "b", "c"};
    put_timed("stays", FIELD_TIME_MAX);
    for (unsigned i = 0; i < 3; i++)
        put_timed(fields[i], SOON + i);
    uint64_t dirty = atomic_load(&change.dirty);
    struct slot *slot = token_of(&key);
    change_begin(&change);
    struct object *hash = collection_now();
    cr_assert_eq(hash_fields_over(&change.view, hash), 3);
    cr_assert(hash_field_is_over(&change.view, hash, "b", 1));
    cr_assert(!hash_field_is_over(&change.view, hash, "stays", 5));
    hash = hash_expire_fields(&change, 0, &key, hash,
                              (struct hash_field[]){{"b", 1}, {"stays", 5}, {"none", 4}}, 3);
    cr_assert_eq(hash_count(hash), 3);
    hash = hash_expire_due(&change, 0, &key, hash, 1);
    cr_assert_eq(hash_count(hash), 2);
    hash = hash_expire_due(&change, 0, &key, hash, 100);
    cr_assert_eq(hash_count(hash), 1);
    cr_assert_eq(atomic_load(&keyspace_counters_mine(keyspace)->expired_fields), 3);
    slot_release(slot);
    put_timed("stays", SOON);
    slot = token_of(&key);
    cr_assert_null(hash_expire_due(&change, 0, &key, collection_now(), 100));
    cr_assert_null(collection_now());
    cr_assert_eq(atomic_load(&change.dirty), dirty + 2, "value and time of what was put");
    slot_release(slot);
    cr_assert_eq(keyspace_field_timed_count(keyspace, 0), 0);
    cr_assert_eq(keyspace_count(keyspace, 0), 0);
}
