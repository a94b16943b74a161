/*
 * What one run of bench_client is told to do.
 */
#ifndef BENCH_CLIENT_OPTIONS_H
#define BENCH_CLIENT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define OPTIONS_MAX_OPERATIONS 32
#define OPTIONS_MAX_SETUP      8

enum key_pattern {
    KEYS_UNIFORM,
    KEYS_ZIPF,
    KEYS_SEQUENTIAL,
};

/* One kind of command in the mix: words separated by spaces, with placeholders (see workload.h). */
struct operation_option {
    char name[32];
    unsigned weight;
    char *template;
};

struct options {
    const char *host;
    int port;
    const char *socket_path; /* NULL: TCP */
    unsigned threads;
    unsigned connections; /* over all threads */
    unsigned pipeline;    /* requests sent together */
    uint64_t requests;    /* 0: bounded by time only */
    double seconds;       /* 0: bounded by requests only */
    double warmup_seconds;
    double rate; /* requests per second over all connections; 0: closed loop */
    enum key_pattern keys;
    double zipf_exponent;
    uint64_t keyspace;
    unsigned key_bytes;
    const char *key_prefix;
    const char *hash_tag; /* NULL: none */
    unsigned value_bytes_min;
    unsigned value_bytes_max;
    struct operation_option operations[OPTIONS_MAX_OPERATIONS];
    unsigned operation_count;
    const char *setup[OPTIONS_MAX_SETUP]; /* commands sent once on each connection */
    unsigned setup_count;
    bool verify;
    bool incompressible;
    uint64_t seed;
    int server_pid;         /* 0: CPU use is not measured */
    unsigned timeline_ms;   /* 0: no timeline */
    uint64_t idle;          /* > 0: open so many connections and hold them */
    double hold_seconds;    /* for idle */
    uint64_t max_in_flight; /* open loop: requests on one connection without a reply */
};

/* Parses the command line; ends the program with a message if it makes no sense, or after --help.
 */
void options_parse(int argc, char **argv, struct options *options);

#endif
