/* Server: the process's parts, passed to whoever needs them. Filled in by main before the workers
 * start; afterwards each field says who may write it. */
#ifndef SLOTWISE_SERVER_SERVER_H
#define SLOTWISE_SERVER_SERVER_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/keyspace.h"
#include "server/clients/client_list.h"
#include "server/dispatch/accounting.h"
#include "server/dispatch/latency_monitor.h"
#include "server/dispatch/pause.h"
#include "server/dispatch/service.h"
#include "server/links/cluster_bus.h"
#include "server/links/failover.h"
#include "server/links/migration.h"
#include "server/links/own_expiry.h"
#include "server/links/primary.h"
#include "server/links/replica.h"
#include "server/links/slot_export.h"
#include "server/links/slot_import.h"
#include "server/persistence/saver.h"

#define SERVER_LISTENERS_MAX 64
#define SERVER_WORKERS_MAX   128

struct loop;
struct notifications;
struct pubsub;

struct listener {
    int fd;
    bool tcp;
};

struct server {
    struct keyspace *keyspace;
    struct loop *loops[SERVER_WORKERS_MAX]; /* of the workers; worker 0 accepts */
    unsigned loop_count;
    _Atomic unsigned workers_awake;  /* how many take new connections; written by worker 0 */
    _Atomic unsigned workers_pinned; /* DEBUG WORKERS-AWAKE; 0: as the load wants it */
    struct client_list clients;      /* all connections */
    _Atomic unsigned moving_clients; /* of them on their way from one worker to another */
    struct listener listeners[SERVER_LISTENERS_MAX]; /* changed in exclusive sections */
    unsigned listener_count;
    int retired_listeners[SERVER_LISTENERS_MAX]; /* closed by worker 0 when it has let go of them */
    unsigned retired_listener_count;
    _Atomic bool listeners_changed;
    const struct listen_names *names; /* looked up for the CONFIG SET that runs; NULL outside it */
    _Atomic unsigned lookup_delay_ms; /* DEBUG LOOKUP-DELAY */
    char run_id[41];
    char configuration_file[4096]; /* absolute path, "" if none */
    char executable[4096];
    char pid_file[4096];   /* "" if none; set once, before the workers start */
    char unix_socket[108]; /* likewise */
    bool listens_tcp;      /* likewise: when it started */
    int64_t started_ms;
    uint64_t started_us; /* monotonic */
    _Atomic unsigned client_count;
    uint64_t client_limit_bytes; /* of maxmemory-clients; changes in exclusive sections */
    _Atomic uint64_t accepted, rejected_connections, output_limit_disconnections, evicted_clients;
    _Atomic int signal_received; /* set by the signal handler; the watchdog acts */
    _Atomic int signals;         /* that have asked for the end, and it has not been given up */
    _Atomic unsigned watchdog_period_ms, shutdown_timeout_s; /* of the configuration */
    _Atomic unsigned sigint_shutdown, sigterm_shutdown;      /* likewise: CONFIG_SHUTDOWN_ flags */
    _Atomic bool save_points;                                /* likewise: whether there are any */
    sem_t wake_watchdog;                  /* posted when it has to look at once */
    _Atomic bool stopping;                /* all workers leave their loops */
    _Atomic uint64_t total_commands_base; /* CONFIG RESETSTAT, exclusive sections */
    _Atomic uint64_t input_bytes_base, output_bytes_base;
    int64_t statistics_reset_ms;
    _Atomic uint64_t authentication_failures;
    /* Of the process; sampled by worker 0 (statistics_sample_process). */
    _Atomic uint64_t resident_bytes, allocator_allocated, allocator_active, allocator_resident;
    unsigned process_samples;         /* worker 0 */
    _Atomic uint64_t startup_bytes;   /* used memory when the workers had started */
    struct replication replication;   /* server/links/replication.h */
    struct replica replica;           /* server/links/replica.h */
    struct cluster_bus *cluster;      /* server/links/cluster_bus.h; NULL: not in a cluster */
    struct snapshot_walker walker;    /* snapshots of the keyspace */
    struct primary primary;           /* server/links/primary.h */
    struct migrator migrator;         /* server/links/migration.h */
    struct slot_records slot_records; /* server/links/slot_records.h */
    struct slot_exports slot_exports; /* server/links/slot_export.h */
    struct slot_imports slot_imports; /* server/links/slot_import.h */
    struct service service;
    struct pubsub *pubsub;               /* server/clients/pubsub.h */
    struct notifications *notifications; /* server/clients/notifications.h */
    struct pause pause;                  /* server/dispatch/pause.h */
    struct own_expiry own_expiry;        /* server/links/own_expiry.h */
    struct failover failover;            /* server/links/failover.h */
    struct shutdown *shutdown;           /* server/clients/shutdown.h */
    struct persistence persistence;
    struct saver saver;
    struct evictor *evictor; /* engine/eviction.h */
    struct slowlog *slowlog; /* server/dispatch/slowlog.h */
    struct latency_monitor latency_monitor;
    struct accounting accounting;
    const char *io_backend_name;
    int supervised; /* 0 no, 1 systemd, 2 upstart */
    _Atomic bool denied_debug;
    /* Per-second rates, sampled by worker 0. */
    _Atomic uint64_t instantaneous_commands, instantaneous_input_bytes, instantaneous_output_bytes;
    _Atomic uint64_t instantaneous_turns, instantaneous_busy_us;
};

/* Runs one exclusive section's worth of statistics reset. */
void server_reset_statistics(struct server *server);
/* The first of the numbers (keyspace_thread_set) of the threads that load an RDB file: behind those
 * of the workers and of the replica's. */
static inline unsigned server_load_thread_number(unsigned workers) {
    return workers + 1;
}
/* That of the migrator's thread: behind those. */
static inline unsigned server_migrator_thread_number(unsigned workers) {
    return server_load_thread_number(workers) + workers;
}
/* That of the thread that moves slots: behind that. */
static inline unsigned server_slots_thread_number(unsigned workers) {
    return server_migrator_thread_number(workers) + 1;
}
/* Changes of keys so far, of all workers: exact in exclusive sections. */
uint64_t server_dirty(const struct server *server);

/* Every worker looks at once at what it is asked, and at who waits for the end of a pause. Any
 * thread. */
void server_call_attention(struct server *server);

/* The last save, DEBUG RELOAD: in an exclusive section. 0, or a negative errno that has been
 * logged. */
int server_save(struct server *server);
/* In an exclusive section: what a save of now is the state of. */
void server_saving_state(struct server *server, struct saving_state *result);

#endif
