/* One snapshot of all values of the configuration, and the types of its fields. */
#ifndef SLOTWISE_SERVER_CONFIG_VALUES_H
#define SLOTWISE_SERVER_CONFIG_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/config/config_lines.h"

#define CONFIG_WORKERS_MAX   128
#define CONFIG_ADDRESSES_MAX 16

/* maxmemory-policy */
enum config_policy {
    CONFIG_POLICY_VOLATILE_LRU,
    CONFIG_POLICY_VOLATILE_LFU,
    CONFIG_POLICY_VOLATILE_RANDOM,
    CONFIG_POLICY_VOLATILE_TTL,
    CONFIG_POLICY_ALLKEYS_LRU,
    CONFIG_POLICY_ALLKEYS_LFU,
    CONFIG_POLICY_ALLKEYS_RANDOM,
    CONFIG_POLICY_NOEVICTION,
};

/* io-backend */
enum config_io_backend { CONFIG_IO_AUTO, CONFIG_IO_URING, CONFIG_IO_EPOLL };

/* supervised */
enum config_supervised {
    CONFIG_SUPERVISED_NO,
    CONFIG_SUPERVISED_AUTO,
    CONFIG_SUPERVISED_SYSTEMD,
    CONFIG_SUPERVISED_UPSTART,
};

/* shutdown-on-sigint, shutdown-on-sigterm: a set of these bits; 0 is `default` */
enum config_shutdown {
    CONFIG_SHUTDOWN_SAVE = 1,
    CONFIG_SHUTDOWN_NOSAVE = 2,
    CONFIG_SHUTDOWN_NOW = 4,
    CONFIG_SHUTDOWN_FORCE = 8,
};

/* enable-protected-configs, enable-debug-command, enable-module-command */
enum config_allow { CONFIG_ALLOW_NO, CONFIG_ALLOW_YES, CONFIG_ALLOW_LOCAL };

enum config_fsync { CONFIG_FSYNC_NO, CONFIG_FSYNC_ALWAYS, CONFIG_FSYNC_EVERYSEC };
enum config_diskless_load {
    CONFIG_DISKLESS_LOAD_DISABLED,
    CONFIG_DISKLESS_LOAD_ON_EMPTY_DB,
    CONFIG_DISKLESS_LOAD_SWAPDB,
};
enum config_tls_clients {
    CONFIG_TLS_CLIENTS_NO,
    CONFIG_TLS_CLIENTS_YES,
    CONFIG_TLS_CLIENTS_OPTIONAL
};
enum config_oom_score { CONFIG_OOM_SCORE_NO, CONFIG_OOM_SCORE_RELATIVE, CONFIG_OOM_SCORE_ABSOLUTE };
enum config_pubsub_default { CONFIG_PUBSUB_RESETCHANNELS, CONFIG_PUBSUB_ALLCHANNELS };
enum config_sanitize { CONFIG_SANITIZE_NO, CONFIG_SANITIZE_YES, CONFIG_SANITIZE_CLIENTS };
enum config_endpoint_type {
    CONFIG_ENDPOINT_IP,
    CONFIG_ENDPOINT_HOSTNAME,
    CONFIG_ENDPOINT_UNKNOWN,
};
enum config_propagation {
    CONFIG_PROPAGATION_IGNORE,
    CONFIG_PROPAGATION_PANIC,
    CONFIG_PROPAGATION_PANIC_ON_REPLICAS,
};

/* bind: addresses in order; a leading '-' means that failing to bind it is no error */
struct config_addresses {
    size_t count;
    char *address[CONFIG_ADDRESSES_MAX];
};

/* save: snapshot when `changes` changes happened and `seconds` have passed */
struct config_save_points {
    size_t count;
    struct config_save_point {
        int64_t seconds;
        int changes;
    } * point;
};

/* client-output-buffer-limit, by class; 0 is no limit */
enum config_client_class {
    CONFIG_CLIENT_NORMAL,
    CONFIG_CLIENT_REPLICA,
    CONFIG_CLIENT_PUBSUB,
    CONFIG_CLIENT_CLASSES,
};
struct config_output_limits {
    struct config_output_limit {
        uint64_t hard_bytes;
        uint64_t soft_bytes;
        int64_t soft_seconds;
    } of[CONFIG_CLIENT_CLASSES];
};

/* oom-score-adj-values: of the primary, of a replica, of background work */
struct config_oom_values {
    int primary, replica, background;
};

/* latency-tracking-info-percentiles */
struct config_percentiles {
    size_t count;
    double *percentile;
};

/* replicaof; host is NULL for a primary */
struct config_endpoint {
    char *host;
    int port;
};

/* notify-keyspace-events: a set of these bits */
enum config_notify {
    CONFIG_NOTIFY_KEYSPACE = 1 << 0,  /* K */
    CONFIG_NOTIFY_KEYEVENT = 1 << 1,  /* E */
    CONFIG_NOTIFY_GENERIC = 1 << 2,   /* g */
    CONFIG_NOTIFY_STRING = 1 << 3,    /* $ */
    CONFIG_NOTIFY_LIST = 1 << 4,      /* l */
    CONFIG_NOTIFY_SET = 1 << 5,       /* s */
    CONFIG_NOTIFY_HASH = 1 << 6,      /* h */
    CONFIG_NOTIFY_ZSET = 1 << 7,      /* z */
    CONFIG_NOTIFY_EXPIRED = 1 << 8,   /* x */
    CONFIG_NOTIFY_EVICTED = 1 << 9,   /* e */
    CONFIG_NOTIFY_STREAM = 1 << 10,   /* t */
    CONFIG_NOTIFY_KEY_MISS = 1 << 11, /* m, not part of A */
    CONFIG_NOTIFY_MODULE = 1 << 13,   /* d */
    CONFIG_NOTIFY_NEW = 1 << 14,      /* n, not part of A */
};

/* A field is the directive's name with '_' for '-'; its type follows from the row's kind. Texts are
 * C strings; one whose row says EMPTY_UNSET is NULL when it is empty. A text may hold NULs (a
 * password): config_text_length tells. */
struct config {
#define CONFIG_BOOL(field, name, alias, initial, check, flags)               bool field;
#define CONFIG_ENUM(field, name, alias, names, initial, check, flags)        int field;
#define CONFIG_NUMBER(field, name, alias, low, high, initial, unit, flags)   int64_t field;
#define CONFIG_UNSIGNED(field, name, alias, low, high, initial, unit, flags) uint64_t field;
#define CONFIG_TEXT(field, name, alias, initial, empty, check, flags)        char *field;
#define CONFIG_SPECIAL(field, type, name, alias, kind, flags)                type field;
#include "server/config/config_options.def"
#undef CONFIG_BOOL
#undef CONFIG_ENUM
#undef CONFIG_NUMBER
#undef CONFIG_UNSIGNED
#undef CONFIG_TEXT
#undef CONFIG_SPECIAL
    struct config_lines renamed_commands; /* rename-command OLD NEW */
    struct config_lines users;            /* user NAME RULE... */
    struct config_lines modules; /* loadmodule PATH ARGUMENT...; and MODULE.OPTION VALUE... */
    char *file;                  /* absolute path of the configuration file, or NULL */
    uint64_t generation;         /* how many were published before it */
};

/* A text of a row CONFIG_TEXT, which remembers its length in front of its bytes. */
char *config_text_make(const char *bytes, size_t length);
void config_text_free(char *text);           /* may be NULL */
size_t config_text_length(const char *text); /* 0 for NULL */

#endif
