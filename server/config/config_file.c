/* Reading a configuration: file, standard input and command line arguments become one text, which
 * is parsed line by line into a snapshot that nobody sees yet. Main thread, at start;
 * config_check_text on any thread. */
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "engine/memory.h"
#include "server/base/log.h"
#include "server/config/config_private.h"
#include "server/config/config_table.h"

#define INCLUDE_DEPTH_MAX 16
#define DEFAULT_PIDFILE   "/var/run/redis.pid"
#define SHOWN_LINE_MAX    2048

struct loader {
    struct config_parse parse;
    const struct config_hooks *hooks;
    int depth;           /* of include */
    struct text message; /* what config_load's caller prints */
};

static int load_file(struct loader *loader, const char *path);

/* ---- one line ---- */

static bool is_retired_directive(const char *name) {
    return strcasecmp(name, "list-max-ziplist-entries") == 0 ||
           strcasecmp(name, "list-max-ziplist-value") == 0 ||
           strcasecmp(name, "lua-replicate-commands") == 0;
}

static int load_option(struct loader *loader, const struct config_option *option,
                       const struct words *line) {
    struct config_parse *parse = &loader->parse;
    void *field = config_field(parse->target, option);
    struct words inner;

    if (!(option->flags & MULTI_ARG) && line->count != 2)
        return config_refuse(parse, "wrong number of arguments");
    parse->lengths = option->flags & MULTI_ARG ? NULL : line->length + 1;
    /* `bind "a b"` means the same as `bind a b`. Not so "": it is a value of its own. */
    if (!(option->flags & MULTI_ARG) || line->count != 2 || line->word[1][0] == '\0')
        return option->kind->parse(parse, option, field, line->count - 1, line->word + 1);
    if (words_split(line->word[1], strlen(line->word[1]), &inner) < 0)
        return config_refuse(parse, "Unbalanced quotes in configuration line");
    int result = option->kind->parse(parse, option, field, inner.count, inner.word);
    words_free(&inner);
    return result;
}

static int load_rename(struct loader *loader, const struct words *line) {
    const struct config_hooks *hooks = loader->hooks;
    const char *refusal = NULL;

    if (hooks != NULL && hooks->rename_command != NULL)
        refusal = hooks->rename_command(line->word[1], line->word[2], hooks->context);
    if (refusal != NULL)
        return config_refuse(&loader->parse, "%s", refusal);
    config_lines_add(&loader->parse.target->renamed_commands, line);
    return 0;
}

static int load_user(struct loader *loader, const struct words *line) {
    const struct config_hooks *hooks = loader->hooks;
    struct config_lines *users = &loader->parse.target->users;

    config_lines_add(users, line);
    if (hooks == NULL || hooks->user == NULL)
        return 0;
    return hooks->user(&users->line[users->count - 1], hooks->context, loader->parse.error,
                       sizeof loader->parse.error);
}

static int load_include(struct loader *loader, const char *path) {
    if (!loader->parse.effects)
        return 0;
    if (loader->depth == INCLUDE_DEPTH_MAX)
        return config_refuse(&loader->parse, "Too many levels of include");
    loader->depth++;
    int result = load_file(loader, path);
    loader->depth--;
    return result;
}

/* The words of a line that is neither empty nor a comment. */
static int load_words(struct loader *loader, const struct words *line) {
    char *name = line->word[0];
    const struct config_option *option = config_find(name, NULL);

    /* Redis lower-cases A-Z only, whatever the locale. */
    for (char *letter = name; *letter != '\0'; letter++) {
        if (*letter >= 'A' && *letter <= 'Z')
            *letter |= 0x20;
    }
    if (option != NULL)
        return load_option(loader, option, line);
    if (is_retired_directive(name) && line->count == 2)
        return 0;
    if (strcmp(name, "include") == 0 && line->count == 2)
        return load_include(loader, line->word[1]);
    if (strcmp(name, "rename-command") == 0 && line->count == 3)
        return load_rename(loader, line);
    if (strcmp(name, "user") == 0 && line->count >= 2)
        return load_user(loader, line);
    if (strcmp(name, "loadmodule") == 0 && line->count >= 2) {
        config_lines_add(&loader->parse.target->modules, line);
        return 0;
    }
    if (strchr(name, '.') != NULL) {
        if (line->count < 2)
            return config_refuse(&loader->parse, "Module config specified without value");
        config_lines_add(&loader->parse.target->modules, line);
        return 0;
    }
    if (strcmp(name, "sentinel") == 0)
        return line->count == 1
                   ? 0
                   : config_refuse(&loader->parse, "sentinel directive while not in sentinel mode");
    return config_refuse(&loader->parse, "Bad directive or wrong number of arguments");
}

/* ---- a text ---- */

/* The message that ends the start. The innermost line of nested includes wins. */
static int fatal(struct loader *loader, int line_number, const char *line, size_t length) {
    struct text *message = &loader->message;

    if (message->length > 0)
        return -1;
    text_append_format(message, "\n*** FATAL CONFIG FILE ERROR (Redis %s) ***\n",
                       CONFIG_REDIS_VERSION);
    if (line != NULL) {
        if (length > SHOWN_LINE_MAX)
            length = SHOWN_LINE_MAX;
        text_append_format(message, "Reading the configuration file, at line %d\n>>> '%.*s'\n",
                           line_number, (int)length, line);
    }
    text_append_format(message, "%s\n", loader->parse.error);
    return -1;
}

static bool is_blank(char byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static int load_text(struct loader *loader, const char *text, size_t length) {
    const char *end = text + length;
    int line_number = 0;

    while (text < end) {
        const char *line = text;
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline != NULL ? newline : end;
        struct words words;

        text = newline != NULL ? newline + 1 : end;
        line_number++;
        while (line < stop && is_blank(*line))
            line++;
        while (stop > line && is_blank(stop[-1]))
            stop--;
        if (line == stop || *line == '#')
            continue;
        size_t line_length = strnlen(line, (size_t)(stop - line));
        if (words_split(line, line_length, &words) < 0) {
            config_refuse(&loader->parse, "Unbalanced quotes in configuration line");
            return fatal(loader, line_number, line, line_length);
        }
        int result = words.count > 0 ? load_words(loader, &words) : 0;
        words_free(&words);
        if (result < 0)
            return fatal(loader, line_number, line, line_length);
    }
    return 0;
}

/* ---- where text comes from ---- */

static void append_stream(struct text *text, FILE *stream) {
    char buffer[4096];
    size_t length;

    while ((length = fread(buffer, 1, sizeof buffer, stream)) > 0)
        text_append(text, buffer, length);
}

/* Redis reports this one in the log and says nothing on standard error. The loader's message must
 * be seen as set all the same: a single NUL reads as the empty string. */
static int cannot_open(struct loader *loader, const char *path) {
    log_write(LOG_LEVEL_WARNING, "Fatal error, can't open config file '%s': %s", path,
              strerror(errno));
    text_append(&loader->message, "", 1);
    return -1;
}

static int append_file(struct loader *loader, struct text *text, const char *path) {
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return cannot_open(loader, path);
    append_stream(text, file);
    fclose(file);
    return 0;
}

/* A file that is named must be there; a pattern may match nothing (an empty conf.d). */
static int append_files(struct loader *loader, struct text *text, const char *pattern) {
    glob_t found;
    int result = 0;

    if (strpbrk(pattern, "*?[") == NULL)
        return append_file(loader, text, pattern);
    if (glob(pattern, 0, NULL, &found) != 0)
        return 0;
    for (size_t i = 0; result == 0 && i < found.gl_pathc; i++)
        result = append_file(loader, text, found.gl_pathv[i]);
    globfree(&found);
    return result;
}

static int load_file(struct loader *loader, const char *path) {
    struct text text = {0};
    int result = append_files(loader, &text, path);

    if (result == 0)
        result = load_text(loader, text_string(&text), text.length);
    text_free(&text);
    return result;
}

/* ---- the command line ---- */

/* As absolute as Redis makes it: leading "../" are resolved, nothing else. */
static char *absolute_path(const char *path) {
    struct text result = {0};
    char directory[PATH_MAX];

    path += strspn(path, " \r\n\t");
    if (*path != '/' && getcwd(directory, sizeof directory) != NULL) {
        size_t length = strlen(directory);
        while (strncmp(path, "../", 3) == 0) {
            path += 3;
            while (length > 1 && directory[length - 1] != '/')
                length--;
            if (length > 1)
                length--;
        }
        text_append(&result, directory, length);
        if (length > 1)
            text_append(&result, "/", 1);
    }
    text_append_string(&result, path);
    while (result.length > 0 && is_blank(result.data[result.length - 1]))
        result.data[--result.length] = '\0';
    return result.data;
}

static bool is_option(const char *argument) {
    return strncmp(argument, "--", 2) == 0;
}

/* Turns "--port 6380 --bind a b" into lines. After an option without a value of its own ("--port")
 * the next argument is a value, even if it starts with "--". */
static void append_arguments(struct text *text, int count, char *const *arguments, int first,
                             bool *from_stdin) {
    bool value_seen = true;

    for (int i = first; i < count; i++) {
        const char *argument = arguments[i];
        bool last = i == count - 1;
        struct words words;
        if (strcmp(argument, "-") == 0 && (i == 1 || last)) {
            *from_stdin = true;
        } else if (value_seen && is_option(argument)) {
            text_append_format(text, "%s%s ", text->length > 0 ? "\n" : "", argument + 2);
            words_split(argument, strlen(argument), &words);
            value_seen = words.count != 1;
            words_free(&words);
            if (value_seen)
                continue;
            bool is_save = strcasecmp(argument, "--save") == 0;
            bool is_sentinel = strcasecmp(argument, "--sentinel") == 0;
            bool before_option = !last && is_option(arguments[i + 1]);
            /* Scripts build "--save --port 1" out of an empty list of save points. */
            if (is_save && (last || before_option))
                text_append_string(text, "\"\"");
            value_seen = before_option && (is_save || is_sentinel);
        } else {
            text_append_quoted(text, argument, strlen(argument));
            text_append_string(text, " ");
            value_seen = true;
        }
    }
}

/* ---- entry points ---- */

/* What is wrong only in the light of the whole. */
static int check_whole(struct loader *loader) {
    struct config *config = loader->parse.target;

    if (loader->parse.effects && config->logfile[0] != '\0') {
        FILE *file = fopen(config->logfile, "ae");
        if (file == NULL) {
            config_refuse(&loader->parse, "Can't open the log file: %s", strerror(errno));
            return fatal(loader, 0, NULL, 0);
        }
        fclose(file);
    }
    if (config->cluster_enabled && config->replicaof.host != NULL) {
        config_refuse(&loader->parse, "replicaof directive not allowed in cluster mode");
        return fatal(loader, 0, NULL, 0);
    }
    if (config->cluster_enabled && config->databases > 1) {
        if (loader->parse.effects)
            log_write(
                LOG_LEVEL_WARNING,
                "WARNING: Changing databases number from %d to 1 since we are in cluster mode",
                (int)config->databases);
        config->databases = 1;
    }
    /* A daemon always has a pid file. */
    if (config->daemonize && config->supervised == CONFIG_SUPERVISED_NO && config->pidfile == NULL)
        config->pidfile = config_text_make(DEFAULT_PIDFILE, strlen(DEFAULT_PIDFILE));
    config_normalize(config);
    return 0;
}

static void loader_end(struct loader *loader, char *error, size_t error_size) {
    snprintf(error, error_size, "%s", text_string(&loader->message));
    text_free(&loader->message);
}

int config_load(int argument_count, char *const *arguments, const struct config_hooks *hooks,
                char *error, size_t error_size) {
    struct config *next = config_copy(config_current());
    struct loader loader = {
        .parse = {.target = next, .from_file = true, .effects = true},
        .hooks = hooks,
    };
    struct text options = {0};
    struct text whole = {0};
    bool from_stdin = false;
    int first = 1;
    int result = 0;

    if (argument_count > 1 && arguments[1][0] != '-') {
        memory_free(next->file);
        next->file = absolute_path(arguments[1]);
        first = 2;
    }
    append_arguments(&options, argument_count, arguments, first, &from_stdin);
    if (next->file != NULL)
        result = append_files(&loader, &whole, next->file);
    if (result == 0 && from_stdin) {
        log_write(LOG_LEVEL_NOTICE, "Reading config from stdin");
        append_stream(&whole, stdin);
    }
    /* The line numbers of error messages count this newline, as in Redis. */
    text_append_string(&whole, "\n");
    text_append(&whole, text_string(&options), options.length);
    if (result == 0)
        result = load_text(&loader, text_string(&whole), whole.length);
    if (result == 0)
        result = check_whole(&loader);
    loader_end(&loader, error, error_size);
    text_free(&whole);
    text_free(&options);
    if (result == 0)
        config_publish(next);
    else
        config_free(next);
    return result;
}

int config_check_text(const char *text, size_t length, char *error, size_t error_size) {
    struct loader loader = {.parse = {.target = config_copy(config_initial()), .from_file = true}};
    int result = load_text(&loader, text, length);

    if (result == 0)
        result = check_whole(&loader);
    loader_end(&loader, error, error_size);
    config_free(loader.parse.target);
    return result;
}
