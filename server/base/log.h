/* The server's log, in Redis's line format:
 *
 *     1234:M 05 Mar 2024 12:00:01.234 * Ready to accept connections
 *
 * process id, role (C still starting, M primary, S replica), local time, level mark (. debug,
 * - verbose, * notice, # warning), message.
 *
 * Every line is one write(2) to a descriptor opened with O_APPEND, so threads need no lock and
 * lines never mix. The file is opened for each line, as Redis does: renaming it is all that
 * rotation needs. */
#ifndef SLOTWISE_SERVER_LOG_H
#define SLOTWISE_SERVER_LOG_H

#include <stdbool.h>

enum log_level {
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_VERBOSE,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_NOTHING, /* as the threshold: silence */
};

/* Longest message; what is longer is cut. log_write_raw has no limit. */
#define LOG_MESSAGE_SIZE 1024

/* ---- set up: before other threads exist, except log_set_level and log_set_role (any time) ---- */

/* Lines below this level are dropped. The initial threshold is notice. */
void log_set_level(enum log_level level);
/* "" is standard output. A relative path follows the working directory, as in Redis. */
void log_set_file(const char *path);
/* Copies every line to syslog. facility: LOG_LOCAL0 and the like of <syslog.h>. */
void log_set_syslog(bool enabled, const char *identity, int facility);
void log_set_role(char role);
/* Warnings go to this descriptor as well, whatever the threshold, until it is set to -1. */
void log_copy_warnings(int descriptor);

/* ---- writing: any thread; errors of the file are ignored, there is no place to report them ----
 */

/* True when a line of this level would be written; saves the work of building an expensive one. */
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The text as it is, without prefix and newline. */
void log_write_raw(enum log_level level, const char *text);

/* For signal handlers: only async-signal-safe calls; "PID:signal-handler (unix time) message". */
void log_write_signal_safe(enum log_level level, const char *message);
/* For signal handlers: where the log goes now, to be closed with log_close_signal_safe; negative:
 * it cannot be opened. */
int log_open_signal_safe(void);
void log_close_signal_safe(int descriptor);
/* For signal handlers: writes the text as it is, whatever the level. */
void log_write_raw_signal_safe(const char *text);

#endif
