/* What the tests of objects and of types share. */
#ifndef SLOTWISE_TESTS_OBJECT_CHECK_H
#define SLOTWISE_TESTS_OBJECT_CHECK_H

#include "tests/unit/engine/keyspace_fixture.h"

static inline char *filled(size_t length, char first) {
    char *text = memory_alloc(length + 1);
    for (size_t i = 0; i < length; i++)
        text[i] = (char)(first + (char)(i % 23));
    return text;
}

static inline void check_string(const struct object *object, const char *key, size_t key_length,
                                const char *value, size_t value_length, int64_t expiry_ms) {
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length;
    cr_assert_eq(object_type(object), OBJECT_STRING);
    cr_assert(object_key_equals(object, key, key_length));
    cr_assert_eq(object_expiry(object), expiry_ms);
    const char *text = object_string(object, buffer, &length);
    cr_assert_eq(length, value_length);
    cr_assert(length == 0 || memcmp(text, value, length) == 0);
    cr_assert_eq(object_string_length(object), value_length);
}

#endif
