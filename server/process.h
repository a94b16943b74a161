/* The process's dealings with the system: daemonizing, pid file, supervisor, descriptor limit,
 * command line help. Main thread, before the workers start or after they have ended. */
#ifndef SLOTWISE_SERVER_PROCESS_H
#define SLOTWISE_SERVER_PROCESS_H

#include "server/server.h"

void process_remember_executable(struct server *server, const char *name);
/* daemonize and supervised. 0, or -1 after saying why. In the parent it does not return. */
int process_daemonize(struct server *server);
int process_write_pid_file(struct server *server);
void process_remove_pid_file(struct server *server);
/* sd_notify without libsystemd: a datagram to $NOTIFY_SOCKET; nothing if supervised is off. */
void process_notify_systemd(const char *text);
/* RLIMIT_NOFILE for so many clients, as far as the system allows (says so in the log if it does
 * not). */
void process_raise_descriptor_limit(unsigned clients, unsigned reserved);
const char *process_rename_command(const char *name, const char *new_name, void *context);
int process_print_version(void);
int process_print_help(const char *name);
void process_free_workers(struct server *server);

#endif
