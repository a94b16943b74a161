/* The default number of workers: affinity and cgroup quotas. */
#include "tests/unit/server/config_fixture.h"

TestSuite(config_workers, .init = start_config, .fini = finish_config);

Test(config_workers, cgroup_quota) {
    char groups[256], root[256], sub[512];
    snprintf(groups, sizeof groups, "%s/cgroup", directory);
    snprintf(root, sizeof root, "%s/fs", directory);
    cr_assert_eq(mkdir(root, 0755), 0);

    cr_assert_eq(config_quota_cpus(groups, root), 0, "no such file");
    write_path(groups, "0::/a/b\n");
    cr_assert_eq(config_quota_cpus(groups, root), 0, "no limits");
    snprintf(sub, sizeof sub, "%s/a", root);
    mkdir(sub, 0755);
    snprintf(sub, sizeof sub, "%s/a/b", root);
    mkdir(sub, 0755);
    snprintf(sub, sizeof sub, "%s/a/b/cpu.max", root);
    write_path(sub, "max 100000\n");
    cr_assert_eq(config_quota_cpus(groups, root), 0, "max is none");
    write_path(sub, "350000 100000\n");
    cr_assert_eq(config_quota_cpus(groups, root), 4, "rounded up");
    snprintf(sub, sizeof sub, "%s/a/cpu.max", root);
    write_path(sub, "50000 100000\n");
    cr_assert_eq(config_quota_cpus(groups, root), 1, "the parent limits its children");

    /* In a container the group's own directory is the root. */
    write_path(groups, "0::/\n");
    snprintf(sub, sizeof sub, "%s/cpu.max", root);
    write_path(sub, "200000 100000\n");
    cr_assert_eq(config_quota_cpus(groups, root), 2);
    unlink(sub);

    write_path(groups, "11:memory:/x\n4:cpu,cpuacct:/x\n");
    snprintf(sub, sizeof sub, "%s/cpu,cpuacct", root);
    mkdir(sub, 0755);
    snprintf(sub, sizeof sub, "%s/cpu,cpuacct/cpu.cfs_quota_us", root);
    write_path(sub, "-1\n");
    cr_assert_eq(config_quota_cpus(groups, root), 0);
    write_path(sub, "250000\n");
    cr_assert_eq(config_quota_cpus(groups, root), 0, "no period");
    snprintf(sub, sizeof sub, "%s/cpu,cpuacct/cpu.cfs_period_us", root);
    write_path(sub, "100000\n");
    cr_assert_eq(config_quota_cpus(groups, root), 3);
}
