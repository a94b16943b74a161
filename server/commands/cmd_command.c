/* COMMAND and its subcommands: what the table knows about itself. They touch no keys and run on the
 * connection's worker. */
#include <string.h>

#include "engine/memory.h"
#include "server/base/glob.h"
#include "server/dispatch/call.h"
#include "server/dispatch/command_category.h"
#include "server/dispatch/command_docs.h"
#include "server/dispatch/command_keys.h"

command_handler cmd_command, cmd_command_count, cmd_command_docs, cmd_command_getkeys,
    cmd_command_getkeysandflags, cmd_command_help, cmd_command_info, cmd_command_list;

static void reply_all_info(struct reply *reply) {
    reply_array(reply, command_top_level_count());
    for (unsigned id = 0; id < command_count(); id++)
        if (command_by_id(id)->parent == NULL)
            command_reply_info(reply, command_by_id(id));
}

enum call_result cmd_command(struct call *call) {
    reply_all_info(call->reply);
    return CALL_DONE;
}

enum call_result cmd_command_info(struct call *call) {
    if (call->argc == 2) {
        reply_all_info(call->reply);
        return CALL_DONE;
    }
    reply_array(call->reply, (size_t)call->argc - 2);
    for (int i = 2; i < call->argc; i++)
        command_reply_info(call->reply, command_by_name(call->argv[i].data, call->argv[i].length));
    return CALL_DONE;
}

enum call_result cmd_command_count(struct call *call) {
    reply_integer(call->reply, command_top_level_count());
    return CALL_DONE;
}

static void reply_named_docs(struct reply *reply, const struct command *command) {
    reply_bulk_text(reply, command->name);
    command_reply_docs(reply, command);
}

enum call_result cmd_command_docs(struct call *call) {
    struct reply *reply = call->reply;
    if (call->argc == 2) {
        reply_map(reply, command_top_level_count());
        for (unsigned id = 0; id < command_count(); id++)
            if (command_by_id(id)->parent == NULL)
                reply_named_docs(reply, command_by_id(id));
        return CALL_DONE;
    }
    /* Unknown names are left out, so they are looked up twice: first to count. */
    size_t known = 0;
    for (int i = 2; i < call->argc; i++)
        known += command_by_name(call->argv[i].data, call->argv[i].length) != NULL;
    reply_map(reply, known);
    for (int i = 2; i < call->argc; i++) {
        const struct command *command = command_by_name(call->argv[i].data, call->argv[i].length);
        if (command != NULL)
            reply_named_docs(reply, command);
    }
    return CALL_DONE;
}

/* --- COMMAND LIST ----------------------------------------------------------------------------- */

enum filter_kind { FILTER_NONE, FILTER_MODULE, FILTER_CATEGORY, FILTER_PATTERN };

static bool is_listed(const struct command *command, enum filter_kind kind,
                      const struct argument *wanted) {
    switch (kind) {
    case FILTER_NONE:
        return true;
    case FILTER_MODULE: /* there are no modules */
        return false;
    case FILTER_CATEGORY:
        return command->acl_categories & command_category_by_name(wanted->data, wanted->length);
    case FILTER_PATTERN:
        return glob_match(wanted->data, wanted->length, command->name, command->name_length, true);
    }
    return false;
}

enum call_result cmd_command_list(struct call *call) {
    enum filter_kind kind = FILTER_NONE;
    const struct argument *wanted = NULL;
    if (call->argc == 5 && argument_is(&call->argv[2], "filterby")) {
        if (argument_is(&call->argv[3], "module"))
            kind = FILTER_MODULE;
        else if (argument_is(&call->argv[3], "aclcat"))
            kind = FILTER_CATEGORY;
        else if (argument_is(&call->argv[3], "pattern"))
            kind = FILTER_PATTERN;
        wanted = &call->argv[4];
    }
    if (call->argc != 2 && kind == FILTER_NONE) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    struct reply_deferred list = reply_deferred_begin(call->reply);
    size_t n = 0;
    for (unsigned id = 0; id < command_count(); id++) {
        const struct command *command = command_by_id(id);
        if (!is_listed(command, kind, wanted))
            continue;
        reply_bulk(call->reply, command->name, command->name_length);
        n++;
    }
    reply_deferred_array(call->reply, list, n);
    return CALL_DONE;
}

/* --- COMMAND GETKEYS -------------------------------------------------------------------------- */

#define KEYS_ON_STACK 64

static void reply_keys(struct call *call, const int *keys, const uint32_t *flags, int n,
                       bool with_flags) {
    reply_array(call->reply, (size_t)n);
    for (int i = 0; i < n; i++) {
        const struct argument *key = &call->argv[2 + keys[i]];
        if (with_flags)
            reply_array(call->reply, 2);
        reply_bulk(call->reply, key->data, key->length);
        if (with_flags)
            command_reply_key_flags(call->reply, flags[i]);
    }
}

static enum call_result get_keys(struct call *call, bool with_flags) {
    struct argument *argv = call->argv + 2;
    int argc = call->argc - 2;
    const struct command *container;
    const struct command *command = command_lookup(argv, argc, &container);
    bool has_keys = false;
    for (unsigned i = 0; command != NULL && i < command->key_spec_count; i++)
        has_keys = has_keys || !(command->key_specs[i].flags & KEY_NOT_KEY);
    const char *error = NULL;
    if (command == NULL)
        error = "ERR Invalid command specified";
    else if (!has_keys)
        error = "ERR The command has no key arguments";
    else if (!command_arity_fits(command, argc))
        error = "ERR Invalid number of arguments specified for command";
    if (error != NULL) {
        reply_error(call->reply, error);
        return CALL_DONE;
    }

    int few_keys[KEYS_ON_STACK], *keys = few_keys;
    uint32_t few_flags[KEYS_ON_STACK], *flags = few_flags;
    int n = command_keys_and_flags(command, argv, argc, keys, flags, KEYS_ON_STACK);
    if (n > KEYS_ON_STACK) {
        keys = memory_alloc((size_t)n * sizeof(*keys));
        flags = memory_alloc((size_t)n * sizeof(*flags));
        n = command_keys_and_flags(command, argv, argc, keys, flags, n);
    }
    if (n > 0)
        reply_keys(call, keys, flags, n, with_flags);
    else if (command->flags & COMMAND_NO_MANDATORY_KEYS)
        reply_empty_array(call->reply);
    else
        reply_error(call->reply, "ERR Invalid arguments specified for command");
    if (keys != few_keys) {
        memory_free(keys);
        memory_free(flags);
    }
    return CALL_DONE;
}

enum call_result cmd_command_getkeys(struct call *call) {
    return get_keys(call, false);
}

enum call_result cmd_command_getkeysandflags(struct call *call) {
    return get_keys(call, true);
}

enum call_result cmd_command_help(struct call *call) {
    static const char *const lines[] = {
        "(no subcommand)",
        "    Return details about all Redis commands.",
        "COUNT",
        "    Return the total number of commands in this Redis server.",
        "LIST",
        "    Return a list of all commands in this Redis server.",
        "INFO [<command-name> ...]",
        "    Return details about multiple Redis commands.",
        "    If no command names are given, documentation details for all",
        "    commands are returned.",
        "DOCS [<command-name> ...]",
        "    Return documentation details about multiple Redis commands.",
        "    If no command names are given, documentation details for all",
        "    commands are returned.",
        "GETKEYS <full-command>",
        "    Return the keys from a full Redis command.",
        "GETKEYSANDFLAGS <full-command>",
        "    Return the keys and the access flags from a full Redis command.",
        NULL,
    };
    call_reply_help(call, lines);
    return CALL_DONE;
}
