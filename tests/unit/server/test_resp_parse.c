/* The RESP parser: what is a command, what is an error and in whose words, what is not there yet.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/memory.h"
#include "server/resp/resp_parse.h"

#define ARGUMENTS 32

static const struct parse_limits known = {512ll * 1024 * 1024, true};
static const struct parse_limits stranger = {512ll * 1024 * 1024, false};

static struct argument argv[ARGUMENTS];
static char scratch[256 * 1024];
static struct parse_output out;

/* From memory of exactly that size, so that a sanitizer sees one byte read too many. */
static void parse_bytes(const char *bytes, size_t length, const struct parse_limits *limits) {
    static char *copy;
    free(copy);
    copy = malloc(length > 0 ? length : 1);
    memcpy(copy, bytes, length);
    resp_parse(copy, length, limits, argv, ARGUMENTS, scratch, &out);
}

static void parse(const char *text) {
    parse_bytes(text, strlen(text), &known);
}

static void expect_command(const char *text, int argc, const char *const *words) {
    parse(text);
    cr_assert_eq(out.result, PARSE_COMMAND, "'%s'", text);
    cr_assert_eq(out.consumed, strlen(text), "'%s'", text);
    cr_assert_eq(out.argc, argc, "'%s'", text);
    for (int i = 0; i < argc; i++) {
        cr_assert_eq(argv[i].length, strlen(words[i]), "'%s' argument %d", text, i);
        cr_assert_eq(memcmp(argv[i].data, words[i], argv[i].length), 0, "'%s' argument %d", text,
                     i);
    }
}
#define EXPECT_COMMAND(text, ...)                                                                  \
    do {                                                                                           \
        static const char *const words[] = {__VA_ARGS__};                                          \
        expect_command((text), (int)(sizeof(words) / sizeof(words[0])), words);                    \
    } while (0)

static void expect_error(const char *text, const char *error) {
    parse(text);
    cr_assert_eq(out.result, PARSE_ERROR, "'%s'", text);
    cr_assert_str_eq(out.error, error);
}

static void expect_incomplete(const char *text, size_t hint) {
    parse(text);
    cr_assert_eq(out.result, PARSE_INCOMPLETE, "'%s'", text);
    cr_assert_eq(out.consumed, 0);
    cr_assert_eq(out.missing_hint, hint, "'%s': %zu", text, out.missing_hint);
}

Test(resp_parse, multibulk) {
    EXPECT_COMMAND("*1\r\n$4\r\nPING\r\n", "PING");
    cr_assert_not(out.was_inline);
    EXPECT_COMMAND("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "GET", "k");
    EXPECT_COMMAND("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", "SET", "k", "");
    EXPECT_COMMAND(
        "*11\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n$1\r\nf\r\n$1\r\ng\r\n"
        "$1\r\nh\r\n$1\r\ni\r\n$1\r\nj\r\n$1\r\nk\r\n",
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k");
    /* What stands behind the CR of a line and behind a bulk is not looked at. */
    EXPECT_COMMAND("*1\rx$4\rxPINGxx", "PING");
}

Test(resp_parse, bulks_of_every_length) {
    static char text[20000], value[20000];
    memset(value, 'v', sizeof(value));
    for (int length = 0; length < 12000; length += length < 1200 ? 1 : 97) {
        int n = sprintf(text, "*2\r\n$4\r\nECHO\r\n$%d\r\n%.*s\r\n", length, length, value);
        parse_bytes(text, (size_t)n, &known);
        cr_assert_eq(out.result, PARSE_COMMAND, "%d", length);
        cr_assert_eq(out.consumed, (size_t)n);
        cr_assert_eq(argv[1].length, (size_t)length);
        cr_assert_eq(argv[1].data[length], '\r');
    }
}

Test(resp_parse, nul_bytes_in_values) {
    parse_bytes("*2\r\n$4\r\nECHO\r\n$3\r\na\0b\r\n", 23, &known);
    cr_assert_eq(out.result, PARSE_COMMAND);
    cr_assert_eq(memcmp(argv[1].data, "a\0b", 3), 0);
}

Test(resp_parse, commands_without_arguments_are_skipped) {
    static const char *const texts[] = {"*0\r\n", "*-1\r\n", "*-10\r\n", "\r\n", "\n", "  \t\r\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        parse(texts[i]);
        cr_assert_eq(out.result, PARSE_COMMAND, "%zu", i);
        cr_assert_eq(out.argc, 0);
        cr_assert_eq(out.consumed, strlen(texts[i]));
    }
}

Test(resp_parse, inline_commands) {
    EXPECT_COMMAND("PING\r\n", "PING");
    cr_assert(out.was_inline);
    EXPECT_COMMAND("PING\n", "PING");
    EXPECT_COMMAND("  SET  k\tv \r\n", "SET", "k", "v");
    EXPECT_COMMAND("set k \"a b\"\r\n", "set", "k", "a b");
    EXPECT_COMMAND("set k \"\\x41\\n\\r\\t\\b\\a\\q\\\"\"\r\n", "set", "k", "A\n\r\t\b\aq\"");
    EXPECT_COMMAND("set k '\\'\\n'\r\n", "set", "k", "'\\n");
    EXPECT_COMMAND("set \"\" ''\r\n", "set", "", "");
    EXPECT_COMMAND("ab\"c d\" e\r\n", "abc d", "e");
    EXPECT_COMMAND("\"\\x4\" \"\\xg1\"\r\n", "x4", "xg1");
    EXPECT_COMMAND("a\vb \vc\f\r\n", "a\vb", "c\f");
    expect_error("set k \"a\r\n", "ERR Protocol error: unbalanced quotes in request");
    expect_error("set k 'a\r\n", "ERR Protocol error: unbalanced quotes in request");
    expect_error("set k \"a\"b\r\n", "ERR Protocol error: unbalanced quotes in request");
    expect_error("set k 'a'b\r\n", "ERR Protocol error: unbalanced quotes in request");
    expect_error("set k \"a\\\"\r\n", "ERR Protocol error: unbalanced quotes in request");
}

Test(resp_parse, inline_needs_scratch_only_for_quotes) {
    static const char plain[] = "set k v\r\n", quoted[] = "set k 'v'\r\n";
    resp_parse(plain, sizeof(plain) - 1, &known, argv, ARGUMENTS, NULL, &out);
    cr_assert_eq(out.result, PARSE_COMMAND);
    resp_parse(quoted, sizeof(quoted) - 1, &known, argv, ARGUMENTS, NULL, &out);
    cr_assert_eq(out.result, PARSE_ARGUMENTS);
    cr_assert_eq(out.argc, -1);
}

Test(resp_parse, error_texts) {
    expect_error("*\r\n", "ERR Protocol error: invalid multibulk length");
    expect_error("*x\r\n", "ERR Protocol error: invalid multibulk length");
    expect_error("*+1\r\n", "ERR Protocol error: invalid multibulk length");
    expect_error("*01\r\n", "ERR Protocol error: invalid multibulk length");
    expect_error("*1 \r\n", "ERR Protocol error: invalid multibulk length");
    expect_error("*2147483648\r\n", "ERR Protocol error: invalid multibulk length");
    expect_error("*20000000000000000000\r\n", "ERR Protocol error: invalid multibulk length");
    expect_error("*1\r\n$\r\n", "ERR Protocol error: invalid bulk length");
    expect_error("*1\r\n$-1\r\n", "ERR Protocol error: invalid bulk length");
    expect_error("*1\r\n$00\r\n", "ERR Protocol error: invalid bulk length");
    expect_error("*1\r\n$1a\r\n", "ERR Protocol error: invalid bulk length");
    expect_error("*1\r\n$536870913\r\n", "ERR Protocol error: invalid bulk length");
    expect_error("*1\r\n$9223372036854775808\r\n", "ERR Protocol error: invalid bulk length");
    expect_error("*1\r\nfoo\r\n", "ERR Protocol error: expected '$', got 'f'");
    expect_error("*1\r\n\r\n", "ERR Protocol error: expected '$', got '\r'");
    expect_error("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-10\r\n",
                 "ERR Protocol error: invalid bulk length");
}

Test(resp_parse, bulk_limit_is_configurable) {
    static const struct parse_limits narrow = {10, true};
    parse_bytes("*1\r\n$10\r\n0123456789\r\n", 21, &narrow);
    cr_assert_eq(out.result, PARSE_COMMAND);
    parse_bytes("*1\r\n$11\r\n", 9, &narrow);
    cr_assert_eq(out.result, PARSE_ERROR);
    cr_assert_str_eq(out.error, "ERR Protocol error: invalid bulk length");
}

Test(resp_parse, strangers_are_limited) {
    parse_bytes("*10\r\n", 5, &stranger);
    cr_assert_eq(out.result, PARSE_INCOMPLETE);
    parse_bytes("*11\r\n", 5, &stranger);
    cr_assert_eq(out.result, PARSE_ERROR);
    cr_assert_str_eq(out.error, "ERR Protocol error: unauthenticated multibulk length");
    parse_bytes("*1\r\n$16384\r\n", 12, &stranger);
    cr_assert_eq(out.result, PARSE_INCOMPLETE);
    parse_bytes("*1\r\n$16385\r\n", 12, &stranger);
    cr_assert_eq(out.result, PARSE_ERROR);
    cr_assert_str_eq(out.error, "ERR Protocol error: unauthenticated bulk length");
}

static void expect_endless(const char *start, char filler, const char *error) {
    static char text[RESP_LINE_END_MAX + 100];
    size_t head = strlen(start);
    memcpy(text, start, head);
    memset(text + head, filler, sizeof(text) - head);
    size_t line = (size_t)(strrchr(start, '\n') == NULL ? 0 : strrchr(start, '\n') + 1 - start);
    parse_bytes(text, line + RESP_LINE_MAX, &known);
    cr_assert_eq(out.result, PARSE_INCOMPLETE);
    parse_bytes(text, line + RESP_LINE_MAX + 1, &known);
    cr_assert_eq(out.result, PARSE_ERROR);
    cr_assert_str_eq(out.error, error);
    /* An end that comes too late does not help. */
    memcpy(text + sizeof(text) - 2, "\r\n", 2);
    parse_bytes(text, sizeof(text), &known);
    cr_assert_eq(out.result, PARSE_ERROR);
    cr_assert_str_eq(out.error, error);
}

Test(resp_parse, endless_lines) {
    expect_endless("*1", '1', "ERR Protocol error: too big mbulk count string");
    expect_endless("*1\r\n$", '1', "ERR Protocol error: too big bulk count string");
    expect_endless("*1\r\nx", 'x', "ERR Protocol error: too big bulk count string");
    expect_endless("set", 'x', "ERR Protocol error: too big inline request");
}

Test(resp_parse, nul_makes_a_line_endless) {
    parse_bytes("*1\0\r\n", 5, &known);
    cr_assert_eq(out.result, PARSE_INCOMPLETE);
    parse_bytes("*1\r\n\0$4\r\nPING\r\n", 15, &known);
    cr_assert_eq(out.result, PARSE_INCOMPLETE);
    parse_bytes("PI\0NG\r\n", 7, &known);
    cr_assert_eq(out.result, PARSE_INCOMPLETE);
}

Test(resp_parse, hint_of_what_is_missing) {
    parse_bytes("", 0, &known);
    cr_assert_eq(out.result, PARSE_INCOMPLETE);
    expect_incomplete("*", 1);
    expect_incomplete("*2\r", 1);
    expect_incomplete("*2\r\n", 2); /* "\r\n" would be an error */
    expect_incomplete("*2\r\n$3\r\nGE", 1 + 2 + 2);
    expect_incomplete("*2\r\n$3\r\nGET\r\n$100\r\n", 102);
    expect_incomplete("*2\r\n$3\r\nGET\r\n$100\r\nab", 100);
    cr_assert_eq(out.argc, 1);
    expect_incomplete("*2\r\n$3\r\nGET\r\n$400000000\r\n", 400000002);
    expect_incomplete("PING", 1);
}

/* No proper prefix is a command, and the hint never asks for more than makes it one. */
Test(resp_parse, every_prefix_is_incomplete) {
    static const char text[] =
        "*3\r\n$3\r\nSET\r\n$12\r\nkey:00000001\r\n$123\r\n"
        "0123456789012345678901234567890123456789012345678901234567890123456789"
        "01234567890123456789012345678901234567890123456789012\r\n";
    for (size_t n = 0; n < sizeof(text) - 1; n++) {
        parse_bytes(text, n, &known);
        cr_assert_eq(out.result, PARSE_INCOMPLETE, "%zu", n);
        cr_assert_eq(out.consumed, 0);
        cr_assert(out.missing_hint >= 1 && n + out.missing_hint <= sizeof(text) - 1, "%zu", n);
    }
    parse(text);
    cr_assert_eq(out.result, PARSE_COMMAND);
}

/* A command "MSET" of argc - 1 short words. Caller frees. */
static char *many_arguments(int argc, size_t *length) {
    char *text = malloc((size_t)argc * 24 + 64);
    size_t n = (size_t)sprintf(text, "*%d\r\n$4\r\nMSET\r\n", argc);
    for (int i = 1; i < argc; i++) {
        char word[16];
        int word_length = sprintf(word, "%d", i);
        n += (size_t)sprintf(text + n, "$%d\r\n%s\r\n", word_length, word);
    }
    *length = n;
    return text;
}

Test(resp_parse, more_arguments_than_room) {
    size_t length;
    char *text = many_arguments(ARGUMENTS + 1, &length);
    resp_parse(text, length - 1, &known, argv, ARGUMENTS, NULL, &out);
    cr_assert_eq(out.result, PARSE_INCOMPLETE);
    cr_assert_eq(out.argc, ARGUMENTS);
    resp_parse(text, length, &known, argv, ARGUMENTS, NULL, &out);
    cr_assert_eq(out.result, PARSE_ARGUMENTS);
    cr_assert_eq(out.argc, ARGUMENTS + 1);
    free(text);
    /* What is only announced asks for no room. */
    parse("*2147483647\r\n$4\r\nMSET\r\n");
    cr_assert_eq(out.result, PARSE_INCOMPLETE);
    cr_assert_eq(out.argc, 1);
}

Test(resp_parse, inline_with_more_arguments_than_room) {
    char text[4 * ARGUMENTS + 8] = "";
    for (int i = 0; i < ARGUMENTS + 5; i++)
        strcat(text, "a ");
    strcat(text, "\r\n");
    parse(text);
    cr_assert_eq(out.result, PARSE_ARGUMENTS);
    cr_assert_eq(out.argc, ARGUMENTS + 5);
}

/* The bytes move between the calls, as a growing buffer does. */
static void parse_in_pieces(size_t piece) {
    size_t length;
    char *text = many_arguments(1000, &length);
    struct parse_large large = {0};
    for (size_t n = 0; n < length;) {
        n = n + piece < length ? n + piece : length;
        char *moved = malloc(n);
        memcpy(moved, text, n);
        resp_parse_large(&large, moved, n, &known, &out);
        cr_assert_eq(out.result, n < length ? PARSE_INCOMPLETE : PARSE_COMMAND, "%zu", n);
        for (int i = 1; i < out.argc && n == length; i++)
            cr_assert_eq(strtol(large.argv[i].data, NULL, 10), i);
        free(moved);
    }
    cr_assert_eq(out.argc, 1000);
    cr_assert_eq(out.consumed, length);
    resp_parse_large_release(&large);
    free(text);
}

Test(resp_parse, large_in_pieces) {
    parse_in_pieces(1);
    parse_in_pieces(7);
    parse_in_pieces(64);
    parse_in_pieces(100000);
}

Test(resp_parse, large_is_used_again) {
    static const char small[] = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
    struct parse_large large = {0};
    for (int i = 0; i < 3; i++) {
        resp_parse_large(&large, small, sizeof(small) - 1, &known, &out);
        cr_assert_eq(out.result, PARSE_COMMAND);
        cr_assert_eq(out.argc, 2);
        cr_assert_eq(out.consumed, sizeof(small) - 1);
        cr_assert_eq(large.argv[1].data, small + sizeof(small) - 4);
    }
    resp_parse_large(&large, "*0\r\n", 4, &known, &out);
    cr_assert_eq(out.result, PARSE_COMMAND);
    cr_assert_eq(out.argc, 0);
    resp_parse_large_release(&large);
}

Test(resp_parse, large_errors_and_memory) {
    struct parse_large large = {0};
    static const char announced[] = "*2147483647\r\n$1\r\na\r\n";
    resp_parse_large(&large, announced, sizeof(announced) - 1, &known, &out);
    cr_assert_eq(out.result, PARSE_INCOMPLETE);
    cr_assert_leq(large.capacity, 1024, "memory follows what has arrived");
    static const char wrong[] = "*2147483647\r\n$1\r\na\r\n$-1\r\n";
    resp_parse_large(&large, wrong, sizeof(wrong) - 1, &known, &out);
    cr_assert_eq(out.result, PARSE_ERROR);
    cr_assert_str_eq(out.error, "ERR Protocol error: invalid bulk length");
    resp_parse_large_release(&large);
}

Test(resp_parse, large_takes_linear_time) {
    size_t length;
    char *text = many_arguments(400000, &length);
    struct parse_large large = {0};
    size_t calls = 0;
    for (size_t n = 0; n < length; calls++) {
        n = n + 1000 < length ? n + 1000 : length;
        resp_parse_large(&large, text, n, &known, &out);
    }
    cr_assert_gt(calls, 4000);
    cr_assert_eq(out.result,
                 PARSE_COMMAND); /* quadratic: minutes, beyond the timeout of the suite */
    resp_parse_large_release(&large);
    free(text);
}

TestSuite(resp_parse, .timeout = 20);
