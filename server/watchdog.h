/* Watchdog: tells in the log where a worker stands that has not finished a turn for too long, and
 * sees to it that the process ends when it is asked to, whatever state its workers are in.
 *
 * Run by: the main thread, which has nothing else to do while the server runs. */
#ifndef SLOTWISE_SERVER_WATCHDOG_H
#define SLOTWISE_SERVER_WATCHDOG_H

#include "server/clients/server.h"

struct worker;

/* Before the workers start: installs the handler by which a worker writes where it stands. */
void watchdog_install(void);
/* Until all workers have ended after a request to stop (signal, SHUTDOWN). true: they have. false:
 * one has not within shutdown-timeout; its threads still run, so nothing may be freed. */
bool watchdog_run(struct server *server, struct worker *const *workers);

#endif
