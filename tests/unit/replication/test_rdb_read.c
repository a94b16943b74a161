/* RDB reader: versions, forms, opcodes, refusals; cut and changed inputs; payloads. */
#include "tests/unit/replication/rdb_fixture.h"

TestSuite(rdb_read, .init = rdb_begin, .fini = rdb_finish, .timeout = 60);

static struct told told;
static char message[512];

static int read_bytes(const struct bytes *bytes) {
    return read_all(bytes->data, bytes->length, 0, true, &told, message);
}

/* Body between signature and end. */
static int read_body(const void *body, size_t length) {
    struct bytes bytes = {0};
    PUT(&bytes, "REDIS0011");
    put_bytes(&bytes, body, length);
    PUT(&bytes, FILE_END);
    return read_bytes(&bytes);
}
#define BODY(literal) read_body(literal, sizeof(literal) - 1)

Test(rdb_read, signature_and_version) {
    struct bytes bytes = {0};
    PUT(&bytes, "RADIS0011" FILE_END);
    cr_assert_eq(read_bytes(&bytes), RDB_ERROR_SIGNATURE);
    cr_assert_str_eq(message, "Wrong signature trying to load DB from file");
    static const char *const versions[] = {"0001", "0004", "0005", "0006", "0009",
                                           "0012", "0000", "0013", "9999", "abcd"};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        bytes.length = 0;
        PUT(&bytes, "REDIS");
        put_bytes(&bytes, versions[i], 4);
        PUT(&bytes, "\0\1k\1v");
        if (i < 2)
            PUT(&bytes, "\xff"); /* no checksum then */
        else
            PUT(&bytes, FILE_END);
        cr_assert_eq(read_bytes(&bytes), i < 6 ? 0 : RDB_ERROR_VERSION, "%s", versions[i]);
        if (i < 6)
            cr_assert_eq(told.keys, 1);
    }
    cr_assert_str_eq(message, "Can't handle RDB format version 0");
}

Test(rdb_read, forms_of_keys_and_values) {
    cr_assert_eq(BODY("\xfe\x02"
                      "\x00\xc0\x80\xc1\x00\x80"           /* -128 = -32768 */
                      "\x00\x01k\xc2\x00\x00\x00\x80"      /* k = -2^31 */
                      "\x00\x40\x01l\x80\x00\x00\x00\x01v" /* lengths in long forms */
                      "\x00\x81\x00\x00\x00\x00\x00\x00\x00\x01m\x01v"
                      "\x00\x01n\x02"
                      "12" /* plain, yet a number */
                      "\x00\x01o\x00"),
                 0, "%s", message);
    cr_assert_str_eq(told.text, "2 -128=-32768 int\n2 k=-2147483648 int\n2 l=v embstr\n"
                                "2 m=v embstr\n2 n=12 int\n2 o= embstr\nno checksum\n");
}

Test(rdb_read, lzf) {
    /* What redis-server makes of "ab" thirty times. */
    cr_assert_eq(BODY("\x00\x01l\xc3\x0a\x3c\x02"
                      "aba\xe0\x2e\x01\x01"
                      "ab"),
                 0, "%s", message);
    cr_assert_str_eq(told.text, "0 l=abababababababababababababababababababababababababababababab"
                                " raw\nno checksum\n");
    cr_assert_eq(BODY("\x00\x01l\xc3\x0a\x3d\x02"
                      "aba\xe0\x2e\x01\x01"
                      "ab"),
                 RDB_ERROR_CORRUPT);
    cr_assert_not_null(strstr(message, "Invalid LZF compressed string"), "%s", message);
    cr_assert_eq(BODY("\x00\x01l\xc3\x00\x00"), RDB_ERROR_CORRUPT);
    cr_assert_eq(BODY("\x00\x01l\xc3\x02\x80\x7f\xff\xff\xff"
                      "ab"),
                 RDB_ERROR_CORRUPT, "two bytes do not become two billion");
    /* A short one is embedded as any other. */
    cr_assert_eq(BODY("\x00\x01l\xc3\x05\x0c\x00"
                      "1\xe0\x02\x00"),
                 0, "%s", message);
    cr_assert_str_eq(told.text, "0 l=111111111111 int\nno checksum\n");
}

Test(rdb_read, attributes_belong_to_the_key_behind_them_only) {
    cr_assert_eq(BODY("\xfd\x10\x00\x00\x00\xf8\x05\xf9\x07\x00\x01"
                      "a\x01v"
                      "\xfc\x00\x40\xe5\x9c\x12\x00\x00\x00\x00\x01"
                      "b\x01v"
                      "\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x00\x01"
                      "c\x01v"
                      "\x00\x01"
                      "d\x01v"),
                 0, "%s", message);
    cr_assert_str_eq(told.text, "0 a=v embstr px 16000 idle 5 freq 7\n0 b=v embstr px 79941681152\n"
                                "0 c=v embstr\n0 d=v embstr\nno checksum\n");
}

Test(rdb_read, functions_and_aux_of_modules_are_passed_over_and_told) {
    cr_assert_eq(BODY("\xfa\x01x\xc0\x05"
                      "\xf5\x04"
                      "code"
                      "\xf7\x81\x25\x9c\xea\xb5\x93\xaf\x04\x01\x02\x01"
                      "\x01\x05\x02\x06\x03"
                      "ffff\x04"
                      "dddddddd\x05\x02"
                      "ab\x05\xc0\x01\x00"
                      "\x00\x01k\x01v"),
                 0, "%s", message);
    cr_assert_eq(strncmp(told.text, "aux x=5\nfunction code\nmodule ", 29), 0, "%s", told.text);
    cr_assert_eq(told.keys, 1);
    cr_assert_eq(BODY("\xf7\x05\x02\x01\x09"), RDB_ERROR_CORRUPT);
    cr_assert_eq(BODY("\xf7\x05\x01\x01\x00"), RDB_ERROR_CORRUPT);
    cr_assert_eq(BODY("\xf6"), RDB_ERROR_CORRUPT);
}

Test(rdb_read, types_that_there_are_not_are_refused_by_name) {
    cr_assert_eq(BODY("\xfe\x03\x15\x01s\x01\x01"
                      "f\x01v"),
                 RDB_ERROR_REFUSED);
    cr_assert_str_eq(message,
                     "The key 's' in database 3 is a stream, which this version does not have.");
    static const uint8_t types[] = {RDB_TYPE_STREAM_LISTPACKS,   RDB_TYPE_STREAM_LISTPACKS_2,
                                    RDB_TYPE_STREAM_LISTPACKS_3, RDB_TYPE_MODULE_PRE_GA,
                                    RDB_TYPE_MODULE_2,           8};
    for (size_t i = 0; i < sizeof types; i++) {
        char body[] = {(char)types[i], 1, 'k', 0};
        int expected = types[i] == 8 ? RDB_ERROR_CORRUPT : RDB_ERROR_REFUSED;
        cr_assert_eq(read_body(body, sizeof body), expected, "%u", types[i]);
    }
    char body[] = {100, 1, 'k', 0};
    cr_assert_eq(read_body(body, sizeof body), RDB_ERROR_CORRUPT);
    cr_assert_not_null(strstr(message, "Unknown RDB encoding type 100"));
}

Test(rdb_read, databases_beyond_the_last_are_refused) {
    cr_assert_eq(BODY("\xfe\x0f"), 0);
    cr_assert_eq(BODY("\xfe\x10"), RDB_ERROR_DATABASE);
    cr_assert_str_eq(message, "FATAL: Data file was created with a Redis server configured to "
                              "handle more than 16 databases. Exiting");
}

Test(rdb_read, nothing_is_allocated_for_lengths_that_cannot_be) {
    uint64_t peak = memory_used_bytes();
    static const char huge[] = "REDIS0011\x00\x01k\x81\x00\x00\x00\xff\xff\xff\xff\xff"
                               "v";
    cr_assert_eq(read_all(huge, sizeof huge, 0, true, &told, message), RDB_ERROR_SHORT);
    cr_assert_eq(read_all(huge, sizeof huge, 0, false, &told, message), RDB_ERROR_CORRUPT);
    cr_assert_eq(memory_used_bytes(), peak);
}

/* A file of every part that there is. */
static void sample(struct bytes *bytes) {
    bytes->length = 0;
    PUT(bytes, "REDIS0010\xfa\x09redis-ver\x05"
               "7.2.4\xfe\x00\xfb\x03\x01"
               "\xfc\x00\x40\xe5\x9c\x12\x00\x00\x00\x00\x01"
               "b\x01v"
               "\x00\x01k\xc1\x39\x30"
               "\x00\x01l\xc3\x0a\x3c\x02"
               "aba\xe0\x2e\x01\x01"
               "ab\xff");
    uint64_t crc = crc64(0, bytes->data, bytes->length);
    put_bytes(bytes, &crc, 8);
}

Test(rdb_read, an_input_cut_anywhere_is_short) {
    struct bytes bytes;
    sample(&bytes);
    cr_assert_eq(read_bytes(&bytes), 0, "%s", message);
    cr_assert_eq(told.keys, 3);
    for (size_t length = 0; length < bytes.length; length++)
        for (int known = 0; known < 2; known++)
            for (int skip = 0; skip < 2; skip++) {
                told.skip = skip;
                int result = read_all(bytes.data, length, known ? 0 : 1, known, &told, message);
                cr_assert_eq(result, RDB_ERROR_SHORT, "%zu bytes: %d", length, result);
                cr_assert_str_eq(message, "Short read or OOM loading DB. Unrecoverable error, "
                                          "aborting now.");
            }
    told.skip = false;
}

Test(rdb_read, every_changed_bit_is_found) {
    struct bytes bytes;
    sample(&bytes);
    for (size_t bit = 9 * 8; bit < 8 * bytes.length; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_neq(read_bytes(&bytes), 0, "bit %zu", bit);
        bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    bytes.data[9 + 14] ^= 1; /* in the version's text: only the checksum tells */
    cr_assert_eq(read_bytes(&bytes), RDB_ERROR_CHECKSUM);
    cr_assert_eq(strncmp(message, "Wrong RDB checksum expected: (", 30), 0, "%s", message);
}

Test(rdb_read, handlers_may_end_it) {
    struct bytes bytes;
    sample(&bytes);
    struct given given = {.data = bytes.data, .length = bytes.length};
    struct rdb_source source = {.read = give, .context = &given};
    struct rdb_limits limits = {
        .input_bytes = RDB_SIZE_UNKNOWN, .string_bytes = 10, .databases = 1};
    struct rdb_reader reader;
    rdb_reader_init(&reader, &source, &limits, true);
    cr_assert_eq(rdb_read(&reader, &teller, &told), RDB_ERROR_CORRUPT, "60 bytes are too many");
    rdb_reader_free(&reader);
}

/* --- Payloads --------------------------------------------------------------------------------- */

static struct object *restored(const void *payload, size_t length) {
    struct object *object;
    cr_assert(rdb_payload_is_whole(payload, length));
    cr_assert_eq(rdb_payload_read(payload, length, STRING_BYTES, "key", 3, NEVER, &object, message),
                 0);
    return object;
}

Test(rdb_read, payloads_of_redis_server) {
    static const char ten[] = "\x00\xc0\n\n\x00n\x9fWE\x0e\xae"
                              "c\xbb";
    struct object *object = restored(ten, sizeof ten - 1);
    cr_assert_eq(object_encoding(object), ENCODING_INT);
    cr_assert_eq(object_integer(object), 10);
    struct rdb_writer writer;
    rdb_writer_init(&writer, NULL, true, true);
    rdb_write_payload(&writer, object);
    cr_assert_eq(writer.used, sizeof ten - 1);
    cr_assert_arr_eq(writer.buffer, ten, sizeof ten - 1);
    rdb_writer_free(&writer);
    object_free(object);
}

Test(rdb_read, payloads_round_trip_and_nothing_else_passes) {
    for (size_t length = 0; length < 100000; length = length * 3 + 1) {
        char *content;
        struct object *object = object_make_buffer("k", 1, length, NEVER, true, &content);
        for (size_t i = 0; i < length; i++)
            content[i] = (char)(i % 7 ? 'x' : i * 31);
        struct rdb_writer writer;
        rdb_writer_init(&writer, NULL, length % 2, true);
        rdb_write_payload(&writer, object);
        struct object *copy = restored(writer.buffer, writer.used);
        char buffer[OBJECT_INTEGER_BUFFER];
        size_t copied;
        const char *text = object_string(copy, buffer, &copied);
        cr_assert_eq(copied, length);
        cr_assert(length == 0 || memcmp(text, content, length) == 0);
        cr_assert_not(rdb_payload_is_whole(writer.buffer, writer.used - 1));
        writer.buffer[writer.used / 2] ^= 1;
        cr_assert_not(rdb_payload_is_whole(writer.buffer, writer.used));
        rdb_writer_free(&writer);
        object_free(copy);
        object_free(object);
    }
    cr_assert_not(rdb_payload_is_whole("", 0));
    cr_assert_not(rdb_payload_is_whole("\x0a\x00", 2));
}

Test(rdb_read, a_payload_of_a_later_version_is_refused) {
    struct bytes bytes = {0};
    for (unsigned version = 0; version < 300; version += version < 14 ? 1 : 100) {
        bytes.length = 0;
        PUT(&bytes, "\x00\xc0\x0a");
        put_bytes(&bytes, (uint8_t[]){(uint8_t)version, (uint8_t)(version >> 8)}, 2);
        uint64_t crc = crc64(0, bytes.data, bytes.length);
        put_bytes(&bytes, &crc, 8);
        cr_assert_eq(rdb_payload_is_whole(bytes.data, bytes.length), version <= 12);
    }
}

Test(rdb_read, a_value_may_not_run_into_the_end_of_its_payload) {
    struct bytes bytes = {0};
    PUT(&bytes, "\x00\x05"
                "abc\x0a\x00");
    uint64_t crc = crc64(0, bytes.data, bytes.length);
    put_bytes(&bytes, &crc, 8);
    struct object *object;
    cr_assert(rdb_payload_is_whole(bytes.data, bytes.length));
    cr_assert_eq(
        rdb_payload_read(bytes.data, bytes.length, STRING_BYTES, "k", 1, NEVER, &object, message),
        RDB_ERROR_SHORT);
    cr_assert_neq(message[0], 0);
}
