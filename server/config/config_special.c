/* Kinds of values with a syntax of their own: bind, save, client-output-buffer-limit and the like.
 * Each parse checks all words before it changes the field. Same threads as config.h; error texts
 * are Redis's. */
#include "server/config/config_special.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "engine/memory.h"
#include "server/base/log.h"
#include "server/base/numbers.h"

#define SECONDS_MAX              INT64_MAX
#define OOM_SCORE_LIMIT          2000
#define PERCENTILE_DECIMALS_SIZE 64

/* As strtoll reads it (leading spaces and '+' included), but nothing behind the number. */
static bool read_integer(const char *text, long long *value) {
    char *end;
    *value = strtoll(text, &end, 10);
    return *end == '\0';
}

static void *copy_bytes(const void *bytes, size_t length) {
    return length == 0 ? NULL : memcpy(memory_alloc(length), bytes, length);
}

/* "NAME VALUE", or `NAME ""` when the value is empty. */
static void rewrite_plain(const struct config_option *option, const void *field, bool forced,
                          struct config_file_lines *file) {
    struct text line = {0};

    text_append_format(&line, "%s ", option->name);
    size_t before = line.length;
    option->kind->format(option, field, &line);
    if (line.length == before)
        text_append_string(&line, "\"\"");
    config_file_put(file, option->name, text_string(&line), forced);
    text_free(&line);
}

/* ---- bind ---- */

static const char *const default_addresses[] = {"*", "-::*"};
#define DEFAULT_ADDRESS_COUNT (sizeof default_addresses / sizeof default_addresses[0])

static void addresses_set_initial(const struct config_option *option, void *field) {
    struct config_addresses *addresses = field;

    (void)option;
    addresses->count = DEFAULT_ADDRESS_COUNT;
    for (size_t i = 0; i < DEFAULT_ADDRESS_COUNT; i++)
        addresses->address[i] = memory_strdup(default_addresses[i]);
}

static void addresses_release(void *field) {
    struct config_addresses *addresses = field;

    for (size_t i = 0; i < addresses->count; i++)
        memory_free(addresses->address[i]);
    addresses->count = 0;
}

static int addresses_parse(struct config_parse *parse, const struct config_option *option,
                           void *field, int count, char *const *word) {
    struct config_addresses *addresses = field;

    (void)option;
    if (count > CONFIG_ADDRESSES_MAX)
        return config_refuse(parse, "Too many bind addresses specified.");
    if (count == 1 && word[0][0] == '\0')
        count = 0;
    addresses_release(addresses);
    for (int i = 0; i < count; i++)
        addresses->address[i] = memory_strdup(word[i]);
    addresses->count = (size_t)count;
    return 0;
}

static void addresses_format(const struct config_option *option, const void *field,
                             struct text *out) {
    const struct config_addresses *addresses = field;

    (void)option;
    for (size_t i = 0; i < addresses->count; i++)
        text_append_format(out, "%s%s", i > 0 ? " " : "", addresses->address[i]);
}

static void addresses_own(void *field) {
    struct config_addresses *addresses = field;

    for (size_t i = 0; i < addresses->count; i++)
        addresses->address[i] = memory_strdup(addresses->address[i]);
}

static void addresses_rewrite(const struct config_option *option, const void *field,
                              const void *initial, struct config_file_lines *file) {
    const struct config_addresses *addresses = field;
    bool is_default = addresses->count == DEFAULT_ADDRESS_COUNT;

    (void)initial;
    for (size_t i = 0; is_default && i < addresses->count; i++)
        is_default = strcmp(addresses->address[i], default_addresses[i]) == 0;
    /* Without a line the default is to be in force again. */
    if (is_default)
        config_file_drop(file, option->name);
    else
        rewrite_plain(option, field, true, file);
}

const struct config_kind config_kind_addresses = {
    .set_initial = addresses_set_initial,
    .parse = addresses_parse,
    .format = addresses_format,
    .own = addresses_own,
    .release = addresses_release,
    .rewrite = addresses_rewrite,
};

/* ---- dir: takes effect while it is parsed, since later lines may name relative paths ---- */

static char *working_directory(void) {
    char path[PATH_MAX];
    return memory_strdup(getcwd(path, sizeof path) != NULL ? path : "");
}

static void directory_set_initial(const struct config_option *option, void *field) {
    (void)option;
    *(char **)field = working_directory();
}

static int directory_parse(struct config_parse *parse, const struct config_option *option,
                           void *field, int count, char *const *word) {
    char **directory = field;

    (void)option;
    if (count != 1)
        return config_refuse(parse, "wrong number of arguments");
    if (parse->effects && chdir(word[0]) < 0)
        return config_refuse(parse, "%s", strerror(errno));
    memory_free(*directory);
    *directory = parse->effects ? working_directory() : memory_strdup(word[0]);
    return 0;
}

static void directory_format(const struct config_option *option, const void *field,
                             struct text *out) {
    (void)option;
    text_append_string(out, *(char *const *)field);
}

static void directory_own(void *field) {
    *(char **)field = memory_strdup(*(char **)field);
}

static void directory_release(void *field) {
    memory_free(*(char **)field);
}

static void directory_rewrite(const struct config_option *option, const void *field,
                              const void *initial, struct config_file_lines *file) {
    const char *directory = *(char *const *)field;
    struct text line = {0};

    (void)initial;
    text_append_format(&line, "%s ", option->name);
    text_append_quoted(&line, directory, strlen(directory));
    config_file_put(file, option->name, text_string(&line), true);
    text_free(&line);
}

const struct config_kind config_kind_directory = {
    .set_initial = directory_set_initial,
    .parse = directory_parse,
    .format = directory_format,
    .own = directory_own,
    .release = directory_release,
    .rewrite = directory_rewrite,
};

/* ---- save ---- */

static const struct config_save_point default_save_points[] = {{3600, 1}, {300, 100}, {60, 10000}};

static void save_points_set_initial(const struct config_option *option, void *field) {
    struct config_save_points *points = field;

    (void)option;
    points->count = sizeof default_save_points / sizeof default_save_points[0];
    points->point = copy_bytes(default_save_points, sizeof default_save_points);
}

static void save_points_release(void *field) {
    struct config_save_points *points = field;

    memory_free(points->point);
    *points = (struct config_save_points){0};
}

static int save_points_parse(struct config_parse *parse, const struct config_option *option,
                             void *field, int count, char *const *word) {
    struct config_save_points *points = field;
    bool add = parse->from_file && parse->save_seen;
    long long value;

    (void)option;
    if (count == 1 && word[0][0] == '\0') {
        count = 0;
        add = false;
    }
    if (count % 2 != 0)
        return config_refuse(parse, "Invalid save parameters");
    for (int i = 0; i < count; i++) {
        if (!read_integer(word[i], &value) || value < (i % 2 == 0 ? 1 : 0))
            return config_refuse(parse, "Invalid save parameters");
    }
    /* The first line of a file replaces the defaults, the others add to it. */
    if (!add)
        save_points_release(points);
    parse->save_seen = true;
    if (count == 0)
        return 0;
    size_t total = points->count + (size_t)count / 2;
    points->point = memory_realloc(points->point, total * sizeof *points->point);
    for (int i = 0; i < count; i += 2) {
        struct config_save_point *point = &points->point[points->count++];
        read_integer(word[i], &value);
        point->seconds = value;
        read_integer(word[i + 1], &value);
        point->changes = value > INT_MAX ? INT_MAX : (int)value;
    }
    return 0;
}

static void save_points_format(const struct config_option *option, const void *field,
                               struct text *out) {
    const struct config_save_points *points = field;

    (void)option;
    for (size_t i = 0; i < points->count; i++)
        text_append_format(out, "%s%lld %d", i > 0 ? " " : "", (long long)points->point[i].seconds,
                           points->point[i].changes);
}

static void save_points_own(void *field) {
    struct config_save_points *points = field;
    points->point = copy_bytes(points->point, points->count * sizeof *points->point);
}

static void save_points_rewrite(const struct config_option *option, const void *field,
                                const void *initial, struct config_file_lines *file) {
    const struct config_save_points *points = field;
    char line[64];

    (void)initial;
    if (points->count == 0)
        rewrite_plain(option, field, true, file);
    for (size_t i = 0; i < points->count; i++) {
        snprintf(line, sizeof line, "save %lld %d", (long long)points->point[i].seconds,
                 points->point[i].changes);
        config_file_put(file, option->name, line, true);
    }
}

const struct config_kind config_kind_save_points = {
    .set_initial = save_points_set_initial,
    .parse = save_points_parse,
    .format = save_points_format,
    .own = save_points_own,
    .release = save_points_release,
    .rewrite = save_points_rewrite,
};

/* ---- client-output-buffer-limit ---- */

static const struct config_output_limits default_output_limits = {{
    [CONFIG_CLIENT_NORMAL] = {0, 0, 0},
    [CONFIG_CLIENT_REPLICA] = {256 << 20, 64 << 20, 60},
    [CONFIG_CLIENT_PUBSUB] = {32 << 20, 8 << 20, 60},
}};

static void output_limits_set_initial(const struct config_option *option, void *field) {
    (void)option;
    *(struct config_output_limits *)field = default_output_limits;
}

/* -1: no such class, or one without a limit. */
static int client_class(const char *name) {
    static const struct {
        const char *name;
        enum config_client_class class;
    } classes[] = {
        {"normal", CONFIG_CLIENT_NORMAL},
        {"slave", CONFIG_CLIENT_REPLICA},
        {"replica", CONFIG_CLIENT_REPLICA},
        {"pubsub", CONFIG_CLIENT_PUBSUB},
    };

    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (strcasecmp(classes[i].name, name) == 0)
            return (int)classes[i].class;
    }
    return -1;
}

static int output_limits_parse(struct config_parse *parse, const struct config_option *option,
                               void *field, int count, char *const *word) {
    struct config_output_limits limits = *(struct config_output_limits *)field;

    (void)option;
    if (count % 4 != 0)
        return config_refuse(parse, "Wrong number of arguments in buffer limit configuration.");
    for (int i = 0; i < count; i += 4) {
        struct config_output_limit limit;
        long long seconds;
        int class = client_class(word[i]);
        if (class < 0)
            return config_refuse(parse,
                                 "Invalid client class specified in buffer limit configuration.");
        if (!number_parse_memory(word[i + 1], &limit.hard_bytes) ||
            !number_parse_memory(word[i + 2], &limit.soft_bytes) ||
            !read_integer(word[i + 3], &seconds) || seconds < 0)
            return config_refuse(parse, "Error in hard, soft or soft_seconds setting in buffer "
                                        "limit configuration.");
        limit.soft_seconds = seconds;
        limits.of[class] = limit;
    }
    *(struct config_output_limits *)field = limits;
    return 0;
}

static void output_limits_format(const struct config_option *option, const void *field,
                                 struct text *out) {
    /* "slave" is what clients of the last ten years expect here. */
    static const char *const names[] = {"normal", "slave", "pubsub"};
    const struct config_output_limits *limits = field;

    (void)option;
    for (int i = 0; i < CONFIG_CLIENT_CLASSES; i++)
        text_append_format(out, "%s%s %llu %llu %lld", i > 0 ? " " : "", names[i],
                           (unsigned long long)limits->of[i].hard_bytes,
                           (unsigned long long)limits->of[i].soft_bytes,
                           (long long)limits->of[i].soft_seconds);
}

static void append_memory(struct text *line, uint64_t bytes) {
    static const char *const suffix[] = {"", "kb", "mb", "gb"};
    size_t scale = 0;

    while (scale < 3 && bytes > 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        scale++;
    }
    text_append_format(line, " %llu%s", (unsigned long long)bytes, suffix[scale]);
}

static void output_limits_rewrite(const struct config_option *option, const void *field,
                                  const void *initial, struct config_file_lines *file) {
    static const char *const names[] = {"normal", "replica", "pubsub"};
    const struct config_output_limits *limits = field;
    const struct config_output_limits *before = initial;

    for (int i = 0; i < CONFIG_CLIENT_CLASSES; i++) {
        const struct config_output_limit *limit = &limits->of[i];
        struct text line = {0};
        text_append_format(&line, "%s %s", option->name, names[i]);
        append_memory(&line, limit->hard_bytes);
        append_memory(&line, limit->soft_bytes);
        text_append_format(&line, " %lld", (long long)limit->soft_seconds);
        bool forced = limit->hard_bytes != before->of[i].hard_bytes ||
                      limit->soft_bytes != before->of[i].soft_bytes ||
                      limit->soft_seconds != before->of[i].soft_seconds;
        config_file_put(file, option->name, text_string(&line), forced);
        text_free(&line);
    }
}

const struct config_kind config_kind_output_limits = {
    .set_initial = output_limits_set_initial,
    .parse = output_limits_parse,
    .format = output_limits_format,
    .rewrite = output_limits_rewrite,
};

/* ---- oom-score-adj-values ---- */

static void oom_values_set_initial(const struct config_option *option, void *field) {
    (void)option;
    *(struct config_oom_values *)field = (struct config_oom_values){0, 200, 800};
}

static int oom_values_parse(struct config_parse *parse, const struct config_option *option,
                            void *field, int count, char *const *word) {
    long long value[3];

    (void)option;
    if (count != 3)
        return config_refuse(parse, "wrong number of arguments");
    for (int i = 0; i < 3; i++) {
        if (!read_integer(word[i], &value[i]) || value[i] < -OOM_SCORE_LIMIT ||
            value[i] > OOM_SCORE_LIMIT)
            return config_refuse(parse, "Invalid oom-score-adj-values, elements must be between "
                                        "-2000 and 2000.");
    }
    if (parse->effects && (value[1] < value[0] || value[2] < value[1]))
        log_write(LOG_LEVEL_WARNING,
                  "The oom-score-adj-values configuration may not work for non-privileged "
                  "processes! Please consult the documentation.");
    *(struct config_oom_values *)field =
        (struct config_oom_values){(int)value[0], (int)value[1], (int)value[2]};
    return 0;
}

static void oom_values_format(const struct config_option *option, const void *field,
                              struct text *out) {
    const struct config_oom_values *values = field;

    (void)option;
    text_append_format(out, "%d %d %d", values->primary, values->replica, values->background);
}

const struct config_kind config_kind_oom_values = {
    .set_initial = oom_values_set_initial,
    .parse = oom_values_parse,
    .format = oom_values_format,
};

/* ---- notify-keyspace-events ---- */

static const struct {
    char letter;
    unsigned bit;
} notify_letters[] = {
    /* in the order in which they are printed */
    {'g', CONFIG_NOTIFY_GENERIC},  {'$', CONFIG_NOTIFY_STRING},   {'l', CONFIG_NOTIFY_LIST},
    {'s', CONFIG_NOTIFY_SET},      {'h', CONFIG_NOTIFY_HASH},     {'z', CONFIG_NOTIFY_ZSET},
    {'x', CONFIG_NOTIFY_EXPIRED},  {'e', CONFIG_NOTIFY_EVICTED},  {'t', CONFIG_NOTIFY_STREAM},
    {'d', CONFIG_NOTIFY_MODULE},   {'n', CONFIG_NOTIFY_NEW},      {'K', CONFIG_NOTIFY_KEYSPACE},
    {'E', CONFIG_NOTIFY_KEYEVENT}, {'m', CONFIG_NOTIFY_KEY_MISS},
};
#define NOTIFY_LETTER_COUNT (sizeof notify_letters / sizeof notify_letters[0])

/* What the letter A stands for. */
#define NOTIFY_ALL                                                                                 \
    (CONFIG_NOTIFY_GENERIC | CONFIG_NOTIFY_STRING | CONFIG_NOTIFY_LIST | CONFIG_NOTIFY_SET |       \
     CONFIG_NOTIFY_HASH | CONFIG_NOTIFY_ZSET | CONFIG_NOTIFY_EXPIRED | CONFIG_NOTIFY_EVICTED |     \
     CONFIG_NOTIFY_STREAM | CONFIG_NOTIFY_MODULE)

static void notify_classes_set_initial(const struct config_option *option, void *field) {
    (void)option;
    *(unsigned *)field = 0;
}

static int notify_classes_parse(struct config_parse *parse, const struct config_option *option,
                                void *field, int count, char *const *word) {
    unsigned classes = 0;

    (void)option;
    if (count != 1)
        return config_refuse(parse, "wrong number of arguments");
    for (const char *letter = word[0]; *letter != '\0'; letter++) {
        size_t i = 0;
        while (i < NOTIFY_LETTER_COUNT && notify_letters[i].letter != *letter)
            i++;
        if (i == NOTIFY_LETTER_COUNT && *letter != 'A')
            return config_refuse(parse, "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.");
        classes |= *letter == 'A' ? (unsigned)NOTIFY_ALL : notify_letters[i].bit;
    }
    *(unsigned *)field = classes;
    return 0;
}

static void notify_classes_format(const struct config_option *option, const void *field,
                                  struct text *out) {
    unsigned classes = *(const unsigned *)field;
    bool all = (classes & NOTIFY_ALL) == NOTIFY_ALL;

    (void)option;
    if (all) {
        /* Redis forgets n beside A: a client that sets "An" reads "A". */
        classes &= ~((unsigned)NOTIFY_ALL | CONFIG_NOTIFY_NEW);
        text_append_string(out, "A");
    }
    for (size_t i = 0; i < NOTIFY_LETTER_COUNT; i++) {
        if (classes & notify_letters[i].bit)
            text_append(out, &notify_letters[i].letter, 1);
    }
}

static void notify_classes_rewrite(const struct config_option *option, const void *field,
                                   const void *initial, struct config_file_lines *file) {
    struct text line = {0};
    struct text value = {0};

    notify_classes_format(option, field, &value);
    text_append_format(&line, "%s ", option->name);
    text_append_quoted(&line, text_string(&value), value.length);
    config_file_put(file, option->name, text_string(&line),
                    *(const unsigned *)field != *(const unsigned *)initial);
    text_free(&value);
    text_free(&line);
}

const struct config_kind config_kind_notify_classes = {
    .set_initial = notify_classes_set_initial,
    .parse = notify_classes_parse,
    .format = notify_classes_format,
    .rewrite = notify_classes_rewrite,
};

/* ---- replicaof ---- */

static void endpoint_set_initial(const struct config_option *option, void *field) {
    (void)option;
    *(struct config_endpoint *)field = (struct config_endpoint){0};
}

static int endpoint_parse(struct config_parse *parse, const struct config_option *option,
                          void *field, int count, char *const *word) {
    struct config_endpoint *endpoint = field;
    long long port = 0;

    (void)option;
    if (count != 2)
        return config_refuse(parse, "wrong number of arguments");
    bool none = strcasecmp(word[0], "no") == 0 && strcasecmp(word[1], "one") == 0;
    if (!none && (!read_integer(word[1], &port) || port < 0 || port > 65535))
        return config_refuse(parse, "Invalid master port");
    memory_free(endpoint->host);
    endpoint->host = none ? NULL : memory_strdup(word[0]);
    endpoint->port = (int)port;
    return 0;
}

static void endpoint_format(const struct config_option *option, const void *field,
                            struct text *out) {
    const struct config_endpoint *endpoint = field;

    (void)option;
    if (endpoint->host != NULL)
        text_append_format(out, "%s %d", endpoint->host, endpoint->port);
}

static void endpoint_own(void *field) {
    struct config_endpoint *endpoint = field;
    if (endpoint->host != NULL)
        endpoint->host = memory_strdup(endpoint->host);
}

static void endpoint_release(void *field) {
    memory_free(((struct config_endpoint *)field)->host);
}

static void endpoint_rewrite(const struct config_option *option, const void *field,
                             const void *initial, struct config_file_lines *file) {
    const struct config_endpoint *endpoint = field;

    (void)initial;
    if (endpoint->host == NULL)
        config_file_drop(file, option->name);
    else
        rewrite_plain(option, field, true, file);
}

const struct config_kind config_kind_endpoint = {
    .set_initial = endpoint_set_initial,
    .parse = endpoint_parse,
    .format = endpoint_format,
    .own = endpoint_own,
    .release = endpoint_release,
    .rewrite = endpoint_rewrite,
};

/* ---- latency-tracking-info-percentiles ---- */

static const double default_percentiles[] = {50.0, 99.0, 99.9};

static void percentiles_set_initial(const struct config_option *option, void *field) {
    struct config_percentiles *percentiles = field;

    (void)option;
    percentiles->count = sizeof default_percentiles / sizeof default_percentiles[0];
    percentiles->percentile = copy_bytes(default_percentiles, sizeof default_percentiles);
}

static int percentiles_parse(struct config_parse *parse, const struct config_option *option,
                             void *field, int count, char *const *word) {
    struct config_percentiles *percentiles = field;
    double value;

    (void)option;
    if (count == 1 && word[0][0] == '\0')
        count = 0;
    for (int i = 0; i < count; i++) {
        if (!number_parse_double(word[i], strlen(word[i]), &value))
            return config_refuse(parse, "Invalid latency-tracking-info-percentiles parameters");
        if (value > 100.0 || value < 0.0)
            return config_refuse(parse, "latency-tracking-info-percentiles parameters should sit "
                                        "between [0.0,100.0]");
    }
    memory_free(percentiles->percentile);
    percentiles->count = (size_t)count;
    percentiles->percentile = count > 0 ? memory_alloc((size_t)count * sizeof value) : NULL;
    for (int i = 0; i < count; i++)
        number_parse_double(word[i], strlen(word[i]), &percentiles->percentile[i]);
    return 0;
}

static void percentiles_format(const struct config_option *option, const void *field,
                               struct text *out) {
    const struct config_percentiles *percentiles = field;
    char digits[PERCENTILE_DECIMALS_SIZE];

    (void)option;
    for (size_t i = 0; i < percentiles->count; i++) {
        int length = snprintf(digits, sizeof digits, "%f", percentiles->percentile[i]);
        number_trim_zeros(digits, (size_t)length);
        text_append_format(out, "%s%s", i > 0 ? " " : "", digits);
    }
}

static void percentiles_own(void *field) {
    struct config_percentiles *percentiles = field;
    percentiles->percentile =
        copy_bytes(percentiles->percentile, percentiles->count * sizeof *percentiles->percentile);
}

static void percentiles_release(void *field) {
    memory_free(((struct config_percentiles *)field)->percentile);
}

static void percentiles_rewrite(const struct config_option *option, const void *field,
                                const void *initial, struct config_file_lines *file) {
    (void)initial;
    rewrite_plain(option, field, true, file);
}

const struct config_kind config_kind_percentiles = {
    .set_initial = percentiles_set_initial,
    .parse = percentiles_parse,
    .format = percentiles_format,
    .own = percentiles_own,
    .release = percentiles_release,
    .rewrite = percentiles_rewrite,
};
