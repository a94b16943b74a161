/* CONFIG GET, SET, RESETSTAT, REWRITE.
 *
 * GET runs on the connection's worker beside others; the rest runs with all workers stopped, since
 * the configuration has one writer at a time. */
#include <string.h>

#include "engine/memory.h"
#include "server/clients/server.h"
#include "server/commands/cmd_session.h"
#include "server/config/config.h"

command_handler cmd_config_get, cmd_config_set, cmd_config_resetstat, cmd_config_rewrite,
    cmd_config_help;

/* Arguments [first, first + count * step) as C strings in one allocation, to be freed with
 * memory_free. */
static const char **c_strings(const struct call *call, int first, int step, size_t count) {
    size_t bytes = count * sizeof(char *);
    for (size_t i = 0; i < count; i++)
        bytes += call->argv[first + (int)i * step].length + 1;
    const char **strings = memory_alloc(bytes);
    char *text = (char *)(strings + count);
    for (size_t i = 0; i < count; i++) {
        const struct argument *argument = &call->argv[first + (int)i * step];
        strings[i] = text;
        memcpy(text, argument->data, argument->length);
        text[argument->length] = '\0';
        text += argument->length + 1;
    }
    return strings;
}

static void reply_directive(const char *name, const char *value, size_t length, void *context) {
    reply_bulk_text(context, name);
    reply_bulk(context, value, length);
}

enum call_result cmd_config_get(struct call *call) {
    size_t count = (size_t)call->argc - 2;
    const char **patterns = c_strings(call, 2, 1, count);
    struct reply_deferred map = reply_deferred_begin(call->reply);
    size_t n = config_get_matching(patterns, count, reply_directive, call->reply);
    reply_deferred_map(call->reply, map, n);
    memory_free(patterns);
    return CALL_DONE;
}

enum call_result cmd_config_set(struct call *call) {
    if (call->argc % 2) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    size_t count = (size_t)(call->argc - 2) / 2;
    const char **names = c_strings(call, 2, 2, count);
    const char **values = c_strings(call, 3, 2, count);
    size_t *lengths = memory_alloc(count * sizeof *lengths);
    for (size_t i = 0; i < count; i++)
        lengths[i] = call->argv[3 + 2 * i].length;
    char error[CONFIG_ERROR_SIZE];
    unsigned flags = call->session->is_local ? CONFIG_SET_LOCAL : 0;
    if (config_set_bytes(names, values, lengths, count, flags, error, sizeof error) == 0)
        reply_ok(call->reply);
    else
        reply_error(call->reply, error);
    memory_free(names);
    memory_free(values);
    memory_free(lengths);
    return CALL_DONE;
}

enum call_result cmd_config_resetstat(struct call *call) {
    config_reset_statistics();
    server_reset_statistics(call->server);
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_config_rewrite(struct call *call) {
    char error[CONFIG_ERROR_SIZE];
    if (config_rewrite(error, sizeof error) == 0)
        reply_ok(call->reply);
    else
        reply_error(call->reply, error);
    return CALL_DONE;
}

enum call_result cmd_config_help(struct call *call) {
    static const char *const lines[] = {
        "GET <pattern>",
        "    Return parameters matching the glob-like <pattern> and their values.",
        "SET <directive> <value>",
        "    Set the configuration <directive> to <value>.",
        "RESETSTAT",
        "    Reset statistics reported by the INFO command.",
        "REWRITE",
        "    Rewrite the configuration file.",
        NULL};
    call_reply_help(call, lines);
    return CALL_DONE;
}
