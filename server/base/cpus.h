/* How many processors this process may use. A container limits them in two ways that do not know of
 * each other: by affinity (cpuset) and by quota (CPU time per period). More workers than that would
 * only take turns. Any thread. */
#ifndef SLOTWISE_SERVER_CPUS_H
#define SLOTWISE_SERVER_CPUS_H

struct cpus {
    int by_affinity;
    double by_quota; /* 0: no quota */
    int usable;      /* what both leave, a part of a processor counted as one; at least 1 */
};

void cpus_find(struct cpus *cpus);

#endif
