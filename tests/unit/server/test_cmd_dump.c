/* DUMP and RESTORE: what RESTORE logs is the same whenever it is run. */
#include "replication/crc64.h"
#include "tests/unit/engine/recording_log.h"
#include "tests/unit/server/run_command.h"

extern command_handler cmd_dump;
__attribute__((used)) static command_handler *const linked_dump = cmd_dump;

static void dump_setup(void) {
    crc64_init();
    commands_setup();
}

TestSuite(cmd_dump, .init = dump_setup, .fini = commands_teardown, .timeout = 60);

static char payload[256];
static size_t payload_length;

/* The payload of the string "value". */
static void make_payload(void) {
    REPLIES("+OK\r\n", "SET", "source", "value");
    cr_assert_eq(RUN("DUMP", "source"), CALL_DONE);
    const char *bytes = strchr(replied, '\n') + 1;
    payload_length = (size_t)atoi(replied + 1);
    memcpy(payload, bytes, payload_length);
}

/* RESTORE key ttl payload and more words. */
static void restore(const char *ttl, const char *more, const char *more2) {
    struct argument argv[6] = {
        {"RESTORE", 7}, {"key", 3}, {ttl, strlen(ttl)}, {payload, payload_length}};
    int argc = 4;
    if (more)
        argv[argc++] = (struct argument){more, strlen(more)};
    if (more2)
        argv[argc++] = (struct argument){more2, strlen(more2)};
    cr_assert_eq(run_arguments(argv, argc), CALL_DONE);
}

static const struct effect *logged(size_t index) {
    cr_assert_lt(index, recording.count);
    return &recording.effects[index].effect;
}

static void argument_equals(const struct effect *effect, unsigned index, const char *text) {
    cr_assert_lt(index, effect->count);
    cr_assert_str_eq(effect->arguments[index].data, text);
}

Test(cmd_dump, a_relative_time_is_logged_as_an_absolute_one) {
    make_payload();
    keyspace->door.log = &recording_log;
    restore("100000", NULL, NULL);
    cr_assert_str_eq(replied, "+OK\r\n");
    int64_t expiry_ms = object_expiry(object_at("key"));
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)expiry_ms);
    cr_assert_eq(logged(0)->count, 5);
    argument_equals(logged(0), 0, "RESTORE");
    argument_equals(logged(0), 2, text);
    cr_assert_eq(logged(0)->arguments[3].length, payload_length);
    argument_equals(logged(0), 4, "ABSTTL");
    restore(text, "ABSTTL", "REPLACE");
    cr_assert_eq(logged(1)->count, 6);
    argument_equals(logged(1), 2, text);
    restore("0", "REPLACE", NULL);
    cr_assert_eq(logged(2)->count, 5);
    argument_equals(logged(2), 4, "REPLACE");
    cr_assert_eq(recording.count, 3);
    keyspace->door.log = NULL;
    recording_free();
}

Test(cmd_dump, what_is_refused_or_over_logs_nothing_or_a_deletion) {
    make_payload();
    keyspace->door.log = &recording_log;
    restore("1000", "ABSTTL", NULL);
    cr_assert_str_eq(replied, "+OK\r\n");
    restore("-1", NULL, NULL);
    payload[0] ^= 1;
    restore("0", NULL, NULL);
    payload[0] ^= 1;
    cr_assert_eq(recording.count, 0);
    restore("0", NULL, NULL);
    restore("0", NULL, NULL);
    cr_assert_str_eq(replied, "-BUSYKEY Target key name already exists.\r\n");
    cr_assert_eq(recording.count, 1);
    restore("1000", "ABSTTL", "REPLACE");
    cr_assert_eq(recording.count, 2);
    argument_equals(logged(1), 0, "DEL");
    argument_equals(logged(1), 1, "key");
    cr_assert_null(object_at("key"));
    keyspace->door.log = NULL;
    recording_free();
}

Test(cmd_dump, on_a_stream_that_is_applied_nothing_is_over) {
    make_payload();
    change_destroy(&change);
    change_init(&change, &keyspace->door, VIEW_APPLYING);
    restore("1000", "ABSTTL", NULL);
    cr_assert_eq(object_expiry(object_at("key")), 1000);
}

Test(cmd_dump, without_the_token_only_what_readers_may_see) {
    char *large = filled('x', 100000);
    RUN("SET", "small", "v");
    RUN("SET", "large", large);
    with_tokens = false;
    cr_assert_eq(RUN("DUMP", "small"), CALL_DONE);
    cr_assert_eq(RUN("DUMP", "large"), CALL_NEED_TOKENS);
    free(large);
}
