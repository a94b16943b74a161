/*
 * The result of a run as JSON on standard output. Times are in microseconds.
 */
#ifndef BENCH_CLIENT_REPORT_H
#define BENCH_CLIENT_REPORT_H

#include "bench/client/loop.h"
#include "bench/common/clock.h"

/* What the main thread measured around the run. */
struct measurement {
    uint64_t cpu_replies; /* replies between the two readings of the server's CPU clock */
    struct cpu_use server_before;
    struct cpu_use server_after;
    bool server_known;
    double client_cpu_seconds; /* of the whole run */
};

/* Prints the report of the joined threads. */
void report_print(const struct run *run, const struct client_thread *threads,
                  const struct measurement *measurement);

#endif
