/* What the control groups of this process limit: CPU time and memory. Reads /proc and
 * /sys/fs/cgroup; any thread. */
#ifndef SLOTWISE_SERVER_CGROUP_H
#define SLOTWISE_SERVER_CGROUP_H

#include <stdint.h>

#define CGROUP_SELF "/proc/self/cgroup"
#define CGROUP_ROOT "/sys/fs/cgroup"

struct cgroup_limits {
    double cpus;           /* processors' worth of CPU time, e.g. 1.5; 0: no limit */
    uint64_t memory_bytes; /* 0: no limit */
};

/* The tightest limits of version 1 and version 2 groups, of this process's groups and all above
 * them. self: the file that names the groups (CGROUP_SELF); root: where the hierarchies are mounted
 * (CGROUP_ROOT). What cannot be read limits nothing. */
void cgroup_read_limits(const char *self, const char *root, struct cgroup_limits *limits);

#endif
