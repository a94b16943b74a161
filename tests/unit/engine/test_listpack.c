/* Listpacks: the bytes of each encoding, random changes beside a model, and bytes from outside. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/types/listpack.h"

TestSuite(listpack, .timeout = 120);

static uint64_t random_state = 11;
static uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* --- Encodings -------------------------------------------------------------------------------- */

static void expect_entry(const char *text, const char *bytes, size_t length) {
    struct listpack_buffer buffer = {0};
    listpack_clear(&buffer);
    listpack_append(&buffer, text, strlen(text));
    cr_assert_eq(listpack_bytes(buffer.bytes), LISTPACK_EMPTY_BYTES + length, "%s", text);
    cr_assert_eq(memcmp(buffer.bytes + LISTPACK_HEADER_BYTES, bytes, length), 0, "%s", text);
    cr_assert_eq(listpack_entry_bytes(text, strlen(text)), length);
    struct element element;
    listpack_get(listpack_first(buffer.bytes), &element);
    cr_assert(element_equals(&element, text, strlen(text)), "%s", text);
    char room[LISTPACK_INTEGER_ROOM];
    size_t text_length;
    const char *written = element_text(&element, room, &text_length);
    cr_assert(text_length == strlen(text) && memcmp(written, text, text_length) == 0, "%s", text);
    listpack_buffer_free(&buffer);
}

#define ENTRY(text, bytes) expect_entry(text, bytes, sizeof(bytes) - 1)

Test(listpack, entries_have_these_bytes) {
    ENTRY("0", "\0\1");
    ENTRY("127", "\x7f\1");
    ENTRY("128", "\xc0\x80\2");
    ENTRY("-1", "\xdf\xff\2");
    ENTRY("4095", "\xcf\xff\2");
    ENTRY("-4096", "\xd0\x00\2");
    ENTRY("4096", "\xf1\x00\x10\3");
    ENTRY("-4097", "\xf1\xff\xef\3");
    ENTRY("32767", "\xf1\xff\x7f\3");
    ENTRY("-32768", "\xf1\x00\x80\3");
    ENTRY("32768", "\xf2\x00\x80\x00\4");
    ENTRY("-32769", "\xf2\xff\x7f\xff\4");
    ENTRY("8388607", "\xf2\xff\xff\x7f\4");
    ENTRY("-8388608", "\xf2\x00\x00\x80\4");
    ENTRY("8388608", "\xf3\x00\x00\x80\x00\5");
    ENTRY("-8388609", "\xf3\xff\xff\x7f\xff\5");
    ENTRY("2147483647", "\xf3\xff\xff\xff\x7f\5");
    ENTRY("-2147483648", "\xf3\x00\x00\x00\x80\5");
    ENTRY("2147483648", "\xf4\x00\x00\x00\x80\x00\x00\x00\x00\x09");
    ENTRY("9223372036854775807", "\xf4\xff\xff\xff\xff\xff\xff\xff\x7f\x09");
    ENTRY("-9223372036854775808", "\xf4\x00\x00\x00\x00\x00\x00\x00\x80\x09");
    ENTRY("", "\x80\1");
    ENTRY("a", "\x81"
               "a\2");
    /* No integers. */
    ENTRY("-0", "\x82-0\3");
    ENTRY("01", "\x82"
                "01\3");
    ENTRY("+1", "\x82+1\3");
    ENTRY(" 1", "\x82 1\3");
    ENTRY("-", "\x81-\2");
    ENTRY("9223372036854775808", "\x93"
                                 "9223372036854775808\x14");
    ENTRY("-9223372036854775809", "\x94-9223372036854775809\x15");
}

/* Where a longer form of the string, or of the length behind it, begins. */
Test(listpack, lengths_have_these_bytes) {
    static const struct {
        size_t length, head, behind;
        uint8_t bytes[10]; /* head, then what is behind */
    } cases[] = {
        {63, 1, 1, {0xbf, 64}},
        {64, 2, 1, {0xe0, 64, 66}},
        {125, 2, 1, {0xe0, 125, 127}},
        {126, 2, 2, {0xe0, 126, 1, 0x80}},
        {4095, 2, 2, {0xef, 0xff, 32, 0x81}},
        {4096, 5, 2, {0xf0, 0, 16, 0, 0, 32, 0x85}},
        {16377, 5, 2, {0xf0, 0xf9, 0x3f, 0, 0, 127, 0xfe}},
        {16378, 5, 3, {0xf0, 0xfa, 0x3f, 0, 0, 0, 0xff, 0xff}},
        {2097145, 5, 3, {0xf0, 0xf9, 0xff, 0x1f, 0, 127, 0xff, 0xfe}},
        {2097146, 5, 4, {0xf0, 0xfa, 0xff, 0x1f, 0, 0, 0xff, 0xff, 0xff}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t length = cases[i].length, head = cases[i].head, behind = cases[i].behind;
        char *text = malloc(length);
        memset(text, 'x', length);
        struct listpack_buffer buffer = {0};
        listpack_clear(&buffer);
        listpack_append(&buffer, "before", 6);
        listpack_append(&buffer, text, length);
        const uint8_t *entry = listpack_at(buffer.bytes, 1);
        cr_assert_eq(listpack_entry_size(entry), head + length + behind, "%zu", length);
        cr_assert_eq(memcmp(entry, cases[i].bytes, head), 0, "%zu", length);
        cr_assert_eq(memcmp(entry + head + length, cases[i].bytes + head, behind), 0, "%zu",
                     length);
        cr_assert_eq(listpack_last(buffer.bytes), entry);
        cr_assert_eq(listpack_find(buffer.bytes, listpack_first(buffer.bytes), text, length, 0),
                     entry);
        cr_assert(listpack_is_sound(buffer.bytes, listpack_bytes(buffer.bytes), true));
        listpack_buffer_free(&buffer);
        free(text);
    }
}

/* --- Beside a model --------------------------------------------------------------------------- */

#define MODEL_MAX 400

struct text {
    char *data;
    size_t length;
};

static struct text model[MODEL_MAX];
static size_t model_count;

static struct text random_text(void) {
    char number[32];
    size_t length;
    const char *from = number;
    char longer[5000];
    uint64_t kind = random_next() % 10;
    if (kind < 4) {
        int64_t value = (int64_t)(random_next() >> random_next() % 64);
        length = (size_t)snprintf(number, sizeof number, "%" PRId64, kind & 1 ? value : -value);
    } else {
        length = random_next() % (kind < 8 ? 12 : kind < 9 ? 200 : 5000);
        for (size_t i = 0; i < length; i++)
            longer[i] = (char)(kind == 4 ? '0' + random_next() % 10 : random_next());
        from = longer;
    }
    struct text text = {.data = malloc(length + 1), .length = length};
    memcpy(text.data, from, length);
    return text;
}

static void expect_element(const uint8_t *entry, const struct text *text) {
    struct element element;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    cr_assert_not_null(entry);
    listpack_get(entry, &element);
    const char *data = element_text(&element, room, &length);
    cr_assert(length == text->length && memcmp(data, text->data, length) == 0);
    cr_assert(element_equals(&element, text->data, text->length));
    struct element made = element_make(text->data, text->length);
    cr_assert_eq(made.data == NULL, element.data == NULL);
    cr_assert_eq(listpack_entry_size(entry), listpack_entry_bytes(text->data, text->length));
}

static void expect_model(const uint8_t *listpack) {
    size_t bytes = listpack_bytes(listpack);
    cr_assert(listpack_is_sound(listpack, bytes, true));
    cr_assert_eq(listpack_count(listpack), model_count);
    const uint8_t *entry = listpack_first(listpack);
    for (size_t i = 0; i < model_count; i++, entry = listpack_next(listpack, entry)) {
        expect_element(entry, &model[i]);
        cr_assert_eq(listpack_at(listpack, (int64_t)i), entry);
        cr_assert_eq(listpack_at(listpack, (int64_t)i - (int64_t)model_count), entry);
    }
    cr_assert_null(entry);
    entry = listpack_last(listpack);
    for (size_t i = model_count; i-- > 0; entry = listpack_previous(listpack, entry))
        expect_element(entry, &model[i]);
    cr_assert_null(entry);
    cr_assert_null(listpack_at(listpack, (int64_t)model_count));
    cr_assert_null(listpack_at(listpack, -(int64_t)model_count - 1));
}

static void expect_find(const uint8_t *listpack, unsigned skip) {
    if (!model_count)
        return;
    const struct text *sought = &model[random_next() % model_count];
    size_t from = random_next() % model_count, found = from;
    while (found < model_count && (model[found].length != sought->length ||
                                   memcmp(model[found].data, sought->data, sought->length) != 0))
        found += 1 + skip;
    const uint8_t *entry = found < model_count ? listpack_at(listpack, (int64_t)found) : NULL;
    cr_assert_eq(listpack_find(listpack, listpack_at(listpack, (int64_t)from), sought->data,
                               sought->length, skip),
                 entry);
}

static size_t offset_of(const struct listpack_buffer *buffer, size_t index) {
    const uint8_t *entry = listpack_at(buffer->bytes, (int64_t)index);
    return entry ? (size_t)(entry - buffer->bytes) : listpack_bytes(buffer->bytes) - 1;
}

static void model_insert(size_t index, struct text text) {
    memmove(model + index + 1, model + index, (model_count++ - index) * sizeof *model);
    model[index] = text;
}

static void model_delete(size_t index, size_t count) {
    for (size_t i = index; i < index + count; i++)
        free(model[i].data);
    model_count -= count;
    memmove(model + index, model + index + count, (model_count - index) * sizeof *model);
}

static void put_in(struct listpack_buffer *buffer) {
    struct text text = random_text();
    size_t index = random_next() % 3 ? random_next() % (model_count + 1)
                                     : (random_next() & 1 ? model_count : 0);
    struct element element = element_make(text.data, text.length);
    size_t behind = SIZE_MAX;
    if (index == model_count && random_next() & 1) {
        if (element.data)
            listpack_append(buffer, text.data, text.length);
        else
            listpack_append_integer(buffer, element.integer);
    } else if (index == 0 && random_next() & 1) {
        listpack_prepend(buffer, text.data, text.length);
    } else if (!element.data && random_next() & 1) {
        behind = listpack_insert_integer(buffer, offset_of(buffer, index), element.integer);
    } else {
        behind = listpack_insert(buffer, offset_of(buffer, index), text.data, text.length);
    }
    model_insert(index, text);
    if (behind != SIZE_MAX)
        cr_assert_eq(behind, offset_of(buffer, index + 1));
}

static void take_out(struct listpack_buffer *buffer) {
    size_t index = random_next() % (model_count + 1);
    size_t wanted = random_next() % 4 ? 1 : random_next() % 20, there = model_count - index;
    listpack_delete(buffer, offset_of(buffer, index), wanted);
    model_delete(index, wanted < there ? wanted : there);
}

static void change(struct listpack_buffer *buffer) {
    if (!model_count)
        return;
    struct text text = random_text();
    size_t index = random_next() % model_count;
    size_t behind = listpack_replace(buffer, offset_of(buffer, index), text.data, text.length);
    free(model[index].data);
    model[index] = text;
    cr_assert_eq(behind, offset_of(buffer, index + 1));
}

Test(listpack, changes_as_a_model_does) {
    struct listpack_buffer buffer = {0};
    listpack_clear(&buffer);
    for (size_t step = 0; step < 20000; step++) {
        /* It grows and shrinks in turn. */
        bool grows = step / 500 % 2 == 0;
        uint64_t kind = random_next() % 10;
        if (kind < 3)
            change(&buffer);
        else if (kind < (grows ? 8 : 5) && model_count < MODEL_MAX - 1)
            put_in(&buffer);
        else
            take_out(&buffer);
        expect_find(buffer.bytes, random_next() & 1);
        if (step % 50 == 0)
            expect_model(buffer.bytes);
    }
    model_delete(0, model_count);
    listpack_buffer_free(&buffer);
}

/* The header counts to 65534 only. */
Test(listpack, many_entries_are_counted) {
    struct listpack_buffer buffer = {0};
    listpack_clear(&buffer);
    for (unsigned i = 0; i < 65534; i++)
        listpack_append_integer(&buffer, i % 100);
    cr_assert_eq(listpack_count(buffer.bytes), 65534);
    for (unsigned i = 65534; i < 70000; i++)
        listpack_append_integer(&buffer, i % 100);
    cr_assert_eq(buffer.bytes[4], 0xff);
    cr_assert_eq(buffer.bytes[5], 0xff);
    cr_assert_eq(listpack_count(buffer.bytes), 70000);
    cr_assert(listpack_is_sound(buffer.bytes, listpack_bytes(buffer.bytes), true));
    struct element element;
    listpack_get(listpack_at(buffer.bytes, 69999), &element);
    cr_assert_eq(element.integer, 99);
    listpack_get(listpack_at(buffer.bytes, -69999), &element);
    cr_assert_eq(element.integer, 1);
    cr_assert_null(listpack_at(buffer.bytes, 70000));
    cr_assert_null(listpack_at(buffer.bytes, -70001));
    listpack_delete(&buffer, LISTPACK_HEADER_BYTES, 69000);
    cr_assert_eq(listpack_count(buffer.bytes), 1000);
    listpack_buffer_free(&buffer);
}

Test(listpack, single_entries_are_read_both_ways) {
    uint8_t room[64], *end = room;
    end = listpack_entry_write(end, "12345", 5);
    const uint8_t *second = end;
    end = listpack_entry_write(end, "member", 6);
    cr_assert_eq(listpack_entry_before(end), second);
    cr_assert_eq(listpack_entry_before(second), room);
    cr_assert_eq(second + listpack_entry_size(second), end);
}

/* --- Bytes from outside ----------------------------------------------------------------------- */

/* Memory of exactly this length, so that a sanitizer sees every step beyond it. */
static bool sound(const void *bytes, size_t length, bool deep) {
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, bytes, length);
    bool is = listpack_is_sound(copy, length, deep);
    free(copy);
    return is;
}

#define SOUND(text)      sound(text, sizeof(text) - 1, true)
#define SOUND_HEAD(text) sound(text, sizeof(text) - 1, false)

Test(listpack, unsound_bytes_are_refused) {
    cr_assert(SOUND("\x07\0\0\0\0\0\xff"));
    cr_assert_not(SOUND(""));
    cr_assert_not(SOUND("\x06\0\0\0\0\0"));
    cr_assert_not(SOUND("\x08\0\0\0\0\0\xff"));     /* another length */
    cr_assert_not(SOUND("\x07\0\0\0\0\0\xfe"));     /* no end */
    cr_assert_not(SOUND("\x07\0\0\0\1\0\xff"));     /* one entry that is not there */
    cr_assert(SOUND("\x07\0\0\0\xff\xff\xff"));     /* count them */
    cr_assert(SOUND("\x09\0\0\0\1\0\5\1\xff"));     /* an integer */
    cr_assert_not(SOUND("\x09\0\0\0\2\0\5\1\xff")); /* counted wrong */
    cr_assert_not(SOUND("\x09\0\0\0\1\0\5\2\xff")); /* another length behind it */
    cr_assert(SOUND_HEAD("\x09\0\0\0\1\0\5\2\xff"));
    cr_assert_not(SOUND("\x08\0\0\0\1\0\5\xff"));                   /* no length behind it */
    cr_assert_not(SOUND("\x09\0\0\0\1\0\x85\1\xff"));               /* a string beyond the end */
    cr_assert_not(SOUND("\x09\0\0\0\1\0\xff\1\xff"));               /* the end in between */
    cr_assert_not(SOUND("\x09\0\0\0\1\0\xf5\1\xff"));               /* no encoding */
    cr_assert_not(SOUND("\x08\0\0\0\1\0\xf0\xff"));                 /* a length that is cut off */
    cr_assert_not(SOUND("\x08\0\0\0\1\0\xe0\xff"));                 /* another one */
    cr_assert_not(SOUND("\x0c\0\0\0\1\0\xf0\xff\xff\xff\xff\xff")); /* 4 GB */
    cr_assert_not(SOUND("\x0a\0\0\0\1\0\xc0\x80\1\xff"));
}

/* No change of a single byte leads astray: what is called sound can be read. */
Test(listpack, damaged_bytes_are_refused_or_readable) {
    struct listpack_buffer buffer = {0};
    listpack_clear(&buffer);
    for (unsigned i = 0; i < 8; i++) {
        struct text text = random_text();
        listpack_append(&buffer, text.data, text.length < 150 ? text.length : 150);
        free(text.data);
    }
    size_t length = listpack_bytes(buffer.bytes);
    for (size_t i = 0; i < length * 255; i++) {
        uint8_t *copy = malloc(length);
        memcpy(copy, buffer.bytes, length);
        copy[i / 255] ^= (uint8_t)(1 + i % 255);
        if (listpack_is_sound(copy, length, true)) {
            size_t count = 0;
            struct element element;
            for (const uint8_t *e = listpack_first(copy); e; e = listpack_next(copy, e), count++) {
                listpack_get(e, &element);
                char room[LISTPACK_INTEGER_ROOM];
                size_t text_length;
                element_text(&element, room, &text_length);
            }
            cr_assert_eq(count, listpack_count(copy));
            for (const uint8_t *e = listpack_last(copy); e; e = listpack_previous(copy, e))
                count--;
            cr_assert_eq(count, 0);
        }
        free(copy);
    }
    listpack_buffer_free(&buffer);
}
