/* The configuration: every directive of Redis 7.2.4 and our own, from redis.conf, the command line
 * and CONFIG SET.
 *
 * struct config is one immutable snapshot of all values. Readers load the published pointer and use
 * the fields; no lock, no shared line is written. A writer copies the snapshot, changes the copy,
 * lets the subscribers apply it and publishes it; the old one is retired. Writers (everything below
 * that does not say otherwise) are serialised by the caller: the main thread before the workers
 * start, later whoever holds the exclusive section. */
#ifndef SLOTWISE_SERVER_CONFIG_H
#define SLOTWISE_SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/config/config_values.h"

/* The Redis whose directives, defaults and messages these are. */
#define CONFIG_REDIS_VERSION "7.2.4"

/* Room for every message of this module. */
#define CONFIG_ERROR_SIZE 4096

/* ---- reading: any registered RCU reader ---- */

extern const struct config *config_published; /* for config_current only */

/* The snapshot of now: valid until this thread's next quiescent state, or until this thread changes
 * the configuration. Never NULL after config_init. */
static inline const struct config *config_current(void) {
    return __atomic_load_n(&config_published, __ATOMIC_ACQUIRE);
}

/* Gets the name of a directive and its value as text, NUL-terminated, of length bytes; both valid
 * during the call. */
typedef void config_visit(const char *name, const char *value, size_t length, void *context);
/* CONFIG GET: every directive that some pattern names or (except hidden ones) matches, once,
 * whatever the case. callback (may be NULL) gets the name spelled as the pattern when the pattern
 * has no wildcard. Returns the number of directives. */
size_t config_get_matching(const char *const *patterns, size_t count, config_visit *callback,
                           void *context);
/* The directives that a crash report shows, in the same way. */
void config_get_debug(config_visit *callback, void *context);
/* The value of an enumeration directive as text, for INFO and messages; "unknown" if there is none.
 */
const char *config_enum_name(const char *directive, int value);
/* True when the value of this directive must not be logged or shown. */
bool config_is_sensitive(const char *name);

/* The number of workers when none is configured: the processors that this process may use (cpus.h),
 * 1 .. CONFIG_WORKERS_MAX. Any thread. */
int config_default_workers(void);

/* ---- life ---- */

/* Publishes the defaults. retire gets each snapshot that is replaced; it has epoch_retire's type
 * and contract and calls destructor(snapshot) when no reader can hold it. NULL frees at once. Main
 * thread. */
void config_init(void (*retire)(void *snapshot, size_t bytes, void (*destructor)(void *snapshot)));
/* Frees everything, subscribers included; no reader may be left. For tests and leak checkers. */
void config_destroy(void);

/* What reading a file needs from above. Each may be NULL: the line is kept in struct config only.
 */
struct config_hooks {
    /* rename-command: NULL, or the error, e.g. "No such command in rename-command". */
    const char *(*rename_command)(const char *name, const char *new_name, void *context);
    /* user NAME RULE...: 0, or -1 with a message in error. */
    int (*user)(const struct config_line *line, void *context, char *error, size_t error_size);
    void *context;
};

/* Reads the configuration as Redis reads its command line: [file] [-] [--directive value...]...,
 * and publishes it. arguments[0] is the program's name; options that end the program (--help,
 * --version) are the caller's. Changes the working directory (`dir`) and opens included files and
 * the log file. Returns 0, or -1 with what Redis would print on standard error before exit(1) in
 * error (empty when the log has it already). Main thread, before the workers start. */
int config_load(int argument_count, char *const *arguments, const struct config_hooks *hooks,
                char *error, size_t error_size);

/* Parses text as a configuration file into a fresh snapshot that is dropped again, without touching
 * files, the working directory or the log. 0, or -1 with the message. Any thread; for fuzzing. */
int config_check_text(const char *text, size_t length, char *error, size_t error_size);

/* ---- changing ---- */

enum config_set_flags {
    CONFIG_SET_LOCAL =
        1, /* the client is on this host: protected directives may be allowed to it */
    CONFIG_SET_LOADING = 2, /* the data set is being loaded */
};

/* CONFIG SET: all pairs or none. Returns 0, or -1 with the whole error line ("ERR ...", "LOADING
 * ...", no line break) in error. An applied change was published. */
int config_set_many(const char *const *names, const char *const *values, size_t count,
                    unsigned flags, char *error, size_t error_size);
/* The same with the lengths of the values, which are NUL-terminated too: texts may hold NULs, all
 * else ends at the first. */
int config_set_bytes(const char *const *names, const char *const *values, const size_t *lengths,
                     size_t count, unsigned flags, char *error, size_t error_size);

/* REPLICAOF: publishes the primary of now (host NULL: none), which CONFIG SET cannot change. */
void config_set_replicaof(const char *host, int port);

/* Subscribes to a directive (not an alias). apply runs in config_set_many when its value changes,
 * before the new snapshot is published, once per call even if subscribed to several of the changed
 * ones. It makes the change effective, or changes nothing and returns -1 with a text (static, or
 * NULL) in *error; then those that were applied run again with the snapshots swapped and CONFIG SET
 * fails. */
typedef int config_apply(const struct config *before, const struct config *after, void *context,
                         const char **error);
void config_on_change(const char *name, config_apply *apply, void *context);
/* Subscribes to every publication (config_load's too); runs after it, on the writer. */
void config_on_publish(void (*published)(const struct config *now, void *context), void *context);

/* Names in the log, one line each, the directives that the configuration sets and that nothing
 * heeds in this version (rows with NO_EFFECT whose value is not the default; `save` also by
 * default, since it promises to save). CONFIG SET does the same for what it changes. */
void config_warn_without_effect(void);

/* CONFIG REWRITE: puts a configuration into the file that it came from. Keeps comments, order and
 * what it does not know. Returns 0, or -1 with the error line in error. Any thread; it takes its
 * time, since it waits for the disk. One that is older than what was written last stays out of the
 * file. */
int config_rewrite(const struct config *config, char *error, size_t error_size);
/* A copy that belongs to the caller, for whoever is no reader; its end. */
struct config *config_copy(const struct config *config);
void config_free(void *config);

/* CONFIG RESETSTAT: calls what was subscribed. */
void config_on_reset_statistics(void (*reset)(void *context), void *context);
void config_reset_statistics(void);

#endif
