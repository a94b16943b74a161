/* The log's line format and thresholds. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/base/log.h"

static char path[64];

static void start(void) {
    strcpy(path, "/tmp/slotwise-log-XXXXXX");
    int descriptor = mkstemp(path);
    cr_assert_geq(descriptor, 0);
    close(descriptor);
    log_set_file(path);
}

static void finish(void) {
    unlink(path);
}

TestSuite(log, .init = start, .fini = finish);

static const char *content(void) {
    static char text[1 << 20];
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static bool matches(const char *pattern, const char *text) {
    regex_t compiled;
    cr_assert_eq(regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool found = regexec(&compiled, text, 0, NULL, 0) == 0;
    regfree(&compiled);
    return found;
}

Test(log, line) {
    char pattern[256];
    log_set_role('M');
    log_write(LOG_LEVEL_NOTICE, "Ready to accept connections %s", "tcp");
    snprintf(pattern, sizeof pattern,
             "^%d:M [0-3][0-9] (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} "
             "[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-9]{3} \\* Ready to accept connections tcp\n$",
             (int)getpid());
    cr_assert(matches(pattern, content()), "%s", content());
}

Test(log, warnings_are_copied_while_somebody_listens) {
    int pipe_ends[2];
    char text[512];
    cr_assert_eq(pipe(pipe_ends), 0);
    log_set_level(LOG_LEVEL_NOTHING);
    log_copy_warnings(pipe_ends[1]);
    log_write(LOG_LEVEL_NOTICE, "not this");
    log_write(LOG_LEVEL_WARNING, "but this");
    log_copy_warnings(-1);
    log_write(LOG_LEVEL_WARNING, "too late");
    close(pipe_ends[1]);
    ssize_t n = read(pipe_ends[0], text, sizeof text - 1);
    close(pipe_ends[0]);
    cr_assert_gt(n, 0);
    text[n] = '\0';
    cr_assert(matches("^[0-9]+:C [^\n]* # but this\n$", text), "%s", text);
    cr_assert_str_empty(content());
}

Test(log, levels_and_marks) {
    log_set_role('S');
    log_set_level(LOG_LEVEL_DEBUG);
    log_write(LOG_LEVEL_DEBUG, "one");
    log_write(LOG_LEVEL_VERBOSE, "two");
    log_write(LOG_LEVEL_WARNING, "three");
    cr_assert(matches(":S .* \\. one\n.*:S .* - two\n.*:S .* # three\n$", content()));
    log_set_level(LOG_LEVEL_WARNING);
    cr_assert_not(log_enabled(LOG_LEVEL_NOTICE));
    log_write(LOG_LEVEL_NOTICE, "four");
    log_write_raw(LOG_LEVEL_NOTICE, "four");
    log_write_signal_safe(LOG_LEVEL_NOTICE, "four");
    cr_assert_null(strstr(content(), "four"));
    log_set_level(LOG_LEVEL_NOTHING);
    log_write(LOG_LEVEL_WARNING, "five");
    cr_assert_null(strstr(content(), "five"));
}

Test(log, long_messages_are_cut_raw_ones_are_not) {
    char *text = malloc(5001);
    memset(text, 'x', 5000);
    text[5000] = '\0';
    log_write(LOG_LEVEL_WARNING, "%s", text);
    const char *line = content();
    cr_assert_eq(strspn(strstr(line, "# ") + 2, "x"), LOG_MESSAGE_SIZE - 1);
    cr_assert_eq(line[strlen(line) - 1], '\n');
    size_t before = strlen(line);
    log_write_raw(LOG_LEVEL_WARNING, text);
    cr_assert_eq(strlen(content()), before + 5000);
    free(text);
}

Test(log, from_signal_handlers) {
    char pattern[128];
    log_write_signal_safe(LOG_LEVEL_WARNING, "Received SIGTERM scheduling shutdown...");
    log_write_raw_signal_safe("raw\n");
    snprintf(
        pattern, sizeof pattern,
        "^%d:signal-handler \\([0-9]+\\) Received SIGTERM scheduling shutdown\\.\\.\\.\nraw\n$",
        (int)getpid());
    cr_assert(matches(pattern, content()), "%s", content());
}

Test(log, a_renamed_file_is_left_behind) {
    char old[80];
    snprintf(old, sizeof old, "%s.1", path);
    log_write(LOG_LEVEL_WARNING, "before");
    cr_assert_eq(rename(path, old), 0);
    log_write(LOG_LEVEL_WARNING, "after");
    cr_assert_not_null(strstr(content(), "after"));
    cr_assert_null(strstr(content(), "before"));
    unlink(old);
}

static void *write_lines(void *argument) {
    for (int i = 0; i < 500; i++)
        log_write(LOG_LEVEL_WARNING, "thread %s line %d end", (const char *)argument, i);
    return NULL;
}

Test(log, lines_of_threads_do_not_mix) {
    pthread_t threads[4];
    static const char *const names[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, write_lines, (void *)names[i]);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    int lines = 0;
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        cr_assert(matches("^[0-9]+:C .{24} # thread [abcd] line [0-9]+ end\n$", line), "%s", line);
        lines++;
    }
    fclose(file);
    cr_assert_eq(lines, 2000);
}
