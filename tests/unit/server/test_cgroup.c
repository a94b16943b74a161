/* Limits of control groups, out of directories that look like /proc and /sys/fs/cgroup. */
#include "server/base/cgroup.h"
#include "server/base/cpus.h"
#include "tests/unit/server/config_fixture.h"

static struct cgroup_limits limits;
static char self[128], root[128];

static void start_groups(void) {
    start_config();
    snprintf(self, sizeof self, "%s/cgroup", directory);
    snprintf(root, sizeof root, "%s/fs", directory);
    cr_assert_eq(mkdir(root, 0755), 0);
}

/* Writes a file below the root, with the directories above it. */
static void put(const char *name, const char *content) {
    char full[512];
    snprintf(full, sizeof full, "%s/%s", root, name);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    write_path(full, content);
}

static void read_limits(void) {
    cgroup_read_limits(self, root, &limits);
}

TestSuite(cgroup, .init = start_groups, .fini = finish_config);

Test(cgroup, nothing_there_limits_nothing) {
    read_limits();
    cr_assert_eq(limits.cpus, 0, "no such file");
    cr_assert_eq(limits.memory_bytes, 0);
    write_path(self, "0::/a/b\n4:cpu,cpuacct:/a\n3:memory:/\n");
    read_limits();
    cr_assert_eq(limits.cpus, 0, "no limits");
    cr_assert_eq(limits.memory_bytes, 0);
}

Test(cgroup, version_2) {
    write_path(self, "0::/a/b\n");
    put("a/b/cpu.max", "max 100000\n");
    put("a/b/memory.max", "max\n");
    read_limits();
    cr_assert_eq(limits.cpus, 0, "max is none");
    cr_assert_eq(limits.memory_bytes, 0);
    put("a/b/cpu.max", "350000 100000\n");
    put("a/b/memory.max", "1073741824\n");
    read_limits();
    cr_assert_float_eq(limits.cpus, 3.5, 1e-9);
    cr_assert_eq(limits.memory_bytes, 1073741824);
    put("a/cpu.max", "50000 100000\n");
    put("a/memory.max", "536870912\n");
    read_limits();
    cr_assert_float_eq(limits.cpus, 0.5, 1e-9, "the parent limits its children");
    cr_assert_eq(limits.memory_bytes, 536870912);
}

Test(cgroup, the_group_of_a_container_is_the_root) {
    write_path(self, "0::/\n");
    put("cpu.max", "200000 100000\n");
    put("memory.max", "4096\n");
    read_limits();
    cr_assert_float_eq(limits.cpus, 2, 1e-9);
    cr_assert_eq(limits.memory_bytes, 4096);
    write_path(self, "0::/../not/visible/here\n");
    read_limits();
    cr_assert_float_eq(limits.cpus, 2, 1e-9, "directories that are missing are skipped");
}

Test(cgroup, version_1) {
    write_path(self, "11:memory:/x\n4:cpu,cpuacct:/x\n2:cpuset:/x\n");
    put("cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    read_limits();
    cr_assert_eq(limits.cpus, 0);
    put("cpu,cpuacct/cpu.cfs_quota_us", "250000\n");
    read_limits();
    cr_assert_eq(limits.cpus, 0, "no period");
    put("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put("memory/memory.limit_in_bytes", "9223372036854771712\n");
    read_limits();
    cr_assert_float_eq(limits.cpus, 2.5, 1e-9);
    cr_assert_eq(limits.memory_bytes, 0, "the largest number is none");
    put("memory/x/memory.limit_in_bytes", "268435456\n");
    read_limits();
    cr_assert_eq(limits.memory_bytes, 268435456);
}

Test(cgroup, controllers_under_their_own_names) {
    write_path(self, "4:cpu,cpuacct:/x\n");
    put("cpu/x/cpu.cfs_quota_us", "10000\n");
    put("cpu/x/cpu.cfs_period_us", "20000\n");
    read_limits();
    cr_assert_float_eq(limits.cpus, 0.5, 1e-9);
}

Test(cgroup, both_versions_at_once) {
    write_path(self, "4:cpu:/x\n1:name=systemd:/x\n0::/y\n");
    put("cpu/x/cpu.cfs_quota_us", "300000\n");
    put("cpu/x/cpu.cfs_period_us", "100000\n");
    put("unified/y/memory.max", "123456\n");
    read_limits();
    cr_assert_float_eq(limits.cpus, 3, 1e-9);
    cr_assert_eq(limits.memory_bytes, 123456);
}

Test(cgroup, odd_text) {
    static const char *const texts[] = {
        "", "\n", ":", "::", "0:", "0::", "nonsense\n", "0::/a\n0::\n:::\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_path(self, texts[i]);
        put("a/cpu.max", "1 0\n");
        put("a/memory.max", "-5\n");
        put("cpu.max", "x y z\n");
        put("memory.max", "\n");
        read_limits();
        cr_assert_eq(limits.cpus, 0, "%s", texts[i]);
        cr_assert_eq(limits.memory_bytes, 0, "%s", texts[i]);
    }
}

Test(cgroup, processors) {
    struct cpus cpus;
    cpus_find(&cpus);
    cr_assert_geq(cpus.by_affinity, 1);
    cr_assert_geq(cpus.usable, 1);
    cr_assert_leq(cpus.usable, cpus.by_affinity);
}
