/* Elements of collections in replies: large ones are lent as large strings are, and stay what they
 * were for who has not sent them yet. */
#include "tests/unit/server/run_command.h"

TestSuite(cmd_collection, .init = commands_setup, .fini = commands_teardown);

#define LARGE_BYTES 20000

extern command_handler cmd_hset, cmd_lpush, cmd_sadd, cmd_zadd, cmd_zrange, cmd_zpopmin;
__attribute__((used)) static command_handler *const linked_collections[] = {
    cmd_hset, cmd_lpush, cmd_sadd, cmd_zadd, cmd_zrange, cmd_zpopmin};

/* The command's reply has the text in it, from a piece of memory that is not the reply's. What
 * `then` does does not change it. */
static void expect_lent(const char *text, const char *const *words, const char *const *then) {
    struct argument argv[ARGUMENTS_MAX];
    enum call_result result;
    int argc = 0;
    for (; words[argc]; argc++)
        argv[argc] = (struct argument){words[argc], strlen(words[argc])};
    struct output_block *blocks = run_blocks(&result, argv, argc), *lent = blocks;
    cr_assert_eq(result, CALL_DONE);
    while (lent && !lent->blob)
        lent = lent->next;
    cr_assert_not_null(lent);
    for (argc = 0; then[argc]; argc++)
        argv[argc] = (struct argument){then[argc], strlen(then[argc])};
    cr_assert_eq(run_arguments(argv, argc), CALL_DONE);
    cr_assert_eq(lent->length, LARGE_BYTES);
    cr_assert_eq(memcmp(lent->data, text, LARGE_BYTES), 0);
    output_blocks_free(blocks);
}

#define WORDS(...)                                                                                 \
    (const char *const[]) {                                                                        \
        __VA_ARGS__, NULL                                                                          \
    }

Test(cmd_collection, large_elements_are_lent) {
    char *text = filled('a', LARGE_BYTES), *other = filled('b', LARGE_BYTES);
    RUN("HSET", "h", "f", text);
    expect_lent(text, WORDS("HGET", "h", "f"), WORDS("HSET", "h", "f", other));
    expect_lent(other, WORDS("HGETALL", "h"), WORDS("DEL", "h"));
    RUN("RPUSH", "l", text, "x", other);
    expect_lent(text, WORDS("LINDEX", "l", "0"), WORDS("LSET", "l", "0", "y"));
    expect_lent(other, WORDS("RPOP", "l"), WORDS("DEL", "l"));
    RUN("SADD", "s", text);
    expect_lent(text, WORDS("SMEMBERS", "s"), WORDS("SREM", "s", text));
    RUN("ZADD", "z", "1", text);
    expect_lent(text, WORDS("ZRANGE", "z", "0", "-1"), WORDS("ZADD", "z", "2", text));
    expect_lent(text, WORDS("ZPOPMIN", "z"), WORDS("DEL", "z"));
    free(text);
    free(other);
}
