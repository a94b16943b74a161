/* The command table: lookup, keys, flags, COMMAND and its subcommands, texts for unknown commands.
 *
 * Every row gets a handler here, weak, so that the table is complete whatever is linked in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "server/dispatch/command.h"
#include "server/dispatch/command_category.h"
#include "server/dispatch/command_docs.h"
#include "server/dispatch/command_keys.h"
#include "server/dispatch/command_rows.h"

#define COMMAND(id, ...)                                                                           \
    command_handler cmd_##id;                                                                      \
    __attribute__((weak)) enum call_result cmd_##id(struct call *call) {                           \
        reply_ok(call->reply);                                                                     \
        return CALL_DONE;                                                                          \
    }
#define CONTAINER(id, ...)
#define SUBCOMMAND(parent, id, ...) COMMAND(id)
#define cmd_command_list            not_this_one /* the real one is referred to below */
#include "server/dispatch/commands.def"
#undef cmd_command_list
#undef COMMAND
#undef CONTAINER
#undef SUBCOMMAND

#define ARGUMENTS_MAX 200

static struct reply reply;
static char *text;

/* A reference by which the linker takes COMMAND's real handlers. */
command_handler cmd_command_list;
command_handler *const linked_handler = cmd_command_list;

static void set_up(void) {
    command_table_init();
    reply_init(&reply);
}

static void tear_down(void) {
    reply_clear(&reply);
    output_pool_thread_exit();
    free(text);
    text = NULL;
}

TestSuite(command_table, .init = set_up, .fini = tear_down, .timeout = 20);

/* Splits at spaces. */
static int split(const char *line, struct argument *argv) {
    int argc = 0;
    while (*line != '\0') {
        size_t length = strcspn(line, " ");
        argv[argc++] = (struct argument){line, length};
        line += length;
        line += *line == ' ';
    }
    return argc;
}

static const struct command *find(const char *line) {
    struct argument argv[ARGUMENTS_MAX];
    const struct command *container;
    int argc = split(line, argv);
    return command_lookup(argv, argc, &container);
}

static void take(void) {
    size_t length = reply_pending_bytes(&reply);
    struct output_block *blocks = reply_take(&reply);
    free(text);
    text = calloc(1, length + 1);
    size_t at = 0;
    for (struct output_block *block = blocks; block != NULL; block = block->next) {
        memcpy(text + at, block->data, block->length);
        at += block->length;
    }
    output_blocks_free(blocks);
}

/* Runs a line as the dispatcher would; the reply is in text. */
static const char *run(const char *line) {
    struct argument argv[ARGUMENTS_MAX];
    const struct command *container;
    int argc = split(line, argv);
    const struct command *command = command_lookup(argv, argc, &container);
    if (command == NULL)
        command_reply_unknown(&reply, argv, argc, container);
    else if (command->handler == NULL || !command_arity_fits(command, argc))
        command_reply_wrong_arity(&reply, command);
    else
        command->handler(
            &(struct call){.command = command, .argv = argv, .argc = argc, .reply = &reply});
    take();
    return text;
}

Test(command_table, finds_every_name_in_any_case) {
    cr_assert_eq(command_count(), ROW_COUNT);
    for (unsigned id = 0; id < command_count(); id++) {
        const struct command *command = command_by_id(id);
        char name[64], upper[64];
        snprintf(name, sizeof(name), "%s", command->name);
        for (size_t i = 0; i < sizeof(upper); i++)
            upper[i] = name[i] >= 'a' && name[i] <= 'z' ? (char)(name[i] - 32) : name[i];
        cr_assert_eq(command->id, id);
        cr_assert_eq(command_by_name(name, strlen(name)), command);
        cr_assert_eq(command_by_name(upper, strlen(upper)), command);
        for (char *c = upper; (c = strchr(c, '|')) != NULL;)
            *c = ' ';
        cr_assert_eq(find(upper), command, "%s", upper);
    }
}

Test(command_table, takes_nothing_else) {
    static const char *const others[] = {"g",
                                         "ge",
                                         "gett",
                                         "gft",
                                         "set1",
                                         "xet",
                                         "pexpiretimf",
                                         "@et",
                                         ("\x07"
                                          "et"),
                                         "GE\x14",
                                         "incrbyfloa",
                                         "incrbyfloats",
                                         "config|get",
                                         "|",
                                         ""};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        cr_assert_null(find(others[i]), "%s", others[i]);
    struct argument nul = {"get\0", 4};
    const struct command *container;
    cr_assert_null(command_lookup(&nul, 1, &container));
    static const char *const names[] = {"config|", "config|nope", "get|x", "|", "", "config|get|x"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        cr_assert_null(command_by_name(names[i], strlen(names[i])), "%s", names[i]);
}

Test(command_table, one_changed_byte_is_another_name) {
    for (unsigned id = 0; id < command_count(); id++) {
        const struct command *command = command_by_id(id);
        if (command->parent != NULL)
            continue;
        for (size_t i = 0; i < command->name_length; i++)
            for (int byte = 0; byte < 256; byte++) {
                char name[64];
                memcpy(name, command->name, command->name_length);
                if ((name[i] | 0x20) == (byte | 0x20) && (name[i] >= 'a' && name[i] <= 'z') &&
                    ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z'))
                    continue;
                if (byte == name[i])
                    continue;
                name[i] = (char)byte;
                cr_assert_neq(command_by_name(name, command->name_length), command);
            }
    }
}

Test(command_table, containers) {
    struct argument argv[4];
    const struct command *container;
    int argc = split("CLIENT SetName x", argv);
    cr_assert_str_eq(command_lookup(argv, argc, &container)->name, "client|setname");
    argc = split("client nope", argv);
    cr_assert_null(command_lookup(argv, argc, &container));
    cr_assert_str_eq(container->name, "client");
    argc = split("client", argv);
    cr_assert_str_eq(command_lookup(argv, argc, &container)->name, "client");
    cr_assert_str_eq(find("command")->name, "command");
    cr_assert_not_null(find("command")->handler);
    cr_assert_null(find("config")->handler);
    cr_assert_eq(find("config get x")->parent, find("config"));
}

Test(command_table, access_classes) {
    static const struct {
        const char *line;
        enum command_access access;
    } expected[] = {
        {"get k", ACCESS_READ},
        {"mget k", ACCESS_READ},
        {"object encoding k", ACCESS_READ},
        {"memory usage k", ACCESS_READ},
        {"getex k", ACCESS_WRITE},
        {"copy a b", ACCESS_WRITE},
        {"set k v", ACCESS_WRITE},
        {"flushall", ACCESS_NONE},
        {"config resetstat", ACCESS_EXCLUSIVE},
        {"config set a b", ACCESS_NONE},
        {"config get a", ACCESS_NONE},
        {"scan 0", ACCESS_NONE},
        {"watch k", ACCESS_WRITE},
        {"unwatch", ACCESS_WATCHED},
        {"discard", ACCESS_WATCHED},
        {"exec", ACCESS_TRANSACTION},
    };
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        cr_assert_eq(find(expected[i].line)->access, expected[i].access, "%s", expected[i].line);
    /* They begin as plain commands, and stop all others when they have to. */
    cr_assert(find("flushall")->flags & find("config set a b")->flags & COMMAND_MAY_STOP_ALL);
    cr_assert(!(find("config rewrite")->flags & COMMAND_MAY_STOP_ALL));
    for (unsigned id = 0; id < command_count(); id++) {
        const struct command *command = command_by_id(id);
        if (command->access == ACCESS_READ || command->access == ACCESS_WRITE)
            cr_assert_gt(command->key_spec_count, 0, "%s", command->name);
        if (command->flags & COMMAND_WRITE)
            cr_assert_neq(command->access, ACCESS_READ, "%s", command->name);
    }
}

static void expect_keys(const char *line, const char *expected) {
    struct argument argv[ARGUMENTS_MAX];
    const struct command *container;
    int argc = split(line, argv), keys[ARGUMENTS_MAX];
    int n = command_keys(command_lookup(argv, argc, &container), argv, argc, keys, ARGUMENTS_MAX);
    char found[200] = "";
    for (int i = 0; i < n; i++)
        sprintf(found + strlen(found), "%d ", keys[i]);
    cr_assert_str_eq(found, expected, "%s", line);
}

Test(command_table, keys) {
    expect_keys("get a", "1 ");
    expect_keys("mget a b c", "1 2 3 ");
    expect_keys("mset a 1 b 2", "1 3 ");
    expect_keys("mset a 1 b", "1 3 ");
    expect_keys("copy a b replace", "1 2 ");
    expect_keys("rename a b", "1 2 ");
    expect_keys("object encoding a", "2 ");
    expect_keys("lcs a b", "1 2 ");
    expect_keys("set a b ex 10", "1 ");
    expect_keys("ping", "");
    struct argument argv[] = {{"mget", 4}, {"a", 1}, {"b", 1}, {"c", 1}};
    const struct command *container;
    int keys[2];
    cr_assert_eq(command_keys(command_lookup(argv, 4, &container), argv, 4, keys, 2), 3);
    cr_assert_eq(keys[1], 2);
    cr_assert_eq(command_keys(command_lookup(argv, 1, &container), argv, 1, keys, 2), -1);
}

Test(command_table, unknown_commands) {
    cr_assert_str_eq(run("foo"), "-ERR unknown command 'foo', with args beginning with: \r\n");
    cr_assert_str_eq(run("foo a b"),
                     "-ERR unknown command 'foo', with args beginning with: 'a' 'b' \r\n");
    cr_assert_str_eq(run("config foo"), "-ERR unknown subcommand 'foo'. Try CONFIG HELP.\r\n");
    cr_assert_str_eq(run("get"), "-ERR wrong number of arguments for 'get' command\r\n");
    cr_assert_str_eq(run("config"), "-ERR wrong number of arguments for 'config' command\r\n");
    cr_assert_str_eq(run("config get"),
                     "-ERR wrong number of arguments for 'config|get' command\r\n");
    /* 128 bytes of the name, and of the arguments with their quotes as far as that. */
    char line[1000] = "", expected[1000] = "-ERR unknown command '";
    memset(line, 'f', 200);
    memset(expected + strlen(expected), 'f', 128);
    strcat(line, " ");
    memset(line + strlen(line), 'a', 120);
    strcat(line, " bbbbbbbbbb c");
    strcat(expected, "', with args beginning with: '");
    memset(expected + strlen(expected), 'a', 120);
    strcat(expected, "' 'bbbbb' \r\n");
    cr_assert_str_eq(run(line), expected);
}

Test(command_table, unknown_commands_with_odd_bytes) {
    struct argument argv[] = {{"a\r\nb", 4}, {"c\0d", 3}};
    command_reply_unknown(&reply, argv, 2, NULL);
    take();
    cr_assert_str_eq(text, "-ERR unknown command 'a  b', with args beginning with: 'c' \r\n");
}

Test(command_table, info) {
    reply.resp = 3;
    cr_assert_str_eq(
        run("command info get"),
        "*1\r\n*10\r\n$3\r\nget\r\n:2\r\n~2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
        "~3\r\n+@read\r\n+@string\r\n+@fast\r\n~0\r\n"
        "~1\r\n%3\r\n$5\r\nflags\r\n~2\r\n+RO\r\n+access\r\n"
        "$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n"
        "%1\r\n$5\r\nindex\r\n:1\r\n"
        "$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n%3\r\n"
        "$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n~0\r\n");
    reply.resp = 2;
    cr_assert_str_eq(run("command info nope config|nope"), "*2\r\n$-1\r\n$-1\r\n");
    cr_assert_eq(strncmp(run("command info MEMORY"), "*1\r\n*10\r\n$6\r\nmemory\r\n:-2\r\n", 25),
                 0);
    cr_assert_not_null(strstr(run("command info copy"), ":1\r\n:2\r\n:1\r\n"), "legacy key triple");
    cr_assert_not_null(strstr(run("command info mset"), ":1\r\n:-1\r\n:2\r\n"));
}

Test(command_table, docs) {
    cr_assert_str_eq(
        run("command docs getset nope"),
        "*2\r\n$6\r\ngetset\r\n*16\r\n$7\r\nsummary\r\n"
        "$75\r\nReturns the previous string value of a key after setting it to a new value.\r\n"
        "$5\r\nsince\r\n$5\r\n1.0.0\r\n$5\r\ngroup\r\n$6\r\nstring\r\n"
        "$10\r\ncomplexity\r\n$4\r\nO(1)\r\n$9\r\ndoc_flags\r\n*1\r\n+deprecated\r\n"
        "$16\r\ndeprecated_since\r\n$5\r\n6.2.0\r\n"
        "$11\r\nreplaced_by\r\n$30\r\n`SET` with the `!GET` argument\r\n"
        "$9\r\narguments\r\n*2\r\n*8\r\n$4\r\nname\r\n$3\r\nkey\r\n$4\r\ntype\r\n$3\r\nkey\r\n"
        "$12\r\ndisplay_text\r\n$3\r\nkey\r\n$14\r\nkey_spec_index\r\n:0\r\n"
        "*6\r\n$4\r\nname\r\n$5\r\nvalue\r\n$4\r\ntype\r\n$6\r\nstring\r\n"
        "$12\r\ndisplay_text\r\n$5\r\nvalue\r\n");
    cr_assert_str_eq(run("command docs nope"), "*0\r\n");
    /* Nested arguments, versions, options. */
    const char *set = run("command docs set");
    cr_assert_not_null(
        strstr(set, "$9\r\ncondition\r\n$4\r\ntype\r\n$5\r\noneof\r\n$5\r\nsince\r\n"
                    "$6\r\n2.6.12\r\n$5\r\nflags\r\n*1\r\n+optional\r\n$9\r\narguments\r\n"
                    "*2\r\n*8\r\n$4\r\nname\r\n$2\r\nnx\r\n"));
    cr_assert_not_null(
        strstr(set, "$7\r\nhistory\r\n*4\r\n*2\r\n$6\r\n2.6.12\r\n$44\r\nAdded the `EX`"));
}

/* The language of arguments is read without complaint in every row, and every subcommand is told.
 */
Test(command_table, everything_has_info_and_docs) {
    for (unsigned id = 0; id < command_count(); id++) {
        const struct command *command = command_by_id(id);
        cr_assert(*command->summary != '\0' && *command->since != '\0' && *command->group != '\0');
        command_reply_info(&reply, command);
        command_reply_docs(&reply, command);
        take();
        cr_assert_not_null(strstr(text, command->name), "%s", command->name);
    }
    char expected[32];
    snprintf(expected, sizeof(expected), ":%u\r\n", command_top_level_count());
    cr_assert_str_eq(run("command count"), expected);
    snprintf(expected, sizeof(expected), "*%u\r\n", command_top_level_count());
    cr_assert_eq(strncmp(run("command"), expected, strlen(expected)), 0);
    snprintf(expected, sizeof(expected), "*%u\r\n", 2 * command_top_level_count());
    cr_assert_eq(strncmp(run("command docs"), expected, strlen(expected)), 0);
    snprintf(expected, sizeof(expected), "*%u\r\n", command_count());
    cr_assert_eq(strncmp(run("command list"), expected, strlen(expected)), 0);
}

Test(command_table, list_filters) {
    cr_assert_str_eq(run("command list filterby pattern S?tN*"), "*1\r\n$5\r\nsetnx\r\n");
    cr_assert_str_eq(run("command list filterby module x"), "*0\r\n");
    cr_assert_str_eq(run("command list filterby aclcat nope"), "*0\r\n");
    cr_assert_eq(strncmp(run("command list FILTERBY ACLCAT Transaction"), "*5\r\n", 4), 0);
    cr_assert_str_eq(run("command list filterby pattern"), "-ERR syntax error\r\n");
    cr_assert_str_eq(run("command list filterby x y"), "-ERR syntax error\r\n");
    cr_assert_str_eq(run("command list nope"), "-ERR syntax error\r\n");
}

Test(command_table, get_keys) {
    cr_assert_str_eq(run("command getkeys mset a 1 b 2"), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    cr_assert_str_eq(run("command getkeys nope a"), "-ERR Invalid command specified\r\n");
    cr_assert_str_eq(run("command getkeys ping"), "-ERR The command has no key arguments\r\n");
    cr_assert_str_eq(run("command getkeys get"),
                     "-ERR Invalid number of arguments specified for command\r\n");
    cr_assert_str_eq(run("command getkeysandflags set a b"),
                     "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+OW\r\n+update\r\n");
    cr_assert_str_eq(run("command getkeysandflags set a b Get"),
                     "*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n");
    char line[1000] = "command getkeys mget";
    for (int i = 0; i < 150; i++)
        strcat(line, " k");
    cr_assert_eq(strncmp(run(line), "*150\r\n$1\r\nk\r\n", 13), 0);
}

Test(command_table, help) {
    cr_assert_eq(
        strncmp(run("Command help"),
                "*21\r\n+COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n"
                "+(no subcommand)\r\n",
                90),
        0);
    cr_assert_str_eq(text + strlen(text) - 30, "+HELP\r\n+    Print this help.\r\n");
}

Test(command_table, rename) {
    cr_assert_str_eq(command_rename("nope", "x"), "No such command in rename-command");
    cr_assert_str_eq(command_rename("get", "set"), "Target command name already exists");
    cr_assert_null(command_rename("flushall", "Clear-Everything"));
    cr_assert_null(command_rename("keys", ""));
    cr_assert_null(find("flushall"));
    cr_assert_null(find("keys *"));
    cr_assert_str_eq(find("clear-everything")->name, "flushall");
    cr_assert_null(find("clear\x0d"
                        "everything"));
    for (unsigned id = 0; id < command_count(); id++) {
        const char *name = command_by_id(id)->name;
        if (strcmp(name, "keys") != 0 && strcmp(name, "flushall") != 0)
            cr_assert_eq(command_by_name(name, strlen(name)), command_by_id(id));
    }
}

Test(command_table, categories) {
    cr_assert_eq(command_category_by_name("STRING", 6), CATEGORY_STRING);
    cr_assert_eq(command_category_by_name("strin", 5), 0);
    for (unsigned bit = 0; bit < CATEGORY_COUNT; bit++) {
        const char *name = command_category_name(bit);
        cr_assert_eq(command_category_by_name(name, strlen(name)), 1ull << bit);
    }
    cr_assert_eq(find("get k")->acl_categories,
                 (uint64_t)(CATEGORY_READ | CATEGORY_STRING | CATEGORY_FAST));
    cr_assert(find("debug")->acl_categories & CATEGORY_DANGEROUS);
    cr_assert(find("del k")->acl_categories & CATEGORY_SLOW);
}
