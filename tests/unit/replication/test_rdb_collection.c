/* Collections in RDB: every form that is read, what is refused, and what is written. */
#include <math.h>

#include "engine/types/hash.h"
#include "engine/types/intset.h"
#include "engine/types/list.h"
#include "engine/types/set.h"
#include "engine/types/zset.h"
#include "replication/rdb_collection.h"
#include "replication/rdb_ziplist.h"
#include "tests/unit/replication/rdb_fixture.h"

static void begin(void) {
    rdb_begin();
    collection_limits = (struct collection_limits){.hash_listpack_entries = 128,
                                                   .hash_listpack_value_bytes = 64,
                                                   .set_intset_entries = 512,
                                                   .set_listpack_entries = 128,
                                                   .set_listpack_value_bytes = 64,
                                                   .zset_listpack_entries = 128,
                                                   .zset_listpack_value_bytes = 64,
                                                   .list_listpack_size = -2};
}

TestSuite(rdb_collection, .init = begin, .fini = rdb_finish, .timeout = 120);

/* --- A value as text -------------------------------------------------------------------------- */

struct shown {
    char text[2048];
    size_t length;
    unsigned elements;
};

static void show(struct shown *shown, const struct element *element, const char *behind) {
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(element, room, &length);
    if (shown->length + length + 10 < sizeof shown->text)
        shown->length += (size_t)sprintf(shown->text + shown->length, "%.*s%s",
                                         length > 20 ? 20 : (int)length, text, behind);
}

static bool show_element(void *context, const struct element *member, const struct element *value,
                         double score) {
    struct shown *shown = context;
    show(shown, member, value ? "=" : isnan(score) ? " " : "");
    if (value)
        show(shown, value, " ");
    shown->elements++;
    return true;
}

static bool show_scored(void *context, const struct element *member, const struct element *value,
                        double score) {
    struct shown *shown = context;
    (void)value;
    show(shown, member, ":");
    if (shown->length + 30 < sizeof shown->text)
        shown->length += (size_t)sprintf(shown->text + shown->length, "%g ", score);
    shown->elements++;
    return true;
}

static bool show_single(void *context, const struct element *member, const struct element *value,
                        double score) {
    (void)value, (void)score;
    return show_element(context, member, NULL, NAN);
}

/* "hash listpack a=1 b=2 ". */
static void describe(const struct object *object, struct shown *shown) {
    static collection_visit *const visits[] = {[OBJECT_LIST] = show_single,
                                               [OBJECT_SET] = show_single,
                                               [OBJECT_ZSET] = show_scored,
                                               [OBJECT_HASH] = show_element};
    *shown = (struct shown){.length = 0};
    shown->length = (size_t)sprintf(shown->text, "%s %s ", type_of(object)->name,
                                    type_of(object)->encoding_name(object));
    collection_visit_all(object, visits[object_type(object)], shown);
}

/* A value by itself: its type and its bytes. */
static int read_value(const struct bytes *bytes, struct object **object) {
    struct rdb_reader reader;
    rdb_reader_init_memory(&reader, bytes->data + 1, bytes->length - 1, STRING_BYTES);
    int error = rdb_value_read(&reader, bytes->data[0], "key", 3, NEVER, object);
    if (!error)
        cr_assert_eq(rdb_read_offset(&reader), bytes->length - 1, "all of it");
    rdb_reader_free(&reader);
    rdb_reader_init_memory(&reader, bytes->data + 1, bytes->length - 1, STRING_BYTES);
    int skipped = rdb_value_skip(&reader, bytes->data[0], "key", 3);
    if (!error) {
        cr_assert_eq(skipped, 0);
        cr_assert_eq(rdb_read_offset(&reader), bytes->length - 1);
    }
    rdb_reader_free(&reader);
    return error;
}

/* The same value again by way of what is written of it. */
static struct object *written_again(const struct object *object) {
    struct rdb_writer writer;
    struct object *again;
    char message[RDB_MESSAGE_BYTES];
    rdb_writer_init(&writer, NULL, true, true);
    rdb_write_payload(&writer, object);
    cr_assert(rdb_payload_is_whole(writer.buffer, writer.used));
    int error = rdb_payload_read(writer.buffer, writer.used, STRING_BYTES, "key", 3, NEVER, &again,
                                 message);
    cr_assert_eq(error, 0, "%s", message);
    rdb_writer_free(&writer);
    return again;
}

static void expect(const struct bytes *bytes, const char *text) {
    struct object *object;
    struct shown shown, again_shown;
    cr_assert_eq(read_value(bytes, &object), 0, "%s", text);
    describe(object, &shown);
    cr_assert_str_eq(shown.text, text);
    struct object *again = written_again(object);
    describe(again, &again_shown);
    cr_assert_str_eq(again_shown.text, text);
    object_free(again);
    object_free(object);
}

static void expect_error(const struct bytes *bytes, int error) {
    struct object *object;
    cr_assert_eq(read_value(bytes, &object), error);
}

/* --- Bytes of the forms ----------------------------------------------------------------------- */

static void put_length(struct bytes *bytes, size_t length) {
    cr_assert_lt(length, 1 << 14);
    uint8_t two[] = {(uint8_t)(0x40 | length >> 8), (uint8_t)length};
    put_bytes(bytes, two, 2);
}

static void put_string(struct bytes *bytes, const void *data, size_t length) {
    put_length(bytes, length);
    put_bytes(bytes, data, length);
}

static void put_text(struct bytes *bytes, const char *text) {
    put_string(bytes, text, strlen(text));
}

/* "a 1 b 2": the words as strings. */
static void put_words(struct bytes *bytes, const char *words) {
    char copy[512], *rest;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        put_text(bytes, word);
}

static void put_listpack(struct bytes *bytes, const char *words) {
    char copy[512], *rest;
    struct listpack_buffer buffer = {0};
    listpack_clear(&buffer);
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        listpack_append(&buffer, word, strlen(word));
    put_string(bytes, buffer.bytes, listpack_bytes(buffer.bytes));
    listpack_buffer_free(&buffer);
}

static void put_intset(struct bytes *bytes, unsigned count) {
    struct listpack_buffer buffer = {0};
    intset_clear(&buffer);
    for (unsigned i = 0; i < count; i++)
        intset_add(&buffer, i);
    put_string(bytes, buffer.bytes, intset_bytes(buffer.bytes));
    listpack_buffer_free(&buffer);
}

/* An entry of a ziplist that ends up behind what is there. */
static void ziplist_entry(struct bytes *ziplist, size_t *before, const void *encoded,
                          size_t length) {
    size_t start = ziplist->length;
    if (*before < 254) {
        put_bytes(ziplist, (uint8_t[]){(uint8_t)*before}, 1);
    } else {
        uint32_t bytes = (uint32_t)*before;
        PUT(ziplist, "\xfe");
        put_bytes(ziplist, &bytes, 4);
    }
    put_bytes(ziplist, encoded, length);
    *before = ziplist->length - start;
}

static void ziplist_end(struct bytes *ziplist, size_t before, unsigned count) {
    PUT(ziplist, "\xff");
    uint32_t head[2] = {(uint32_t)ziplist->length,
                        (uint32_t)(count ? ziplist->length - 1 - before : 10)};
    uint16_t counted = (uint16_t)count;
    memcpy(ziplist->data, head, 8);
    memcpy(ziplist->data + 8, &counted, 2);
}

/* The words as strings. */
static void make_ziplist(struct bytes *ziplist, const char *words) {
    char copy[512], *rest;
    size_t before = 0;
    unsigned count = 0;
    *ziplist = (struct bytes){.length = 10};
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        struct bytes encoded = {0};
        put_bytes(&encoded, (uint8_t[]){(uint8_t)strlen(word)}, 1);
        put_bytes(&encoded, word, strlen(word));
        ziplist_entry(ziplist, &before, encoded.data, encoded.length);
        count++;
    }
    ziplist_end(ziplist, before, count);
}

static void put_ziplist(struct bytes *bytes, const char *words) {
    struct bytes ziplist;
    make_ziplist(&ziplist, words);
    put_string(bytes, ziplist.data, ziplist.length);
}

#define TYPE(number)                                                                               \
    (struct bytes) {                                                                               \
        .data = {number}, .length = 1                                                              \
    }

/* --- Elements by themselves ------------------------------------------------------------------- */

Test(rdb_collection, strings) {
    struct bytes bytes = TYPE(RDB_TYPE_HASH);
    PUT(&bytes, "\2");
    put_words(&bytes, "a 1 b two");
    expect(&bytes, "hash listpack a=1 b=two ");
    bytes = TYPE(RDB_TYPE_LIST);
    PUT(&bytes, "\3");
    put_words(&bytes, "x 1 x");
    expect(&bytes, "list listpack x 1 x ");
    bytes = TYPE(RDB_TYPE_SET);
    PUT(&bytes, "\3");
    put_words(&bytes, "5 -7 6");
    expect(&bytes, "set intset -7 5 6 ");
    bytes = TYPE(RDB_TYPE_SET);
    PUT(&bytes, "\2");
    put_words(&bytes, "5 a");
    expect(&bytes, "set listpack 5 a ");
    bytes = TYPE(RDB_TYPE_ZSET);
    PUT(&bytes, "\4");
    put_words(&bytes, "b");
    PUT(&bytes, "\3"
                "2.5");
    put_words(&bytes, "c");
    PUT(&bytes, "\xfe");
    put_words(&bytes, "a");
    PUT(&bytes, "\xff");
    put_words(&bytes, "B");
    PUT(&bytes, "\3"
                "2.5");
    expect(&bytes, "zset listpack a:-inf B:2.5 b:2.5 c:inf ");
    bytes = TYPE(RDB_TYPE_ZSET_2);
    PUT(&bytes, "\1");
    put_words(&bytes, "m");
    PUT(&bytes, "\0\0\0\0\0\0\xf8\x3f");
    expect(&bytes, "zset listpack m:1.5 ");
}

Test(rdb_collection, strings_that_are_wrong) {
    struct bytes bytes = TYPE(RDB_TYPE_HASH);
    PUT(&bytes, "\2");
    put_words(&bytes, "a 1 a 2");
    expect_error(&bytes, RDB_ERROR_CORRUPT);
    bytes = TYPE(RDB_TYPE_SET);
    PUT(&bytes, "\2");
    put_words(&bytes, "7 7");
    expect_error(&bytes, RDB_ERROR_CORRUPT);
    bytes = TYPE(RDB_TYPE_ZSET);
    PUT(&bytes, "\1");
    put_words(&bytes, "m");
    PUT(&bytes, "\xfd");
    expect_error(&bytes, RDB_ERROR_CORRUPT);
    bytes.length--;
    PUT(&bytes, "\1x");
    expect_error(&bytes, RDB_ERROR_CORRUPT);
    bytes = TYPE(RDB_TYPE_ZSET_2);
    PUT(&bytes, "\1");
    put_words(&bytes, "m");
    PUT(&bytes, "\0\0\0\0\0\0\xf8\x7f");
    expect_error(&bytes, RDB_ERROR_CORRUPT);
    static const uint8_t types[] = {RDB_TYPE_LIST,
                                    RDB_TYPE_SET,
                                    RDB_TYPE_ZSET,
                                    RDB_TYPE_ZSET_2,
                                    RDB_TYPE_HASH,
                                    RDB_TYPE_LIST_QUICKLIST,
                                    RDB_TYPE_LIST_QUICKLIST_2};
    for (size_t i = 0; i < sizeof types; i++) {
        bytes = TYPE(types[i]);
        PUT(&bytes, "\0");
        expect_error(&bytes, RDB_ERROR_EMPTY);
        bytes = TYPE(types[i]);
        PUT(&bytes, "\x81\xff\xff\xff\xff\xff\xff\xff\xff");
        expect_error(&bytes, RDB_ERROR_SHORT);
    }
}

/* --- Packed ----------------------------------------------------------------------------------- */

Test(rdb_collection, listpacks) {
    struct bytes bytes = TYPE(RDB_TYPE_HASH_LISTPACK);
    put_listpack(&bytes, "b 2 a 1");
    expect(&bytes, "hash listpack b=2 a=1 ");
    bytes = TYPE(RDB_TYPE_ZSET_LISTPACK);
    put_listpack(&bytes, "z -inf b 1 c 1 a 2.5");
    expect(&bytes, "zset listpack z:-inf b:1 c:1 a:2.5 ");
    bytes = TYPE(RDB_TYPE_SET_LISTPACK);
    put_listpack(&bytes, "b 1 a");
    expect(&bytes, "set listpack b 1 a ");
    bytes = TYPE(RDB_TYPE_SET_INTSET);
    put_intset(&bytes, 3);
    expect(&bytes, "set intset 0 1 2 ");
    bytes = TYPE(RDB_TYPE_LIST_QUICKLIST_2);
    PUT(&bytes, "\1\2");
    put_listpack(&bytes, "b 1 b");
    expect(&bytes, "list listpack b 1 b ");
    bytes = TYPE(RDB_TYPE_LIST_QUICKLIST_2);
    PUT(&bytes, "\3\2");
    put_listpack(&bytes, "b 1");
    PUT(&bytes, "\1");
    put_text(&bytes, "plain");
    PUT(&bytes, "\2");
    put_listpack(&bytes, "end");
    expect(&bytes, "list listpack b 1 plain end ");
}

/* Scores out of order, or with more behind them than a number, are put in order. */
Test(rdb_collection, sorted_sets_are_sorted) {
    struct bytes bytes = TYPE(RDB_TYPE_ZSET_LISTPACK);
    put_listpack(&bytes, "c 3 b 1 a 1 d 2x");
    expect(&bytes, "zset listpack a:1 b:1 d:2 c:3 ");
    bytes = TYPE(RDB_TYPE_ZSET_LISTPACK);
    put_listpack(&bytes, "c nan");
    expect_error(&bytes, RDB_ERROR_CORRUPT);
}

Test(rdb_collection, listpacks_that_are_wrong) {
    static const uint8_t pairs[] = {RDB_TYPE_HASH_LISTPACK, RDB_TYPE_ZSET_LISTPACK,
                                    RDB_TYPE_SET_LISTPACK};
    for (unsigned i = 0; i < 3; i++) {
        struct bytes bytes = TYPE(pairs[i]);
        put_listpack(&bytes, "a 1 a 1");
        expect_error(&bytes, RDB_ERROR_CORRUPT);
        bytes = TYPE(pairs[i]);
        put_listpack(&bytes, "a 1 a");
        expect_error(&bytes, RDB_ERROR_CORRUPT);
        bytes = TYPE(pairs[i]);
        put_listpack(&bytes, "");
        expect_error(&bytes, RDB_ERROR_EMPTY);
        bytes = TYPE(pairs[i]);
        put_string(&bytes, "\x09\0\0\0\1\0\x05\2\xff", 9);
        expect_error(&bytes, RDB_ERROR_CORRUPT);
    }
    struct bytes bytes = TYPE(RDB_TYPE_SET_INTSET);
    put_string(&bytes, "\2\0\0\0\2\0\0\0\5\0\5\0", 12);
    expect_error(&bytes, RDB_ERROR_CORRUPT);
    bytes = TYPE(RDB_TYPE_LIST_QUICKLIST_2);
    PUT(&bytes, "\1\3");
    put_listpack(&bytes, "b 1 b");
    expect_error(&bytes, RDB_ERROR_CORRUPT);
    bytes = TYPE(RDB_TYPE_LIST_QUICKLIST_2);
    PUT(&bytes, "\1\2\0");
    expect_error(&bytes, RDB_ERROR_CORRUPT);
    bytes = TYPE(RDB_TYPE_LIST_QUICKLIST_2);
    PUT(&bytes, "\2\2");
    put_listpack(&bytes, "");
    PUT(&bytes, "\2");
    put_listpack(&bytes, "");
    expect_error(&bytes, RDB_ERROR_EMPTY);
}

/* What comes as a listpack keeps that name by the number of its elements alone; what is over that
 * is converted. */
Test(rdb_collection, limits) {
    struct bytes bytes = TYPE(RDB_TYPE_HASH_LISTPACK);
    put_listpack(&bytes, "a 1 b 22222222222222222222");
    collection_limits.hash_listpack_value_bytes = 5;
    struct object *object;
    cr_assert_eq(read_value(&bytes, &object), 0);
    cr_assert_str_eq(type_of(object)->encoding_name(object), "listpack");
    object_free(object);
    collection_limits.hash_listpack_entries = 1;
    collection_limits.hash_listpack_value_bytes = 64;
    struct shown shown;
    cr_assert_eq(read_value(&bytes, &object), 0);
    describe(object, &shown);
    cr_assert_eq(memcmp(shown.text, "hash hashtable ", 15), 0);
    cr_assert_eq(shown.elements, 2);
    object_free(object);
    collection_limits.hash_listpack_entries = 128;
    collection_limits.hash_listpack_value_bytes = 3;
    bytes = TYPE(RDB_TYPE_HASH_ZIPLIST);
    put_ziplist(&bytes, "a 1 b 2222");
    cr_assert_eq(read_value(&bytes, &object), 0);
    cr_assert_str_eq(type_of(object)->encoding_name(object), "listpack");
    object_free(object);
    bytes = TYPE(RDB_TYPE_HASH_ZIPMAP); /* of these Redis looks at the lengths too */
    put_string(&bytes,
               "\1\1a\4\0"
               "1234\xff",
               10);
    cr_assert_eq(read_value(&bytes, &object), 0);
    cr_assert_str_eq(type_of(object)->encoding_name(object), "hashtable");
    object_free(object);
    bytes = TYPE(RDB_TYPE_SET_INTSET);
    put_intset(&bytes, 600);
    cr_assert_eq(read_value(&bytes, &object), 0);
    describe(object, &shown);
    cr_assert_eq(memcmp(shown.text, "set hashtable ", 14), 0);
    cr_assert_eq(shown.elements, 600);
    object_free(object);
}

/* --- Ziplists and zipmaps --------------------------------------------------------------------- */

Test(rdb_collection, ziplists) {
    struct bytes bytes = TYPE(RDB_TYPE_HASH_ZIPLIST);
    put_ziplist(&bytes, "b 2 a 1");
    expect(&bytes, "hash listpack b=2 a=1 ");
    bytes = TYPE(RDB_TYPE_ZSET_ZIPLIST);
    put_ziplist(&bytes, "b 2 c 2.5");
    expect(&bytes, "zset listpack b:2 c:2.5 ");
    bytes = TYPE(RDB_TYPE_LIST_ZIPLIST);
    put_ziplist(&bytes, "b 2 b");
    expect(&bytes, "list listpack b 2 b ");
    bytes = TYPE(RDB_TYPE_LIST_QUICKLIST);
    PUT(&bytes, "\3");
    put_ziplist(&bytes, "b 2");
    put_ziplist(&bytes, "");
    put_ziplist(&bytes, "c");
    expect(&bytes, "list listpack b 2 c ");
    static const uint8_t types[] = {RDB_TYPE_HASH_ZIPLIST, RDB_TYPE_ZSET_ZIPLIST};
    for (unsigned i = 0; i < 2; i++) {
        bytes = TYPE(types[i]);
        put_ziplist(&bytes, "a 1 a 2");
        expect_error(&bytes, RDB_ERROR_CORRUPT);
        bytes = TYPE(types[i]);
        put_ziplist(&bytes, "a 1 b");
        expect_error(&bytes, RDB_ERROR_CORRUPT);
        bytes = TYPE(types[i]);
        put_ziplist(&bytes, "");
        expect_error(&bytes, RDB_ERROR_EMPTY);
    }
}

static bool note_element(void *context, const struct element *element) {
    show(context, element, " ");
    return true;
}

Test(rdb_collection, entries_of_ziplists) {
    struct bytes ziplist = {.length = 10};
    size_t before = 0;
    struct shown shown = {.length = 0};
    ziplist_entry(&ziplist, &before, "\xf1", 1);
    ziplist_entry(&ziplist, &before, "\xfd", 1);
    ziplist_entry(&ziplist, &before, "\xfe\x80", 2);
    ziplist_entry(&ziplist, &before, "\xc0\xff\xff", 3);
    ziplist_entry(&ziplist, &before, "\xf0\x00\x00\x80", 4);
    ziplist_entry(&ziplist, &before, "\xd0\xff\xff\xff\x7f", 5);
    ziplist_entry(&ziplist, &before, "\xe0\x00\x00\x00\x00\x00\x00\x00\x80", 9);
    uint8_t longer[302] = {0x41, 0x2c};
    memset(longer + 2, 'l', 300);
    ziplist_entry(&ziplist, &before, longer, 302);
    ziplist_entry(&ziplist, &before, "\x80\0\0\0\3end", 8); /* behind one of five bytes' length */
    ziplist_end(&ziplist, before, 9);
    cr_assert(rdb_ziplist_visit(ziplist.data, ziplist.length, note_element, &shown));
    cr_assert_str_eq(shown.text, "0 12 -128 -1 -8388608 2147483647 -9223372036854775808 "
                                 "llllllllllllllllllll end ");
}

/* No change of a single byte leads beyond the bytes, and most are seen. */
Test(rdb_collection, damaged_ziplists) {
    struct bytes ziplist;
    make_ziplist(&ziplist, "first 2 third four fifth");
    unsigned accepted = 0;
    for (size_t i = 0; i < ziplist.length * 255; i++) {
        uint8_t *copy = malloc(ziplist.length);
        struct shown shown = {.length = 0};
        memcpy(copy, ziplist.data, ziplist.length);
        copy[i / 255] ^= (uint8_t)(1 + i % 255);
        if (rdb_ziplist_visit(copy, ziplist.length, note_element, &shown))
            accepted++;
        free(copy);
    }
    /* Other content, and the number of entries that says: count them. */
    cr_assert_lt(accepted, 19 * 255 + 300);
    cr_assert_gt(accepted, 19 * 200);
}

Test(rdb_collection, zipmaps) {
    static const char zipmap[] = "\2\1a\1\0"
                                 "1\4name\5\2value--\xff";
    struct bytes bytes = TYPE(RDB_TYPE_HASH_ZIPMAP);
    put_string(&bytes, zipmap, sizeof zipmap - 1);
    expect(&bytes, "hash listpack a=1 name=value ");
    for (size_t length = 0; length < sizeof zipmap - 1; length++) {
        bytes = TYPE(RDB_TYPE_HASH_ZIPMAP);
        put_string(&bytes, zipmap, length);
        expect_error(&bytes, RDB_ERROR_CORRUPT);
    }
    bytes = TYPE(RDB_TYPE_HASH_ZIPMAP);
    put_text(&bytes, "\3\1a\1\1"
                     "1-\1b\1\1"
                     "2-\xff"); /* counted wrong */
    expect_error(&bytes, RDB_ERROR_CORRUPT);
    bytes = TYPE(RDB_TYPE_HASH_ZIPMAP);
    put_text(&bytes, "\2\1a\1\1"
                     "1-\1a\1\1"
                     "2-\xff"); /* twice */
    expect_error(&bytes, RDB_ERROR_CORRUPT);
    bytes = TYPE(RDB_TYPE_HASH_ZIPMAP);
    put_string(&bytes,
               "\1\xfe\xff\xff\xff\xff"
               "a\xff",
               8); /* 4 GB */
    expect_error(&bytes, RDB_ERROR_CORRUPT);
}

/* --- What is written -------------------------------------------------------------------------- */

/* A value of so many elements, whose texts have this length at least. */
static struct object *make(enum object_type type, unsigned count, size_t length) {
    struct collection_edit draft;
    char *text = malloc(length + 40);
    collection_draft_begin(&draft, type, ENCODING_LISTPACK);
    for (unsigned i = 0; i < count; i++) {
        int head = sprintf(text, "element-%u-", i);
        size_t whole = (size_t)head > length ? (size_t)head : length;
        memset(text + head, 'x', whole - (size_t)head);
        if (type == OBJECT_LIST)
            list_push(&draft, false, i % 3 ? text : "12345", i % 3 ? whole : 5);
        else if (type == OBJECT_SET)
            set_add(&draft, text, whole);
        else if (type == OBJECT_HASH)
            hash_put(&draft, text, whole, "77", 2);
        else
            zset_put(&draft, text, whole, i % 100 * 0.25);
    }
    free(text);
    if (type == OBJECT_LIST)
        list_was_made(&draft);
    return collection_draft_end(&draft, "key", 3, NEVER);
}

struct sum {
    uint64_t sum, ordered;
};

static bool sum_element(void *context, const struct element *member, const struct element *value,
                        double score) {
    struct sum *sum = context;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(member, room, &length);
    uint64_t one = crc64(0, text, length);
    if (value) {
        text = element_text(value, room, &length);
        one = crc64(one, text, length);
    }
    one = crc64(one, &score, sizeof score);
    sum->sum += one;
    sum->ordered = sum->ordered * 31 + one;
    return true;
}

Test(rdb_collection, large_ones_come_back_as_they_were) {
    static const enum object_type types[] = {OBJECT_LIST, OBJECT_SET, OBJECT_ZSET, OBJECT_HASH};
    static const struct {
        unsigned count;
        size_t length;
    } sizes[] = {{1, 10}, {100, 10}, {100, 60}, {1000, 20}, {3, 9000}, {20000, 16}, {200, 8190}};
    for (unsigned t = 0; t < 4; t++)
        for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            struct object *object = make(types[t], sizes[s].count, sizes[s].length);
            struct object *again = written_again(object);
            struct sum sum = {0}, again_sum = {0};
            collection_visit_all(object, sum_element, &sum);
            collection_visit_all(again, sum_element, &again_sum);
            cr_assert_eq(sum.sum, again_sum.sum);
            if (types[t] == OBJECT_LIST || types[t] == OBJECT_ZSET)
                cr_assert_eq(sum.ordered, again_sum.ordered);
            cr_assert_str_eq(type_of(object)->encoding_name(object),
                             type_of(again)->encoding_name(again), "%u of %zu bytes",
                             sizes[s].count, sizes[s].length);
            object_free(again);
            object_free(object);
        }
}

/* Nodes of at most 8 KB, one for each larger element; packed bytes as they are. */
Test(rdb_collection, written_bytes) {
    struct bytes bytes = TYPE(RDB_TYPE_HASH_LISTPACK);
    put_listpack(&bytes, "b 2 a 1");
    struct object *object;
    cr_assert_eq(read_value(&bytes, &object), 0);
    struct rdb_writer writer;
    rdb_writer_init(&writer, NULL, false, true);
    rdb_write_payload(&writer, object);
    cr_assert_eq(writer.buffer[0], RDB_TYPE_HASH_LISTPACK);
    cr_assert_eq(memcmp(writer.buffer + 2, bytes.data + 3, bytes.length - 3), 0);
    cr_assert_eq(writer.buffer[writer.used - 10], 10, "the version");
    rdb_writer_free(&writer);
    object_free(object);
    object = make(OBJECT_LIST, 3, 9000);
    rdb_writer_init(&writer, NULL, false, true);
    rdb_value_write(&writer, object);
    cr_assert_eq(rdb_value_type(object), RDB_TYPE_LIST_QUICKLIST_2);
    /* 12345, and two of 9000 bytes. */
    cr_assert_eq(memcmp(writer.buffer, "\3\2\x0b\x0b\0\0\0\1\0\xf1\x39\x30\3\xff\2\x63\x36", 17),
                 0);
    rdb_writer_free(&writer);
    object_free(object);
}
