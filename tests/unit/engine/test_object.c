/* Objects: layout of every combination, copies under another key. */
#include "engine/background.h"
#include "engine/object_private.h"
#include "engine/types/string_value.h"
#include "engine/value.h"
#include "tests/unit/engine/object_check.h"

TestSuite(object, .init = keyspace_begin, .fini = keyspace_end, .timeout = 60);

static const size_t lengths[] = {0, 1, 43, 44, 45, 254, 255, 256, 65534, 65535, 65536, 70000};
#define LENGTHS (sizeof lengths / sizeof *lengths)
static const int64_t expiries[] = {NEVER, FAR_AWAY};

Test(object, every_length_of_key_and_value) {
    for (size_t k = 0; k < LENGTHS; k++)
        for (size_t v = 0; v < LENGTHS + 1; v++)
            for (int e = 0; e < 2; e++) {
                size_t length = v < LENGTHS ? lengths[v] : OBJECT_EMBED_MAX_BYTES;
                char *key = filled(lengths[k], 'a'), *value = filled(length, 'A');
                uint64_t used = memory_used_bytes();
                struct object *object =
                    object_make_string(key, lengths[k], value, length, expiries[e], STRING_SET);
                check_string(object, key, lengths[k], value, length, expiries[e]);
                cr_assert_eq(object_needs_token(object), length > OBJECT_EMBED_MAX_BYTES);
                cr_assert_str_eq(type_of(object)->encoding_name(object),
                                 length <= 44 ? "embstr" : "raw");
                cr_assert_geq(object_total_bytes(object), lengths[k] + length + 8);
#ifdef SLOTWISE_JEMALLOC
                cr_assert_eq(memory_used_bytes() - used, object_total_bytes(object));
#endif
                object_free(object);
                background_drain();
                cr_assert_eq(memory_used_bytes(), used);
                memory_free(key);
                memory_free(value);
            }
}

Test(object, a_small_string_has_eight_bytes_over_key_and_value) {
    struct object *object = object_make_string("0123456789abcdef", 16, "v", 1, NEVER, STRING_PLAIN);
    cr_assert_eq(object_shell_bytes(object), 16 + 1 + 8);
    object_free(object);
}

Test(object, which_texts_become_integers) {
    static const struct {
        const char *text;
        bool integer;
    } cases[] = {{"0", true},
                 {"-1", true},
                 {"9223372036854775807", true},
                 {"-9223372036854775808", true},
                 {"9223372036854775808", false},
                 {"-9223372036854775809", false},
                 {"18446744073709551616", false},
                 {"-0", false},
                 {"00", false},
                 {"01", false},
                 {"-01", false},
                 {"+1", false},
                 {"", false},
                 {"-", false},
                 {" 1", false},
                 {"1 ", false},
                 {"1.0", false},
                 {"99999999999999999999", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t length = strlen(cases[i].text);
        for (int e = 0; e < 2; e++) {
            struct object *object =
                object_make_string("key", 3, cases[i].text, length, expiries[e], STRING_SET);
            cr_assert_eq(object_encoding(object) == ENCODING_INT, cases[i].integer, "%s",
                         cases[i].text);
            check_string(object, "key", 3, cases[i].text, length, expiries[e]);
            object_free(object);
            object = object_make_string("key", 3, cases[i].text, length, expiries[e], STRING_PLAIN);
            cr_assert_eq(object_encoding(object), ENCODING_EMBSTR);
            object_free(object);
            object = object_make_string("key", 3, cases[i].text, length, expiries[e], STRING_RAW);
            cr_assert_eq(object_encoding(object), ENCODING_RAW);
            object_free(object);
        }
    }
}

Test(object, an_integer_changes_in_place) {
    struct object *object = object_make_integer("n", 1, 5, FAR_AWAY);
    object_set_integer(object, INT64_MIN);
    cr_assert_eq(object_integer(object), INT64_MIN);
    check_string(object, "n", 1, "-9223372036854775808", 20, FAR_AWAY);
    object_set_expiry(object, NEVER);
    cr_assert_eq(object_expiry(object), NEVER);
    cr_assert_eq(object_integer(object), INT64_MIN);
    object_free(object);
}

Test(object, a_buffer_is_cleared_on_request) {
    char *content;
    struct object *object = object_make_buffer("k", 1, 100, NEVER, true, &content);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(content[i], 0);
    object_free(object);
    object = object_make_buffer("k", 1, OBJECT_EMBED_MAX_BYTES + 1, NEVER, true, &content);
    for (int i = 0; i <= OBJECT_EMBED_MAX_BYTES; i++)
        cr_assert_eq(content[i], 0);
    object_free(object);
}

Test(object, remake_keeps_value_encoding_and_clock_under_another_key) {
    char *long_key = filled(66000, 'q');
    for (size_t v = 0; v < LENGTHS; v++)
        for (int e = 0; e < 4; e++) {
            char *value = filled(lengths[v], '0');
            struct object *object =
                object_make_string("old", 3, value, lengths[v], expiries[e & 1], STRING_PLAIN);
            atomic_store(&object->access, 12345);
            struct object *copy = object_remake(object, long_key, 66000, expiries[e >> 1]);
            check_string(copy, long_key, 66000, value, lengths[v], expiries[e >> 1]);
            cr_assert_eq(object_encoding(copy), object_encoding(object));
            cr_assert_eq(atomic_load(&copy->access), 12345);
            if (object_needs_token(object)) {
                cr_assert_eq(object_pointer(copy), object_pointer(object), "the value has moved");
                object_retire_shell(object);
            } else {
                object_retire(object);
            }
            object_free(copy);
            memory_free(value);
        }
    memory_free(long_key);
}
