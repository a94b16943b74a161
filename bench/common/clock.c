/*
 * CPU time of another process.
 *
 * /proc/PID/stat counts in clock ticks of 10 ms, and which tick falls into whose time is a lottery.
 * The process's CPU clock is the sum of what the scheduler accounted to its threads, exact to the
 * nanosecond, and includes threads that have ended.
 */
#include "bench/common/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* utime and stime are the 14th and 15th field; the 2nd is a name that may contain anything, so
 * count from its ')'. */
static int read_ticks(int pid, struct cpu_use *use) {
    char path[64];
    char line[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return -1;
    }
    size_t length = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[length] = '\0';
    char *after_name = strrchr(line, ')');
    unsigned long user = 0;
    unsigned long system = 0;
    if (after_name == NULL ||
        sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &system) != 2) {
        return -1;
    }
    uint64_t tick_ns = NS_PER_SECOND / (uint64_t)sysconf(_SC_CLK_TCK);
    use->user_ns = user * tick_ns;
    use->system_ns = system * tick_ns;
    return 0;
}

int clock_cpu_use(int pid, struct cpu_use *use) {
    clockid_t clock;
    struct timespec used;
    memset(use, 0, sizeof(*use));
    if (read_ticks(pid, use) < 0) {
        return -1;
    }
    if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &used) == 0) {
        use->total_ns = (uint64_t)used.tv_sec * NS_PER_SECOND + (uint64_t)used.tv_nsec;
    } else {
        use->total_ns = use->user_ns + use->system_ns;
    }
    return 0;
}
