/* String commands where the stored form matters: encodings, the border between embedded strings and
 * blobs, growth, lent blobs, readers without tokens. Replies as such are compared with a stock
 * server in the integration tests. */
#include "tests/unit/server/run_command.h"

TestSuite(cmd_string, .init = commands_setup, .fini = commands_teardown);

#define EMBED_MAX OBJECT_EMBED_MAX_BYTES

Test(cmd_string, encodings_are_those_of_redis) {
    char *embstr = filled('x', 44), *raw = filled('x', 45);
    REPLIES("+OK\r\n", "SET", "k", "9223372036854775807");
    REPLIES("$3\r\nint\r\n", "OBJECT", "ENCODING", "k");
    REPLIES("+OK\r\n", "SET", "k", "9223372036854775808");
    REPLIES("$6\r\nembstr\r\n", "OBJECT", "ENCODING", "k");
    REPLIES("+OK\r\n", "SET", "k", embstr);
    REPLIES("$6\r\nembstr\r\n", "OBJECT", "ENCODING", "k");
    REPLIES("+OK\r\n", "SET", "k", raw);
    REPLIES("$3\r\nraw\r\n", "OBJECT", "ENCODING", "k");
    REPLIES("+OK\r\n", "SET", "k", "1");
    REPLIES(":2\r\n", "APPEND", "k", "2");
    REPLIES("$3\r\nraw\r\n", "OBJECT", "ENCODING", "k");
    REPLIES(":13\r\n", "INCR", "k");
    REPLIES("$3\r\nint\r\n", "OBJECT", "ENCODING", "k");
    REPLIES("$2\r\n14\r\n", "INCRBYFLOAT", "k", "1");
    REPLIES("$6\r\nembstr\r\n", "OBJECT", "ENCODING", "k");
    REPLIES(":2\r\n", "SETRANGE", "k", "0", "77");
    REPLIES("$3\r\nraw\r\n", "OBJECT", "ENCODING", "k");
    REPLIES(":1\r\n", "APPEND", "new", "7");
    REPLIES("$3\r\nint\r\n", "OBJECT", "ENCODING", "new");
    free(embstr);
    free(raw);
}

Test(cmd_string, increment_changes_an_integer_in_place_and_keeps_its_time) {
    REPLIES("+OK\r\n", "SET", "k", "10", "PXAT", "4000000000000");
    const struct object *before = object_at("k");
    REPLIES(":9\r\n", "DECR", "k");
    REPLIES(":-91\r\n", "DECRBY", "k", "100");
    cr_assert_eq(object_at("k"), before);
    REPLIES(":4000000000000\r\n", "PEXPIRETIME", "k");
    REPLIES("$5\r\n-90.5\r\n", "INCRBYFLOAT", "k", "0.5");
    REPLIES(":4000000000000\r\n", "PEXPIRETIME", "k");
    REPLIES("-ERR value is not an integer or out of range\r\n", "INCR", "k");
    REPLIES("+OK\r\n", "SET", "k", "9223372036854775807");
    REPLIES("-ERR increment or decrement would overflow\r\n", "INCR", "k");
    REPLIES("$19\r\n9223372036854775807\r\n", "GET", "k");
}

Test(cmd_string, append_crosses_into_a_blob_and_grows_by_doubling) {
    char *half = filled('a', EMBED_MAX / 2);
    RUN("SET", "k", half);
    RUN("APPEND", "k", half);
    cr_assert(!object_needs_token(object_at("k")), "the largest embedded string");
    RUN("APPEND", "k", "b");
    cr_assert(object_needs_token(object_at("k")));
    unsigned moves = 0;
    const void *blob = NULL;
    for (int i = 0; i < 100000; i++) {
        RUN("APPEND", "k", "0123456789");
        moves += object_pointer(object_at("k")) != blob;
        blob = object_pointer(object_at("k"));
    }
    cr_assert_lt(moves, 20, "moved %u times", moves);
    REPLIES(":1016385\r\n", "STRLEN", "k");
    free(half);
}

Test(cmd_string, a_lent_blob_is_not_changed) {
    char *text = filled('a', EMBED_MAX + 1);
    RUN("SET", "k", text);
    enum call_result result;
    struct argument get[2] = {{"GET", 3}, {"k", 1}};
    struct output_block *lent = run_blocks(&result, get, 2);
    RUN("SETRANGE", "k", "0", "b");
    RUN("APPEND", "k", "c");
    REPLIES(":1\r\n", "DEL", "k");
    keep_reply(lent);
    char *body = strchr(replied, '\n') + 1;
    cr_assert_eq(memcmp(body, text, EMBED_MAX + 1), 0);
    cr_assert_str_eq(body + EMBED_MAX + 1, "\r\n");
    output_blocks_free(lent);
    free(text);
}

/* SETRANGE against a model, over all combinations of embedded and blob before and after. */
Test(cmd_string, setrange_fills_gaps_with_zeros) {
    static const size_t sizes[] = {0, 5, 300, EMBED_MAX, EMBED_MAX + 1, 70000};
    static const size_t offsets[] = {0, 3, 300, 301, EMBED_MAX - 2, EMBED_MAX, 70000, 100000};
    size_t n = sizeof sizes / sizeof *sizes, m = sizeof offsets / sizeof *offsets;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++) {
            char *text = filled('a', sizes[i]), offset[32], *model = calloc(1, 200000);
            size_t end = offsets[j] + 2;
            size_t length = end > sizes[i] ? end : sizes[i];
            memcpy(model, text, sizes[i]);
            memcpy(model + offsets[j], "XY", 2);
            snprintf(offset, sizeof offset, "%zu", offsets[j]);
            RUN("DEL", "k");
            if (sizes[i])
                RUN("SET", "k", text);
            RUN("SETRANGE", "k", offset, "XY");
            RUN("GET", "k");
            cr_assert_eq(strtoul(replied + 1, NULL, 10), length);
            cr_assert_eq(memcmp(strchr(replied, '\n') + 1, model, length), 0);
            free(text);
            free(model);
        }
}

Test(cmd_string, limits_of_length) {
    REPLIES("-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n", "SETRANGE", "k",
            "536870912", "x");
    REPLIES("-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n", "SETRANGE", "k",
            "9223372036854775807", "x");
    REPLIES(":0\r\n", "SETRANGE", "k", "9223372036854775807", "");
    REPLIES("-ERR offset is out of range\r\n", "SETRANGE", "k", "-1", "");
    cr_assert_null(object_at("k"));
}

Test(cmd_string, readers_ask_for_the_token_of_a_blob_only) {
    char *large = filled('a', EMBED_MAX + 1);
    RUN("SET", "large", large);
    RUN("SET", "small", "abc");
    with_tokens = false;
    cr_assert_eq(RUN("GET", "large"), CALL_NEED_TOKENS);
    cr_assert_eq(RUN("STRLEN", "large"), CALL_NEED_TOKENS);
    cr_assert_eq(RUN("GETRANGE", "large", "0", "1"), CALL_NEED_TOKENS);
    cr_assert_eq(RUN("MGET", "small", "large"), CALL_NEED_TOKENS);
    cr_assert_eq(RUN("LCS", "small", "large"), CALL_NEED_TOKENS);
    REPLIES("+string\r\n", "TYPE", "large");
    REPLIES(":2\r\n", "EXISTS", "large", "small");
    REPLIES(":-1\r\n", "TTL", "large");
    REPLIES("$3\r\nraw\r\n", "OBJECT", "ENCODING", "large");
    REPLIES("$3\r\nabc\r\n", "GET", "small");
    REPLIES(":3\r\n", "STRLEN", "small");
    REPLIES("*2\r\n$3\r\nabc\r\n$-1\r\n", "MGET", "small", "none");
    free(large);
}

Test(cmd_string, getrange_bounds) {
    static const struct {
        const char *start, *end, *expected;
    } cases[] = {
        {"0", "3", "$4\r\nThis\r\n"},
        {"0", "-1", "$11\r\nThis is a s\r\n"},
        {"-3", "-1", "$3\r\na s\r\n"},
        {"5", "3", "$0\r\n\r\n"},
        {"5", "5000", "$6\r\nis a s\r\n"},
        {"-5000", "10000", "$11\r\nThis is a s\r\n"},
        {"-1", "-5", "$0\r\n\r\n"},
        {"-100", "-99", "$1\r\nT\r\n"},
        {"-100", "-100", "$1\r\nT\r\n"},
        {"-99", "-100", "$0\r\n\r\n"},
        {"9223372036854775807", "-1", "$0\r\n\r\n"},
        {"-9223372036854775808", "0", "$1\r\nT\r\n"},
    };
    RUN("SET", "k", "This is a s");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        REPLIES(cases[i].expected, "GETRANGE", "k", cases[i].start, cases[i].end);
    RUN("SET", "k", "12345");
    REPLIES("$2\r\n45\r\n", "GETRANGE", "k", "-2", "-1");
    REPLIES("$0\r\n\r\n", "GETRANGE", "none", "0", "-1");
    RUN("SET", "k", "");
    REPLIES("$0\r\n\r\n", "GETRANGE", "k", "0", "-1");
}

Test(cmd_string, set_options_that_contradict_each_other) {
    static const char *const wrong[][4] = {
        {"NX", "XX"},
        {"XX", "NX"},
        {"EX", "1", "KEEPTTL"},
        {"KEEPTTL", "PX", "1"},
        {"EX", "1", "PX", "1"},
        {"EXAT", "1", "PXAT", "1"},
        {"EX"},
        {"PERSIST"},
        {"GETT"},
        {"PX", "1", "EXAT"},
    };
    RUN("SET", "k", "before");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *const *w = wrong[i];
        run("SET", "k", "after", w[0], w[1], w[1] ? w[2] : NULL, w[1] && w[2] ? w[3] : NULL, NULL);
        cr_assert_str_eq(replied, "-ERR syntax error\r\n", "case %zu: %s", i, replied);
    }
    REPLIES("$6\r\nbefore\r\n", "GET", "k");
    REPLIES("-ERR syntax error\r\n", "GETEX", "k", "KEEPTTL");
    REPLIES("-ERR syntax error\r\n", "GETEX", "k", "PERSIST", "EX", "1");
    REPLIES("-ERR syntax error\r\n", "GETEX", "k", "NX");
    REPLIES("-ERR invalid expire time in 'set' command\r\n", "SET", "k", "v", "EX", "0");
    REPLIES("-ERR invalid expire time in 'set' command\r\n", "SET", "k", "v", "EX",
            "9223372036854775807");
    REPLIES("-ERR invalid expire time in 'psetex' command\r\n", "PSETEX", "k",
            "9223372036854775807", "v");
    REPLIES("-ERR invalid expire time in 'getex' command\r\n", "GETEX", "k", "PX", "-1");
    REPLIES("$-1\r\n", "GETEX", "none", "PX", "-1");
}

Test(cmd_string, set_conditions_and_old_values) {
    REPLIES("$-1\r\n", "SET", "k", "1", "XX");
    REPLIES("$-1\r\n", "SET", "k", "1", "NX", "GET", "PX", "100000");
    REPLIES("$1\r\n1\r\n", "SET", "k", "2", "NX", "GET");
    REPLIES("$-1\r\n", "SET", "k", "2", "NX");
    REPLIES("+OK\r\n", "SET", "k", "3", "XX", "KEEPTTL");
    cr_assert_neq(object_expiry(object_at("k")), OBJECT_NO_EXPIRY);
    REPLIES("$1\r\n3\r\n", "GETSET", "k", "4");
    cr_assert_eq(object_expiry(object_at("k")), OBJECT_NO_EXPIRY);
    REPLIES("$1\r\n4\r\n", "GETEX", "k", "EXAT", "1");
    cr_assert_null(object_at("k"));
    REPLIES(":1\r\n", "MSETNX", "a", "1", "b", "2", "a", "3");
    REPLIES("$1\r\n3\r\n", "GETDEL", "a");
    REPLIES(":0\r\n", "MSETNX", "a", "1", "b", "2");
    cr_assert_null(object_at("a"));
}

/* All subsequences of short strings over two letters: the length against brute force, the indexes
 * against what they name. */
static size_t brute_force(const char *a, const char *b) {
    size_t n = strlen(a), best = 0;
    for (unsigned mask = 0; mask < 1u << n; mask++) {
        size_t length = 0;
        const char *at = b;
        for (size_t i = 0; i < n && at; i++)
            if (mask >> i & 1) {
                at = strchr(at, a[i]);
                if (at)
                    at++;
                length++;
            }
        if (at && length > best)
            best = length;
    }
    return best;
}

Test(cmd_string, lcs_is_longest) {
    unsigned seed = 7;
    for (int round = 0; round < 200; round++) {
        char a[10], b[10], expected[32];
        size_t n = (size_t)rand_r(&seed) % 9, m = (size_t)rand_r(&seed) % 9;
        for (size_t i = 0; i < n; i++)
            a[i] = (char)('a' + rand_r(&seed) % 2);
        for (size_t i = 0; i < m; i++)
            b[i] = (char)('a' + rand_r(&seed) % 2);
        a[n] = b[m] = 0;
        RUN("SET", "a", a);
        RUN("SET", "b", b);
        snprintf(expected, sizeof expected, ":%zu\r\n", brute_force(a, b));
        REPLIES(expected, "LCS", "a", "b", "LEN");
        RUN("LCS", "a", "b");
        cr_assert_eq(strtoul(replied + 1, NULL, 10), brute_force(a, b));
    }
    RUN("SET", "a", "ohmytext");
    RUN("SET", "b", "mynewtext");
    REPLIES("$6\r\nmytext\r\n", "LCS", "a", "b");
    REPLIES("*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n"
            "$3\r\nlen\r\n:6\r\n",
            "LCS", "a", "b", "IDX", "MINMATCHLEN", "4", "WITHMATCHLEN");
    REPLIES("$0\r\n\r\n", "LCS", "a", "none");
}

/* --- What is propagated ----------------------------------------------------------------------- */

static char logged[1024];

static uint64_t log_commit(void *context, const struct effect *effects, size_t count) {
    (void)context;
    for (size_t i = 0; i < count; i++)
        for (unsigned j = 0; j < effects[i].count; j++)
            snprintf(logged + strlen(logged), sizeof logged - strlen(logged), "%s%.*s",
                     j   ? " "
                     : i ? "; "
                         : "",
                     (int)effects[i].arguments[j].length, effects[i].arguments[j].data);
    return 1;
}

/* expected ends in a time that is not compared when it ends in '#'. */
#define LOGS(expected, ...)                                                                        \
    do {                                                                                           \
        logged[0] = 0;                                                                             \
        RUN(__VA_ARGS__);                                                                          \
        size_t n = strcspn(expected, "#");                                                         \
        cr_assert(strncmp(logged, expected, n) == 0 && (expected[n] || !logged[n]), "%s: '%s'",    \
                  expected, logged);                                                               \
    } while (0)

Test(cmd_string, propagates_what_does_not_depend_on_the_time) {
    static struct effect_log log = {.commit = log_commit};
    keyspace->door.log = &log;
    LOGS("SET k v PXAT #", "SET", "k", "v", "EX", "100");
    LOGS("SET k v PXAT 4000000000000 GET", "SET", "k", "v", "PXAT", "4000000000000", "GET");
    LOGS("SET k w XX KEEPTTL", "SET", "k", "w", "XX", "KEEPTTL");
    LOGS("", "SET", "k", "w", "NX");
    LOGS("SET k w KEEPTTL", "SET", "k", "w", "GET", "KEEPTTL", "get");
    LOGS("SET k x", "SET", "k", "x", "GET");
    LOGS("SET k 1 PXAT #", "SETEX", "k", "100", "1");
    LOGS("SET k 1.5 KEEPTTL", "INCRBYFLOAT", "k", "0.5");
    LOGS("PERSIST k", "GETEX", "k", "PERSIST");
    LOGS("", "GETEX", "k", "PERSIST");
    LOGS("", "GETEX", "k");
    LOGS("PEXPIREAT k 4000000000000", "GETEX", "k", "EXAT", "4000000000");
    LOGS("PEXPIREAT k #", "EXPIRE", "k", "100");
    LOGS("DEL k", "EXPIRE", "k", "0");
    LOGS("SET k y", "GETSET", "k", "y");
    LOGS("DEL k", "GETDEL", "k");
    LOGS("", "GETDEL", "k");
    keyspace->door.log = NULL;
}
