/* CONFIG GET and CONFIG SET: the values and errors that a client of Redis 7.2 sees. */
#include "tests/unit/server/config_fixture.h"

TestSuite(config, .init = start_config, .fini = finish_config);

/* ---- CONFIG GET ---- */

Test(config, defaults) {
    static const char *const cases[][2] = {
        {"port", "6379"},
        {"bind", "* -::*"},
        {"save", "3600 1 300 100 60 10000"},
        {"maxmemory", "0"},
        {"maxmemory-policy", "noeviction"},
        {"client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 "
                                       "8388608 60"},
        {"oom-score-adj-values", "0 200 800"},
        {"latency-tracking-info-percentiles", "50 99 99.9"},
        {"notify-keyspace-events", ""},
        {"requirepass", ""},
        {"replicaof", ""},
        {"unixsocketperm", "0"},
        {"shutdown-on-sigterm", "default"},
        {"proto-max-bulk-len", "536870912"},
        {"maxclients", "10000"},
        {"databases", "16"},
        {"lua-time-limit", "5000"},
        {"busy-reply-threshold", "5000"},
        {"repl-backlog-size", "1048576"},
        {"io-backend", "auto"},
        {"propagation-error-behavior", "ignore"},
        {"proc-title-template", "{title} {listen-addr} {server-mode}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_str_eq(get(cases[i][0]), cases[i][1], "%s is '%s'", cases[i][0],
                         get(cases[i][0]));
}

Test(config, workers_follow_the_machine) {
    int workers = config_default_workers();
    cr_assert_geq(workers, 1);
    cr_assert_leq(workers, CONFIG_WORKERS_MAX);
    cr_assert_eq(config_current()->io_threads, workers);
    cr_assert_eq(atoi(get("io-threads")), workers);
}

static const char *wanted;

static void count_name(const char *name, const char *value, size_t length, void *context) {
    (void)value;
    (void)length;
    if (strcmp(name, wanted) == 0)
        ++*(int *)context;
}

Test(config, get_patterns) {
    const char *patterns[] = {"max*", "MAXMEMORY", "*memory", "nothing*", "nosuch"};
    /* maxclients maxmemory maxmemory-clients maxmemory-eviction-tenacity maxmemory-policy
     * maxmemory-samples */
    cr_assert_eq(config_get_matching(patterns, 1, NULL, NULL), 6);
    /* replica-ignore-maxmemory and its alias besides. */
    cr_assert_eq(config_get_matching(patterns, 5, NULL, NULL), 8, "each once");
    cr_assert_eq(config_get_matching(patterns + 3, 2, NULL, NULL), 0);

    int named = 0;
    const char *upper = wanted = "MaxClients";
    cr_assert_eq(config_get_matching(&upper, 1, count_name, &named), 1);
    cr_assert_eq(named, 1, "spelled as asked");

    const char *slaves = "slave-p*";
    wanted = "slave-priority";
    cr_assert_eq(config_get_matching(&slaves, 1, count_name, &named), 1);
    cr_assert_eq(named, 2, "aliases match");

    const char *all = "*";
    wanted = "watchdog-period";
    size_t everything = config_get_matching(&all, 1, count_name, &named);
    cr_assert_eq(named, 2, "hidden from patterns");
    cr_assert_str_eq(get("watchdog-period"), "0", "but not from its name");
    cr_assert_gt(everything, 190);
}

/* ---- CONFIG SET ---- */

Test(config, set_shows_and_takes_effect) {
    static const char *const cases[][3] = {
        {"maxmemory", "100mb", "104857600"},
        {"MAXMEMORY", "1k", "1000"},
        {"maxmemory-clients", "5%", "5%"},
        {"maxmemory-clients", "1gb", "1073741824"},
        {"maxmemory-policy", "AllKeys-LFU", "allkeys-lfu"},
        {"slave-priority", "7", "7"},
        {"activerehashing", "NO", "no"},
        {"save", "", ""},
        {"save", "900 1 300 10", "900 1 300 10"},
        {"notify-keyspace-events", "KEA", "AKE"},
        {"notify-keyspace-events", "KAnm", "AKm"},
        {"notify-keyspace-events", "gxn", "gxn"},
        {"shutdown-on-sigint", "force now", "now force"},
        {"oom-score-adj", "relative", "yes"},
        {"oom-score-adj-values", "-5 0 2000", "-5 0 2000"},
        {"client-output-buffer-limit", "replica 1kb 2 3 normal 4 5 6",
         "normal 4 5 6 slave 1024 2 3 pubsub 33554432 8388608 60"},
        {"latency-tracking-info-percentiles", "0 99.999 50.5", "0 99.999 50.5"},
        {"latency-tracking-info-percentiles", "", ""},
        {"bind", "127.0.0.1 ::1", "127.0.0.1 ::1"},
        {"bind", "", ""},
        {"hz", "0", "1"},
        {"hz", "1000", "500"},
        {"requirepass", "secret", "secret"},
        {"list-max-ziplist-size", "-5", "-5"},
        {"slowlog-log-slower-than", "-1", "-1"},
        {"cluster-announce-hostname", "a-b.c", "a-b.c"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_str_eq(set(cases[i][0], cases[i][1]), "OK", "%s: %s", cases[i][0], error);
        cr_assert_str_eq(get(cases[i][0]), cases[i][2], "%s is '%s'", cases[i][0],
                         get(cases[i][0]));
    }
    cr_assert_eq(config_current()->maxmemory, 1000);
    cr_assert_eq(config_current()->replica_priority, 7);
    cr_assert_eq(config_current()->maxmemory_policy, CONFIG_POLICY_ALLKEYS_LFU);
    cr_assert_str_eq(config_current()->requirepass, "secret");
    cr_assert_str_eq(set("requirepass", ""), "OK");
    cr_assert_null(config_current()->requirepass);
}

/* directive, value, why it is refused */
static const char *const refusals[][3] = {
    {"port", "abc", "argument couldn't be parsed into an integer"},
    {"port", "65536", "argument must be between 0 and 65535 inclusive"},
    {"port", "-1", "argument must be between 0 and 65535 inclusive"},
    {"maxclients", "0", "argument must be between 1 and 4294967295 inclusive"},
    {"maxclients", "-1", "argument must be between 1 and 4294967295 inclusive"},
    {"list-max-listpack-size", "99999999999",
     "argument must be between -2147483648 and 2147483647 inclusive"},
    {"maxmemory", "-1", "argument must be a memory value"},
    {"maxmemory", "1 kb", "argument must be a memory value"},
    {"maxmemory-clients", "101%", "percentage argument must be less or equal to 100"},
    {"maxmemory-clients", "-1%", "argument must be a memory or percent value"},
    {"maxmemory-policy", "lru",
     "argument(s) must be one of the following: volatile-lru, volatile-lfu, volatile-random, "
     "volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction"},
    {"shutdown-on-sigint", "",
     "argument(s) must be one of the following: default, save, nosave, now, force"},
    {"shutdown-on-sigint", "save nosave",
     "shutdown options SAVE and NOSAVE can't be used simultaneously"},
    {"activerehashing", "maybe", "argument must be 'yes' or 'no'"},
    {"activedefrag", "yes",
     "Active defragmentation cannot be enabled: it requires a Redis server compiled with a "
     "modified Jemalloc like the one shipped by default with the Redis source distribution"},
    {"save", "1", "Invalid save parameters"},
    {"save", "1  2", "Invalid save parameters"},
    {"save", "0 1", "Invalid save parameters"},
    {"notify-keyspace-events", "K?", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."},
    {"oom-score-adj-values", "1 2", "wrong number of arguments"},
    {"oom-score-adj-values", "1 2 2001",
     "Invalid oom-score-adj-values, elements must be between -2000 and 2000."},
    {"client-output-buffer-limit", "normal 1 2",
     "Wrong number of arguments in buffer limit configuration."},
    {"client-output-buffer-limit", "master 1 2 3",
     "Invalid client class specified in buffer limit configuration."},
    {"client-output-buffer-limit", "normal 1 x 3",
     "Error in hard, soft or soft_seconds setting in buffer limit configuration."},
    {"latency-tracking-info-percentiles", "50 x",
     "Invalid latency-tracking-info-percentiles parameters"},
    {"latency-tracking-info-percentiles", "101",
     "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"},
    {"bind", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "Too many bind addresses specified."},
    {"daemonize", "yes", "can't set immutable config"},
    {"dbfilename", "x.rdb", "can't set protected config"},
    {"dir", "/", "can't set protected config"},
    {"proc-title-template", "{nonsense}",
     "template format is invalid or contains unknown variables"},
    {"cluster-announce-hostname", "a b",
     "Hostnames may only contain alphanumeric characters, hyphens or dots"},
    {"cluster-announce-human-nodename", "a;b",
     "Announced human node name contained invalid character"},
    {"locale-collate", "xx_NOWHERE", "Invalid locale name"},
    {"tls-port", "1", "Unable to update TLS configuration. Check server logs."},
};

Test(config, set_reasons) {
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        char before[1024];
        snprintf(before, sizeof before, "%s", get(refusals[i][0]));
        const char *why = reason(refusals[i][0], refusals[i][1]);
        cr_assert_str_eq(why, refusals[i][2], "%s %s: %s", refusals[i][0], refusals[i][1], why);
        cr_assert_str_eq(get(refusals[i][0]), before, "%s changed", refusals[i][0]);
    }
    cr_assert_str_eq(set("Nosuch\r\nthing", "1"),
                     "ERR Unknown option or number of arguments for CONFIG SET - 'Nosuch  thing'");
    cr_assert_str_eq(set("Slave-Priority", "x"),
                     "ERR CONFIG SET failed (possibly related to argument 'slave-priority') - "
                     "argument couldn't be parsed into an integer");
}

Test(config, a_small_backlog_is_raised_by_a_client_only) {
    cr_assert_str_eq(set("repl-backlog-size", "200"), "OK");
    cr_assert_str_eq(get("repl-backlog-size"), "16384");
    cr_assert_str_eq(set("repl-backlog-size", "16385"), "OK");
    cr_assert_str_eq(get("repl-backlog-size"), "16385");
    cr_assert_str_eq(set("repl-backlog-size", "0"),
                     "ERR CONFIG SET failed (possibly related to argument 'repl-backlog-size') - "
                     "argument must be between 1 and 9223372036854775807 inclusive");

    const char *arguments[] = {"slotwise-server", "--repl-backlog-size", "100"};
    cr_assert_eq(load_arguments(3, arguments, NULL), 0, "%s", error);
    cr_assert_str_eq(get("repl-backlog-size"), "100");
    cr_assert_str_eq(set("maxmemory", "0"), "OK");
    cr_assert_str_eq(get("repl-backlog-size"), "100", "a change of something else leaves it");
}

Test(config, set_many_is_all_or_nothing) {
    const char *names[] = {"maxmemory", "timeout", "port"};
    const char *good[] = {"1mb", "10", "7000"};
    const char *bad[] = {"2mb", "20", "x"};
    cr_assert_eq(config_set_many(names, good, 3, 0, error, sizeof error), 0);
    cr_assert_eq(config_set_many(names, bad, 3, 0, error, sizeof error), -1);
    cr_assert_str_eq(get("maxmemory"), "1048576");
    cr_assert_str_eq(get("timeout"), "10");
    cr_assert_eq(config_current()->port, 7000);

    const char *twice[] = {"timeout", "maxmemory", "TIMEOUT"};
    cr_assert_eq(config_set_many(twice, good, 3, 0, error, sizeof error), -1);
    cr_assert_str_eq(error, "ERR CONFIG SET failed (possibly related to argument 'TIMEOUT') - "
                            "duplicate parameter");
    /* As in Redis an alias is no duplicate. */
    const char *aliased[] = {"slave-priority", "replica-priority"};
    const char *priorities[] = {"1", "2"};
    cr_assert_eq(config_set_many(aliased, priorities, 2, 0, error, sizeof error), 0);
    cr_assert_str_eq(get("replica-priority"), "2");

    const char *faults[] = {"daemonize", "nosuch"};
    cr_assert_eq(config_set_many(faults, good, 2, 0, error, sizeof error), -1);
    cr_assert_not_null(strstr(error, "'daemonize') - can't set immutable config"),
                       "the first fault is reported");
}

Test(config, loading_and_protected) {
    const char *names[] = {"appendonly"};
    const char *values[] = {"yes"};
    cr_assert_eq(config_set_many(names, values, 1, CONFIG_SET_LOADING, error, sizeof error), -1);
    cr_assert_str_eq(error, "LOADING Redis is loading the dataset in memory");
    cr_assert_eq(config_set_many(names, values, 1, 0, error, sizeof error), 0);

    cr_assert_eq(load_words(2, "--enable-protected-configs", "local"), 0);
    const char *file[] = {"dbfilename"};
    const char *name[] = {"other.rdb"};
    cr_assert_eq(config_set_many(file, name, 1, 0, error, sizeof error), -1);
    cr_assert_eq(config_set_many(file, name, 1, CONFIG_SET_LOCAL, error, sizeof error), 0);
    cr_assert_str_eq(get("dbfilename"), "other.rdb");
}

Test(config, dir_is_restored) {
    char before[512], now[512];
    cr_assert_eq(load_words(2, "--enable-protected-configs", "yes"), 0);
    cr_assert_not_null(getcwd(before, sizeof before));
    const char *names[] = {"dir", "port"};
    const char *bad[] = {directory, "x"};
    cr_assert_eq(config_set_many(names, bad, 2, 0, error, sizeof error), -1);
    cr_assert_str_eq(getcwd(now, sizeof now), before);
    cr_assert_str_eq(reason("dir", "/nonexistent"), "No such file or directory");
    cr_assert_str_eq(set("dir", directory), "OK");
    cr_assert_str_eq(getcwd(now, sizeof now), directory);
    cr_assert_str_eq(get("dir"), directory);
    cr_assert_eq(chdir(before), 0);
}

static struct {
    int calls;
    int64_t before, after, published;
    int refuse_from; /* this call and later ones fail */
} seen;

static int watch_timeout(const struct config *before, const struct config *after, void *context,
                         const char **why) {
    (void)context;
    seen.calls++;
    if (seen.refuse_from > 0 && seen.calls >= seen.refuse_from) {
        *why = "cannot";
        return -1;
    }
    seen.before = before->timeout;
    seen.after = after->timeout;
    return 0;
}

static int watch_port(const struct config *before, const struct config *after, void *context,
                      const char **why) {
    (void)before;
    (void)context;
    if (after->port != 1)
        return 0;
    *why = NULL;
    return -1;
}

static void watch_publish(const struct config *now, void *context) {
    (void)context;
    seen.published = now->timeout;
    cr_assert_eq(now, config_current());
}

Test(config, subscribers) {
    memset(&seen, 0, sizeof seen);
    config_on_change("timeout", watch_timeout, NULL);
    config_on_change("tcp-keepalive", watch_timeout, NULL);
    config_on_change("port", watch_port, NULL);
    config_on_publish(watch_publish, NULL);

    cr_assert_str_eq(set("timeout", "5"), "OK");
    cr_assert_eq(seen.calls, 1);
    cr_assert_eq(seen.before, 0);
    cr_assert_eq(seen.after, 5);
    cr_assert_eq(seen.published, 5);
    cr_assert_str_eq(set("timeout", "5"), "OK");
    cr_assert_eq(seen.calls, 1, "no change, no call");

    const char *names[] = {"timeout", "tcp-keepalive", "port"};
    const char *values[] = {"6", "7", "8"};
    cr_assert_eq(config_set_many(names, values, 3, 0, error, sizeof error), 0);
    cr_assert_eq(seen.calls, 2, "once for two directives");

    /* Port 1 is refused without a reason: timeout is undone. */
    const char *worse[] = {"9", "9", "1"};
    cr_assert_eq(config_set_many(names, worse, 3, 0, error, sizeof error), -1);
    cr_assert_str_eq(error, "ERR CONFIG SET failed (possibly related to argument 'port')");
    cr_assert_eq(seen.calls, 4);
    cr_assert_eq(seen.before, 9);
    cr_assert_eq(seen.after, 6);
    cr_assert_eq(config_current()->timeout, 6);
    cr_assert_eq(seen.published, 6);

    seen.refuse_from = 1;
    cr_assert_str_eq(reason("timeout", "100"), "cannot");
    cr_assert_str_eq(get("timeout"), "6");
}

static const struct config *retired;
static size_t retired_bytes;

static void keep_retired(void *snapshot, size_t bytes, void (*destructor)(void *)) {
    if (retired != NULL)
        destructor((void *)retired);
    retired = snapshot;
    retired_bytes = bytes;
}

Test(config, replaced_snapshots_stay_readable_until_freed) {
    config_destroy();
    config_init(keep_retired);
    const struct config *before = config_current();
    cr_assert_str_eq(set("requirepass", "one"), "OK");
    cr_assert_eq(retired, before);
    cr_assert_geq(retired_bytes, sizeof *before);
    cr_assert_null(before->requirepass);
    cr_assert_str_eq(set("requirepass", "two"), "OK");
    cr_assert_str_eq(retired->requirepass, "one");
    cr_assert_str_neq(set("port", "x"), "OK");
    cr_assert_str_eq(retired->requirepass, "one", "a refused change retires nothing");
    config_free((void *)retired);
    retired = NULL;
}

static int resets;
static void count_reset(void *context) {
    resets += *(int *)context;
}

Test(config, reset_statistics) {
    int one = 1, ten = 10;
    config_on_reset_statistics(count_reset, &one);
    config_on_reset_statistics(count_reset, &ten);
    config_reset_statistics();
    cr_assert_eq(resets, 11);
}

Test(config, facts) {
    cr_assert(config_is_sensitive("requirepass"));
    cr_assert(config_is_sensitive("MasterAuth"));
    cr_assert_not(config_is_sensitive("port"));
    cr_assert_not(config_is_sensitive("nosuch"));
    cr_assert_str_eq(config_enum_name("maxmemory-policy", CONFIG_POLICY_VOLATILE_TTL),
                     "volatile-ttl");
    cr_assert_str_eq(config_enum_name("maxmemory-policy", 99), "unknown");
}
