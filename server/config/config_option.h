/* A directive: its row in the table, and the operations of its kind of value. Private to the
 * config_*.c files. */
#ifndef SLOTWISE_SERVER_CONFIG_OPTION_H
#define SLOTWISE_SERVER_CONFIG_OPTION_H

#include "server/base/text.h"
#include "server/config/config_values.h"

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
                    struct config_file_lines *file);
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

#endif
