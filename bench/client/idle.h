/*
 * Idle connections: opened, seen by the server, and held.
 */
#ifndef BENCH_CLIENT_IDLE_H
#define BENCH_CLIENT_IDLE_H

#include "bench/client/options.h"

/*
 * Opens options->idle connections, has a PING answered on each, prints {"idle_connections": N} and
 * waits for options->hold_seconds or the end of standard input. Returns the exit status.
 */
int idle_run(const struct options *options);

#endif
