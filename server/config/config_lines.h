/* Lines of a configuration file, as text only: those that a snapshot keeps because they are no
 * directives with a value, and all those of a file that is being rewritten. What a directive means
 * is not known here. Owned by their caller; no threads. */
#ifndef SLOTWISE_SERVER_CONFIG_LINES_H
#define SLOTWISE_SERVER_CONFIG_LINES_H

#include <stdbool.h>
#include <stddef.h>

#include "server/base/text.h"

/* ---- lines that are kept, as split into words, in order; zero: none ---- */

struct config_lines {
    size_t count;
    struct config_line {
        int count;
        char **word; /* word[0] is the directive in lower case */
    } * line;
};

void config_lines_add(struct config_lines *lines, const struct words *words);
/* After the structure was copied bytewise: gives it its own copy of what it points to. */
void config_lines_own(struct config_lines *lines);
void config_lines_release(struct config_lines *lines);

/* ---- the lines of a file that is being rewritten; zero: none ---- */

struct config_file_lines {
    struct config_file_line {
        char *text;
        const char *name; /* of the directive that it sets and may be reused for; NULL: it stays */
    } * line;
    size_t count;
    bool signed_already; /* one says that the lines after it are not the administrator's */
};

/* At the end. The name is not copied. */
void config_file_append(struct config_file_lines *file, const char *text, size_t length,
                        const char *name);
/* A line for the directive: replaces the next old one, or is appended if forced. */
void config_file_put(struct config_file_lines *file, const char *name, const char *text,
                     bool forced);
/* The directive is dealt with: its remaining old lines become empty. */
void config_file_drop(struct config_file_lines *file, const char *name);
/* The whole file; of several empty lines in a row one stays. */
void config_file_join(const struct config_file_lines *file, struct text *content);
void config_file_free(struct config_file_lines *file);

#endif
