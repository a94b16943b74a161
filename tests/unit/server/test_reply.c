/* The reply builder: bytes on the wire in both protocol versions, marks and rewinds, lent blobs,
 * deferred lengths, error statistics. */
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/memory.h"
#include "engine/value.h"
#include "server/resp/error_statistics.h"
#include "server/resp/reply.h"

static struct reply reply;
static char *text; /* what the last taken reply was */
static size_t text_length;

static void set_up(void) {
    reply_init(&reply);
    error_statistics_reset();
}

static void tear_down(void) {
    reply_clear(&reply);
    free(text);
    text = NULL;
    output_pool_thread_exit();
}

TestSuite(reply, .init = set_up, .fini = tear_down, .timeout = 20);

static unsigned take(void) {
    size_t pending = reply_pending_bytes(&reply);
    struct output_block *blocks = reply_take(&reply);
    unsigned n = 0;
    free(text);
    text = malloc(pending + 1);
    text_length = 0;
    for (struct output_block *block = blocks; block != NULL; block = block->next, n++) {
        cr_assert_leq(text_length + block->length, pending);
        memcpy(text + text_length, block->data, block->length);
        text_length += block->length;
    }
    cr_assert_eq(text_length, pending, "pending bytes: %zu and not %zu", text_length, pending);
    text[text_length] = '\0';
    output_blocks_free(blocks);
    cr_assert_eq(reply_pending_bytes(&reply), 0);
    return n;
}

#define EXPECT(version, expected, write)                                                           \
    do {                                                                                           \
        reply.resp = version;                                                                      \
        write;                                                                                     \
        take();                                                                                    \
        cr_assert_str_eq(text, expected);                                                          \
    } while (0)

Test(reply, simple_replies) {
    EXPECT(2, "+OK\r\n", reply_ok(&reply));
    EXPECT(2, "+QUEUED\r\n", reply_status(&reply, "QUEUED"));
    EXPECT(2, "raw", reply_literal(&reply, "raw"));
    EXPECT(2, "$-1\r\n", reply_null(&reply));
    EXPECT(3, "_\r\n", reply_null(&reply));
    EXPECT(2, "*-1\r\n", reply_null_array(&reply));
    EXPECT(3, "_\r\n", reply_null_array(&reply));
    EXPECT(2, ":1\r\n", reply_boolean(&reply, true));
    EXPECT(2, ":0\r\n", reply_boolean(&reply, false));
    EXPECT(3, "#t\r\n", reply_boolean(&reply, true));
    EXPECT(3, "#f\r\n", reply_boolean(&reply, false));
}

Test(reply, aggregates) {
    EXPECT(2, "*0\r\n", reply_empty_array(&reply));
    EXPECT(3, "*12\r\n", reply_array(&reply, 12));
    EXPECT(2, "*6\r\n", reply_map(&reply, 3));
    EXPECT(3, "%3\r\n", reply_map(&reply, 3));
    EXPECT(2, "*3\r\n", reply_set(&reply, 3));
    EXPECT(3, "~3\r\n", reply_set(&reply, 3));
    EXPECT(3, ">123\r\n", reply_push(&reply, 123));
}

Test(reply, integers) {
    EXPECT(2, ":0\r\n", reply_integer(&reply, 0));
    EXPECT(2, ":-1\r\n", reply_integer(&reply, -1));
    EXPECT(2, ":9223372036854775807\r\n", reply_integer(&reply, INT64_MAX));
    EXPECT(2, ":-9223372036854775808\r\n", reply_integer(&reply, INT64_MIN));
    EXPECT(2, "$3\r\n-12\r\n", reply_bulk_integer(&reply, -12));
    for (int64_t i = 0, step = 1; i < 1000000000000; i += step, step = step * 5 / 4 + 1) {
        char expected[64];
        snprintf(expected, sizeof(expected), ":%lld\r\n", (long long)i);
        EXPECT(2, expected, reply_integer(&reply, i));
    }
}

Test(reply, doubles) {
    EXPECT(2, "$3\r\n1.5\r\n", reply_double(&reply, 1.5));
    EXPECT(3, ",1.5\r\n", reply_double(&reply, 1.5));
    EXPECT(3, ",10\r\n", reply_double(&reply, 10));
    EXPECT(3, ",0.1\r\n", reply_double(&reply, 0.1));
    EXPECT(3, ",inf\r\n", reply_double(&reply, (double)INFINITY));
    EXPECT(2, "$4\r\n-inf\r\n", reply_double(&reply, -(double)INFINITY));
    EXPECT(2, "$3\r\n123\r\n", reply_big_number(&reply, "123"));
    EXPECT(3, "(123\r\n", reply_big_number(&reply, "123"));
}

Test(reply, bulks) {
    EXPECT(2, "$0\r\n\r\n", reply_bulk(&reply, "", 0));
    EXPECT(2, "$5\r\nhello\r\n", reply_bulk_text(&reply, "hello"));
    EXPECT(2, "$4\r\nsome\r\n", reply_verbatim(&reply, "txt", "some", 4));
    EXPECT(3, "=8\r\ntxt:some\r\n", reply_verbatim(&reply, "txt", "some", 4));
    reply_bulk(&reply, "a\0b", 3);
    take();
    cr_assert_eq(text_length, 9);
    cr_assert_eq(memcmp(text, "$3\r\na\0b\r\n", 9), 0);
}

Test(reply, bulks_of_every_size) {
    static char value[300000];
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (char)(i * 31 % 251);
    for (size_t length = 0; length < sizeof(value); length += length < 300 ? 1 : length / 7) {
        char header[32];
        size_t n = (size_t)snprintf(header, sizeof(header), "$%zu\r\n", length);
        reply_bulk(&reply, value, length);
        take();
        cr_assert_eq(text_length, n + length + 2);
        cr_assert_eq(memcmp(text, header, n), 0);
        cr_assert_eq(memcmp(text + n, value, length), 0);
        cr_assert_eq(memcmp(text + n + length, "\r\n", 2), 0);
    }
}

Test(reply, many_replies_go_on_in_further_blocks) {
    size_t expected = 0;
    for (int i = 0; i < 20000; i++) {
        reply_integer(&reply, 10000 + i);
        expected += 8;
        cr_assert_eq(reply_pending_bytes(&reply), expected);
    }
    cr_assert_gt(take(), 5);
    for (size_t i = 0; i < 20000; i++)
        cr_assert_eq(strtol(text + i * 8 + 1, NULL, 10), (long)(10000 + i));
}

Test(reply, errors) {
    EXPECT(2, "-ERR no\r\n", reply_error(&reply, "ERR no"));
    EXPECT(2, "-ERR a  b\r\n", reply_error(&reply, "ERR a\r\nb\r\n"));
    EXPECT(2, "-ERR 'x%y' 7\r\n", reply_error_format(&reply, "ERR '%s' %d", "x%y", 7));
    static char word[3000], expected[3100];
    memset(word, 'w', sizeof(word) - 1);
    snprintf(expected, sizeof(expected), "-ERR %s\r\n", word);
    EXPECT(2, expected, reply_error_format(&reply, "ERR %s", word));
    cr_assert_eq(reply.errors, 4);
}

static char codes[1000];

static void note_code(const char *code, uint64_t count, void *context) {
    (void)context;
    sprintf(codes + strlen(codes), "%s=%llu ", code, (unsigned long long)count);
}

static const char *all_codes(void) {
    codes[0] = '\0';
    error_statistics_each(note_code, NULL);
    return codes;
}

Test(reply, error_statistics_by_code) {
    cr_assert_str_eq(all_codes(), "");
    reply_error(&reply, ERROR_WRONG_TYPE);
    reply_error(&reply, "ERR one");
    reply_error(&reply, "ERR two");
    reply_error(&reply, "noCodeAtAllBecauseItIsAWordThatGoesOnForEver and on");
    cr_assert_str_eq(all_codes(), "ERR=3 WRONGTYPE=1 ");
    cr_assert_eq(error_statistics_total(), 4);
    error_statistics_reset();
    cr_assert_str_eq(all_codes(), "");
    cr_assert_eq(error_statistics_total(), 0);
}

static void *errors_elsewhere(void *context) {
    struct reply other;
    (void)context;
    reply_init(&other);
    for (int i = 0; i < 1000; i++) {
        reply_error(&other, i % 2 ? "ERR x" : "NOAUTH x");
        reply_clear(&other);
    }
    output_pool_thread_exit();
    return NULL;
}

Test(reply, error_statistics_sum_over_threads) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, errors_elsewhere, NULL);
    for (int i = 0; i < 100; i++)
        (void)all_codes();
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    reply_error(&reply, "ERR mine");
    cr_assert_str_eq(all_codes(), "ERR=1501 NOAUTH=1500 ");
    cr_assert_eq(error_statistics_total(), 3001);
}

Test(reply, error_statistics_have_a_limit) {
    for (int i = 0; i < 3 * ERROR_CODES_MAX; i++)
        reply_error_format(&reply, "CODE%d x", i);
    cr_assert_eq(error_statistics_total(), 3 * ERROR_CODES_MAX);
}

Test(reply, rewind_within_a_block) {
    reply_ok(&reply);
    struct reply_mark mark = reply_mark(&reply);
    reply_error(&reply, ERROR_WRONG_TYPE);
    reply_error(&reply, "ERR x");
    reply_rewind(&reply, mark);
    cr_assert_eq(reply.errors, 0);
    cr_assert_str_eq(all_codes(), "", "what was rewound is not counted");
    cr_assert_eq(error_statistics_total(), 0);
    reply_integer(&reply, 5);
    take();
    cr_assert_str_eq(text, "+OK\r\n:5\r\n");
}

Test(reply, rewind_over_blocks_and_to_nothing) {
    static char value[100000];
    struct reply_mark mark = reply_mark(&reply);
    reply_bulk(&reply, value, sizeof(value));
    reply_rewind(&reply, mark);
    cr_assert_eq(reply_pending_bytes(&reply), 0);
    reply_ok(&reply);
    mark = reply_mark(&reply);
    reply_bulk(&reply, value, sizeof(value));
    reply_bulk(&reply, value, 10);
    reply_rewind(&reply, mark);
    reply_ok(&reply);
    take();
    cr_assert_str_eq(text, "+OK\r\n+OK\r\n");
}

Test(reply, discard) {
    reply_ok(&reply);
    reply.discard = true;
    struct reply_mark mark = reply_mark(&reply);
    reply_ok(&reply);
    reply_error(&reply, "ERR counted all the same");
    reply_bulk(&reply, "x", 1);
    struct reply_deferred deferred = reply_deferred_begin(&reply);
    reply_deferred_array(&reply, deferred, 0);
    for (int i = 0; i < 10000; i++)
        reply_integer(&reply, i);
    cr_assert_eq(reply.errors, 1);
    reply_rewind(&reply, mark);
    cr_assert_eq(reply.errors, 0);
    reply_error(&reply, "ERR counted all the same");
    reply.discard = false;
    reply_integer(&reply, 1);
    take();
    cr_assert_str_eq(text, "+OK\r\n:1\r\n");
    cr_assert_str_eq(all_codes(), "ERR=1 ");
}

/* --- Objects -----------------------------------------------------------------------------------
 */

static struct object *make_string(const char *value, size_t length) {
    return object_make_string("key", 3, value, length, OBJECT_NO_EXPIRY, STRING_SET);
}

static void expect_object(const char *value) {
    struct object *object = make_string(value, strlen(value));
    char expected[128];
    snprintf(expected, sizeof(expected), "$%zu\r\n%s\r\n", strlen(value), value);
    reply_bulk_object(&reply, object);
    take();
    cr_assert_str_eq(text, expected);
    object_free(object);
}

Test(reply, small_objects) {
    expect_object("");
    expect_object("hello");
    expect_object("12345");
    expect_object("-9223372036854775808");
    expect_object("a value that is longer than forty-four bytes, so it is raw");
}

Test(reply, blobs_are_lent) {
    size_t length = 100000;
    char *value = malloc(length);
    memset(value, 'b', length);
    struct object *object = make_string(value, length);
    cr_assert(object_needs_token(object));
    struct blob *blob = object_pointer(object);
    reply_ok(&reply);
    struct reply_mark mark = reply_mark(&reply);
    reply_bulk_object(&reply, object);
    reply_ok(&reply);
    cr_assert_eq(atomic_load(&blob->references), 2);
    reply_rewind(&reply, mark);
    cr_assert_eq(atomic_load(&blob->references), 1);
    reply_bulk_object(&reply, object);
    reply_bulk_object(&reply, object);
    reply_ok(&reply);
    cr_assert_eq(atomic_load(&blob->references), 3);
    cr_assert_eq(reply_pending_bytes(&reply), 5 + 2 * (9 + length + 2) + 5);
    take();
    cr_assert_eq(atomic_load(&blob->references), 1);
    cr_assert_eq(strncmp(text, "+OK\r\n$100000\r\nbbb", 17), 0);
    cr_assert_eq(memcmp(text + 14, value, length), 0);
    cr_assert_str_eq(text + text_length - 8, "b\r\n+OK\r\n");
    /* A mark right behind a blob. */
    reply_bulk_object(&reply, object);
    mark = reply_mark(&reply);
    reply_bulk_object(&reply, object);
    reply_rewind(&reply, mark);
    take();
    cr_assert_eq(text_length, 9 + length + 2);
    object_free(object);
    free(value);
}

/* --- Deferred lengths --------------------------------------------------------------------------
 */

Test(reply, deferred_lengths) {
    reply_ok(&reply);
    struct reply_deferred outer = reply_deferred_begin(&reply);
    reply_integer(&reply, 1);
    struct reply_deferred inner = reply_deferred_begin(&reply);
    reply_integer(&reply, 2);
    reply_integer(&reply, 3);
    reply_deferred_map(&reply, inner, 1);
    reply_deferred_array(&reply, outer, 2);
    reply_ok(&reply);
    take();
    cr_assert_str_eq(text, "+OK\r\n*2\r\n:1\r\n*2\r\n:2\r\n:3\r\n+OK\r\n");
    reply.resp = 3;
    EXPECT(3, "~0\r\n", reply_deferred_set(&reply, reply_deferred_begin(&reply), 0));
    EXPECT(3, "%7\r\n", reply_deferred_map(&reply, reply_deferred_begin(&reply), 7));
}

Test(reply, deferred_length_before_many_elements) {
    struct reply_deferred deferred = reply_deferred_begin(&reply);
    size_t expected = strlen("*30000\r\n");
    for (int i = 0; i < 30000; i++) {
        reply_bulk(&reply, "element", 7);
        expected += 13;
    }
    reply_deferred_array(&reply, deferred, 30000);
    cr_assert_eq(reply_pending_bytes(&reply), expected);
    take();
    cr_assert_eq(strncmp(text, "*30000\r\n$7\r\nelement\r\n", 21), 0);
}

Test(reply, rewind_of_a_deferred_length) {
    reply_ok(&reply);
    struct reply_mark mark = reply_mark(&reply);
    reply_deferred_begin(&reply);
    reply_ok(&reply);
    reply_rewind(&reply, mark);
    reply_ok(&reply);
    take();
    cr_assert_str_eq(text, "+OK\r\n+OK\r\n");
}

/* --- Pool --------------------------------------------------------------------------------------
 */

Test(reply, idle_replies_hold_no_memory) {
    uint64_t before = memory_used_bytes();
    static char value[1000000];
    for (int i = 0; i < 50; i++)
        reply_bulk(&reply, value, 3000);
    reply_bulk(&reply, value, sizeof(value));
    cr_assert_gt(memory_used_bytes(), before + sizeof(value));
    reply_clear(&reply);
    output_pool_trim();
    cr_assert_leq(memory_used_bytes(), before + 8 * OUTPUT_BLOCK_BYTES);
    output_pool_thread_exit();
    cr_assert_leq(memory_used_bytes(), before);
}

static struct reply lines_of(unsigned count) {
    struct reply lines;
    reply_init(&lines);
    for (unsigned i = 0; i < count; i++)
        reply_literal(&lines, "a line of a long text\n");
    return lines;
}

Test(reply, moved_texts) {
    for (int version = 2; version <= 3; version++)
        for (unsigned count = 0; count < 3000; count = count * 3 + 1) {
            char header[64];
            struct reply lines = lines_of(count);
            reply.resp = (uint8_t)version;
            reply_ok(&reply);
            struct reply_mark mark = reply_mark(&reply);
            reply_verbatim_move(&reply, "txt", &lines);
            cr_assert_eq(reply_pending_bytes(&lines), 0);
            reply_rewind(&reply, mark);
            cr_assert_eq(reply_pending_bytes(&reply), 5);
            lines = lines_of(count);
            reply_verbatim_move(&reply, "txt", &lines);
            reply_ok(&reply); /* the chain goes on */
            unsigned blocks = take();
            unsigned length = count * 22;
            int n = version == 2
                        ? snprintf(header, sizeof header, "+OK\r\n$%u\r\n", length)
                        : snprintf(header, sizeof header, "+OK\r\n=%u\r\ntxt:", length + 4);
            cr_assert_eq(strncmp(text, header, (size_t)n), 0);
            cr_assert_str_eq(text + n + length, "\r\n+OK\r\n");
            cr_assert_leq(blocks, 3 + length / 16000, "it was not copied into blocks of its own");
        }
    struct reply lines = lines_of(1000);
    reply.discard = true;
    reply_verbatim_move(&reply, "txt", &lines);
    cr_assert_eq(reply_pending_bytes(&lines), 0, "dropped with the reply");
    reply.discard = false;
    cr_assert_eq(take(), 0);
}
