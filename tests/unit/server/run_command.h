/* Runs single handlers against a keyspace, without sockets or dispatcher: one thread, which plays
 * the holder of all tokens or a reader without. Included by the tests of the data commands;
 * everything is static. */
#ifndef SLOTWISE_TESTS_RUN_COMMAND_H
#define SLOTWISE_TESTS_RUN_COMMAND_H

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/memory.h"
#include "server/clients/server.h"
#include "server/config/config.h"
#include "server/dispatch/call.h"
#include "server/dispatch/command.h"
#include "server/dispatch/command_keys.h"
#include "server/dispatch/session.h"

#define ARGUMENTS_MAX 16

/* The table refers to handlers weakly: name one of each source, so that they are linked from a
 * library. */
extern command_handler cmd_set, cmd_incr, cmd_lcs, cmd_del, cmd_memory_usage, cmd_expire, cmd_scan,
    cmd_flushall;
__attribute__((used)) static command_handler *const linked_handlers[] = {
    cmd_set, cmd_incr, cmd_lcs, cmd_del, cmd_memory_usage, cmd_expire, cmd_scan, cmd_flushall};

static struct keyspace *keyspace;
/* A test with several threads has one of each for each thread. */
static _Thread_local struct change change;
static _Thread_local struct session session;
static _Thread_local unsigned database;
static _Thread_local bool with_tokens;
static _Thread_local bool in_unit; /* the test begins and commits the unit of work itself */
static _Thread_local uint8_t resp;

/* What the last command replied, as bytes on the wire. */
static _Thread_local char *replied;
static _Thread_local size_t replied_length;

static void commands_setup(void) {
    clock_init();
    crc16_init();
    table_set_seed(42);
    cr_assert_eq(epoch_start(1000, NULL, NULL), 0);
    epoch_set_single_reader(true);
    epoch_reader_enter();
    config_init(NULL);
    command_table_init();
    keyspace_thread_set(0);
    cr_assert_eq(keyspace_create(16, &keyspace), 0);
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
    session_init(&session, 1, true);
    database = 0;
    with_tokens = true;
    resp = 2;
}

static void commands_teardown(void) {
    free(replied);
    session_destroy(&session);
    change_destroy(&change);
    keyspace_destroy(keyspace);
    epoch_reader_leave();
    epoch_stop();
    config_destroy();
    output_pool_thread_exit();
}

static struct output_block *run_blocks(enum call_result *result, const struct argument *arguments,
                                       int argc) {
    struct argument argv[ARGUMENTS_MAX];
    memcpy(argv, arguments, sizeof(struct argument) * (size_t)argc);
    struct reply reply;
    reply_init(&reply);
    reply.resp = resp;
    const struct command *container, *command = command_lookup(argv, argc, &container);
    cr_assert_not_null(command, "unknown command %.*s", (int)argv[0].length, argv[0].data);
    cr_assert(command_arity_fits(command, argc));
    struct call call = {.command = command,
                        .argv = argv,
                        .argc = argc,
                        .reply = &reply,
                        .session = &session,
                        .keyspace = keyspace,
                        .change = &change,
                        .database = database,
                        .tokens = with_tokens,
                        .exclusive = with_tokens,
                        .in_exec = with_tokens};
    int indexes[ARGUMENTS_MAX];
    if (command->key_spec_count > 0 &&
        command_keys(command, argv, argc, indexes, ARGUMENTS_MAX) > 0) {
        call.first_key = indexes[0];
        call.key = key_make(argv[indexes[0]].data, argv[indexes[0]].length);
    }
    if (!in_unit)
        change_begin(&change);
    *result = command->handler(&call);
    if (*result == CALL_DONE)
        call_done(&call);
    if (in_unit)
        change_keep_arguments(&change); /* argv is ours */
    else
        change_commit(&change);
    struct output_block *blocks = reply_take(&reply);
    reply_clear(&reply);
    return blocks;
}

static void keep_reply(struct output_block *blocks) {
    free(replied);
    replied_length = 0;
    for (const struct output_block *block = blocks; block; block = block->next)
        replied_length += block->length;
    replied = malloc(replied_length + 1);
    size_t at = 0;
    for (const struct output_block *block = blocks; block; block = block->next) {
        memcpy(replied + at, block->data, block->length);
        at += block->length;
    }
    replied[at] = 0;
}

static enum call_result run_arguments(const struct argument *arguments, int argc) {
    enum call_result result;
    struct output_block *blocks = run_blocks(&result, arguments, argc);
    keep_reply(blocks);
    output_blocks_free(blocks);
    return result;
}

/* Words up to a NULL. */
static enum call_result run(const char *word, ...) {
    struct argument argv[ARGUMENTS_MAX];
    int argc = 0;
    va_list words;
    va_start(words, word);
    for (; word; word = va_arg(words, const char *))
        argv[argc++] = (struct argument){word, strlen(word)};
    va_end(words);
    return run_arguments(argv, argc);
}

#define RUN(...) run(__VA_ARGS__, NULL)

#define REPLIES(expected, ...)                                                                     \
    do {                                                                                           \
        cr_assert_eq(RUN(__VA_ARGS__), CALL_DONE);                                                 \
        cr_assert_str_eq(replied, expected);                                                       \
    } while (0)

static inline struct object *object_at(const char *name) {
    struct key key = key_make(name, strlen(name));
    return keyspace_find_raw(keyspace, database, &key);
}

/* length bytes of text, NUL-terminated; free it. */
static inline char *filled(char byte, size_t length) {
    char *text = malloc(length + 1);
    memset(text, byte, length);
    text[length] = 0;
    return text;
}

#endif
