/* How many processors this process may use. A container limits them in two ways that do not know of
 * each other: by affinity (cpuset) and by quota (CPU time per period). More workers than that would
 * only take turns. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/config_private.h"

#define CGROUP_PATH_SIZE 4096

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

/* The first words of a small file as numbers; a word that is none ("max") is -1. Returns how many.
 */
static int read_numbers(const char *path, long long *value, int count) {
    char line[128];
    FILE *file = fopen(path, "re");
    int found = 0;

    if (file == NULL)
        return 0;
    if (fgets(line, sizeof line, file) != NULL) {
        char *rest = line;
        for (char *word; found < count && (word = strtok_r(rest, " \n", &rest)) != NULL;) {
            char *end;
            value[found] = strtoll(word, &end, 10);
            if (*end != '\0')
                value[found] = -1;
            found++;
        }
    }
    fclose(file);
    return found;
}

/* Rounded up; 0 when there is no limit. */
static int quota_to_cpus(long long quota_us, long long period_us) {
    if (quota_us <= 0 || period_us <= 0)
        return 0;
    long long cpus = (quota_us + period_us - 1) / period_us;
    return cpus > CONFIG_WORKERS_MAX ? CONFIG_WORKERS_MAX : (int)cpus;
}

static int directory_cpus(const char *directory, bool version_2) {
    char path[CGROUP_PATH_SIZE + 64];
    long long value[2];

    if (version_2) {
        snprintf(path, sizeof path, "%s/cpu.max", directory);
        return read_numbers(path, value, 2) == 2 ? quota_to_cpus(value[0], value[1]) : 0;
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", directory);
    if (read_numbers(path, &value[0], 1) != 1)
        return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory);
    return read_numbers(path, &value[1], 1) == 1 ? quota_to_cpus(value[0], value[1]) : 0;
}

/* The smallest limit from the group up to the root of its hierarchy: each level limits its
 * children. A container may see its own group only under the root's name, so missing directories
 * are skipped. */
static int hierarchy_cpus(const char *root, const char *group, bool version_2) {
    char path[CGROUP_PATH_SIZE];
    size_t root_length = strlen(root);
    int least = 0;

    int length = snprintf(path, sizeof path, "%s%s", root, strcmp(group, "/") == 0 ? "" : group);
    if (length < 0 || (size_t)length >= sizeof path)
        return 0;
    for (;;) {
        int cpus = directory_cpus(path, version_2);
        if (cpus > 0 && (least == 0 || cpus < least))
            least = cpus;
        char *slash = strrchr(path, '/');
        if (strlen(path) <= root_length || slash == NULL || slash < path + root_length)
            return least;
        *slash = '\0';
    }
}

/* "cpu" among "cpu,cpuacct". */
static bool names_cpu(const char *controllers) {
    char list[256];
    char *rest = list;

    snprintf(list, sizeof list, "%s", controllers);
    for (char *word; (word = strtok_r(rest, ",", &rest)) != NULL;) {
        if (strcmp(word, "cpu") == 0)
            return true;
    }
    return false;
}

int config_quota_cpus(const char *proc_self_cgroup, const char *cgroup_root) {
    char line[CGROUP_PATH_SIZE];
    FILE *file = fopen(proc_self_cgroup, "re");
    int least = 0;

    if (file == NULL)
        return 0;
    /* Lines are "0::/group" (version 2) or "4:cpu,cpuacct:/group" (version 1); both may be there.
     */
    while (fgets(line, sizeof line, file) != NULL) {
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        char root[CGROUP_PATH_SIZE];
        if (group == NULL)
            continue;
        *group++ = '\0';
        controllers++;
        group[strcspn(group, "\n")] = '\0';
        bool version_2 = *controllers == '\0';
        if (!version_2 && !names_cpu(controllers))
            continue;
        snprintf(root, sizeof root, "%s%s%s", cgroup_root, version_2 ? "" : "/", controllers);
        int cpus = hierarchy_cpus(root, group, version_2);
        if (cpus > 0 && (least == 0 || cpus < least))
            least = cpus;
    }
    fclose(file);
    return least;
}

int config_default_workers(void) {
    int cpus = affinity_cpus();
    int quota = config_quota_cpus("/proc/self/cgroup", "/sys/fs/cgroup");

    if (quota > 0 && quota < cpus)
        cpus = quota;
    return cpus > CONFIG_WORKERS_MAX ? CONFIG_WORKERS_MAX : cpus;
}
