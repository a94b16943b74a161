/* MIGRATE: parsed here, done by the migrator's thread (server/links/migration.h), answered here.
 *
 * Run by: any worker. */
#include <string.h>

#include "engine/memory.h"
#include "server/base/numbers.h"
#include "server/clients/server.h"
#include "server/commands/cmd_data.h"
#include "server/config/config.h"

struct options {
    bool copy, replace;
    const struct argument *user, *password; /* NULL: none */
    int first_key, key_count;
};

/* The place of the word that begins the options of call, from argument 6 on. false: error replied.
 */
static bool options_parse(struct call *call, struct options *options) {
    *options = (struct options){.first_key = 3, .key_count = 1};
    for (int i = 6; i < call->argc; i++) {
        const struct argument *argument = &call->argv[i];
        int left = call->argc - 1 - i;
        if (argument_is(argument, "copy")) {
            options->copy = true;
        } else if (argument_is(argument, "replace")) {
            options->replace = true;
        } else if (argument_is(argument, "auth") && left >= 1) {
            options->user = NULL;
            options->password = &call->argv[++i];
        } else if (argument_is(argument, "auth2") && left >= 2) {
            options->user = &call->argv[++i];
            options->password = &call->argv[++i];
        } else if (argument_is(argument, "keys")) {
            if (call->argv[3].length != 0) {
                reply_error(call->reply,
                            "ERR When using MIGRATE KEYS option, the key argument must "
                            "be set to the empty string");
                return false;
            }
            options->first_key = i + 1;
            options->key_count = left;
            return true;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

static char *copy_text(const struct argument *argument) {
    char *text = memory_alloc(argument->length + 1);
    memcpy(text, argument->data, argument->length);
    text[argument->length] = '\0';
    return text;
}

static struct migration *make(const struct call *call, const struct options *options,
                              int64_t database, int64_t timeout_ms) {
    struct migration *migration =
        memory_alloc_aligned(_Alignof(struct migration), sizeof *migration);
    *migration = (struct migration){.host = copy_text(&call->argv[1]),
                                    .port = copy_text(&call->argv[2]),
                                    .database = database,
                                    .timeout_ms = (uint64_t)timeout_ms,
                                    .copy = options->copy,
                                    .replace = options->replace,
                                    .asking = config_current()->cluster_enabled,
                                    .source_database = call->database,
                                    .key_count = (size_t)options->key_count};
    if (options->user) {
        migration->user = copy_text(options->user);
        migration->user_length = options->user->length;
    }
    if (options->password) {
        migration->password = copy_text(options->password);
        migration->password_length = options->password->length;
    }
    migration->keys = memory_alloc(migration->key_count * sizeof *migration->keys);
    for (size_t i = 0; i < migration->key_count; i++) {
        const struct argument *key = &call->argv[options->first_key + (int)i];
        migration->keys[i] = (struct migration_key){.key = {copy_text(key), key->length}};
    }
    return migration;
}

static enum call_result reply_result(struct call *call) {
    const struct migration *migration =
        (const struct migration *)(const void *)call->session->unfinished;
    if (migration->number != 0) /* WAIT waits for it as for what the client writes itself */
        call_note_commit(call, migration->number);
    switch (migration->result) {
    case MIGRATION_DONE:
        reply_ok(call->reply);
        break;
    case MIGRATION_NO_KEY:
        reply_status(call->reply, "NOKEY");
        break;
    case MIGRATION_FAILED:
        reply_error(call->reply, migration->error);
        break;
    }
    return CALL_DONE;
}

enum call_result cmd_migrate(struct call *call) {
    struct options options;
    int64_t timeout_ms, database;
    if (call->session->unfinished)
        return reply_result(call);
    if (!options_parse(call, &options) || !argument_integer(call, 5, &timeout_ms) ||
        !argument_integer(call, 4, &database))
        return CALL_DONE;
    if (call->in_exec) {
        reply_error(call->reply, "ERR MIGRATE inside MULTI is not supported");
        return CALL_DONE;
    }
    if (options.key_count == 0) {
        reply_status(call->reply, "NOKEY");
        return CALL_DONE;
    }
    if (timeout_ms <= 0)
        timeout_ms = 1000;
    struct migration *migration = make(call, &options, database, timeout_ms);
    call->session->unfinished = migration_begin(&call->server->migrator, migration);
    return CALL_UNFINISHED;
}
