/* Configuration: the texts, errors and values that a client of Redis 7.2 sees. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/config.h"
#include "server/config_private.h"

static char error[CONFIG_ERROR_SIZE];
static char directory[64];
static char path[128];

static void start(void) {
    strcpy(directory, "/tmp/slotwise-config-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/slotwise.conf", directory);
    config_init(NULL);
    error[0] = '\0';
}

static void finish(void) {
    char command[128];
    config_destroy();
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(config, .init = start, .fini = finish);

/* ---- helpers ---- */

static void keep_value(const char *name, const char *value, void *context) {
    (void)name;
    snprintf(context, 1024, "%s", value);
}

/* What CONFIG GET answers for one name; "(none)" without such a directive. */
static const char *get(const char *name) {
    static char value[1024];
    if (config_get_matching(&name, 1, keep_value, value) == 0)
        return "(none)";
    return value;
}

/* CONFIG SET of one pair: "OK" or the error. */
static const char *set(const char *name, const char *value) {
    return config_set_many(&name, &value, 1, 0, error, sizeof error) == 0 ? "OK" : error;
}

/* The reason behind "(possibly related to argument 'name') - ". */
static const char *reason(const char *name, const char *value) {
    static char prefix[256];
    const char *answer = set(name, value);
    snprintf(prefix, sizeof prefix, "ERR CONFIG SET failed (possibly related to argument '%s') - ",
             name);
    if (strncmp(answer, prefix, strlen(prefix)) != 0)
        return answer;
    return answer + strlen(prefix);
}

static int load_words(int count, ...) {
    char *arguments[16] = {"slotwise-server"};
    va_list words;
    va_start(words, count);
    for (int i = 0; i < count; i++)
        arguments[i + 1] = va_arg(words, char *);
    va_end(words);
    return config_load(count + 1, arguments, NULL, error, sizeof error);
}

static void write_path(const char *file, const char *text) {
    FILE *stream = fopen(file, "w");
    cr_assert_not_null(stream);
    fputs(text, stream);
    fclose(stream);
}

static int load_text_file(const char *text) {
    write_path(path, text);
    return load_words(1, path);
}

static const char *file_content(void) {
    static char content[8192];
    FILE *stream = fopen(path, "r");
    cr_assert_not_null(stream);
    content[fread(content, 1, sizeof content - 1, stream)] = '\0';
    fclose(stream);
    return content;
}

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

static void count_name(const char *name, const char *value, void *context) {
    (void)value;
    if (strcmp(name, context) == 0)
        error[0]++;
}

Test(config, get_patterns) {
    const char *patterns[] = {"max*", "MAXMEMORY", "*memory", "nothing*", "nosuch"};
    /* maxclients maxmemory maxmemory-clients maxmemory-eviction-tenacity maxmemory-policy
     * maxmemory-samples */
    cr_assert_eq(config_get_matching(patterns, 1, NULL, NULL), 6);
    /* replica-ignore-maxmemory and its alias besides. */
    cr_assert_eq(config_get_matching(patterns, 5, NULL, NULL), 8, "each once");
    cr_assert_eq(config_get_matching(patterns + 3, 2, NULL, NULL), 0);

    const char *upper = "MaxClients";
    cr_assert_eq(config_get_matching(&upper, 1, count_name, "MaxClients"), 1);
    cr_assert_eq(error[0], 1, "spelled as asked");

    const char *slaves = "slave-p*";
    cr_assert_eq(config_get_matching(&slaves, 1, count_name, "slave-priority"), 1);
    cr_assert_eq(error[0], 2, "aliases match");

    const char *all = "*";
    error[0] = 0;
    size_t everything = config_get_matching(&all, 1, count_name, "watchdog-period");
    cr_assert_eq(error[0], 0, "hidden from patterns");
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

Test(config, set_reasons) {
    static const char *const cases[][3] = {
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
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char before[1024];
        snprintf(before, sizeof before, "%s", get(cases[i][0]));
        const char *why = reason(cases[i][0], cases[i][1]);
        cr_assert_str_eq(why, cases[i][2], "%s %s: %s", cases[i][0], cases[i][1], why);
        cr_assert_str_eq(get(cases[i][0]), before, "%s changed", cases[i][0]);
    }
    cr_assert_str_eq(set("Nosuch\r\nthing", "1"),
                     "ERR Unknown option or number of arguments for CONFIG SET - 'Nosuch  thing'");
    cr_assert_str_eq(set("Slave-Priority", "x"),
                     "ERR CONFIG SET failed (possibly related to argument 'slave-priority') - "
                     "argument couldn't be parsed into an integer");
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

/* ---- files and arguments ---- */

Test(config, file_syntax) {
    cr_assert_eq(load_text_file("# comment\n"
                                "\r\n"
                                "   PORT 7001  \r\n"
                                "bind 10.0.0.1 \"::1\"\n"
                                "requirepass \"a b\\x41\\\"\"\n"
                                "unixsocket '/tmp/it''s'\n"),
                 -1, "text behind a closing quote");
    cr_assert_eq(load_text_file("# comment\n"
                                "\r\n"
                                "   PORT 7001  \r\n"
                                "bind 10.0.0.1 \"::1\"\n"
                                "requirepass \"a b\\x41\\\"\"\n"
                                "unixsocket '/tmp/it\\'s'\n"
                                "unixsocketperm 755\n"
                                "client-output-buffer-limit \"pubsub 1 2 3\"\n"
                                "lua-replicate-commands yes\n"
                                "loadmodule /m.so a b\n"
                                "m.option x y\n"
                                "user alice on >pw ~*\n"
                                "rename-command CONFIG \"\"\n"
                                "maxmemory 1gb"),
                 0, "%s", error);
    const struct config *config = config_current();
    cr_assert_eq(config->port, 7001);
    cr_assert_eq(config->bind.count, 2);
    cr_assert_str_eq(config->bind.address[1], "::1");
    cr_assert_str_eq(config->requirepass, "a bA\"");
    cr_assert_str_eq(config->unixsocket, "/tmp/it's");
    cr_assert_eq(config->unixsocketperm, 0755);
    cr_assert_str_eq(get("unixsocketperm"), "755");
    cr_assert_eq(config->client_output_buffer_limit.of[CONFIG_CLIENT_PUBSUB].soft_seconds, 3);
    cr_assert_eq(config->maxmemory, 1 << 30);
    cr_assert_eq(config->modules.count, 2);
    cr_assert_str_eq(config->modules.line[0].word[3], "b");
    cr_assert_eq(config->users.count, 1);
    cr_assert_eq(config->users.line[0].count, 5);
    cr_assert_eq(config->renamed_commands.count, 1);
    cr_assert_str_eq(config->renamed_commands.line[0].word[2], "");
    cr_assert_str_eq(config->file, path);
}

Test(config, save_lines_add_up) {
    cr_assert_eq(load_text_file("save 900 1\nsave 300 10 60 10000\n"), 0);
    cr_assert_str_eq(get("save"), "900 1 300 10 60 10000");
    cr_assert_eq(load_text_file("save 900 1\nsave \"\"\nsave 5 5\n"), 0);
    cr_assert_str_eq(get("save"), "5 5");
    cr_assert_eq(load_text_file("save \"\"\n"), 0);
    cr_assert_str_eq(get("save"), "");
}

Test(config, fatal_messages) {
    static const struct {
        const char *text;
        int line;
        const char *shown, *message;
    } cases[] = {
        {"port 1\n  foo bar \n", 2, "foo bar", "Bad directive or wrong number of arguments"},
        {"port\n", 1, "port", "wrong number of arguments"},
        {"\n\nport 1 2", 3, "port 1 2", "wrong number of arguments"},
        {"bind \"a", 1, "bind \"a", "Unbalanced quotes in configuration line"},
        {"loglevel loud", 1, "loglevel loud",
         "argument(s) must be one of the following: debug, verbose, notice, warning, nothing"},
        {"include", 1, "include", "Bad directive or wrong number of arguments"},
        {"a.b", 1, "a.b", "Module config specified without value"},
        {"sentinel monitor", 1, "sentinel monitor",
         "sentinel directive while not in sentinel mode"},
        {"replicaof a 70000", 1, "replicaof a 70000", "Invalid master port"},
        {"unixsocketperm 999", 1, "unixsocketperm 999",
         "argument couldn't be parsed as an octal number"},
        {"dir /nonexistent/dir", 1, "dir /nonexistent/dir", "No such file or directory"},
        {"io-threads 0", 1, "io-threads 0", "argument must be between 1 and 128 inclusive"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[512];
        snprintf(expected, sizeof expected,
                 "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\n"
                 "Reading the configuration file, at line %d\n>>> '%s'\n%s\n",
                 cases[i].line, cases[i].shown, cases[i].message);
        cr_assert_eq(load_text_file(cases[i].text), -1, "%s", cases[i].text);
        cr_assert_str_eq(error, expected, "%s", error);
    }
    cr_assert_eq(load_text_file("cluster-enabled yes\nreplicaof h 1\n"), -1);
    cr_assert_str_eq(error, "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\n"
                            "replicaof directive not allowed in cluster mode\n");
    cr_assert_eq(load_text_file("logfile /nonexistent/log\n"), -1);
    cr_assert_str_eq(error, "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\n"
                            "Can't open the log file: No such file or directory\n");
    cr_assert_eq(config_current()->port, 6379, "nothing of it was published");
    cr_assert_eq(load_text_file("cluster-enabled yes\n"), 0);
    cr_assert_eq(config_current()->databases, 1);
}

Test(config, includes) {
    char text[512], other[256];
    snprintf(other, sizeof other, "%s/a.inc", directory);
    write_path(other, "port 1000\ntimeout 5\n");
    snprintf(other, sizeof other, "%s/b.inc", directory);
    write_path(other, "timeout 6\n");
    snprintf(text, sizeof text, "port 1\ninclude %s/*.inc\nport 2\ninclude %s/none*\n", directory,
             directory);
    cr_assert_eq(load_text_file(text), 0);
    cr_assert_eq(config_current()->port, 2, "the last one counts");
    cr_assert_eq(config_current()->timeout, 6);

    write_path(other, "\nwrong here\n");
    cr_assert_eq(load_text_file(text), -1);
    cr_assert_not_null(strstr(error, "line 4\n>>> 'wrong here'\nBad directive"),
                       "lines of all files of a pattern count on: %s", error);
    snprintf(text, sizeof text, "include %s\n", path);
    cr_assert_eq(load_text_file(text), -1, "a file that includes itself");
    cr_assert_not_null(strstr(error, "Too many levels of include"));

    int saved = dup(STDOUT_FILENO), silent = open("/dev/null", O_WRONLY);
    dup2(silent, STDOUT_FILENO);
    int result = load_words(1, "/nonexistent/file.conf");
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(silent);
    cr_assert_eq(result, -1);
    cr_assert_str_eq(error, "", "the log has it");
}

Test(config, arguments) {
    cr_assert_eq(load_words(5, "--port", "7002", "--bind", "1.2.3.4", "5.6.7.8"), 0);
    cr_assert_eq(config_current()->port, 7002);
    cr_assert_str_eq(get("bind"), "1.2.3.4 5.6.7.8");
    cr_assert_eq(load_words(2, "--save", ""), 0);
    cr_assert_str_eq(get("save"), "");
    cr_assert_eq(load_words(2, "--save", "900 1 300 10"), 0);
    cr_assert_str_eq(get("save"), "900 1 300 10");
    cr_assert_eq(load_words(3, "--save", "--port", "7003"), 0);
    cr_assert_str_eq(get("save"), "");
    cr_assert_str_eq(get("port"), "7003");
    cr_assert_eq(load_words(3, "--port", "7004", "--save"), 0);
    cr_assert_str_eq(get("save"), "");
    cr_assert_eq(load_words(1, "--port 7005"), 0);
    cr_assert_str_eq(get("port"), "7005");
    cr_assert_eq(load_words(2, "--requirepass", "--odd \"password"), 0, "a value may look odd");
    cr_assert_str_eq(get("requirepass"), "--odd \"password");
    cr_assert_eq(load_words(1, "--port"), -1);
    cr_assert_str_eq(error, "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\n"
                            "Reading the configuration file, at line 2\n>>> 'port'\n"
                            "wrong number of arguments\n");
    cr_assert_eq(load_words(2, "--foo", "bar"), -1);
    cr_assert_not_null(strstr(error, "line 2\n>>> 'foo \"bar\"'\nBad directive"), "%s", error);
}

Test(config, arguments_follow_the_file) {
    char *arguments[] = {"slotwise-server", path, "--port", "7006", "--save", "1", "2", NULL};
    write_path(path, "port 7007\ntimeout 9\nsave 900 1\n");
    cr_assert_eq(config_load(7, arguments, NULL, error, sizeof error), 0);
    cr_assert_eq(config_current()->port, 7006);
    cr_assert_eq(config_current()->timeout, 9);
    cr_assert_str_eq(get("save"), "900 1 1 2");
    /* The path becomes absolute. */
    char before[512];
    cr_assert_not_null(getcwd(before, sizeof before));
    cr_assert_eq(chdir(directory), 0);
    cr_assert_eq(load_words(1, "slotwise.conf"), 0);
    cr_assert_str_eq(config_current()->file, path);
    cr_assert_eq(chdir(before), 0);
}

Test(config, standard_input) {
    int saved = dup(STDIN_FILENO);
    int saved_output = dup(STDOUT_FILENO);
    write_path(path, "port 7008\ntimeout 3\n");
    cr_assert_not_null(freopen(path, "r", stdin));
    cr_assert_not_null(freopen("/dev/null", "w", stdout));
    int result = load_words(3, "-", "--port", "7009");
    dup2(saved_output, STDOUT_FILENO);
    dup2(saved, STDIN_FILENO);
    close(saved);
    close(saved_output);
    cr_assert_eq(result, 0);
    cr_assert_eq(config_current()->port, 7009);
    cr_assert_eq(config_current()->timeout, 3);
}

static const char *refuse_rename(const char *name, const char *new_name, void *context) {
    (void)new_name;
    (void)context;
    return strcmp(name, "get") == 0 ? NULL : "No such command in rename-command";
}

static int refuse_user(const struct config_line *line, void *context, char *why, size_t size) {
    (void)context;
    if (line->count > 2)
        return 0;
    snprintf(why, size, "Error in user declaration '%s': %s", line->word[1], "Syntax error");
    return -1;
}

Test(config, hooks) {
    struct config_hooks hooks = {.rename_command = refuse_rename, .user = refuse_user};
    char *arguments[] = {"slotwise-server", path, NULL};
    write_path(path, "rename-command get got\nuser bob on\n");
    cr_assert_eq(config_load(2, arguments, &hooks, error, sizeof error), 0);
    write_path(path, "rename-command nosuch got\n");
    cr_assert_eq(config_load(2, arguments, &hooks, error, sizeof error), -1);
    cr_assert_not_null(strstr(error, "got'\nNo such command in rename-command\n"));
    write_path(path, "user bob\n");
    cr_assert_eq(config_load(2, arguments, &hooks, error, sizeof error), -1);
    cr_assert_not_null(strstr(error, "Error in user declaration 'bob': Syntax error\n"));
}

Test(config, check_text_touches_nothing) {
    static const char good[] = "dir /nonexistent\ninclude /nonexistent\nlogfile /nonexistent/x\n";
    char before[512], now[512];
    cr_assert_not_null(getcwd(before, sizeof before));
    cr_assert_eq(config_check_text(good, strlen(good), error, sizeof error), 0, "%s", error);
    cr_assert_str_eq(getcwd(now, sizeof now), before);
    cr_assert_eq(config_check_text("port x", 6, error, sizeof error), -1);
    cr_assert_eq(config_check_text("port 1\0zz", 9, error, sizeof error), 0);
    cr_assert_eq(config_current()->port, 6379);
}

/* ---- CONFIG REWRITE ---- */

Test(config, rewrite_keeps_the_file) {
    cr_assert_eq(load_text_file("# top\n"
                                "port 7010\n"
                                "\n\n\n"
                                "slave-priority 50\n"
                                "maxmemory-policy allkeys-lru\n"
                                "maxmemory-policy allkeys-lfu\n"
                                "# between\n"
                                "timeout 0\n"
                                "save 1 1\n"
                                "save 2 2\n"
                                "save 3 3\n"
                                "list-max-ziplist-value 5\n"
                                "user bob on\n"
                                "include /nonexistent*\n"),
                 0, "%s", error);
    cr_assert_str_eq(set("save", "9 9 8 8"), "OK");
    cr_assert_str_eq(set("maxmemory", "3gb"), "OK");
    cr_assert_str_eq(set("requirepass", "a \"b"), "OK");
    cr_assert_eq(config_rewrite(error, sizeof error), 0, "%s", error);

    char cwd[512], expected[2048];
    cr_assert_not_null(getcwd(cwd, sizeof cwd));
    snprintf(expected, sizeof expected,
             "# top\n"
             "port 7010\n"
             "\n"
             "replica-priority 50\n"
             "maxmemory-policy allkeys-lfu\n"
             "\n"
             "# between\n"
             "timeout 0\n"
             "save 9 9\n"
             "save 8 8\n"
             "\n"
             "# ??? list-max-ziplist-value 5\n"
             "user bob on\n"
             "include /nonexistent*\n"
             "\n"
             "# Generated by CONFIG REWRITE\n"
             "requirepass \"a \\\"b\"\n"
             "maxmemory 3gb\n"
             "dir \"%s\"\n"
             "latency-tracking-info-percentiles 50 99 99.9\n",
             cwd);
    cr_assert_str_eq(file_content(), expected, "%s", file_content());

    /* Loading it gives the same values, and rewriting it again changes nothing. */
    cr_assert_eq(load_words(1, path), 0, "%s", error);
    cr_assert_str_eq(get("save"), "9 9 8 8");
    cr_assert_str_eq(get("requirepass"), "a \"b");
    cr_assert_eq(config_rewrite(error, sizeof error), 0);
    cr_assert_eq(strncmp(file_content(), expected, strlen(expected)), 0);
    cr_assert_eq(config_rewrite(error, sizeof error), 0);
    cr_assert_leq(strlen(file_content()), strlen(expected) + 1);

    struct stat information;
    cr_assert_eq(stat(path, &information), 0);
    cr_assert_eq(information.st_mode & 0777, 0644 & config_file_mode());
}

Test(config, rewrite_of_every_kind_reads_back) {
    static const char *const changes[][2] = {
        {"bind", "127.0.0.1 -::1"},
        {"maxmemory-clients", "7%"},
        {"client-output-buffer-limit", "normal 1024 1025 3 pubsub 0 0 0"},
        {"oom-score-adj-values", "1 2 3"},
        {"notify-keyspace-events", "Ex"},
        {"latency-tracking-info-percentiles", ""},
        {"save", ""},
        {"shutdown-on-sigterm", "now force"},
        {"slowlog-log-slower-than", "-1"},
        {"repl-backlog-size", "1048577"},
        {"replica-announce-ip", "1.2.3.4"},
        {"masterauth", "\x01\xff\t\""},
        {"dynamic-hz", "no"},
        {"loglevel", "verbose"},
        {"cluster-announce-hostname", "h"},
    };
    size_t count = sizeof changes / sizeof changes[0];
    write_path(path, "unixsocketperm 700\nreplicaof h 1\nsyslog-facility local3\n");
    cr_assert_eq(load_words(1, path), 0, "%s", error);
    for (size_t i = 0; i < count; i++)
        cr_assert_str_eq(set(changes[i][0], changes[i][1]), "OK", "%s", error);
    char shown[16][256];
    for (size_t i = 0; i < count; i++)
        snprintf(shown[i], sizeof shown[i], "%s", get(changes[i][0]));
    cr_assert_eq(config_rewrite(error, sizeof error), 0);
    config_destroy();
    config_init(NULL);
    cr_assert_eq(load_words(1, path), 0, "%s", error);
    for (size_t i = 0; i < count; i++)
        cr_assert_str_eq(get(changes[i][0]), shown[i], "%s: '%s'", changes[i][0],
                         get(changes[i][0]));
    cr_assert_str_eq(get("unixsocketperm"), "700");
    cr_assert_str_eq(get("replicaof"), "h 1");
    cr_assert_str_eq(get("syslog-facility"), "local3");
}

Test(config, rewrite_errors) {
    cr_assert_eq(config_rewrite(error, sizeof error), -1);
    cr_assert_str_eq(error, "ERR The server is running without a config file");
    char nowhere[256];
    snprintf(nowhere, sizeof nowhere, "%s/sub", directory);
    cr_assert_eq(mkdir(nowhere, 0755), 0);
    strcat(nowhere, "/c.conf");
    write_path(nowhere, "port 1\n");
    cr_assert_eq(load_words(1, nowhere), 0);
    cr_assert_eq(unlink(nowhere), 0);
    cr_assert_eq(config_rewrite(error, sizeof error), 0, "a file that is gone is written anew");
    cr_assert_eq(unlink(nowhere), 0);
    *strrchr(nowhere, '/') = '\0';
    cr_assert_eq(rmdir(nowhere), 0);
    int saved = dup(STDOUT_FILENO), silent = open("/dev/null", O_WRONLY);
    dup2(silent, STDOUT_FILENO);
    int result = config_rewrite(error, sizeof error);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(silent);
    cr_assert_eq(result, -1);
    cr_assert_str_eq(error, "ERR Rewriting config file: No such file or directory");
}

/* ---- processors ---- */

Test(config, cgroup_quota) {
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
