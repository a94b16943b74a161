/* CONFIG GET, SET, RESETSTAT, REWRITE.
 *
 * GET runs on the connection's worker beside others. SET and RESETSTAT run with all workers
 * stopped, since the configuration has one writer at a time. What waits for something outside of
 * the process is done by another thread while others go on, and the connection waits for it:
 * the file of REWRITE, and before SET stops the others the lookup of host names that are to be
 * bound. Inside a transaction nothing can wait: there it is done at once. */
#include <string.h>

#include "engine/memory.h"
#include "server/base/text.h"
#include "server/clients/listen.h"
#include "server/clients/server.h"
#include "server/commands/cmd_session.h"
#include "server/config/config.h"
#include "server/dispatch/background_work.h"

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

/* --- SET -------------------------------------------------------------------------------------- */

/* Host names that are looked up before they are bound. */
struct lookup {
    struct background_work work; /* first */
    struct listen_names *names;
};

static void lookup_run(struct background_work *work) {
    listen_names_look_up(((struct lookup *)(void *)work)->names);
}

static void lookup_destroy(struct background_work *work) {
    listen_names_free(((struct lookup *)(void *)work)->names);
    memory_free(work);
}

/* The addresses that the listening sockets will have. false: they do not change. */
static bool addresses_wanted(const struct call *call, struct config_addresses *wanted,
                             struct words *words) {
    bool reopened = false, given = false;
    *wanted = config_current()->bind;
    for (int i = 2; i + 1 < call->argc; i += 2) {
        bool bind = argument_is(&call->argv[i], "bind");
        reopened = reopened || bind || argument_is(&call->argv[i], "port");
        if (!bind || given)
            continue;
        const char **value = c_strings(call, i + 1, 1, 1);
        words_split_plain(*value, words);
        memory_free(value);
        wanted->count = 0;
        for (int j = 0; j < words->count && j < CONFIG_ADDRESSES_MAX; j++)
            wanted->address[wanted->count++] = words->word[j];
        given = true;
    }
    return reopened;
}

/* NULL: there is nothing that takes time to look up. */
static struct unfinished *lookup_begin(const struct call *call) {
    struct config_addresses wanted;
    struct words words = {0};
    struct listen_names *names = NULL;
    if (addresses_wanted(call, &wanted, &words))
        names = listen_names_make(call->server, &wanted);
    words_free(&words);
    if (!names)
        return NULL;
    struct lookup *lookup = memory_alloc_aligned(_Alignof(struct lookup), sizeof *lookup);
    lookup->work = (struct background_work){
        .thread = BACKGROUND_OWN, .run = lookup_run, .destroy = lookup_destroy};
    lookup->names = names;
    return background_work_begin(&lookup->work);
}

static void set(struct call *call) {
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
}

enum call_result cmd_config_set(struct call *call) {
    struct session *session = call->session;
    if (call->argc % 2) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (!call->exclusive) {
        if (session->unfinished) /* it has been looked up */
            return CALL_NEED_EXCLUSIVE;
        session->unfinished = lookup_begin(call);
        return session->unfinished ? CALL_UNFINISHED : CALL_NEED_EXCLUSIVE;
    }
    const struct lookup *lookup = (const struct lookup *)(const void *)session->unfinished;
    call->server->names = lookup ? lookup->names : NULL;
    set(call);
    call->server->names = NULL;
    return CALL_DONE;
}

/* --- RESETSTAT, REWRITE ----------------------------------------------------------------------- */

enum call_result cmd_config_resetstat(struct call *call) {
    config_reset_statistics();
    server_reset_statistics(call->server);
    reply_ok(call->reply);
    return CALL_DONE;
}

struct rewriting {
    struct background_work work; /* first */
    struct config *config;
    int result;
    char error[CONFIG_ERROR_SIZE];
};

static void rewriting_run(struct background_work *work) {
    struct rewriting *rewriting = (struct rewriting *)(void *)work;
    rewriting->result =
        config_rewrite(rewriting->config, rewriting->error, sizeof rewriting->error);
}

static void rewriting_destroy(struct background_work *work) {
    config_free(((struct rewriting *)(void *)work)->config);
    memory_free(work);
}

static struct unfinished *rewriting_begin(void) {
    struct rewriting *rewriting =
        memory_alloc_aligned(_Alignof(struct rewriting), sizeof *rewriting);
    rewriting->work = (struct background_work){
        .thread = BACKGROUND_OWN, .run = rewriting_run, .destroy = rewriting_destroy};
    rewriting->config = config_copy(config_current());
    return background_work_begin(&rewriting->work);
}

static void reply_rewritten(struct reply *reply, int result, const char *error) {
    if (result == 0)
        reply_ok(reply);
    else
        reply_error(reply, error);
}

enum call_result cmd_config_rewrite(struct call *call) {
    const struct rewriting *done =
        (const struct rewriting *)(const void *)call->session->unfinished;
    if (done) {
        reply_rewritten(call->reply, done->result, done->error);
    } else if (call->in_exec) {
        char error[CONFIG_ERROR_SIZE];
        int result = config_rewrite(config_current(), error, sizeof error);
        reply_rewritten(call->reply, result, error);
    } else {
        call->session->unfinished = rewriting_begin();
        return CALL_UNFINISHED;
    }
    return CALL_DONE;
}

/* --- HELP ------------------------------------------------------------------------------------- */

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
