/*
 * The command line of bench_client.
 */
#include "bench/client/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/net.h"

static const char usage[] =
    "bench_client: a load client for servers that speak RESP. Prints one JSON object.\n"
    "\n"
    "  -h, --host ADDR          IPv4 address (127.0.0.1)\n"
    "  -p, --port N             port (6379)\n"
    "  -s, --socket PATH        Unix socket instead of TCP\n"
    "  -t, --threads N          client threads (1)\n"
    "  -c, --connections N      connections over all threads (50)\n"
    "  -P, --pipeline N         requests sent together on a connection (1)\n"
    "  -n, --requests N         stop after N requests\n"
    "  -d, --seconds S          stop after S seconds (5 unless --requests is given)\n"
    "  -w, --warmup S           seconds of load before measuring starts (0)\n"
    "  -R, --rate N             open loop: N requests a second, each at its own time whatever the "
    "server does;\n"
    "                           latencies count from the time at which a request was meant to be "
    "sent\n"
    "  -k, --keyspace N         number of keys (1000000)\n"
    "  -K, --keys PATTERN       uniform | zipf[:EXPONENT] (0.99) | sequential\n"
    "      --key-bytes N        length of a key (16)\n"
    "      --key-prefix TEXT    (key:)\n"
    "      --hash-tag TEXT      prefix {TEXT}: all keys in one slot\n"
    "  -v, --value-bytes N[-M]  length of a value, fixed or uniform in a range (64)\n"
    "      --incompressible     values of random bytes that hardly ever repeat, not of letters\n"
    "  -r, --ratio S:G          S SETs to G GETs\n"
    "  -o, --op NAME[:WEIGHT[:COMMAND]]\n"
    "                           adds to the mix: get, set, incr, mgetN, msetN, or any name with a "
    "COMMAND\n"
    "                           in which __key__, __value__ and __number__ are replaced. May be "
    "repeated.\n"
    "      --load N             insert keys 0..N-1 with SET (or the --op given), pipeline 64 "
    "unless told otherwise\n"
    "      --setup COMMAND      sent once on every connection first. May be repeated.\n"
    "      --verify             check the values that GET and MGET return\n"
    "      --seed N             another sequence of keys\n"
    "      --server-pid PID     measure this process's CPU time over the measured part\n"
    "      --timeline MS        requests and worst latency per MS milliseconds\n"
    "      --max-in-flight N    open loop: bound of unanswered requests on one connection "
    "(100000)\n"
    "      --idle N             open N connections (PING on each), say so in a line of JSON and "
    "hold them\n"
    "      --hold S             for --idle: until S seconds have passed or standard input ends "
    "(60)\n";

enum long_only {
    OPT_KEY_BYTES = 1000,
    OPT_KEY_PREFIX,
    OPT_HASH_TAG,
    OPT_INCOMPRESSIBLE,
    OPT_LOAD,
    OPT_SETUP,
    OPT_VERIFY,
    OPT_SEED,
    OPT_SERVER_PID,
    OPT_TIMELINE,
    OPT_MAX_IN_FLIGHT,
    OPT_IDLE,
    OPT_HOLD,
    OPT_HELP,
};

static const struct option long_options[] = {
    {"host", required_argument, NULL, 'h'},
    {"port", required_argument, NULL, 'p'},
    {"socket", required_argument, NULL, 's'},
    {"threads", required_argument, NULL, 't'},
    {"connections", required_argument, NULL, 'c'},
    {"pipeline", required_argument, NULL, 'P'},
    {"requests", required_argument, NULL, 'n'},
    {"seconds", required_argument, NULL, 'd'},
    {"warmup", required_argument, NULL, 'w'},
    {"rate", required_argument, NULL, 'R'},
    {"keyspace", required_argument, NULL, 'k'},
    {"keys", required_argument, NULL, 'K'},
    {"key-bytes", required_argument, NULL, OPT_KEY_BYTES},
    {"key-prefix", required_argument, NULL, OPT_KEY_PREFIX},
    {"hash-tag", required_argument, NULL, OPT_HASH_TAG},
    {"value-bytes", required_argument, NULL, 'v'},
    {"ratio", required_argument, NULL, 'r'},
    {"op", required_argument, NULL, 'o'},
    {"incompressible", no_argument, NULL, OPT_INCOMPRESSIBLE},
    {"load", required_argument, NULL, OPT_LOAD},
    {"setup", required_argument, NULL, OPT_SETUP},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {"seed", required_argument, NULL, OPT_SEED},
    {"server-pid", required_argument, NULL, OPT_SERVER_PID},
    {"timeline", required_argument, NULL, OPT_TIMELINE},
    {"max-in-flight", required_argument, NULL, OPT_MAX_IN_FLIGHT},
    {"idle", required_argument, NULL, OPT_IDLE},
    {"hold", required_argument, NULL, OPT_HOLD},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static uint64_t parse_count(const char *text, const char *what, uint64_t least, uint64_t most) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < least ||
        value > most) {
        die("%s must be a number from %llu to %llu, not '%s'", what, (unsigned long long)least,
            (unsigned long long)most, text);
    }
    return value;
}

static double parse_real(const char *text, const char *what) {
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < 0 || value > 1e12) {
        die("%s must be a number, not '%s'", what, text);
    }
    return value;
}

static void parse_keys(struct options *options, const char *text) {
    if (strcmp(text, "uniform") == 0) {
        options->keys = KEYS_UNIFORM;
    } else if (strcmp(text, "sequential") == 0) {
        options->keys = KEYS_SEQUENTIAL;
    } else if (strncmp(text, "zipf", 4) == 0 && (text[4] == '\0' || text[4] == ':')) {
        options->keys = KEYS_ZIPF;
        if (text[4] == ':') {
            options->zipf_exponent = parse_real(text + 5, "the exponent of --keys zipf");
        }
    } else {
        die("--keys must be uniform, zipf, zipf:EXPONENT or sequential, not '%s'", text);
    }
}

static void parse_value_bytes(struct options *options, char *text) {
    char *dash = strchr(text, '-');
    const uint64_t most = 512ULL << 20;
    if (dash != NULL) {
        *dash = '\0';
    }
    options->value_bytes_min = (unsigned)parse_count(text, "--value-bytes", 0, most);
    options->value_bytes_max = options->value_bytes_min;
    if (dash != NULL) {
        options->value_bytes_max =
            (unsigned)parse_count(dash + 1, "--value-bytes", options->value_bytes_min, most);
    }
}

/* "set" and "mget8" are shorthands for templates; anything else has to bring its own. */
static char *builtin_template(const char *name) {
    char text[8192];
    unsigned count = 0;
    char command[8];
    if (strcmp(name, "get") == 0) {
        return strdup("GET __key__");
    }
    if (strcmp(name, "set") == 0) {
        return strdup("SET __key__ __value__");
    }
    if (strcmp(name, "incr") == 0) {
        return strdup("INCR counter:__number__");
    }
    if (sscanf(name, "%4[a-z]%u", command, &count) != 2 || count < 1 || count > 256) {
        return NULL;
    }
    bool set = strcmp(command, "mset") == 0;
    if (!set && strcmp(command, "mget") != 0) {
        return NULL;
    }
    size_t length = (size_t)snprintf(text, sizeof(text), "%s", set ? "MSET" : "MGET");
    for (unsigned i = 0; i < count; i++) {
        length += (size_t)snprintf(text + length, sizeof(text) - length, " __key__%s",
                                   set ? " __value__" : "");
    }
    return strdup(text);
}

static void add_operation(struct options *options, const char *text) {
    if (options->operation_count == OPTIONS_MAX_OPERATIONS) {
        die("more than %d operations", OPTIONS_MAX_OPERATIONS);
    }
    struct operation_option *operation = &options->operations[options->operation_count++];
    char *copy = strdup(text);
    char *weight = strchr(copy, ':');
    char *template = NULL;
    if (weight != NULL) {
        *weight++ = '\0';
        template = strchr(weight, ':');
        if (template != NULL) {
            *template ++ = '\0';
        }
    }
    snprintf(operation->name, sizeof(operation->name), "%s", copy);
    operation->weight = weight == NULL ? 1 : (unsigned)parse_count(weight, "a weight", 1, 1000);
    operation->template = template != NULL ? strdup(template) : builtin_template(copy);
    if (operation->template == NULL) {
        die("--op %s: a name of your own needs a command: --op NAME:WEIGHT:COMMAND", copy);
    }
    free(copy);
}

static void add_ratio(struct options *options, const char *text) {
    unsigned sets = 0;
    unsigned gets = 0;
    char operation[32];
    if (sscanf(text, "%u:%u", &sets, &gets) != 2 || sets + gets == 0 || sets > 1000 ||
        gets > 1000) {
        die("--ratio must be SETS:GETS, not '%s'", text);
    }
    if (sets > 0) {
        snprintf(operation, sizeof(operation), "set:%u", sets);
        add_operation(options, operation);
    }
    if (gets > 0) {
        snprintf(operation, sizeof(operation), "get:%u", gets);
        add_operation(options, operation);
    }
}

/* What a value that was not given follows from. */
static void fill_defaults(struct options *options, uint64_t load) {
    if (load > 0) {
        options->keys = KEYS_SEQUENTIAL;
        options->keyspace = load;
        options->requests = load;
        options->warmup_seconds = 0;
        options->rate = 0;
    }
    if (options->pipeline == 0) {
        options->pipeline = load > 0 ? 64 : 1;
    }
    if (options->operation_count == 0) {
        add_operation(options, load > 0 ? "set" : "get");
    }
    if (options->seconds == 0 && options->requests == 0) {
        options->seconds = 5;
    }
    if (options->rate > 0 && options->seconds == 0) {
        options->seconds = (double)options->requests / options->rate;
    }
    if (options->rate > 0 && options->keys == KEYS_SEQUENTIAL) {
        die("--rate cannot be combined with sequential keys");
    }
    if (options->threads > options->connections) {
        options->threads = options->connections;
    }
}

static void parse_text_option(struct options *options, int option, char *text) {
    switch (option) {
    case 'h':
        options->host = text;
        break;
    case 's':
        options->socket_path = text;
        break;
    case 'K':
        parse_keys(options, text);
        break;
    case 'v':
        parse_value_bytes(options, text);
        break;
    case 'r':
        add_ratio(options, text);
        break;
    case 'o':
        add_operation(options, text);
        break;
    case OPT_KEY_PREFIX:
        options->key_prefix = text;
        break;
    case OPT_HASH_TAG:
        options->hash_tag = text;
        break;
    case OPT_SETUP:
        if (options->setup_count == OPTIONS_MAX_SETUP) {
            die("more than %d --setup", OPTIONS_MAX_SETUP);
        }
        options->setup[options->setup_count++] = text;
        break;
    case OPT_INCOMPRESSIBLE:
        options->incompressible = true;
        break;
    case OPT_VERIFY:
        options->verify = true;
        break;
    case OPT_HELP:
        fputs(usage, stdout);
        exit(0);
    default:
        die("see bench_client --help");
    }
}

/* The numeric options; what is not one of them goes to parse_text_option. */
static void parse_option(struct options *options, int option, char *text, uint64_t *load) {
    switch (option) {
    case 'p':
        options->port = (int)parse_count(text, "--port", 1, 65535);
        break;
    case 't':
        options->threads = (unsigned)parse_count(text, "--threads", 1, 256);
        break;
    case 'c':
        options->connections = (unsigned)parse_count(text, "--connections", 1, 100000);
        break;
    case 'P':
        options->pipeline = (unsigned)parse_count(text, "--pipeline", 1, 100000);
        break;
    case 'n':
        options->requests = parse_count(text, "--requests", 1, UINT64_MAX / 2);
        break;
    case 'd':
        options->seconds = parse_real(text, "--seconds");
        break;
    case 'w':
        options->warmup_seconds = parse_real(text, "--warmup");
        break;
    case 'R':
        options->rate = parse_real(text, "--rate");
        break;
    case 'k':
        options->keyspace = parse_count(text, "--keyspace", 1, UINT32_MAX);
        break;
    case OPT_KEY_BYTES:
        options->key_bytes = (unsigned)parse_count(text, "--key-bytes", 1, 65536);
        break;
    case OPT_LOAD:
        *load = parse_count(text, "--load", 1, UINT32_MAX);
        break;
    case OPT_SEED:
        options->seed = parse_count(text, "--seed", 0, UINT64_MAX);
        break;
    case OPT_SERVER_PID:
        options->server_pid = (int)parse_count(text, "--server-pid", 1, INT32_MAX);
        break;
    case OPT_TIMELINE:
        options->timeline_ms = (unsigned)parse_count(text, "--timeline", 1, 60000);
        break;
    case OPT_MAX_IN_FLIGHT:
        options->max_in_flight = parse_count(text, "--max-in-flight", 1, 10000000);
        break;
    case OPT_IDLE:
        options->idle = parse_count(text, "--idle", 1, 1000000);
        break;
    case OPT_HOLD:
        options->hold_seconds = parse_real(text, "--hold");
        break;
    default:
        parse_text_option(options, option, text);
    }
}

void options_parse(int argc, char **argv, struct options *options) {
    uint64_t load = 0;
    int option = 0;
    *options = (struct options){
        .host = "127.0.0.1",
        .port = 6379,
        .threads = 1,
        .connections = 50,
        .keys = KEYS_UNIFORM,
        .zipf_exponent = 0.99,
        .keyspace = 1000000,
        .key_bytes = 16,
        .key_prefix = "key:",
        .value_bytes_min = 64,
        .value_bytes_max = 64,
        .seed = 1,
        .hold_seconds = 60,
        .max_in_flight = 100000,
    };
    while ((option = getopt_long(argc, argv, "h:p:s:t:c:P:n:d:w:R:k:K:v:r:o:", long_options,
                                 NULL)) != -1) {
        parse_option(options, option, optarg, &load);
    }
    if (optind != argc) {
        die("what is '%s'? see bench_client --help", argv[optind]);
    }
    fill_defaults(options, load);
}
