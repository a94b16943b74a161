/* RDB writer: the forms of strings and lengths, and that the reader takes what it writes. */
#include "tests/unit/replication/rdb_fixture.h"

TestSuite(rdb_write, .init = rdb_begin, .fini = rdb_finish, .timeout = 60);

static const struct rdb_key_attributes plain = {.expiry_ms = NEVER, .idle_s = -1, .frequency = -1};

static struct rdb_writer in_memory(bool compression) {
    struct rdb_writer writer;
    rdb_writer_init(&writer, NULL, compression, true);
    return writer;
}

static void check_string(const char *text, size_t length, const char *expected,
                         size_t expected_length) {
    struct rdb_writer writer = in_memory(true);
    rdb_write_string(&writer, text, length);
    cr_assert_eq(writer.used, expected_length, "%s: %zu bytes", text, writer.used);
    cr_assert_arr_eq(writer.buffer, expected, expected_length);
    rdb_writer_free(&writer);
}
#define STRING(text, expected) check_string(text, sizeof(text) - 1, expected, sizeof(expected) - 1)

Test(rdb_write, strings_take_the_shortest_form) {
    STRING("", "\0");
    STRING("0", "\xc0\0");
    STRING("-1", "\xc0\xff");
    STRING("127", "\xc0\x7f");
    STRING("128", "\xc1\x80\0");
    STRING("-128", "\xc0\x80");
    STRING("-129", "\xc1\x7f\xff");
    STRING("32768", "\xc2\0\x80\0\0");
    STRING("2147483647", "\xc2\xff\xff\xff\x7f");
    STRING("-2147483648", "\xc2\0\0\0\x80");
    STRING("2147483648", "\x0a"
                         "2147483648");
    STRING("-2147483649", "\x0b"
                          "-2147483649");
    STRING("01", "\x02"
                 "01");
    STRING("-0", "\x02"
                 "-0");
    STRING("-", "\x01-");
    STRING("1a", "\x02"
                 "1a");
    STRING("aaaaaaaaaaaaaaaaaaaa", "\x14"
                                   "aaaaaaaaaaaaaaaaaaaa");
}

Test(rdb_write, what_lzf_makes_smaller_is_compressed_and_only_that) {
    char text[1000];
    memset(text, 'a', sizeof text);
    struct rdb_writer writer = in_memory(true);
    rdb_write_string(&writer, text, sizeof text);
    cr_assert_eq(writer.buffer[0], 0xc3);
    cr_assert_lt(writer.used, 50);
    rdb_writer_free(&writer);
    writer = in_memory(false);
    rdb_write_string(&writer, text, sizeof text);
    cr_assert_eq(writer.used, 1002);
    rdb_writer_free(&writer);
    for (unsigned i = 0; i < 60; i++)
        text[i] = (char)(i * 41 + i * i);
    writer = in_memory(true);
    rdb_write_string(&writer, text, 60);
    cr_assert_eq(writer.used, 61);
    rdb_writer_free(&writer);
}

Test(rdb_write, lengths_at_each_boundary_are_read_back) {
    static const uint64_t lengths[] = {
        0, 63, 64, 16383, 16384, 0xffffffff, 0x100000000, 0x123456789abcdef0, UINT64_MAX};
    static const size_t widths[] = {1, 1, 2, 2, 5, 5, 9, 9, 9};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct rdb_writer writer = in_memory(false);
        rdb_write_length(&writer, lengths[i]);
        cr_assert_eq(writer.used, widths[i]);
        struct rdb_reader reader;
        rdb_reader_init_memory(&reader, writer.buffer, writer.used, STRING_BYTES);
        uint64_t length;
        cr_assert_eq(rdb_read_length(&reader, &length), 0);
        cr_assert_eq(length, lengths[i]);
        rdb_reader_free(&reader);
        rdb_writer_free(&writer);
    }
}

static void write_sample(struct rdb_writer *writer, bool replication) {
    struct rdb_info info = {.server_version = "7.2.4",
                            .created_s = 1700000000,
                            .used_memory_bytes = 1048576,
                            .replication_id = replication ? "0123456789abcdef" : NULL,
                            .replication_offset = 12345678901,
                            .stream_database = -1};
    rdb_write_header(writer, RDB_VERSION_WRITTEN, &info);
    rdb_write_database(writer, 0, 2, 1);
    struct object *object = object_make_string("k", 1, "value", 5, 4000000000000, STRING_SET);
    struct rdb_key_attributes attributes = plain;
    attributes.expiry_ms = 4000000000000;
    rdb_write_key(writer, object, &attributes);
    object_free(object);
    object = object_make_integer("12", 2, -5000000000, NEVER);
    attributes = plain;
    attributes.idle_s = 100;
    rdb_write_key(writer, object, &attributes);
    object_free(object);
    rdb_write_database(writer, 9, 2, 0);
    object = object_make_string("f", 1, "7", 1, NEVER, STRING_SET);
    attributes = plain;
    attributes.frequency = 255;
    rdb_write_key(writer, object, &attributes);
    object_free(object);
    char *content;
    object = object_make_buffer("big", 3, 100000, NEVER, false, &content);
    memset(content, 'z', 100000);
    rdb_write_key(writer, object, &plain);
    object_free(object);
}

static const char sample_told[] = "aux redis-ver=7.2.4\naux redis-bits=64\naux ctime=1700000000\n"
                                  "aux used-mem=1048576\naux repl-stream-db=-1\n"
                                  "aux repl-id=0123456789abcdef\naux repl-offset=12345678901\n"
                                  "aux aof-base=0\nresize 0 2 1\n"
                                  "0 k=value embstr px 4000000000000\n"
                                  "0 12=-5000000000 int idle 100\nresize 9 2 0\n"
                                  "9 f=7 int freq 255\n"
                                  "9 big=(100000) zzzzzzzzzzzzzzzzzzzz raw\n";

Test(rdb_write, a_file_is_read_back_whatever_the_pieces) {
    for (int compression = 0; compression < 2; compression++) {
        struct gathered gathered = {0};
        struct rdb_writer writer;
        struct rdb_sink sink = {.write = gather, .context = &gathered};
        rdb_writer_init(&writer, &sink, compression, true);
        write_sample(&writer, true);
        cr_assert_eq(rdb_write_end(&writer), 0);
        cr_assert_eq(rdb_written_bytes(&writer), gathered.length);
        rdb_writer_free(&writer);
        for (size_t piece = 0; piece < 40; piece += piece < 3 ? 1 : 13) {
            struct told told = {0};
            char message[512];
            int result = read_all(gathered.data, gathered.length, piece, piece % 2, &told, message);
            cr_assert_eq(result, 0, "%s", message);
            cr_assert_str_eq(told.text, sample_told);
            told.skip = true;
            result = read_all(gathered.data, gathered.length, piece, piece % 2, &told, message);
            cr_assert_eq(result, 0, "%s", message);
            cr_assert_eq(told.keys, 4);
        }
        free(gathered.data);
    }
}

Test(rdb_write, memory_and_sink_get_the_same_bytes) {
    struct gathered gathered = {0};
    struct rdb_writer writer, memory = in_memory(false);
    struct rdb_sink sink = {.write = gather, .context = &gathered};
    rdb_writer_init(&writer, &sink, false, true);
    write_sample(&writer, false);
    rdb_write_end(&writer);
    write_sample(&memory, false);
    cr_assert_eq(rdb_write_end(&memory), 0);
    cr_assert_eq(memory.used, gathered.length);
    cr_assert_arr_eq(memory.buffer, gathered.data, memory.used);
    rdb_writer_free(&writer);
    rdb_writer_free(&memory);
    free(gathered.data);
}

Test(rdb_write, without_checksum_the_file_says_so) {
    struct gathered gathered = {0};
    struct rdb_writer writer;
    struct rdb_sink sink = {.write = gather, .context = &gathered};
    rdb_writer_init(&writer, &sink, true, false);
    write_sample(&writer, true);
    cr_assert_eq(rdb_write_end(&writer), 0);
    rdb_writer_free(&writer);
    struct told told = {0};
    char message[512];
    cr_assert_eq(read_all(gathered.data, gathered.length, 0, true, &told, message), 0);
    cr_assert_not_null(strstr(told.text, "no checksum\n"));
    free(gathered.data);
}

Test(rdb_write, a_sink_that_fails_is_left_alone_and_told_of) {
    struct gathered gathered = {.fail_at = 1000};
    struct rdb_writer writer;
    struct rdb_sink sink = {.write = gather, .context = &gathered};
    rdb_writer_init(&writer, &sink, false, true);
    for (unsigned i = 0; i < 4; i++)
        write_sample(&writer, true);
    cr_assert_eq(rdb_write_end(&writer), -28);
    cr_assert_eq(gathered.calls, 2, "the head of the first, its large value, nothing more");
    rdb_writer_free(&writer);
    free(gathered.data);
}
