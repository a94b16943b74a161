/*
 * Time for measuring: the wall (monotonic) and the CPU time that another process has used.
 */
#ifndef BENCH_COMMON_CLOCK_H
#define BENCH_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_SECOND 1000000000ULL

/* Monotonic nanoseconds. A vDSO call: some 25 ns. */
static inline uint64_t clock_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* What a process has used so far, in nanoseconds, all of its threads, past ones too. */
struct cpu_use {
    uint64_t total_ns;  /* exact, from the scheduler's accounting */
    uint64_t user_ns;   /* by clock ticks: only good for a split over a long run */
    uint64_t system_ns; /* likewise */
};

/* Reads the CPU time of process `pid`. 0, or -1 if there is no such process. */
int clock_cpu_use(int pid, struct cpu_use *use);

#endif
