/* The process's dealings with the system: daemonizing, pid file, supervisor, descriptor limit,
 * command line help. Main thread, before the workers start or after
 * they have ended, where nothing else is said. */
#ifndef SLOTWISE_SERVER_PROCESS_H
#define SLOTWISE_SERVER_PROCESS_H

#include "server/clients/server.h"

void process_remember_executable(struct server *server, const char *name);
/* Finds out who supervises this process (`supervised`, NOTIFY_SOCKET, UPSTART_JOB) and says so in
 * the log. */
void process_find_supervisor(struct server *server);
/* daemonize, unless somebody supervises. The parent does not return: it waits until the daemon says
 * process_started, or ends and prints why the daemon did not start. 0, or -1 after saying why. */
int process_daemonize(const struct server *server);
/* The server listens and its pid file is written: lets the parent of a daemon end well. */
void process_started(void);
/* 0, or -1 when a daemon cannot write the file that was named, after saying why. Without a daemon,
 * or for the default file, that is only a warning. */
int process_write_pid_file(struct server *server);
void process_remove_pid_file(const struct server *server);
/* sd_notify without libsystemd: a datagram to $NOTIFY_SOCKET; nothing if systemd does not
 * supervise.
 */
void process_notify_systemd(const struct server *server, const char *text);
/* RLIMIT_NOFILE for so many clients and what else the process opens, with so many workers. Returns
 * for how many clients the limit suffices: fewer than were wanted, or none, after saying so in the
 * log. Any thread, one at a time. */
uint64_t process_raise_descriptor_limit(uint64_t clients, unsigned workers);
/* Settings of the system that get in the way are named in the log. */
void process_check_system(void);
/* What processors and memory this process has, in the log. */
void process_log_resources(void);
/* The number that a file of /proc begins with. false: no such file, or no number. */
bool process_read_number(const char *path, int64_t *value);
const char *process_rename_command(const char *name, const char *new_name, void *context);
int process_print_version(void);
int process_print_help(const char *name);

#endif
