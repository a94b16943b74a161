/* See cgroup.h. Both versions may be mounted at once: version 1 with a directory per controller,
 * version 2 at the root or, beside version 1, in "unified". A container may see its own group only
 * under the root's name, so directories that are missing are skipped. */
#include "server/base/cgroup.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 4096

/* Version 1 writes "no limit" as the largest number of pages. */
#define NO_MEMORY_LIMIT ((uint64_t)1 << 62)

/* The first words of a small file as numbers; a word that is none ("max") is -1. Returns how many.
 */
static int read_numbers(const char *directory, const char *name, long long *value, int count) {
    char path[PATH_SIZE + 64], line[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
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

static void limit_cpus(struct cgroup_limits *limits, long long quota_us, long long period_us) {
    if (quota_us <= 0 || period_us <= 0)
        return;
    double cpus = (double)quota_us / (double)period_us;
    if (limits->cpus == 0 || cpus < limits->cpus)
        limits->cpus = cpus;
}

static void limit_memory(struct cgroup_limits *limits, long long bytes) {
    if (bytes <= 0 || (uint64_t)bytes >= NO_MEMORY_LIMIT)
        return;
    if (limits->memory_bytes == 0 || (uint64_t)bytes < limits->memory_bytes)
        limits->memory_bytes = (uint64_t)bytes;
}

static void read_version_1_cpu(const char *directory, struct cgroup_limits *limits) {
    long long quota_us, period_us;
    if (read_numbers(directory, "cpu.cfs_quota_us", &quota_us, 1) == 1 &&
        read_numbers(directory, "cpu.cfs_period_us", &period_us, 1) == 1)
        limit_cpus(limits, quota_us, period_us);
}

static void read_version_1_memory(const char *directory, struct cgroup_limits *limits) {
    long long bytes;
    if (read_numbers(directory, "memory.limit_in_bytes", &bytes, 1) == 1)
        limit_memory(limits, bytes);
}

static void read_version_2(const char *directory, struct cgroup_limits *limits) {
    long long value[2];
    if (read_numbers(directory, "cpu.max", value, 2) == 2)
        limit_cpus(limits, value[0], value[1]);
    if (read_numbers(directory, "memory.max", value, 1) == 1)
        limit_memory(limits, value[0]);
}

typedef void read_directory(const char *directory, struct cgroup_limits *limits);

/* From the group up to the root of its hierarchy: each level limits its children. */
static void read_hierarchy(const char *root, const char *group, read_directory *read,
                           struct cgroup_limits *limits) {
    char path[PATH_SIZE];
    size_t root_length = strlen(root);

    int length = snprintf(path, sizeof path, "%s%s", root, strcmp(group, "/") == 0 ? "" : group);
    if (length < 0 || (size_t)length >= sizeof path)
        return;
    for (;;) {
        read(path, limits);
        char *slash = strrchr(path, '/');
        if (strlen(path) <= root_length || slash == NULL || slash < path + root_length)
            return;
        *slash = '\0';
    }
}

/* "cpu" among "cpu,cpuacct". */
static bool names_controller(const char *controllers, const char *name) {
    char list[256];
    char *rest = list;

    snprintf(list, sizeof list, "%s", controllers);
    for (char *word; (word = strtok_r(rest, ",", &rest)) != NULL;) {
        if (strcmp(word, name) == 0)
            return true;
    }
    return false;
}

static void read_controller(const char *root, const char *controllers, const char *group,
                            const char *name, read_directory *read, struct cgroup_limits *limits) {
    char directory[PATH_SIZE];

    if (!names_controller(controllers, name))
        return;
    /* Mounted under the list of controllers, often with a link for each of them. */
    snprintf(directory, sizeof directory, "%s/%s", root, controllers);
    read_hierarchy(directory, group, read, limits);
    snprintf(directory, sizeof directory, "%s/%s", root, name);
    read_hierarchy(directory, group, read, limits);
}

void cgroup_read_limits(const char *self, const char *root, struct cgroup_limits *limits) {
    char line[PATH_SIZE], unified[PATH_SIZE];
    FILE *file = fopen(self, "re");

    *limits = (struct cgroup_limits){0};
    if (file == NULL)
        return;
    snprintf(unified, sizeof unified, "%s/unified", root);
    /* Lines are "0::/group" (version 2) or "4:cpu,cpuacct:/group" (version 1). */
    while (fgets(line, sizeof line, file) != NULL) {
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL)
            continue;
        *group++ = '\0';
        controllers++;
        group[strcspn(group, "\n")] = '\0';
        if (*controllers == '\0') {
            read_hierarchy(root, group, read_version_2, limits);
            read_hierarchy(unified, group, read_version_2, limits);
            continue;
        }
        read_controller(root, controllers, group, "cpu", read_version_1_cpu, limits);
        read_controller(root, controllers, group, "memory", read_version_1_memory, limits);
    }
    fclose(file);
}
