/* Shared by the config_*.c files only: the table of directives and the operations of each kind of
 * value. */
#ifndef SLOTWISE_SERVER_CONFIG_PRIVATE_H
#define SLOTWISE_SERVER_CONFIG_PRIVATE_H

#include "server/base/text.h"
#include "server/config/config.h"

/* Short names, for the table's sake. Only in these files. */
enum config_flag {
    IMMUTABLE = 1 << 0,
    PROTECTED = 1 << 1,
    DENY_LOADING = 1 << 2,
    SENSITIVE = 1 << 3,
    HIDDEN = 1 << 4,
    DEBUG = 1 << 5,
    VOLATILE = 1 << 6,
    MULTI_ARG = 1 << 7,
    NO_EFFECT = 1 << 8,
};
enum config_unit { PLAIN, MEMORY, MEMORY_OR_PERCENT, OCTAL };
enum config_empty { EMPTY_KEPT, EMPTY_UNSET };

/* One change of a snapshot that no reader sees yet. */
struct config_parse {
    struct config *target;
    const size_t *lengths; /* of the words that are parsed; NULL: they end at their NUL */
    bool from_file;        /* a file: `save` lines add up */
    bool effects;          /* may chdir, open files, log */
    bool save_seen;        /* a `save` line came before: the defaults are gone */
    char error[256];       /* why parse failed */
};

struct config_option;
struct config_rewriting;

/* Operations of a kind of value; field points into a snapshot. */
struct config_kind {
    /* The default into a field that is all zero. */
    void (*set_initial)(const struct config_option *option, void *field);
    /* Checks the words and stores them. Returns 0, or -1 with parse->error set and the field
     * unchanged. */
    int (*parse)(struct config_parse *parse, const struct config_option *option, void *field,
                 int count, char *const *word);
    /* Appends the value as CONFIG GET shows it. */
    void (*format)(const struct config_option *option, const void *field, struct text *out);
    /* After the snapshot was copied bytewise: gives the field its own copy of what it points to.
     * NULL: it points to nothing. */
    void (*own)(void *field);
    void (*release)(void *field); /* NULL when own is */
    /* Puts the value's lines into the file that is being rewritten. NULL: name and format(). */
    void (*rewrite)(const struct config_option *option, const void *field, const void *initial,
                    struct config_rewriting *file);
};

struct config_choice {
    const char *name; /* NULL ends the list */
    int value;
};

/* A row. */
struct config_option {
    const char *name;
    const char *alias; /* or NULL */
    unsigned flags;
    size_t offset; /* of the field in struct config */
    const struct config_kind *kind;
    union {
        struct {
            bool initial;
            const char *(*check)(int value);
        } boolean;
        struct {
            const struct config_choice *choices;
            int initial;
            const char *(*check)(int value);
        } choice;
        struct {
            int64_t low, high, initial;
            enum config_unit unit;
        } number;
        struct {
            uint64_t low, high, initial;
            enum config_unit unit;
        } unsigned_number;
        struct {
            const char *initial; /* or NULL */
            enum config_empty empty;
            const char *(*check)(const char *value);
        } text;
    };
};

/* ---- config_table.c ---- */

extern const struct config_option config_options[];
extern const size_t config_option_count;

/* A text for a row of the kind text, which remembers its length. */
char *config_text_make(const char *bytes, size_t length);
void config_text_free(char *text);

/* By name or alias, any case; *by_alias may be NULL. NULL when there is none. */
const struct config_option *config_find(const char *name, bool *by_alias);

static inline void *config_field(struct config *config, const struct config_option *option) {
    return (char *)config + option->offset;
}
static inline const void *config_field_const(const struct config *config,
                                             const struct config_option *option) {
    return (const char *)config + option->offset;
}

/* Sets parse->error; returns -1. */
int config_refuse(struct config_parse *parse, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- config_special.c ---- */

extern const struct config_kind config_kind_addresses, config_kind_directory, config_kind_endpoint,
    config_kind_notify_classes, config_kind_oom_values, config_kind_output_limits,
    config_kind_percentiles, config_kind_save_points;

/* ---- config.c ---- */

/* A snapshot with the defaults, and its end. */
struct config *config_new(void);
struct config *config_copy(const struct config *config);
void config_free(void *config);
void config_publish(struct config *next);

/* After any change: pulls values into range as Redis does silently. */
void config_normalize(struct config *config);
/* The snapshot that holds the defaults. */
const struct config *config_initial(void);
/* 0666 without what the umask of the process takes away. */
unsigned config_file_mode(void);

void config_lines_add(struct config_lines *lines, const struct words *words);

/* ---- config_rewrite.c ---- */

/* A line for the option: replaces the next old one, or is appended if forced. */
void config_rewrite_line(struct config_rewriting *file, const char *name, const char *line,
                         bool forced);
/* The option is dealt with: its remaining old lines go. */
void config_rewrite_done(struct config_rewriting *file, const char *name);

#endif
