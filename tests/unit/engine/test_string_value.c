/* String values: deep copies, blobs and their lending, large ones freed in the background. */
#include "engine/background.h"
#include "engine/types/string_value.h"
#include "engine/value.h"
#include "tests/unit/engine/object_check.h"

TestSuite(string_value, .init = keyspace_begin, .fini = keyspace_end, .timeout = 60);

Test(string_value, duplicate_is_deep) {
    char *value = filled(40000, 'A');
    struct object *object = object_make_string("a", 1, value, 40000, NEVER, STRING_SET);
    struct object *copy = object_duplicate(object, "b", 1, FAR_AWAY);
    struct blob *blob = string_blob_writable(object, 40000);
    blob->data[0] = '!';
    check_string(copy, "b", 1, value, 40000, FAR_AWAY);
    object_free(object);
    object_free(copy);
    object = object_make_integer("n", 1, -7, NEVER);
    copy = object_duplicate(object, "m", 1, FAR_AWAY);
    check_string(copy, "m", 1, "-7", 2, FAR_AWAY);
    object_free(object);
    object_free(copy);
    memory_free(value);
}

Test(string_value, a_lent_blob_is_copied_before_it_changes) {
    char *value = filled(20000, 'A');
    struct object *object = object_make_string("a", 1, value, 20000, NEVER, STRING_SET);
    struct blob *blob = object_pointer(object);
    cr_assert_eq(string_blob_writable(object, 20000), blob, "not lent: in place");
    struct blob *lent = blob_lend(blob);
    struct blob *fresh = string_blob_writable(object, 30000);
    cr_assert_neq(fresh, lent);
    cr_assert_eq(object_pointer(object), fresh);
    cr_assert_eq(fresh->length, 20000);
    cr_assert_geq(fresh->capacity, 30000);
    memset(fresh->data, '!', 20000);
    cr_assert_eq(memcmp(lent->data, value, 20000), 0, "pending output is not disturbed");
    object_free(object);
    cr_assert_eq(memcmp(lent->data, value, 20000), 0, "nor freed");
    blob_return(lent);
    memory_free(value);
}

Test(string_value, a_blob_grows_and_never_loses_content) {
    char *value = filled(20000, 'A');
    struct object *object = object_make_string("a", 1, value, 20000, NEVER, STRING_SET);
    struct blob *blob = string_blob_writable(object, 300000);
    cr_assert_geq(blob->capacity, 300000);
    cr_assert_eq(memcmp(blob->data, value, 20000), 0);
    blob = string_blob_writable(object, 5);
    cr_assert_eq(blob->length, 20000);
    blob_lend(blob);
    struct blob *copy = string_blob_writable(object, 5);
    cr_assert_geq(copy->capacity, 20000, "not less than its length");
    blob_return(blob);
    object_retire(object);
    memory_free(value);
}
