/* The log; see log.h. Whoever writes a line only reads the settings below. The path and the syslog
 * identity are set before there are threads; level and role are relaxed atomics, since a line more
 * or less around a change does not matter. */
#include "server/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "server/base/numbers.h"

static atomic_int threshold = LOG_LEVEL_NOTICE;
static _Atomic char role = 'C';
static char path[PATH_MAX];
static atomic_int warnings_copy = -1; /* a descriptor */
static atomic_bool to_syslog;
static char syslog_identity[128];

void log_set_level(enum log_level level) {
    atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

void log_set_file(const char *new_path) {
    snprintf(path, sizeof path, "%s", new_path);
}

void log_set_syslog(bool enabled, const char *identity, int facility) {
    if (enabled) {
        /* openlog keeps the pointer. */
        snprintf(syslog_identity, sizeof syslog_identity, "%s", identity);
        openlog(syslog_identity, LOG_PID | LOG_NDELAY | LOG_NOWAIT, facility);
    } else if (atomic_load(&to_syslog)) {
        closelog();
    }
    atomic_store(&to_syslog, enabled);
}

void log_set_role(char new_role) {
    atomic_store_explicit(&role, new_role, memory_order_relaxed);
}

void log_copy_warnings(int descriptor) {
    atomic_store(&warnings_copy, descriptor);
}

bool log_enabled(enum log_level level) {
    return (int)level >= atomic_load_explicit(&threshold, memory_order_relaxed);
}

/* A short write happens to pipes and full disks only: carry on with the rest. */
static void write_all(int descriptor, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(descriptor, bytes, length);
        if (written <= 0 && !(written < 0 && errno == EINTR))
            break;
        if (written > 0) {
            bytes += written;
            length -= (size_t)written;
        }
    }
}

int log_open_signal_safe(void) {
    return path[0] == '\0' ? STDOUT_FILENO
                           : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
}

void log_close_signal_safe(int descriptor) {
    if (descriptor >= 0 && descriptor != STDOUT_FILENO)
        close(descriptor);
}

/* Async-signal-safe; keeps errno, because lines are often written on the way out of an error. */
static void put(const char *bytes, size_t length) {
    int saved_errno = errno, descriptor = log_open_signal_safe();
    if (descriptor >= 0)
        write_all(descriptor, bytes, length);
    log_close_signal_safe(descriptor);
    errno = saved_errno;
}

static void put_syslog(enum log_level level, const char *message) {
    static const int priority[] = {LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING};

    if (atomic_load_explicit(&to_syslog, memory_order_relaxed))
        syslog(priority[level < LOG_LEVEL_NOTHING ? level : LOG_LEVEL_WARNING], "%s", message);
}

void log_write(enum log_level level, const char *format, ...) {
    char line[LOG_MESSAGE_SIZE + 80];
    struct timeval now;
    struct tm local;
    int copy = atomic_load_explicit(&warnings_copy, memory_order_relaxed);
    bool visible = log_enabled(level), copied = copy >= 0 && level == LOG_LEVEL_WARNING;

    if (!visible && !copied)
        return;
    gettimeofday(&now, NULL);
    time_t seconds = now.tv_sec;
    localtime_r(&seconds, &local);
    char mark = ".-*#"[level < LOG_LEVEL_NOTHING ? level : LOG_LEVEL_WARNING];
    size_t length = (size_t)snprintf(line, sizeof line, "%d:%c ", (int)getpid(),
                                     atomic_load_explicit(&role, memory_order_relaxed));
    length += strftime(line + length, sizeof line - length, "%d %b %Y %H:%M:%S", &local);
    length += (size_t)snprintf(line + length, sizeof line - length, ".%03d %c ",
                               (int)(now.tv_usec / 1000), mark);

    char *message = line + length;
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(message, LOG_MESSAGE_SIZE, format, arguments);
    va_end(arguments);
    if (visible)
        put_syslog(level, message);
    length += wanted < LOG_MESSAGE_SIZE ? (size_t)(wanted < 0 ? 0 : wanted) : LOG_MESSAGE_SIZE - 1;
    line[length++] = '\n';
    if (visible)
        put(line, length);
    if (copied)
        write_all(copy, line, length);
}

void log_write_raw(enum log_level level, const char *text) {
    if (!log_enabled(level))
        return;
    put_syslog(level, text);
    put(text, strlen(text));
}

/* strcpy that stops at the end of the buffer; returns the new length. */
static size_t append(char *line, size_t size, size_t length, const char *text) {
    while (length < size && *text != '\0')
        line[length++] = *text++;
    return length;
}

void log_write_signal_safe(enum log_level level, const char *message) {
    char line[LOG_MESSAGE_SIZE];
    char number[NUMBER_INT64_SIZE];
    size_t room = sizeof line - 1; /* for the newline */
    size_t length = 0;

    if (!log_enabled(level))
        return;
    number_write_int64(number, getpid());
    length = append(line, room, length, number);
    length = append(line, room, length, ":signal-handler (");
    number_write_int64(number, time(NULL));
    length = append(line, room, length, number);
    length = append(line, room, length, ") ");
    length = append(line, room, length, message);
    line[length++] = '\n';
    put(line, length);
}

void log_write_raw_signal_safe(const char *text) {
    put(text, strlen(text));
}
