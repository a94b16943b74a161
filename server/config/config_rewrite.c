/* CONFIG REWRITE: puts the configuration of now into the file it came from. The old lines of each
 * directive are reused in place, so comments and order stay; values that are not in the file and
 * not the default are appended; lines of a directive that are no longer needed become empty. What
 * the rewriter does not know it leaves alone. Any thread; one at a time, under a lock. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/memory.h"
#include "server/base/log.h"
#include "server/base/text.h"
#include "server/config/config_private.h"
#include "server/config/config_table.h"

/* ---- reading the old file ---- */

/* Directives that are no options; their lines stay as they are. */
static bool is_other_directive(const char *name) {
    static const char *const names[] = {"include", "rename-command", "user", "loadmodule",
                                        "sentinel"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcasecmp(names[i], name) == 0)
            return true;
    }
    /* MODULE.OPTION: whether its module is there is not known here. */
    return strchr(name, '.') != NULL;
}

static void read_line(struct config_file_lines *file, const char *line, size_t length) {
    const struct config_option *option = NULL;
    struct words words;

    while (length > 0 && strchr(" \t\r\n", line[length - 1]) != NULL)
        length--;
    while (length > 0 && strchr(" \t\r\n", *line) != NULL) {
        line++;
        length--;
    }
    if (length == 0 || *line == '#') {
        config_file_append(file, line, length, NULL);
        return;
    }
    int result = words_split(line, length, &words);
    if (result == 0 && words.count > 0)
        option = config_find(words.word[0], NULL);
    if (option == NULL && (result < 0 || words.count == 0 || !is_other_directive(words.word[0]))) {
        /* Kept for the administrator's eyes, but it must not stop the next start. */
        struct text comment = {0};
        text_append_string(&comment, "# ??? ");
        text_append(&comment, line, length);
        config_file_append(file, text_string(&comment), comment.length, NULL);
        text_free(&comment);
    } else {
        config_file_append(file, line, length, option != NULL ? option->name : NULL);
    }
    words_free(&words);
}

/* A file that is not there is empty. Returns 0 or a negative errno. */
static int read_file(struct config_file_lines *file, const char *path) {
    char *line = NULL;
    size_t size = 0;
    ssize_t length;
    FILE *stream = fopen(path, "re");

    if (stream == NULL)
        return errno == ENOENT ? 0 : -errno;
    errno = 0;
    bool ends_in_newline = false;
    while ((length = getline(&line, &size, stream)) >= 0) {
        read_line(file, line, (size_t)length);
        ends_in_newline = length > 0 && line[length - 1] == '\n';
    }
    /* What will be appended stands apart, as in Redis. */
    if (ends_in_newline)
        config_file_append(file, "", 0, NULL);
    int result = ferror(stream) ? -(errno != 0 ? errno : EIO) : 0;
    free(line); /* getline's, not ours */
    fclose(stream);
    return result;
}

/* ---- writing the new one ---- */

static int write_all(int descriptor, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(descriptor, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return -(errno != 0 ? errno : EIO);
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

/* The directory entry must be on disk too, or a crash may bring the old file back. */
static int sync_directory(const char *path) {
    char directory[PATH_MAX];
    int result = 0;

    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    if (slash != NULL)
        slash[slash == directory ? 1 : 0] = '\0';
    int descriptor = open(slash != NULL ? directory : ".", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -errno;
    /* Some file systems cannot sync a directory and say so with these. */
    if (fsync(descriptor) < 0 && errno != EBADF && errno != EINVAL)
        result = -errno;
    close(descriptor);
    return result;
}

/* What the administrator (or the package) has allowed stays: the file may hold a password. Only a
 * file that was not there gets the mode that the umask leaves of 0644. */
static mode_t mode_to_keep(const char *path) {
    struct stat old;

    if (stat(path, &old) == 0)
        return old.st_mode & 0777;
    return (mode_t)config_file_mode() & 0644;
}

/* Replaces the file in one step: a crash leaves the old or the new one. Returns 0 or a negative
 * errno. */
static int write_file(const char *path, const struct text *content) {
    char temporary[PATH_MAX];
    int result;

    int length = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (length < 0 || (size_t)length >= sizeof temporary)
        return -ENAMETOOLONG;
    int descriptor = mkostemp(temporary, O_CLOEXEC);
    if (descriptor < 0)
        return -errno;
    result = write_all(descriptor, text_string(content), content->length);
    if (result == 0 && (fsync(descriptor) < 0 || fchmod(descriptor, mode_to_keep(path)) < 0 ||
                        rename(temporary, path) < 0))
        result = -errno;
    close(descriptor);
    if (result < 0)
        unlink(temporary);
    else
        result = sync_directory(path);
    return result;
}

static void rewrite_option(struct config_file_lines *file, const struct config *config,
                           const struct config_option *option) {
    const void *field = config_field_const(config, option);
    const void *initial = config_field_const(config_initial(), option);

    if (field == &config->replicaof && config->cluster_enabled) {
        /* Whose replica a node is stands in the cluster's own file. */
    } else if (option->kind->rewrite != NULL) {
        option->kind->rewrite(option, field, initial, file);
    } else {
        struct text line = {0};
        struct text initial_value = {0};
        text_append_format(&line, "%s ", option->name);
        size_t start = line.length;
        option->kind->format(option, field, &line);
        option->kind->format(option, initial, &initial_value);
        config_file_put(file, option->name, text_string(&line),
                        strcmp(text_string(&line) + start, text_string(&initial_value)) != 0);
        text_free(&line);
        text_free(&initial_value);
    }
    config_file_drop(file, option->name);
}

/* Returns 0 or a negative errno. */
static int rewrite(const struct config *config) {
    struct config_file_lines file = {0};
    struct text content = {0};
    int result = read_file(&file, config->file);

    if (result == 0) {
        for (size_t i = 0; i < config_option_count; i++)
            rewrite_option(&file, config, &config_options[i]);
        config_file_join(&file, &content);
        result = write_file(config->file, &content);
    }
    config_file_free(&file);
    text_free(&content);
    return result;
}

int config_rewrite(const struct config *config, char *error, size_t error_size) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint64_t written; /* generation of what is in the file; under lock */
    int result = 0;

    if (config->file == NULL) {
        snprintf(error, error_size, "ERR The server is running without a config file");
        return -1;
    }
    pthread_mutex_lock(&lock);
    if (config->generation >= written)
        result = rewrite(config);
    if (result == 0 && config->generation > written)
        written = config->generation;
    pthread_mutex_unlock(&lock);
    if (result < 0) {
        log_write(LOG_LEVEL_WARNING, "CONFIG REWRITE failed: %s", strerror(-result));
        snprintf(error, error_size, "ERR Rewriting config file: %s", strerror(-result));
        return -1;
    }
    log_write(LOG_LEVEL_NOTICE, "CONFIG REWRITE executed with success.");
    return 0;
}
