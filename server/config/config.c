/* The life of configuration snapshots: defaults, copies, publication, CONFIG GET and CONFIG SET.
 *
 * Algorithm: a snapshot is one allocation plus the texts and arrays that its rows point to, all its
 * own, so a snapshot can be freed without looking at any other. CONFIG SET copies the published
 * one, parses into the copy, lets subscribers apply it, and stores the pointer. Ordering: the
 * release store in config_publish pairs with the acquire load in config_current. Progress: readers
 * never wait. Writers are serialised by their caller. Reclamation: the replaced snapshot goes to
 * the retire function of config_init (epoch_retire in the server), which calls config_free after a
 * grace period. */
#include "server/config/config.h"

#include <limits.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "server/base/cpus.h"
#include "server/base/glob.h"
#include "server/base/log.h"
#include "server/config/config_private.h"
#include "server/config/config_special.h"
#include "server/config/config_table.h"

#define HZ_MIN         1
#define HZ_MAX         500
#define BACKLOG_MIN    (16 * 1024)
#define SUBSCRIBER_MAX 64

const struct config *config_published;
static uint64_t generations; /* so many were published, in the life of the process */

static struct {
    struct config *initial; /* the defaults */
    void (*retire)(void *snapshot, size_t bytes, void (*destructor)(void *snapshot));
    mode_t umask;
    struct change_subscriber {
        const struct config_option *option;
        config_apply *apply;
        void *context;
    } changes[SUBSCRIBER_MAX];
    size_t change_count;
    struct publish_subscriber {
        void (*published)(const struct config *now, void *context);
        void *context;
    } publishes[SUBSCRIBER_MAX];
    size_t publish_count;
    struct reset_subscriber {
        void (*reset)(void *context);
        void *context;
    } resets[SUBSCRIBER_MAX];
    size_t reset_count;
} state;

/* ---- snapshots ---- */

int config_default_workers(void) {
    struct cpus cpus;

    cpus_find(&cpus);
    return cpus.usable > CONFIG_WORKERS_MAX ? CONFIG_WORKERS_MAX : cpus.usable;
}

struct config *config_new(void) {
    struct config *config = memory_alloc(sizeof *config);

    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        option->kind->set_initial(option, config_field(config, option));
    }
    config->io_threads = config_default_workers();
    return config;
}

struct config *config_copy(const struct config *config) {
    struct config *copy = memory_alloc(sizeof *copy);

    *copy = *config;
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        if (option->kind->own != NULL)
            option->kind->own(config_field(copy, option));
    }
    config_lines_own(&copy->renamed_commands);
    config_lines_own(&copy->users);
    config_lines_own(&copy->modules);
    copy->file = config->file != NULL ? memory_strdup(config->file) : NULL;
    return copy;
}

void config_free(void *snapshot) {
    struct config *config = snapshot;

    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        if (option->kind->release != NULL)
            option->kind->release(config_field(config, option));
    }
    config_lines_release(&config->renamed_commands);
    config_lines_release(&config->users);
    config_lines_release(&config->modules);
    memory_free(config->file);
    memory_free(config);
}

void config_normalize(struct config *config) {
    if (config->hz < HZ_MIN)
        config->hz = HZ_MIN;
    if (config->hz > HZ_MAX)
        config->hz = HZ_MAX;
}

const struct config *config_initial(void) {
    return state.initial;
}

unsigned config_file_mode(void) {
    return 0666 & ~(unsigned)state.umask;
}

/* ---- publication ---- */

/* The log has no other way to learn its settings. Path and syslog change only before there are
 * threads: their directives are immutable. */
static void configure_log(const struct config *before, const struct config *after) {
    log_set_level((enum log_level)after->loglevel);
    if (before == NULL || strcmp(before->logfile, after->logfile) != 0)
        log_set_file(after->logfile);
    if (before == NULL || before->syslog_enabled != after->syslog_enabled)
        log_set_syslog(after->syslog_enabled, after->syslog_ident, after->syslog_facility);
}

void config_publish(struct config *next) {
    const struct config *before = config_published;

    next->generation = ++generations;
    configure_log(before, next);
    __atomic_store_n(&config_published, next, __ATOMIC_RELEASE);
    for (size_t i = 0; i < state.publish_count; i++)
        state.publishes[i].published(next, state.publishes[i].context);
    if (before == NULL)
        return;
    if (state.retire != NULL)
        state.retire((void *)before, sizeof *before, config_free);
    else
        config_free((void *)before);
}

/* ---- subscribers ---- */

void config_on_change(const char *name, config_apply *apply, void *context) {
    const struct config_option *option = config_find(name, NULL);

    ASSERT(option != NULL);
    ASSERT(state.change_count < SUBSCRIBER_MAX);
    state.changes[state.change_count++] = (struct change_subscriber){option, apply, context};
}

void config_on_publish(void (*published)(const struct config *now, void *context), void *context) {
    ASSERT(state.publish_count < SUBSCRIBER_MAX);
    state.publishes[state.publish_count++] = (struct publish_subscriber){published, context};
}

void config_on_reset_statistics(void (*reset)(void *context), void *context) {
    ASSERT(state.reset_count < SUBSCRIBER_MAX);
    state.resets[state.reset_count++] = (struct reset_subscriber){reset, context};
}

void config_reset_statistics(void) {
    for (size_t i = 0; i < state.reset_count; i++)
        state.resets[i].reset(state.resets[i].context);
}

/* Only whether there is such a locale: nothing sorts by it yet, and setlocale would race. */
static int apply_locale(const struct config *before, const struct config *after, void *context,
                        const char **error) {
    locale_t locale = newlocale(LC_COLLATE_MASK, after->locale_collate, (locale_t)0);

    (void)before;
    (void)context;
    if (locale == (locale_t)0) {
        *error = "Invalid locale name";
        return -1;
    }
    freelocale(locale);
    return 0;
}

/* The text of a Redis that was built without TLS. */
static int apply_tls(const struct config *before, const struct config *after, void *context,
                     const char **error) {
    (void)before;
    (void)context;
    if (after->tls_port == 0 && !after->tls_replication && !after->tls_cluster)
        return 0;
    *error = "Unable to update TLS configuration. Check server logs.";
    return -1;
}

/* ---- life ---- */

void config_init(void (*retire)(void *snapshot, size_t bytes, void (*destructor)(void *snapshot))) {
    ASSERT(config_published == NULL);
    state.umask = umask(0777);
    umask(state.umask);
    state.initial = config_new();
    config_on_change("locale-collate", apply_locale, NULL);
    config_on_change("tls-port", apply_tls, NULL);
    config_on_change("tls-replication", apply_tls, NULL);
    config_on_change("tls-cluster", apply_tls, NULL);
    config_publish(config_copy(state.initial));
    state.retire = retire;
}

void config_destroy(void) {
    config_free((void *)config_published);
    config_free(state.initial);
    config_published = NULL;
    memset(&state, 0, sizeof state);
}

/* ---- CONFIG GET ---- */

const char *config_enum_name(const char *directive, int value) {
    const struct config_option *option = config_find(directive, NULL);

    ASSERT(option != NULL);
    for (const struct config_choice *choice = option->choice.choices; choice->name; choice++) {
        if (choice->value == value)
            return choice->name;
    }
    return "unknown";
}

bool config_is_sensitive(const char *name) {
    const struct config_option *option = config_find(name, NULL);
    return option != NULL && (option->flags & SENSITIVE);
}

struct report {
    config_visit *callback;
    void *context;
    size_t count;
    struct text value; /* reused */
};

static void report_option(struct report *report, const struct config_option *option,
                          const char *name) {
    report->count++;
    if (report->callback == NULL)
        return;
    text_clear(&report->value);
    option->kind->format(option, config_field_const(config_current(), option), &report->value);
    report->callback(name, text_string(&report->value), report->value.length, report->context);
}

/* An option counts once under its name and once under its alias, as in Redis: two bits. */
static void report_matching(struct report *report, const char *pattern, unsigned char *reported) {
    size_t length = strlen(pattern);

    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        const char *names[] = {option->name, option->alias};
        for (size_t j = 0; j < 2 && !(option->flags & HIDDEN); j++) {
            if (names[j] != NULL && !(reported[i] & 1 << j) &&
                glob_match(pattern, length, names[j], strlen(names[j]), true)) {
                reported[i] |= (unsigned char)(1 << j);
                report_option(report, option, names[j]);
            }
        }
    }
}

size_t config_get_matching(const char *const *patterns, size_t count, config_visit *callback,
                           void *context) {
    struct report report = {.callback = callback, .context = context};
    unsigned char *reported = memory_calloc(config_option_count, 1);

    for (size_t i = 0; i < count; i++) {
        if (strpbrk(patterns[i], "[*?") != NULL) {
            report_matching(&report, patterns[i], reported);
            continue;
        }
        bool by_alias;
        const struct config_option *option = config_find(patterns[i], &by_alias);
        unsigned char bit = option != NULL && by_alias ? 2 : 1;
        if (option != NULL && !(reported[option - config_options] & bit)) {
            reported[option - config_options] |= bit;
            report_option(&report, option, patterns[i]);
        }
    }
    text_free(&report.value);
    memory_free(reported);
    return report.count;
}

void config_get_debug(config_visit *callback, void *context) {
    struct report report = {.callback = callback, .context = context};

    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].flags & DEBUG)
            report_option(&report, &config_options[i], config_options[i].name);
    }
    text_free(&report.value);
}

/* ---- CONFIG SET ---- */

struct assignment {
    const struct config_option *option;
    bool by_alias;
    bool changed;
    const char *value;
    size_t length;
};

/* Error replies are one line: what a client put into a name must not break it. */
static int refuse(char *error, size_t size, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error, size, format, arguments);
    va_end(arguments);
    for (; *error != '\0'; error++) {
        if (*error == '\r' || *error == '\n')
            *error = ' ';
    }
    return -1;
}

static int refuse_argument(char *error, size_t size, const char *name, const char *reason) {
    if (reason == NULL || *reason == '\0')
        return refuse(error, size, "ERR CONFIG SET failed (possibly related to argument '%s')",
                      name);
    return refuse(error, size, "ERR CONFIG SET failed (possibly related to argument '%s') - %s",
                  name, reason);
}

static const char *assigned_name(const struct assignment *assignment) {
    return assignment->by_alias ? assignment->option->alias : assignment->option->name;
}

/* Whether this client may set these directives at all. The first fault counts. */
static int resolve(struct assignment *assignments, const char *const *names, size_t count,
                   unsigned flags, char *error, size_t size) {
    int allow = config_current()->enable_protected_configs;
    bool allowed =
        allow == CONFIG_ALLOW_YES || (allow == CONFIG_ALLOW_LOCAL && (flags & CONFIG_SET_LOCAL));

    for (size_t i = 0; i < count; i++) {
        struct assignment *assignment = &assignments[i];
        assignment->option = config_find(names[i], &assignment->by_alias);
        if (assignment->option == NULL)
            return refuse(error, size,
                          "ERR Unknown option or number of arguments for CONFIG SET - '%s'",
                          names[i]);
        if (assignment->option->flags & IMMUTABLE)
            return refuse_argument(error, size, names[i], "can't set immutable config");
        if ((assignment->option->flags & PROTECTED) && !allowed)
            return refuse_argument(error, size, names[i], "can't set protected config");
        if ((assignment->option->flags & DENY_LOADING) && (flags & CONFIG_SET_LOADING))
            return refuse(error, size, "LOADING Redis is loading the dataset in memory");
        /* A directive and its alias do not count as duplicates, the last one wins. */
        for (size_t j = 0; j < i; j++) {
            if (assignments[j].option == assignment->option &&
                assignments[j].by_alias == assignment->by_alias)
                return refuse_argument(error, size, names[i], "duplicate parameter");
        }
    }
    return 0;
}

/* Whether a directive has another value in the one snapshot than in the other. */
static bool differs(const struct config_option *option, const struct config *before,
                    const struct config *after) {
    struct text old_value = {0};
    struct text new_value = {0};

    option->kind->format(option, config_field_const(before, option), &old_value);
    option->kind->format(option, config_field_const(after, option), &new_value);
    bool different = old_value.length != new_value.length ||
                     memcmp(text_string(&old_value), text_string(&new_value), new_value.length);
    text_free(&old_value);
    text_free(&new_value);
    return different;
}

/* A value that asks for something: not the default, except that the default of `save` does. */
static bool asks_for_something(const struct config_option *option, const struct config *config) {
    if (option->kind == &config_kind_save_points)
        return config->save.count > 0;
    return differs(option, state.initial, config);
}

static void warn_without_effect(const struct config_option *option, const struct config *config) {
    if ((option->flags & NO_EFFECT) && asks_for_something(option, config))
        log_write(LOG_LEVEL_WARNING,
                  "WARNING: the directive '%s' is accepted but not implemented in this version.",
                  option->name);
}

void config_warn_without_effect(void) {
    for (size_t i = 0; i < config_option_count; i++)
        warn_without_effect(&config_options[i], config_current());
}

static int parse_value(struct config_parse *parse, const struct assignment *assignment) {
    const struct config_option *option = assignment->option;
    void *field = config_field(parse->target, option);
    char *single = (char *)assignment->value;
    struct words words;

    parse->lengths = option->flags & MULTI_ARG ? NULL : &assignment->length;
    if (!(option->flags & MULTI_ARG))
        return option->kind->parse(parse, option, field, 1, &single);
    words_split_plain(assignment->value, &words);
    int result = option->kind->parse(parse, option, field, words.count, words.word);
    words_free(&words);
    return result;
}

/* Runs the subscribers of what changed, each once. On failure undoes those that ran; returns the
 * assignment to blame. */
static const struct assignment *apply_changes(const struct assignment *assignments, size_t count,
                                              const struct config *before,
                                              const struct config *after, const char **reason) {
    const struct change_subscriber *applied[SUBSCRIBER_MAX];
    size_t applied_count = 0;

    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; assignments[i].changed && j < state.change_count; j++) {
            const struct change_subscriber *subscriber = &state.changes[j];
            bool due = subscriber->option == assignments[i].option;
            for (size_t k = 0; due && k < applied_count; k++)
                due = applied[k]->apply != subscriber->apply ||
                      applied[k]->context != subscriber->context;
            if (!due)
                continue;
            if (subscriber->apply(before, after, subscriber->context, reason) == 0) {
                applied[applied_count++] = subscriber;
                continue;
            }
            log_write(LOG_LEVEL_WARNING,
                      "Failed applying new configuration. Possibly related to new %s setting. "
                      "Restoring previous settings.",
                      assigned_name(&assignments[i]));
            while (applied_count-- > 0) {
                const char *ignored = NULL;
                if (applied[applied_count]->apply(after, before, applied[applied_count]->context,
                                                  &ignored) != 0)
                    log_write(LOG_LEVEL_WARNING,
                              "Failed applying restored failed CONFIG SET command: %s",
                              ignored != NULL ? ignored : "unknown error");
            }
            return &assignments[i];
        }
    }
    return NULL;
}

/* As Redis, where it is set by a client, not where it stands in a file. */
static void raise_backlog(const struct assignment *assignments, size_t count, struct config *next) {
    for (size_t i = 0; i < count; i++)
        if (assignments[i].option->offset == offsetof(struct config, repl_backlog_size) &&
            next->repl_backlog_size < BACKLOG_MIN)
            next->repl_backlog_size = BACKLOG_MIN;
}

/* Parses all values into `next` and applies them. */
static int assign(struct assignment *assignments, size_t count, struct config *next, char *error,
                  size_t size) {
    const struct config *before = config_current();
    struct config_parse parse = {.target = next, .effects = true};
    const char *reason = NULL;

    for (size_t i = 0; i < count; i++) {
        if (parse_value(&parse, &assignments[i]) < 0)
            return refuse_argument(error, size, assigned_name(&assignments[i]), parse.error);
    }
    config_normalize(next);
    raise_backlog(assignments, count, next);
    for (size_t i = 0; i < count; i++)
        assignments[i].changed = (assignments[i].option->flags & VOLATILE) ||
                                 differs(assignments[i].option, before, next);
    const struct assignment *culprit = apply_changes(assignments, count, before, next, &reason);
    if (culprit != NULL)
        return refuse_argument(error, size, assigned_name(culprit), reason);
    return 0;
}

int config_set_many(const char *const *names, const char *const *values, size_t count,
                    unsigned flags, char *error, size_t error_size) {
    return config_set_bytes(names, values, NULL, count, flags, error, error_size);
}

int config_set_bytes(const char *const *names, const char *const *values, const size_t *lengths,
                     size_t count, unsigned flags, char *error, size_t error_size) {
    struct assignment *assignments = memory_calloc(count > 0 ? count : 1, sizeof *assignments);
    struct config *next = NULL;
    int result = resolve(assignments, names, count, flags, error, error_size);

    if (result < 0)
        goto out;
    for (size_t i = 0; i < count; i++) {
        assignments[i].value = values[i];
        assignments[i].length = lengths != NULL ? lengths[i] : strlen(values[i]);
    }
    next = config_copy(config_current());
    result = assign(assignments, count, next, error, error_size);
    if (result == 0) {
        for (size_t i = 0; i < count; i++)
            if (assignments[i].changed)
                warn_without_effect(assignments[i].option, next);
        config_publish(next);
        goto out;
    }
    /* `dir` is the one value that takes effect while it is parsed. */
    if (strcmp(next->dir, config_current()->dir) != 0 && chdir(config_current()->dir) < 0)
        log_write(LOG_LEVEL_WARNING,
                  "Failed restoring failed CONFIG SET command. Error setting "
                  "dir to '%s'",
                  config_current()->dir);
    config_free(next);
out:
    memory_free(assignments);
    return result;
}

void config_set_replicaof(const char *host, int port) {
    struct config *next = config_copy(config_current());
    memory_free(next->replicaof.host);
    next->replicaof.host = host != NULL ? memory_strdup(host) : NULL;
    next->replicaof.port = port;
    config_publish(next);
}
