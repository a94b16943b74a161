/* See process.h. */
#include "server/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/memory.h"
#include "server/base/cgroup.h"
#include "server/base/cpus.h"
#include "server/base/log.h"
#include "server/config/config.h"
#include "server/dispatch/command.h"
#include "slotwise_version.h"

#define DEFAULT_PID_FILE "/var/run/redis.pid"

void process_remember_executable(struct server *server, const char *name) {
    char resolved[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", resolved, sizeof resolved - 1);
    if (n > 0) {
        resolved[n] = '\0';
        name = resolved;
    }
    snprintf(server->executable, sizeof server->executable, "%s", name);
}

/* --- Supervisors ------------------------------------------------------------------------------ */

enum { SUPERVISED_NO, SUPERVISED_SYSTEMD, SUPERVISED_UPSTART }; /* of struct server */

/* A datagram to $NOTIFY_SOCKET. 0, or a negative errno; -ENOENT: there is no such socket. */
static int notify(const char *text) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = path ? strlen(path) : 0;
    if (!path)
        return -ENOENT;
    if ((path[0] != '@' && path[0] != '/') || length >= sizeof address.sun_path)
        return -EINVAL;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    ssize_t n = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    int error = n < 0 ? -errno : 0;
    close(fd);
    return error;
}

static bool notify_or_complain(const char *text) {
    int error = notify(text);
    if (error == -ENOENT)
        log_write(LOG_LEVEL_WARNING, "systemd supervision error: NOTIFY_SOCKET not found!");
    else if (error)
        log_write(LOG_LEVEL_WARNING, "systemd supervision error: sd_notify: %d", -error);
    return error == 0;
}

void process_notify_systemd(const struct server *server, const char *text) {
    if (server->supervised == SUPERVISED_SYSTEMD)
        notify_or_complain(text);
}

static int supervised_by_systemd(void) {
    if (!notify_or_complain("STATUS=Slotwise is loading...\n"))
        return SUPERVISED_NO;
    log_write(LOG_LEVEL_NOTICE,
              "Supervised by systemd. Please make sure you set appropriate values "
              "for TimeoutStartSec and TimeoutStopSec in your service unit.");
    return SUPERVISED_SYSTEMD;
}

/* Upstart (`expect stop`) waits for the process to stop itself, and lets it go on. */
static int supervised_by_upstart(void) {
    if (!getenv("UPSTART_JOB")) {
        log_write(LOG_LEVEL_WARNING, "upstart supervision requested, but UPSTART_JOB not found!");
        return SUPERVISED_NO;
    }
    log_write(LOG_LEVEL_NOTICE, "supervised by upstart, will stop to signal readiness.");
    raise(SIGSTOP);
    unsetenv("UPSTART_JOB");
    return SUPERVISED_UPSTART;
}

void process_find_supervisor(struct server *server) {
    int mode = config_current()->supervised;
    bool any = mode == CONFIG_SUPERVISED_AUTO;
    if (mode == CONFIG_SUPERVISED_UPSTART || (any && getenv("UPSTART_JOB")))
        server->supervised = supervised_by_upstart();
    else if (mode == CONFIG_SUPERVISED_SYSTEMD || (any && getenv("NOTIFY_SOCKET")))
        server->supervised = supervised_by_systemd();
}

/* --- Daemon ----------------------------------------------------------------------------------- */

/* A daemon's end of the pipe to the process that started it. The daemon's warnings go into it until
 * it has started; a NUL then says that it has. -1: nobody waits. */
static int starter = -1;

static void wait_for_daemon(int pipe_end) {
    char text[4096];
    size_t length = 0;
    ssize_t n;
    while (length < sizeof text - 1 &&
           ((n = read(pipe_end, text + length, sizeof text - 1 - length)) > 0 ||
            (n < 0 && errno == EINTR)))
        length += n > 0 ? (size_t)n : 0;
    if (length > 0 && text[length - 1] == '\0')
        _exit(0);
    text[length] = '\0';
    fprintf(stderr, "%sThe server did not start.\n", text);
    _exit(1);
}

int process_daemonize(const struct server *server) {
    int pipe_ends[2];
    if (!config_current()->daemonize || server->supervised)
        return 0;
    pid_t child = pipe2(pipe_ends, O_CLOEXEC) < 0 ? -1 : fork();
    if (child < 0) {
        fprintf(stderr, "Cannot daemonize: %s\n", strerror(errno));
        return -1;
    }
    if (child > 0) {
        close(pipe_ends[1]);
        wait_for_daemon(pipe_ends[0]);
    }
    close(pipe_ends[0]);
    starter = pipe_ends[1];
    log_copy_warnings(starter);
    setsid();
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    return 0;
}

void process_started(void) {
    if (starter < 0)
        return;
    log_copy_warnings(-1);
    ssize_t n = write(starter, "", 1);
    (void)n; /* the starter may have been killed */
    close(starter);
    starter = -1;
}

int process_write_pid_file(struct server *server) {
    const struct config *config = config_current();
    const char *path = config->pidfile;
    if (!path)
        return 0;
    snprintf(server->pid_file, sizeof server->pid_file, "%s", path);
    FILE *file = fopen(path, "we");
    if (file) {
        fprintf(file, "%d\n", (int)getpid());
        fclose(file);
        return 0;
    }
    log_write(LOG_LEVEL_WARNING, "Failed to write PID file %s: %s", path, strerror(errno));
    return config->daemonize && strcmp(path, DEFAULT_PID_FILE) != 0 ? -1 : 0;
}

void process_remove_pid_file(const struct server *server) {
    if (!server->pid_file[0])
        return;
    log_write(LOG_LEVEL_NOTICE, "Removing the pid file.");
    unlink(server->pid_file);
}

/* --- What the system grants ------------------------------------------------------------------- */

/* Not for clients: standard streams, listeners, the log, files of /proc, room for a connection that
 * is accepted to be refused; and of each worker: a ring or epoll instance, what wakes it up, and
 * the same again for what it opens in passing. */
#define RESERVED_DESCRIPTORS            32
#define RESERVED_DESCRIPTORS_PER_WORKER 4

static bool set_descriptor_limit(struct rlimit before, rlim_t wanted) {
    struct rlimit limit = {wanted, before.rlim_max > wanted ? before.rlim_max : wanted};
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

/* As many as the system grants, from what there is to what is wanted. */
static rlim_t raise_descriptor_limit(struct rlimit before, rlim_t wanted) {
    rlim_t granted = before.rlim_cur, refused = wanted;
    while (refused - granted > 1) {
        rlim_t middle = granted + (refused - granted) / 2;
        if (set_descriptor_limit(before, middle))
            granted = middle;
        else
            refused = middle;
    }
    return granted;
}

uint64_t process_raise_descriptor_limit(uint64_t clients, unsigned workers) {
    rlim_t reserved = RESERVED_DESCRIPTORS + RESERVED_DESCRIPTORS_PER_WORKER * (rlim_t)workers;
    rlim_t wanted = clients + reserved;
    struct rlimit before;
    if (getrlimit(RLIMIT_NOFILE, &before) < 0 || before.rlim_cur >= wanted)
        return clients;
    if (set_descriptor_limit(before, wanted)) {
        log_write(LOG_LEVEL_NOTICE,
                  "Increased maximum number of open files to %llu (it was originally set to %llu).",
                  (unsigned long long)wanted, (unsigned long long)before.rlim_cur);
        return clients;
    }
    int error = errno;
    rlim_t granted = raise_descriptor_limit(before, wanted);
    if (granted <= reserved) {
        log_write(LOG_LEVEL_WARNING,
                  "Your current 'ulimit -n' of %llu is not enough for the server to start. Please "
                  "increase your open file limit to at least %llu. Exiting.",
                  (unsigned long long)before.rlim_cur, (unsigned long long)wanted);
        return 0;
    }
    log_write(LOG_LEVEL_WARNING,
              "You requested maxclients of %llu requiring at least %llu max file descriptors.",
              (unsigned long long)clients, (unsigned long long)wanted);
    log_write(LOG_LEVEL_WARNING,
              "Server can't set maximum open files to %llu because of OS error: %s.",
              (unsigned long long)wanted, strerror(error));
    log_write(LOG_LEVEL_WARNING,
              "Current maximum open files is %llu. maxclients has been reduced to %llu to "
              "compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'.",
              (unsigned long long)granted, (unsigned long long)(granted - reserved));
    return granted - reserved;
}

bool process_read_number(const char *path, int64_t *value) {
    char line[64], *end;
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool any = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    if (!any)
        return false;
    errno = 0;
    *value = strtoll(line, &end, 10);
    return end != line && errno == 0 && (*end == '\0' || *end == '\n' || *end == ' ');
}

void process_check_system(void) {
    const struct config *config = config_current();
    int64_t value;
    if (process_read_number("/proc/sys/net/core/somaxconn", &value) && value > 0 &&
        value < config->tcp_backlog)
        log_write(LOG_LEVEL_WARNING,
                  "WARNING: The TCP backlog setting of %d cannot be enforced because "
                  "/proc/sys/net/core/somaxconn is set to the lower value of %d.",
                  (int)config->tcp_backlog, (int)value);
    /* Nothing is forked, so that the usual heuristic (0) does no harm. */
    if (process_read_number("/proc/sys/vm/overcommit_memory", &value) && value == 2)
        log_write(LOG_LEVEL_WARNING,
                  "WARNING Memory overcommit is switched off: memory may be refused although it is "
                  "free. To fix this issue run the command 'sysctl vm.overcommit_memory=1'.");
}

void process_log_resources(void) {
    const struct config *config = config_current();
    struct cgroup_limits limits;
    struct cpus cpus;
    char quota[64] = "no cgroup quota";
    cpus_find(&cpus);
    cgroup_read_limits(CGROUP_SELF, CGROUP_ROOT, &limits);
    if (cpus.by_quota > 0)
        snprintf(quota, sizeof quota, "a cgroup quota of %.2f", cpus.by_quota);
    log_write(LOG_LEVEL_NOTICE,
              "Workers: %d; processors that this process may use: %d (%d by affinity, %s).",
              (int)config->io_threads, cpus.usable, cpus.by_affinity, quota);
    if (limits.memory_bytes == 0)
        return;
    log_write(LOG_LEVEL_NOTICE, "Memory limit of the cgroup: %llu bytes.",
              (unsigned long long)limits.memory_bytes);
    if (config->maxmemory == 0 || (uint64_t)config->maxmemory > limits.memory_bytes)
        log_write(LOG_LEVEL_WARNING,
                  "WARNING: maxmemory (%llu) does not keep this process within the memory limit of "
                  "its cgroup: the kernel ends it when it needs more.",
                  (unsigned long long)config->maxmemory);
}

const char *process_rename_command(const char *name, const char *new_name, void *context) {
    (void)context;
    return command_rename(name, new_name);
}

int process_print_version(void) {
    printf("Slotwise server v=%s redis_version=7.2.4 sha=%s:%d malloc=%s bits=64\n",
           SLOTWISE_VERSION, SLOTWISE_GIT_SHA1, SLOTWISE_GIT_DIRTY,
#ifdef SLOTWISE_JEMALLOC
           "jemalloc"
#else
           "libc"
#endif
    );
    return 0;
}

int process_print_help(const char *name) {
    printf("Usage: %s [/path/to/slotwise.conf] [options] [-]\n"
           "       %s - (read the configuration from standard input)\n"
           "       %s -v or --version\n"
           "       %s -h or --help\n\n"
           "Examples:\n"
           "       %s (run with the default configuration)\n"
           "       echo 'maxmemory 128mb' | %s -\n"
           "       %s /etc/slotwise/slotwise.conf\n"
           "       %s --port 7777 --io-threads 2\n"
           "       %s /etc/slotwise/slotwise.conf --loglevel verbose\n",
           name, name, name, name, name, name, name, name, name);
    return 0;
}
