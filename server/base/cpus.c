/* See cpus.h. */
#include "server/base/cpus.h"

#include <sched.h>
#include <unistd.h>

#include "server/base/cgroup.h"

static int affinity_cpus(void) {
    /* The kernel refuses a mask that is too small for the machine: grow until it fits. */
    for (int possible = 1024; possible <= 1 << 20; possible *= 2) {
        cpu_set_t *set = CPU_ALLOC(possible);
        size_t size = CPU_ALLOC_SIZE(possible);
        if (set == NULL)
            break;
        int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (count > 0)
            return count;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

void cpus_find(struct cpus *cpus) {
    struct cgroup_limits limits;

    cgroup_read_limits(CGROUP_SELF, CGROUP_ROOT, &limits);
    cpus->by_affinity = cpus->usable = affinity_cpus();
    cpus->by_quota = limits.cpus;
    if (limits.cpus > 0 && limits.cpus < cpus->by_affinity) {
        int whole = (int)limits.cpus;
        cpus->usable = whole + (whole < limits.cpus);
    }
}
