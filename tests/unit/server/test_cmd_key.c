/* Key commands where more than the reply matters: what moves and what is copied, other databases,
 * expired keys, whole scans. */
#include "tests/unit/server/run_command.h"

TestSuite(cmd_key, .init = commands_setup, .fini = commands_teardown);

static char *blob_text;

static const void *make_blob(const char *name) {
    blob_text = filled('z', OBJECT_EMBED_MAX_BYTES + 100);
    RUN("SET", name, blob_text, "PXAT", "4000000000000");
    return object_pointer(object_at(name));
}

static void assert_is_blob(const char *name) {
    RUN("GET", name);
    cr_assert_eq(strncmp(strchr(replied, '\n') + 1, blob_text, strlen(blob_text)), 0);
    cr_assert_eq(object_expiry(object_at(name)), 4000000000000);
}

Test(cmd_key, rename_and_move_carry_a_blob_over) {
    const void *blob = make_blob("a");
    RUN("SET", "b", "old");
    REPLIES("+OK\r\n", "RENAME", "a", "b");
    cr_assert_null(object_at("a"));
    cr_assert_eq(object_pointer(object_at("b")), blob);
    assert_is_blob("b");
    REPLIES(":1\r\n", "MOVE", "b", "3");
    cr_assert_null(object_at("b"));
    database = 3;
    cr_assert_eq(object_pointer(object_at("b")), blob);
    assert_is_blob("b");
    cr_assert_eq(keyspace_count(keyspace, 0), 0);
    cr_assert_eq(keyspace_count(keyspace, 3), 1);
    cr_assert_eq(keyspace_expiring_count(keyspace, 3), 1);
    free(blob_text);
}

Test(cmd_key, copy_is_deep) {
    const void *blob = make_blob("a");
    REPLIES(":1\r\n", "COPY", "a", "a", "DB", "1");
    REPLIES(":0\r\n", "COPY", "a", "a", "DB", "1");
    RUN("SETRANGE", "a", "0", "changed");
    database = 1;
    cr_assert_neq(object_pointer(object_at("a")), blob);
    assert_is_blob("a");
    RUN("SET", "b", "1");
    REPLIES(":1\r\n", "COPY", "b", "a", "REPLACE");
    REPLIES("$1\r\n1\r\n", "GET", "a");
    RUN("INCR", "a");
    REPLIES("$1\r\n1\r\n", "GET", "b");
    REPLIES("-ERR source and destination objects are the same\r\n", "COPY", "a", "a");
    REPLIES("-ERR DB index is out of range\r\n", "COPY", "a", "b", "DB", "16");
    REPLIES("-ERR value is out of range, value must between -2147483648 and 2147483647\r\n", "COPY",
            "a", "b", "DB", "9999999999");
    REPLIES("-ERR syntax error\r\n", "COPY", "a", "b", "DB");
    free(blob_text);
}

Test(cmd_key, rename_to_itself_and_from_nothing) {
    REPLIES("-ERR no such key\r\n", "RENAME", "a", "a");
    RUN("SET", "a", "1");
    REPLIES("+OK\r\n", "RENAME", "a", "a");
    REPLIES(":0\r\n", "RENAMENX", "a", "a");
    RUN("SET", "b", "2");
    REPLIES(":0\r\n", "RENAMENX", "a", "b");
    REPLIES(":1\r\n", "RENAMENX", "a", "c");
    REPLIES("*3\r\n$-1\r\n$1\r\n2\r\n$1\r\n1\r\n", "MGET", "a", "b", "c");
}

Test(cmd_key, expired_keys_are_absent_and_go_when_written_to) {
    for (int i = 0; i < 4; i++) {
        char name[2] = {(char)('a' + i), 0};
        RUN("SET", name, "1", "PXAT", "1");
    }
    cr_assert_eq(keyspace_count(keyspace, 0), 4);
    with_tokens = false;
    REPLIES("$-1\r\n", "GET", "a");
    REPLIES(":-2\r\n", "TTL", "a");
    REPLIES(":0\r\n", "EXISTS", "a", "b", "c", "d");
    cr_assert_eq(keyspace_count(keyspace, 0), 4, "a reader deletes nothing");
    with_tokens = true;
    REPLIES(":0\r\n", "DEL", "a");
    REPLIES(":1\r\n", "INCR", "b");
    REPLIES("-ERR no such key\r\n", "RENAME", "c", "x");
    REPLIES(":0\r\n", "EXPIRE", "d", "100");
    cr_assert_eq(keyspace_count(keyspace, 0), 1);
    cr_assert_eq(keyspace_counters_mine(keyspace)->expired, 4);
}

Test(cmd_key, expire_conditions) {
    RUN("SET", "k", "v");
    REPLIES(":0\r\n", "PEXPIREAT", "k", "4000000000000", "XX");
    REPLIES(":0\r\n", "PEXPIREAT", "k", "4000000000000", "GT");
    REPLIES(":1\r\n", "PEXPIREAT", "k", "4000000000000", "LT");
    REPLIES(":0\r\n", "PEXPIREAT", "k", "4000000000000", "LT");
    REPLIES(":0\r\n", "PEXPIREAT", "k", "4000000000000", "GT");
    REPLIES(":0\r\n", "PEXPIREAT", "k", "4000000000001", "NX");
    REPLIES(":1\r\n", "PEXPIREAT", "k", "4000000000001", "XX", "GT");
    REPLIES(":4000000000\r\n", "EXPIRETIME", "k");
    REPLIES("-ERR NX and XX, GT or LT options at the same time are not compatible\r\n", "EXPIRE",
            "k", "1", "NX", "GT");
    REPLIES("-ERR GT and LT options at the same time are not compatible\r\n", "EXPIRE", "k", "1",
            "LT", "GT");
    REPLIES("-ERR Unsupported option AB\r\n", "EXPIRE", "k", "1", "AB");
    REPLIES("-ERR invalid expire time in 'expire' command\r\n", "EXPIRE", "k",
            "9223372036854775807");
    REPLIES("-ERR invalid expire time in 'pexpire' command\r\n", "PEXPIRE", "k",
            "9223372036854775807");
    REPLIES(":1\r\n", "PEXPIREAT", "k", "9223372036854775807");
    cr_assert_eq(keyspace_expiring_count(keyspace, 0), 1, "the end of time is not 'never'");
    REPLIES(":1\r\n", "PERSIST", "k");
    REPLIES(":0\r\n", "PERSIST", "k");
    REPLIES(":1\r\n", "EXPIRE", "k", "-1");
    cr_assert_null(object_at("k"));
}

/* --- SCAN ------------------------------------------------------------------------------------- */

#define SCAN_KEYS 5000

static unsigned seen[SCAN_KEYS];

/* Runs a whole SCAN; counts the keys "key:N" that it returns. */
static unsigned scan_all(const char *option, const char *value, const char *count) {
    char cursor[32] = "0";
    unsigned calls = 0;
    memset(seen, 0, sizeof seen);
    do {
        run("SCAN", cursor, "COUNT", count, option, value, NULL);
        cr_assert_eq(strncmp(replied, "*2\r\n$", 5), 0);
        const char *at = strchr(replied, '\n') + 1;
        at = strchr(at, '\n') + 1;
        snprintf(cursor, sizeof cursor, "%.*s", (int)strcspn(at, "\r"), at);
        cr_assert_lt(strtoull(cursor, NULL, 10), 1ull << 53);
        for (at = strstr(at, "key:"); at; at = strstr(at + 1, "key:"))
            seen[atoi(at + 4)]++;
        cr_assert_lt(++calls, 10000);
    } while (strcmp(cursor, "0") != 0);
    return calls;
}

static void make_keys(void) {
    for (int i = 0; i < SCAN_KEYS; i++) {
        char name[32];
        snprintf(name, sizeof name, "key:%04d", i);
        RUN("SET", name, "v");
    }
}

Test(cmd_key, scan_returns_each_key_once) {
    make_keys();
    scan_all(NULL, NULL, "10");
    for (int i = 0; i < SCAN_KEYS; i++)
        cr_assert_eq(seen[i], 1);
    cr_assert_eq(scan_all(NULL, NULL, "1000000"), 1);
    scan_all("MATCH", "key:001?", "100");
    for (int i = 0; i < SCAN_KEYS; i++)
        cr_assert_eq(seen[i], i >= 10 && i < 20);
    scan_all("TYPE", "list", "100");
    cr_assert_eq(seen[0], 0);
    scan_all("TYPE", "nonsense", "100");
    cr_assert_eq(seen[0], 0);
    scan_all("TYPE", "STRING", "100");
    cr_assert_eq(seen[0], 1);
}

Test(cmd_key, scan_without_tokens_deletes_what_has_expired) {
    make_keys();
    for (int i = 0; i < SCAN_KEYS; i += 2) {
        char name[32];
        snprintf(name, sizeof name, "key:%04d", i);
        RUN("SET", name, "v", "PXAT", "1");
    }
    with_tokens = false;
    scan_all(NULL, NULL, "10");
    for (int i = 0; i < SCAN_KEYS; i++)
        cr_assert_eq(seen[i], i % 2 == 1);
    cr_assert_eq(keyspace_count(keyspace, 0), SCAN_KEYS / 2);
    cr_assert_eq(keyspace_expiring_count(keyspace, 0), 0);
}

Test(cmd_key, scan_arguments) {
    RUN("SET", "k", "v");
    REPLIES("-ERR invalid cursor\r\n", "SCAN", "a");
    REPLIES("-ERR invalid cursor\r\n", "SCAN", " 1");
    REPLIES("-ERR invalid cursor\r\n", "SCAN", "1 ");
    REPLIES("-ERR invalid cursor\r\n", "SCAN", "-");
    REPLIES("-ERR invalid cursor\r\n", "SCAN", "18446744073709551616");
    REPLIES("*2\r\n$1\r\n0\r\n*0\r\n", "SCAN", "18446744073709551615");
    REPLIES("*2\r\n$1\r\n0\r\n*0\r\n", "SCAN", "-1");
    REPLIES("*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n", "SCAN", "");
    REPLIES("-ERR syntax error\r\n", "SCAN", "0", "COUNT", "0");
    REPLIES("-ERR syntax error\r\n", "SCAN", "0", "COUNT");
    REPLIES("-ERR syntax error\r\n", "SCAN", "0", "LIMIT", "1");
    REPLIES("-ERR value is not an integer or out of range\r\n", "SCAN", "0", "COUNT", "x");
}

Test(cmd_key, keys_and_randomkey) {
    REPLIES("$-1\r\n", "RANDOMKEY");
    REPLIES("*0\r\n", "KEYS", "*");
    RUN("SET", "one", "1");
    REPLIES("$3\r\none\r\n", "RANDOMKEY");
    RUN("SET", "gone", "1", "PXAT", "1");
    REPLIES("*1\r\n$3\r\none\r\n", "KEYS", "*");
    REPLIES("*1\r\n$3\r\none\r\n", "KEYS", "o[mn]?");
    REPLIES("*0\r\n", "KEYS", "x*");
    for (int i = 0; i < 20; i++)
        REPLIES("$3\r\none\r\n", "RANDOMKEY");
    make_keys();
    RUN("KEYS", "key:*");
    cr_assert_eq(atoi(replied + 1), SCAN_KEYS);
}

Test(cmd_key, flush_and_swap) {
    make_keys();
    database = 2;
    RUN("SET", "two", "2");
    REPLIES("+OK\r\n", "SWAPDB", "0", "2");
    REPLIES(":5000\r\n", "DBSIZE");
    REPLIES("-ERR syntax error\r\n", "FLUSHDB", "now");
    REPLIES("+OK\r\n", "FLUSHDB", "ASYNC");
    REPLIES(":0\r\n", "DBSIZE");
    database = 0;
    REPLIES("$1\r\n2\r\n", "GET", "two");
    REPLIES("+OK\r\n", "FLUSHALL");
    REPLIES(":0\r\n", "DBSIZE");
    REPLIES("-ERR invalid first DB index\r\n", "SWAPDB", "x", "0");
    REPLIES("-ERR invalid second DB index\r\n", "SWAPDB", "0", "99999999999");
    REPLIES("-ERR DB index is out of range\r\n", "SWAPDB", "0", "16");
    RUN("SET", "again", "1");
    REPLIES(":1\r\n", "DBSIZE");
}
