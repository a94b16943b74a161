/* What the tests of the configuration share: a fresh configuration and a directory for each test.
 */
#ifndef SLOTWISE_TESTS_CONFIG_FIXTURE_H
#define SLOTWISE_TESTS_CONFIG_FIXTURE_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/config/config.h"
#include "server/config/config_private.h"
#include "server/config/config_table.h"

static char error[CONFIG_ERROR_SIZE];
static char directory[64];
static char path[128];

/* A directory of its own and the defaults, for each test. */
static inline void start_config(void) {
    strcpy(directory, "/tmp/slotwise-config-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/slotwise.conf", directory);
    config_init(NULL);
    error[0] = '\0';
}

static inline void finish_config(void) {
    char command[128];
    config_destroy();
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

/* ---- helpers ---- */

static inline void keep_value(const char *name, const char *value, size_t length, void *context) {
    (void)name;
    (void)length;
    snprintf(context, 1024, "%s", value);
}

/* What CONFIG GET answers for one name; "(none)" without such a directive. */
static inline const char *get(const char *name) {
    static char value[1024];
    if (config_get_matching(&name, 1, keep_value, value) == 0)
        return "(none)";
    return value;
}

/* CONFIG SET of one pair: "OK" or the error. */
static inline const char *set(const char *name, const char *value) {
    return config_set_many(&name, &value, 1, 0, error, sizeof error) == 0 ? "OK" : error;
}

/* The reason behind "(possibly related to argument 'name') - ". */
static inline const char *reason(const char *name, const char *value) {
    static char prefix[256];
    const char *answer = set(name, value);
    snprintf(prefix, sizeof prefix, "ERR CONFIG SET failed (possibly related to argument '%s') - ",
             name);
    if (strncmp(answer, prefix, strlen(prefix)) != 0)
        return answer;
    return answer + strlen(prefix);
}

/* config_load as main calls it; its arguments are not const only because argv is not. */
static inline int load_arguments(int count, const char *const *arguments,
                                 const struct config_hooks *hooks) {
    return config_load(count, (char *const *)arguments, hooks, error, sizeof error);
}

static inline int load_words(int count, ...) {
    const char *arguments[16] = {"slotwise-server"};
    va_list words;
    va_start(words, count);
    for (int i = 0; i < count; i++)
        arguments[i + 1] = va_arg(words, const char *);
    va_end(words);
    return load_arguments(count + 1, arguments, NULL);
}

static inline void write_path(const char *file, const char *text) {
    FILE *stream = fopen(file, "w");
    cr_assert_not_null(stream);
    fputs(text, stream);
    fclose(stream);
}

static inline int load_text_file(const char *text) {
    write_path(path, text);
    return load_words(1, path);
}

static inline const char *file_content(void) {
    static char content[8192];
    FILE *stream = fopen(path, "r");
    cr_assert_not_null(stream);
    content[fread(content, 1, sizeof content - 1, stream)] = '\0';
    fclose(stream);
    return content;
}

#endif
