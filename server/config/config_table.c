/* The table of directives and the plain kinds of values: yes/no, choice, number, text. Constant
 * data and pure functions; any thread. Error texts are Redis's. */
#include "server/config/config_table.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>

#include "engine/memory.h"
#include "server/base/log.h"
#include "server/base/numbers.h"
#include "server/config/config_special.h"

#define HOST_NAME_LIMIT 256

/* ---- yes or no ---- */

static void bool_set_initial(const struct config_option *option, void *field) {
    *(bool *)field = option->boolean.initial;
}

static int bool_parse(struct config_parse *parse, const struct config_option *option, void *field,
                      int count, char *const *word) {
    bool value = count == 1 && strcasecmp(word[0], "yes") == 0;

    if (count != 1 || (!value && strcasecmp(word[0], "no") != 0))
        return config_refuse(parse, "argument must be 'yes' or 'no'");
    const char *refusal = option->boolean.check != NULL ? option->boolean.check(value) : NULL;
    if (refusal != NULL)
        return config_refuse(parse, "%s", refusal);
    *(bool *)field = value;
    return 0;
}

static void bool_format(const struct config_option *option, const void *field, struct text *out) {
    (void)option;
    text_append_string(out, *(const bool *)field ? "yes" : "no");
}

static const struct config_kind kind_bool = {
    .set_initial = bool_set_initial,
    .parse = bool_parse,
    .format = bool_format,
};

/* ---- one of several names; with MULTI_ARG a set of bits ---- */

static void choice_set_initial(const struct config_option *option, void *field) {
    *(int *)field = option->choice.initial;
}

static const struct config_choice *choice_find(const struct config_choice *choice,
                                               const char *name) {
    while (choice->name != NULL && strcasecmp(choice->name, name) != 0)
        choice++;
    return choice->name != NULL ? choice : NULL;
}

static int choice_refuse(struct config_parse *parse, const struct config_choice *choice) {
    struct text names = {0};

    for (; choice->name != NULL; choice++)
        text_append_format(&names, "%s%s", names.length > 0 ? ", " : "", choice->name);
    config_refuse(parse, "argument(s) must be one of the following: %s", text_string(&names));
    text_free(&names);
    return -1;
}

static int choice_parse(struct config_parse *parse, const struct config_option *option, void *field,
                        int count, char *const *word) {
    int value = 0;

    if (count == 0 || (count != 1 && !(option->flags & MULTI_ARG)))
        return choice_refuse(parse, option->choice.choices);
    for (int i = 0; i < count; i++) {
        const struct config_choice *choice = choice_find(option->choice.choices, word[i]);
        if (choice == NULL)
            return choice_refuse(parse, option->choice.choices);
        value |= choice->value;
    }
    const char *refusal = option->choice.check != NULL ? option->choice.check(value) : NULL;
    if (refusal != NULL)
        return config_refuse(parse, "%s", refusal);
    *(int *)field = value;
    return 0;
}

static void choice_format(const struct config_option *option, const void *field, struct text *out) {
    int value = *(const int *)field;
    int left = value;
    size_t start = out->length;

    for (const struct config_choice *choice = option->choice.choices; choice->name; choice++) {
        if (choice->value == value) {
            text_append_string(out, choice->name);
            return;
        }
    }
    for (const struct config_choice *choice = option->choice.choices; choice->name; choice++) {
        if (choice->value != 0 && (left & choice->value) == choice->value) {
            text_append_format(out, "%s%s", out->length > start ? " " : "", choice->name);
            left &= ~choice->value;
        }
    }
}

static const struct config_kind kind_choice = {
    .set_initial = choice_set_initial,
    .parse = choice_parse,
    .format = choice_format,
};

/* ---- numbers ---- */

/* Reads the number as the unit wants it. A percentage is stored as a negative number. */
static int number_read(struct config_parse *parse, enum config_unit unit, const char *text,
                       int64_t *value) {
    uint64_t bytes;
    char *end;

    switch (unit) {
    case MEMORY_OR_PERCENT:
        if (number_parse_percent(text, strlen(text), value)) {
            *value = -*value;
            return 0;
        }
        if (!number_parse_memory(text, &bytes))
            return config_refuse(parse, "argument must be a memory or percent value");
        *value = (int64_t)bytes;
        return 0;
    case MEMORY:
        if (!number_parse_memory(text, &bytes))
            return config_refuse(parse, "argument must be a memory value");
        *value = (int64_t)bytes;
        return 0;
    case OCTAL:
        errno = 0;
        *value = strtoll(text, &end, 8);
        if (errno != 0 || *end != '\0')
            return config_refuse(parse, "argument couldn't be parsed as an octal number");
        return 0;
    case PLAIN:
        break;
    }
    if (!number_parse_int64(text, strlen(text), value))
        return config_refuse(parse, "argument couldn't be parsed into an integer");
    return 0;
}

static void number_format(enum config_unit unit, int64_t value, struct text *out) {
    char digits[NUMBER_INT64_SIZE];

    if (unit == MEMORY_OR_PERCENT && value < 0) {
        text_append_format(out, "%lld%%", (long long)-value);
    } else if (unit == OCTAL) {
        text_append_format(out, "%llo", (unsigned long long)value);
    } else {
        size_t length = unit == PLAIN ? number_write_int64(digits, value)
                                      : number_write_uint64(digits, (uint64_t)value);
        text_append(out, digits, length);
    }
}

/* Memory sizes go to the file with the largest unit that fits without a fraction. */
static void number_rewrite(const struct config_option *option, enum config_unit unit, int64_t value,
                           bool forced, struct config_file_lines *file) {
    static const char *const suffix[] = {"", "kb", "mb", "gb"};
    struct text line = {0};
    size_t scale = 0;

    text_append_format(&line, "%s ", option->name);
    if ((unit == MEMORY || unit == MEMORY_OR_PERCENT) && value > 0) {
        while (scale < 3 && value % 1024 == 0) {
            value /= 1024;
            scale++;
        }
    }
    number_format(unit, value, &line);
    text_append_string(&line, suffix[scale]);
    config_file_put(file, option->name, text_string(&line), forced);
    text_free(&line);
}

static void signed_set_initial(const struct config_option *option, void *field) {
    *(int64_t *)field = option->number.initial;
}

static int signed_parse(struct config_parse *parse, const struct config_option *option, void *field,
                        int count, char *const *word) {
    int64_t low = option->number.low;
    int64_t high = option->number.high;
    int64_t value;

    if (count != 1)
        return config_refuse(parse, "wrong number of arguments");
    if (number_read(parse, option->number.unit, word[0], &value) < 0)
        return -1;
    if (option->number.unit == MEMORY_OR_PERCENT && value < 0) {
        if (value < low)
            return config_refuse(parse, "percentage argument must be less or equal to %lld",
                                 (long long)-low);
    } else if (value < low || value > high) {
        return config_refuse(parse, "argument must be between %lld and %lld inclusive",
                             (long long)low, (long long)high);
    }
    *(int64_t *)field = value;
    return 0;
}

static void signed_format(const struct config_option *option, const void *field, struct text *out) {
    number_format(option->number.unit, *(const int64_t *)field, out);
}

static void signed_rewrite(const struct config_option *option, const void *field,
                           const void *initial, struct config_file_lines *file) {
    int64_t value = *(const int64_t *)field;
    number_rewrite(option, option->number.unit, value, value != *(const int64_t *)initial, file);
}

static const struct config_kind kind_signed = {
    .set_initial = signed_set_initial,
    .parse = signed_parse,
    .format = signed_format,
    .rewrite = signed_rewrite,
};

static void unsigned_set_initial(const struct config_option *option, void *field) {
    *(uint64_t *)field = option->unsigned_number.initial;
}

static int unsigned_parse(struct config_parse *parse, const struct config_option *option,
                          void *field, int count, char *const *word) {
    uint64_t low = option->unsigned_number.low;
    uint64_t high = option->unsigned_number.high;
    int64_t value;

    if (count != 1)
        return config_refuse(parse, "wrong number of arguments");
    if (number_read(parse, option->unsigned_number.unit, word[0], &value) < 0)
        return -1;
    if ((uint64_t)value < low || (uint64_t)value > high) {
        if (option->unsigned_number.unit == OCTAL)
            return config_refuse(parse, "argument must be between %llo and %llo inclusive",
                                 (unsigned long long)low, (unsigned long long)high);
        return config_refuse(parse, "argument must be between %llu and %llu inclusive",
                             (unsigned long long)low, (unsigned long long)high);
    }
    *(uint64_t *)field = (uint64_t)value;
    return 0;
}

static void unsigned_format(const struct config_option *option, const void *field,
                            struct text *out) {
    const uint64_t *value = field;
    number_format(option->unsigned_number.unit, (int64_t)*value, out);
}

static void unsigned_rewrite(const struct config_option *option, const void *field,
                             const void *initial, struct config_file_lines *file) {
    uint64_t value = *(const uint64_t *)field;
    number_rewrite(option, option->unsigned_number.unit, (int64_t)value,
                   value != *(const uint64_t *)initial, file);
}

static const struct config_kind kind_unsigned = {
    .set_initial = unsigned_set_initial,
    .parse = unsigned_parse,
    .format = unsigned_format,
    .rewrite = unsigned_rewrite,
};

/* ---- text ---- */

static void text_set_initial(const struct config_option *option, void *field) {
    const char *initial = option->text.initial;
    *(char **)field = initial != NULL ? config_text_make(initial, strlen(initial)) : NULL;
}

static int text_parse(struct config_parse *parse, const struct config_option *option, void *field,
                      int count, char *const *word) {
    if (count != 1)
        return config_refuse(parse, "wrong number of arguments");
    const char *refusal = option->text.check != NULL ? option->text.check(word[0]) : NULL;
    if (refusal != NULL)
        return config_refuse(parse, "%s", refusal);
    size_t length = parse->lengths != NULL ? parse->lengths[0] : strlen(word[0]);
    bool unset = option->text.empty == EMPTY_UNSET && length == 0;
    config_text_free(*(char **)field);
    *(char **)field = unset ? NULL : config_text_make(word[0], length);
    return 0;
}

static void text_format(const struct config_option *option, const void *field, struct text *out) {
    const char *value = *(char *const *)field;

    (void)option;
    text_append(out, value != NULL ? value : "", config_text_length(value));
}

static void text_own(void *field) {
    char **value = field;
    if (*value != NULL)
        *value = config_text_make(*value, config_text_length(*value));
}

static void text_release(void *field) {
    config_text_free(*(char **)field);
}

static void text_rewrite(const struct config_option *option, const void *field, const void *initial,
                         struct config_file_lines *file) {
    const char *value = *(char *const *)field;
    const char *before = *(char *const *)initial;
    struct text line = {0};

    /* No value has no spelling: absence of the line says it. */
    if (value == NULL) {
        config_file_drop(file, option->name);
        return;
    }
    text_append_format(&line, "%s ", option->name);
    size_t length = config_text_length(value);
    text_append_quoted(&line, value, length);
    config_file_put(file, option->name, text_string(&line),
                    length != config_text_length(before) || memcmp(value, before, length) != 0);
    text_free(&line);
}

static const struct config_kind kind_text = {
    .set_initial = text_set_initial,
    .parse = text_parse,
    .format = text_format,
    .own = text_own,
    .release = text_release,
    .rewrite = text_rewrite,
};

/* ---- checks: NULL, or why the value is refused ---- */

static const char *check_active_defrag(int value) {
    return value ? "Active defragmentation cannot be enabled: it requires a Redis server compiled "
                   "with a modified Jemalloc like the one shipped by default with the Redis source "
                   "distribution"
                 : NULL;
}

static const char *check_shutdown_flags(int value) {
    int both = CONFIG_SHUTDOWN_SAVE | CONFIG_SHUTDOWN_NOSAVE;
    return (value & both) == both ? "shutdown options SAVE and NOSAVE can't be used simultaneously"
                                  : NULL;
}

static const char *check_dbfilename(const char *value) {
    return strpbrk(value, "/\\") != NULL ? "dbfilename can't be a path, just a filename" : NULL;
}

static const char *check_appendfilename(const char *value) {
    if (*value == '\0')
        return "appendfilename can't be empty";
    return strpbrk(value, "/\\") != NULL ? "appendfilename can't be a path, just a filename" : NULL;
}

static const char *check_appenddirname(const char *value) {
    if (*value == '\0')
        return "appenddirname can't be empty";
    return strpbrk(value, "/\\") != NULL ? "appenddirname can't be a path, just a dirname" : NULL;
}

static const char *check_announced_hostname(const char *value) {
    size_t length = strlen(value);
    if (length >= HOST_NAME_LIMIT)
        return "Hostnames must be less than 256 characters";
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)value[i];
        if (byte > 127 || (!isalnum(byte) && byte != '-' && byte != '.'))
            return "Hostnames may only contain alphanumeric characters, hyphens or dots";
    }
    return NULL;
}

static const char *check_announced_nodename(const char *value) {
    /* These separate fields in nodes.conf and in CLUSTER NODES. */
    return strpbrk(value, "!#$%&()*+:;<>?@[]^{|}~") != NULL
               ? "Announced human node name contained invalid character"
               : NULL;
}

/* Text with {variable}s; "{{" stands for a brace. */
static const char *check_proc_title_template(const char *value) {
    static const char refusal[] = "template format is invalid or contains unknown variables";
    static const char *const variables[] = {"title", "listen-addr", "server-mode", "config-file",
                                            "port",  "tls-port",    "unixsocket"};
    bool visible = false;

    while (*value != '\0') {
        if (*value != '{' || value[1] == '{') {
            visible |= *value != ' ';
            value += *value == '{' ? 2 : 1;
            continue;
        }
        const char *end = strchr(value, '}');
        if (end == NULL)
            return refusal;
        size_t length = (size_t)(end - value) - 1;
        bool known = false;
        for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
            known |= strlen(variables[i]) == length && memcmp(variables[i], value + 1, length) == 0;
        if (!known)
            return refusal;
        /* A title that may come out empty is refused; of these only the title and the mode may. */
        visible |= strncmp(value, "{title}", 7) != 0 && strncmp(value, "{server-mode}", 13) != 0 &&
                   strncmp(value, "{unixsocket}", 12) != 0;
        value = end + 1;
    }
    return visible ? NULL : refusal;
}

/* ---- choices; their order is that of Redis's error messages ---- */

static const struct config_choice names_maxmemory_policy[] = {
    {"volatile-lru", CONFIG_POLICY_VOLATILE_LRU},
    {"volatile-lfu", CONFIG_POLICY_VOLATILE_LFU},
    {"volatile-random", CONFIG_POLICY_VOLATILE_RANDOM},
    {"volatile-ttl", CONFIG_POLICY_VOLATILE_TTL},
    {"allkeys-lru", CONFIG_POLICY_ALLKEYS_LRU},
    {"allkeys-lfu", CONFIG_POLICY_ALLKEYS_LFU},
    {"allkeys-random", CONFIG_POLICY_ALLKEYS_RANDOM},
    {"noeviction", CONFIG_POLICY_NOEVICTION},
    {0},
};
static const struct config_choice names_syslog_facility[] = {
    {"user", LOG_USER},     {"local0", LOG_LOCAL0},
    {"local1", LOG_LOCAL1}, {"local2", LOG_LOCAL2},
    {"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},
    {"local5", LOG_LOCAL5}, {"local6", LOG_LOCAL6},
    {"local7", LOG_LOCAL7}, {0},
};
static const struct config_choice names_loglevel[] = {
    {"debug", LOG_LEVEL_DEBUG},     {"verbose", LOG_LEVEL_VERBOSE}, {"notice", LOG_LEVEL_NOTICE},
    {"warning", LOG_LEVEL_WARNING}, {"nothing", LOG_LEVEL_NOTHING}, {0},
};
static const struct config_choice names_supervised[] = {
    {"upstart", CONFIG_SUPERVISED_UPSTART},
    {"systemd", CONFIG_SUPERVISED_SYSTEMD},
    {"auto", CONFIG_SUPERVISED_AUTO},
    {"no", CONFIG_SUPERVISED_NO},
    {0},
};
static const struct config_choice names_appendfsync[] = {
    {"everysec", CONFIG_FSYNC_EVERYSEC},
    {"always", CONFIG_FSYNC_ALWAYS},
    {"no", CONFIG_FSYNC_NO},
    {0},
};
static const struct config_choice names_shutdown[] = {
    {"default", 0},
    {"save", CONFIG_SHUTDOWN_SAVE},
    {"nosave", CONFIG_SHUTDOWN_NOSAVE},
    {"now", CONFIG_SHUTDOWN_NOW},
    {"force", CONFIG_SHUTDOWN_FORCE},
    {0},
};
static const struct config_choice names_repl_diskless_load[] = {
    {"disabled", CONFIG_DISKLESS_LOAD_DISABLED},
    {"on-empty-db", CONFIG_DISKLESS_LOAD_ON_EMPTY_DB},
    {"swapdb", CONFIG_DISKLESS_LOAD_SWAPDB},
    {0},
};
static const struct config_choice names_tls_auth_clients[] = {
    {"no", CONFIG_TLS_CLIENTS_NO},
    {"yes", CONFIG_TLS_CLIENTS_YES},
    {"optional", CONFIG_TLS_CLIENTS_OPTIONAL},
    {0},
};
static const struct config_choice names_oom_score_adj[] = {
    {"no", CONFIG_OOM_SCORE_NO},
    {"yes", CONFIG_OOM_SCORE_RELATIVE},
    {"relative", CONFIG_OOM_SCORE_RELATIVE},
    {"absolute", CONFIG_OOM_SCORE_ABSOLUTE},
    {0},
};
static const struct config_choice names_acl_pubsub_default[] = {
    {"allchannels", CONFIG_PUBSUB_ALLCHANNELS},
    {"resetchannels", CONFIG_PUBSUB_RESETCHANNELS},
    {0},
};
static const struct config_choice names_sanitize_dump_payload[] = {
    {"no", CONFIG_SANITIZE_NO},
    {"yes", CONFIG_SANITIZE_YES},
    {"clients", CONFIG_SANITIZE_CLIENTS},
    {0},
};
static const struct config_choice names_allow[] = {
    {"no", CONFIG_ALLOW_NO},
    {"yes", CONFIG_ALLOW_YES},
    {"local", CONFIG_ALLOW_LOCAL},
    {0},
};
static const struct config_choice names_cluster_preferred_endpoint_type[] = {
    {"ip", CONFIG_ENDPOINT_IP},
    {"hostname", CONFIG_ENDPOINT_HOSTNAME},
    {"unknown-endpoint", CONFIG_ENDPOINT_UNKNOWN},
    {0},
};
static const struct config_choice names_propagation_error_behavior[] = {
    {"ignore", CONFIG_PROPAGATION_IGNORE},
    {"panic", CONFIG_PROPAGATION_PANIC},
    {"panic-on-replicas", CONFIG_PROPAGATION_PANIC_ON_REPLICAS},
    {0},
};
static const struct config_choice names_io_backend[] = {
    {"auto", CONFIG_IO_AUTO},
    {"io_uring", CONFIG_IO_URING},
    {"epoll", CONFIG_IO_EPOLL},
    {0},
};

/* ---- the table ---- */

#define ROW(field, name_, alias_, flags_, kind_)                                                   \
    .name = name_, .alias = alias_, .flags = flags_, .offset = offsetof(struct config, field),     \
    .kind = &kind_

#define CONFIG_BOOL(field, name, alias, initial, check, flags)                                     \
    {ROW(field, name, alias, flags, kind_bool), .boolean = {initial, check}},
#define CONFIG_ENUM(field, name, alias, names, initial, check, flags)                              \
    {ROW(field, name, alias, flags, kind_choice), .choice = {names, initial, check}},
#define CONFIG_NUMBER(field, name, alias, low, high, initial, unit, flags)                         \
    {ROW(field, name, alias, flags, kind_signed), .number = {low, high, initial, unit}},
#define CONFIG_UNSIGNED(field, name, alias, low, high, initial, unit, flags)                       \
    {ROW(field, name, alias, flags, kind_unsigned), .unsigned_number = {low, high, initial, unit}},
#define CONFIG_TEXT(field, name, alias, initial, empty, check, flags)                              \
    {ROW(field, name, alias, flags, kind_text), .text = {initial, empty, check}},
#define CONFIG_SPECIAL(field, type, name, alias, kind, flags)                                      \
    {ROW(field, name, alias, flags, config_kind_##kind)},

const struct config_option config_options[] = {
#include "server/config/config_options.def"
};
const size_t config_option_count = sizeof config_options / sizeof config_options[0];

const struct config_option *config_find(const char *name, bool *by_alias) {
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        bool aliased = option->alias != NULL && strcasecmp(option->alias, name) == 0;
        if (aliased || strcasecmp(option->name, name) == 0) {
            if (by_alias != NULL)
                *by_alias = aliased;
            return option;
        }
    }
    return NULL;
}
