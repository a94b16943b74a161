/* Intsets: their bytes, random changes beside a sorted array, and bytes from outside. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/types/intset.h"

TestSuite(intset, .timeout = 60);

static uint64_t random_state = 13;
static uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void expect_bytes(const struct listpack_buffer *buffer, const char *bytes, size_t length) {
    cr_assert_eq(intset_bytes(buffer->bytes), length);
    cr_assert_eq(memcmp(buffer->bytes, bytes, length), 0);
}
#define BYTES(buffer, text) expect_bytes(buffer, text, sizeof(text) - 1)

Test(intset, has_these_bytes) {
    struct listpack_buffer buffer = {0};
    intset_clear(&buffer);
    BYTES(&buffer, "\2\0\0\0\0\0\0\0");
    cr_assert(intset_add(&buffer, 5));
    cr_assert(intset_add(&buffer, -2));
    cr_assert_not(intset_add(&buffer, 5));
    BYTES(&buffer, "\2\0\0\0\2\0\0\0\xfe\xff\5\0");
    cr_assert(intset_add(&buffer, 32768));
    BYTES(&buffer, "\4\0\0\0\3\0\0\0\xfe\xff\xff\xff\5\0\0\0\0\x80\0\0");
    cr_assert(intset_add(&buffer, INT64_MIN));
    cr_assert_eq(intset_bytes(buffer.bytes), 8 + 4 * 8);
    cr_assert_eq(intset_at(buffer.bytes, 0), INT64_MIN);
    cr_assert_eq(intset_at(buffer.bytes, 1), -2);
    cr_assert(intset_remove(&buffer, 5));
    cr_assert_not(intset_remove(&buffer, 5));
    /* The width stays. */
    cr_assert(intset_remove(&buffer, INT64_MIN));
    BYTES(&buffer, "\x08\0\0\0\2\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff\0\x80\0\0\0\0\0\0");
    listpack_buffer_free(&buffer);
}

#define MODEL_MAX 600

static size_t model_find(const int64_t *model, size_t count, int64_t integer) {
    size_t index = 0;
    while (index < count && model[index] < integer)
        index++;
    return index;
}

/* Integers of one width at first, wider ones later. */
static void run(unsigned bits_at_first, unsigned bits_later) {
    static int64_t model[MODEL_MAX];
    size_t count = 0;
    struct listpack_buffer buffer = {0};
    intset_clear(&buffer);
    for (unsigned step = 0; step < 8000; step++) {
        unsigned bits = step < 2000 ? bits_at_first : bits_later;
        int64_t integer = (int64_t)(random_next() << (64 - bits)) >> (64 - bits);
        if (count && random_next() % 2)
            integer = model[random_next() % count];
        size_t index = model_find(model, count, integer), found;
        bool there = index < count && model[index] == integer;
        cr_assert_eq(intset_find(buffer.bytes, integer, &found), there);
        cr_assert_eq(found, index);
        if (random_next() % (step / 1000 % 2 ? 3 : 2) && count < MODEL_MAX) {
            cr_assert_eq(intset_add(&buffer, integer), !there);
            if (!there) {
                memmove(model + index + 1, model + index, (count++ - index) * sizeof *model);
                model[index] = integer;
            }
        } else {
            cr_assert_eq(intset_remove(&buffer, integer), there);
            if (there)
                memmove(model + index, model + index + 1, (--count - index) * sizeof *model);
        }
        cr_assert_eq(intset_count(buffer.bytes), count);
        if (count)
            cr_assert(intset_is_sound(buffer.bytes, intset_bytes(buffer.bytes), true));
        if (step % 20 == 0)
            for (size_t i = 0; i < count; i++)
                cr_assert_eq(intset_at(buffer.bytes, i), model[i]);
    }
    listpack_buffer_free(&buffer);
}

Test(intset, changes_as_an_array_does) {
    run(8, 16);
    run(16, 17);
    run(12, 32);
    run(16, 64);
    run(32, 33);
    run(32, 64);
}

static bool sound(const void *bytes, size_t length, bool deep) {
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, bytes, length);
    bool is = intset_is_sound(copy, length, deep);
    free(copy);
    return is;
}
#define SOUND(text) sound(text, sizeof(text) - 1, true)

Test(intset, unsound_bytes_are_refused) {
    cr_assert(SOUND("\2\0\0\0\1\0\0\0\5\0"));
    cr_assert(SOUND("\2\0\0\0\2\0\0\0\xff\xff\5\0"));
    cr_assert_not(SOUND("\2\0\0\0\0\0\0\0")); /* empty */
    cr_assert_not(SOUND(""));
    cr_assert_not(SOUND("\2\0\0\0\1\0\0"));
    cr_assert_not(SOUND("\3\0\0\0\1\0\0\0\5\0\0"));
    cr_assert_not(SOUND("\2\0\0\0\2\0\0\0\5\0"));                       /* too short */
    cr_assert_not(SOUND("\2\0\0\0\1\0\0\0\5\0\6\0"));                   /* too long */
    cr_assert_not(SOUND("\2\0\0\0\2\0\0\0\5\0\5\0"));                   /* twice */
    cr_assert_not(SOUND("\2\0\0\0\2\0\0\0\5\0\4\0"));                   /* out of order */
    cr_assert_not(SOUND("\x08\0\0\0\xff\xff\xff\xff\5\0\0\0\0\0\0\0")); /* 32 GB */
    cr_assert(sound("\2\0\0\0\2\0\0\0\5\0\4\0", 12, false));
}
