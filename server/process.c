/* See process.h. */
#include "server/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/memory.h"
#include "server/command.h"
#include "server/config.h"
#include "server/log.h"
#include "server/worker.h"
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

static bool wants_systemd(const struct config *config) {
    return config->supervised == CONFIG_SUPERVISED_SYSTEMD ||
           (config->supervised == CONFIG_SUPERVISED_AUTO && getenv("NOTIFY_SOCKET"));
}

int process_daemonize(struct server *server) {
    const struct config *config = config_current();
    server->supervised = wants_systemd(config);
    if (!config->daemonize || server->supervised)
        return 0;
    pid_t child = fork();
    if (child < 0) {
        fprintf(stderr, "Cannot daemonize: %s\n", strerror(errno));
        return -1;
    }
    if (child > 0)
        _exit(0);
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

static const char *pid_file_path(void) {
    const struct config *config = config_current();
    if (config->pidfile)
        return config->pidfile;
    return config->daemonize ? DEFAULT_PID_FILE : NULL;
}

int process_write_pid_file(struct server *server) {
    (void)server;
    const char *path = pid_file_path();
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) /* as Redis: not worth failing for */
        return 0;
    fprintf(file, "%d\n", (int)getpid());
    fclose(file);
    return 0;
}

void process_remove_pid_file(struct server *server) {
    (void)server;
    const char *path = pid_file_path();
    if (!path)
        return;
    log_write(LOG_LEVEL_NOTICE, "Removing the pid file.");
    unlink(path);
}

void process_notify_systemd(const char *text) {
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path || !wants_systemd(config_current()))
        return;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if ((path[0] != '@' && path[0] != '/') || length >= sizeof address.sun_path) {
        log_write(LOG_LEVEL_WARNING, "NOTIFY_SOCKET is not usable: %s", path);
        return;
    }
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    ssize_t n = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    if (n < 0)
        log_write(LOG_LEVEL_WARNING, "Cannot notify systemd: %s", strerror(errno));
    close(fd);
}

void process_raise_descriptor_limit(unsigned clients, unsigned reserved) {
    struct rlimit limit;
    rlim_t wanted = (rlim_t)clients + reserved;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return;
    struct rlimit raised = {wanted, limit.rlim_max > wanted ? limit.rlim_max : wanted};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
        return;
    raised = (struct rlimit){limit.rlim_max, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &raised);
    log_write(LOG_LEVEL_WARNING,
              "The open files limit is %llu: fewer than the maxclients of %u clients can be "
              "served. Raise it with "
              "'ulimit -n'.",
              (unsigned long long)limit.rlim_max, clients);
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

void process_free_workers(struct server *server) {
    for (unsigned i = 0; i < server->worker_count; i++) {
        struct worker *worker = server->workers[i];
        for (unsigned id = 0; id < command_count(); id++)
            memory_free(atomic_load(&worker->statistics[id].latency));
        memory_free(worker->statistics);
        memory_free(worker->slots);
        memory_free(worker->words);
        memory_free(worker->key_indexes);
        memory_free(worker);
    }
}
