/* The process: configuration, keyspace, sockets, workers; then it waits for the end. Set-up is a
 * ladder: each step that fails says why and ends the process. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/background.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/eviction.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "engine/types/collection.h"
#include "replication/crc64.h"
#include "server/base/log.h"
#include "server/clients/bus_messages.h"
#include "server/clients/client_eviction.h"
#include "server/clients/listen.h"
#include "server/clients/notifications.h"
#include "server/clients/primary_conn.h"
#include "server/clients/pubsub.h"
#include "server/clients/replica_conn.h"
#include "server/clients/shutdown.h"
#include "server/commands/statistics.h"
#include "server/config/config.h"
#include "server/crash.h"
#include "server/dispatch/background_work.h"
#include "server/dispatch/slowlog.h"
#include "server/links/primary_stream.h"
#include "server/persistence/loading.h"
#include "server/process.h"
#include "server/watchdog.h"
#include "server/worker.h"
#include "slotwise_version.h"

#define LAST_SECONDS 2 /* for what is torn down, beyond shutdown-timeout */
#define STALL_MS     10000

/* Main's only; everybody else is passed a pointer. */
static struct server the_server;
static struct worker *workers[SERVER_WORKERS_MAX];

static void stalled(uint64_t waited_ms, void *context) {
    (void)context;
    log_write(LOG_LEVEL_WARNING,
              "Memory reclamation has been waiting for %llu ms for a thread that does not report: "
              "a very long command?",
              (unsigned long long)waited_ms);
}

static void on_signal(int number) {
    if (atomic_fetch_add(&the_server.signals, 1) > 0 && number == SIGINT) {
        log_write_signal_safe(LOG_LEVEL_WARNING, "You insist... exiting now.");
        _exit(1);
    }
    atomic_store(&the_server.signal_received, number);
    sem_post(&the_server.wake_watchdog);
}

static void install_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    crash_install(config_current()->crash_log_enabled);
    watchdog_install();
}

/* --- Applying the configuration --------------------------------------------------------------- */

static void limit_collections(const struct config *now) {
    collection_limits = (struct collection_limits){
        .hash_listpack_entries = now->hash_max_listpack_entries,
        .hash_listpack_value_bytes = now->hash_max_listpack_value,
        .set_intset_entries = now->set_max_intset_entries,
        .set_listpack_entries = now->set_max_listpack_entries,
        .set_listpack_value_bytes = now->set_max_listpack_value,
        .zset_listpack_entries = now->zset_max_listpack_entries,
        .zset_listpack_value_bytes = now->zset_max_listpack_value,
        .list_listpack_size = now->list_max_listpack_size,
        .list_compress_depth = (uint64_t)now->list_compress_depth,
    };
}

static void apply_published(const struct config *now, void *context) {
    struct server *server = context;
    statistics_configure(server, now);
    client_eviction_apply(server, now);
    replica_configure(&server->replica, now);
    own_expiry_configure(&server->own_expiry, replication_is_replica(&server->replication),
                         !now->replica_read_only);
    primary_count_good(&server->primary, now);
    if (server->cluster)
        cluster_bus_configure(server->cluster, now);
    atomic_store(&server->watchdog_period_ms, (unsigned)now->watchdog_period);
    sem_post(&server->wake_watchdog); /* it looks more often, or less */
    atomic_store(&server->shutdown_timeout_s, (unsigned)now->shutdown_timeout);
    atomic_store(&server->sigint_shutdown, (unsigned)now->shutdown_on_sigint);
    atomic_store(&server->sigterm_shutdown, (unsigned)now->shutdown_on_sigterm);
    atomic_store(&server->save_points, now->save.count > 0);
    atomic_store(&server->persistence.progress.key_delay_us, (int)now->key_load_delay);
    atomic_store(&server->keyspace->door.unlink_expired, now->lazyfree_lazy_expire);
    atomic_store(&server->keyspace->door.unlink_evicted, now->lazyfree_lazy_eviction);
    limit_collections(now);
    memory_set_limit(now->maxmemory, (unsigned)now->io_threads);
    evictor_configure(server->evictor, (enum eviction_policy)now->maxmemory_policy,
                      (unsigned)now->maxmemory_samples, (unsigned)now->maxmemory_eviction_tenacity,
                      (int)now->lfu_log_factor, (int)now->lfu_decay_time);
}

static int rebind_addresses(const struct config *before, const struct config *after, void *context,
                            const char **error) {
    (void)before;
    *error = "Failed to bind to specified addresses.";
    return listen_change(context, after) ? -1 : 0;
}

static int resize_backlog(const struct config *before, const struct config *after, void *context,
                          const char **error) {
    struct server *server = context;
    (void)before;
    (void)error;
    primary_resize_backlog(&server->primary, (uint64_t)after->repl_backlog_size);
    return 0;
}

static int change_notifications(const struct config *before, const struct config *after,
                                void *context, const char **error) {
    struct server *server = context;
    (void)before;
    (void)error;
    notifications_configure(server->notifications, &server->keyspace->door,
                            after->notify_keyspace_events);
    return 0;
}

static int rebind_port(const struct config *before, const struct config *after, void *context,
                       const char **error) {
    (void)before;
    *error = "Unable to listen on this port. Check server logs.";
    return listen_change(context, after) ? -1 : 0;
}

static int raise_client_limit(const struct config *before, const struct config *after,
                              void *context, const char **error) {
    static char text[128]; /* one writer at a time; read at once */
    const struct server *server = context;
    (void)before;
    uint64_t possible = process_raise_descriptor_limit(after->maxclients, server->loop_count);
    if (possible >= after->maxclients)
        return 0;
    snprintf(text, sizeof text,
             "The operating system is not able to handle the specified number of clients, try with "
             "%llu",
             (unsigned long long)possible);
    *error = text;
    return -1;
}

static int apply_background_thread(const struct config *before, const struct config *after,
                                   void *context, const char **error) {
    (void)before, (void)context, (void)error;
    memory_set_background_thread(after->jemalloc_bg_thread);
    return 0;
}

static void retire_config(void *snapshot, size_t bytes, void (*destructor)(void *snapshot)) {
    if (loop_self)
        epoch_retire(snapshot, bytes, destructor);
    else
        destructor(snapshot); /* no reader exists yet */
}

/* --- Set-up ----------------------------------------------------------------------------------- */

static void make_random_id(char id[41]) {
    unsigned char random[20];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        memset(random, (int)(clock_now_us() & 0xff), sizeof random);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(id + i * 2, 3, "%02x", random[i]);
}

static void seed_hash(void) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        seed = (uint64_t)clock_now_us() * 0x9e3779b97f4a7c15u;
    table_set_seed(seed);
}

static int load_configuration(int argc, char **argv) {
    char error[4096];
    const struct config_hooks hooks = {.rename_command = process_rename_command};
    if (config_load(argc, argv, &hooks, error, sizeof error) == 0)
        return 0;
    fputs(error, stderr);
    return -1;
}

static void start_banner(int argc) {
    log_write(LOG_LEVEL_NOTICE, "oO0OoO0OoO0Oo Slotwise is starting oO0OoO0OoO0Oo");
    log_write(LOG_LEVEL_NOTICE,
              "Slotwise version=%s, bits=64, commit=%s, modified=%d, pid=%d, just started",
              SLOTWISE_VERSION, SLOTWISE_GIT_SHA1, SLOTWISE_GIT_DIRTY, (int)getpid());
    if (argc == 1)
        log_write(LOG_LEVEL_WARNING,
                  "Warning: no config file specified, using the default config.");
    else
        log_write(LOG_LEVEL_NOTICE, "Configuration loaded");
}

/* On a terminal or when it is asked for; tools look for " PID: N" in it. */
static void show_logo(const struct config *config) {
    const char *mode = config->cluster_enabled ? "cluster" : "standalone";
    bool terminal = isatty(STDOUT_FILENO) && !(config->logfile && config->logfile[0]) &&
                    !config->syslog_enabled;
    if (!config->always_show_logo && !terminal) {
        log_write(LOG_LEVEL_NOTICE, "Running mode=%s, port=%d.", mode, (int)config->port);
        return;
    }
    char text[512];
    snprintf(text, sizeof text,
             "\n"
             "   [0 . . . . . . . 16383]\n"
             "    |_|_|_|_|_|_|_|_|_|_|       Slotwise %s (%s/%d) 64 bit\n"
             "    |_|_|_|_|_|_|_|_|_|_|       Running in %s mode\n"
             "    |_|_|_|_|_|_|_|_|_|_|       Port: %d\n"
             "    |_|_|_|_|_|_|_|_|_|_|       PID: %d\n\n",
             SLOTWISE_VERSION, SLOTWISE_GIT_SHA1, SLOTWISE_GIT_DIRTY, mode, (int)config->port,
             (int)getpid());
    log_write_raw(LOG_LEVEL_NOTICE, text);
}

/* maxclients becomes what the limit of open files leaves room for. */
static int fit_client_limit(void) {
    const struct config *config = config_current();
    uint64_t wanted = config->maxclients;
    uint64_t possible = process_raise_descriptor_limit(wanted, (unsigned)config->io_threads);
    const char *name = "maxclients", *value;
    char number[32], error[CONFIG_ERROR_SIZE];
    if (possible == wanted)
        return 0;
    snprintf(number, sizeof number, "%llu", (unsigned long long)possible);
    value = number;
    return possible == 0 ? -1 : config_set_many(&name, &value, 1, 0, error, sizeof error);
}

static void log_io_backend(void) {
    int refused = workers[0]->io_refused;
    if (refused == -ENOSYS)
        log_write(LOG_LEVEL_NOTICE,
                  "Using epoll: this kernel lacks the io_uring of Linux 6.1 or newer.");
    else if (refused)
        log_write(LOG_LEVEL_NOTICE, "Using epoll: io_uring is refused (%s)%s", strerror(-refused),
                  refused == -EPERM ? ", by the seccomp filter of a container or by "
                                      "kernel.io_uring_disabled."
                                    : ".");
}

static int create_workers(struct server *server) {
    const struct config *config = config_current();
    server->loop_count = (unsigned)config->io_threads;
    server->io_backend_name = config_enum_name("io-backend", config->io_backend);
    atomic_store(&server->workers_awake, 1);
    for (unsigned i = 0; i < server->loop_count; i++) {
        struct worker *worker = memory_alloc_aligned(64, sizeof *worker);
        memset(worker, 0, sizeof *worker);
        workers[i] = worker;
        server->loops[i] = &worker->loop;
    }
    server->replica.environment.mailbox = &workers[0]->loop.mailbox;
    failover_attach(&server->failover, &workers[0]->loop.mailbox);
    shutdown_attach(server->shutdown, &workers[0]->loop.mailbox);
    if (server->cluster)
        cluster_bus_attach(server->cluster, &workers[0]->loop.mailbox);
    for (unsigned i = server->loop_count; i-- > 0;) { /* worker 0 last: it accepts at once */
        int error = worker_start(workers[i], server, i);
        if (error) {
            log_write(LOG_LEVEL_WARNING, "Cannot start worker %u with I/O backend %s: %s", i,
                      server->io_backend_name, strerror(-error));
            return error;
        }
    }
    log_io_backend();
    return 0;
}

/* The configuration, and the process that it asks for. */
static int set_up_process(struct server *server, int argc, char **argv) {
    setlocale(LC_COLLATE, "");
    tzset();
    clock_init();
    crc16_init();
    crc64_init();
    seed_hash();
    command_table_init();
    config_init(retire_config);
    process_remember_executable(server, argv[0]);
    if (load_configuration(argc, argv) < 0)
        return -1;
    const struct config *config = config_current();
    if (config->tls_port != 0) {
        fputs("TLS is not supported yet: tls-port must be 0\n", stderr);
        return -1;
    }
    if (config->file)
        snprintf(server->configuration_file, sizeof server->configuration_file, "%s", config->file);
    process_find_supervisor(server);
    if (process_daemonize(server) < 0)
        return -1;
    start_banner(argc);
    sem_init(&server->wake_watchdog, 0, 0);
    install_signals();
    log_set_role('M');
    return fit_client_limit(); /* publishes another configuration */
}

static void wake_workers(void *context) {
    const struct server *server = context;
    for (unsigned i = 0; i < server->loop_count; i++)
        loop_wake(server->loops[i]);
}

static void wake_first_worker(void *context) {
    const struct server *server = context;
    loop_wake(server->loops[0]);
}

static void resume_paused(void *context) {
    server_call_attention(context);
}

static unsigned stream_database(void *context) {
    const struct server *server = context;
    return server->replica.connected ? primary_conn_database() : server->replication.place.database;
}

static uint64_t last_commit(void *context) {
    const struct server *server = context;
    return commit_log_last_number(server->primary.log);
}

static uint64_t count_changes(void *context) {
    return server_dirty(context);
}

static void describe_save(void *context, struct saving_state *state) {
    server_saving_state(context, state);
}

static void end_blocked(void *context) {
    const struct server *server = context;
    for (unsigned i = 0; i < server->loop_count; i++)
        blocked_end_all(&server->loops[i]->execution.blocked,
                        "UNBLOCKED force unblock from blocking operation, instance state changed "
                        "(master -> replica?)");
}

static void role_changed(void *context) {
    struct server *server = context;
    slot_imports_role_changed(&server->slot_imports);
}

static void set_up_saving(struct server *server) {
    const struct saver_surroundings around = {
        .walker = &server->walker,
        .persistence = &server->persistence,
        .changes = count_changes,
        .state = describe_save,
        .context = server,
    };
    server->persistence.keyspace = server->keyspace;
    server->persistence.service = &server->service;
    server->service.loaded_bytes = &server->persistence.progress.loaded_bytes;
    atomic_store(&server->persistence.last_save_s, server->started_ms / 1000);
    saver_init(&server->saver, &around);
}

static void set_up_serving(struct server *server) {
    const struct snapshot_surroundings walk = {
        .keyspace = server->keyspace,
        .workers = (unsigned)config_current()->io_threads,
        .spool_directory = ".",
        .memory_bytes = SNAPSHOT_MEMORY_BYTES,
        .log_number = last_commit,
        .wake = wake_workers,
        .context = server,
    };
    snapshot_walker_init(&server->walker, &walk);
    const struct primary_surroundings around = {
        .keyspace = server->keyspace,
        .walker = &server->walker,
        .replication = &server->replication,
        .stream_database = stream_database,
        .connection = &replica_connection,
        .service = &server->service,
        .wake = wake_first_worker,
        .end_blocked = end_blocked,
        .role_changed = role_changed,
        .context = server,
    };
    primary_init(&server->primary, &around);
}

static void set_up_replication(struct server *server) {
    const struct sync_environment environment = {.keyspace = server->keyspace,
                                                 .walker = &server->walker,
                                                 .service = &server->service,
                                                 .persistence = &server->persistence};
    unsigned threads = (unsigned)config_current()->io_threads;
    replication_init(&server->replication);
    own_expiry_init(&server->own_expiry, server->keyspace);
    replica_init(&server->replica, &server->replication, &environment, &server->keyspace->door.view,
                 threads, threads);
    server->replica.connection = primary_conn_for(server);
    set_up_serving(server);
    const struct failover_surroundings roles = {&server->primary, &server->replica, &server->pause,
                                                resume_paused, server};
    failover_init(&server->failover, &roles);
    server->shutdown = shutdown_create(server);
}

static struct execution *first_execution(void *context) {
    const struct server *server = context;
    return &server->loops[0]->execution;
}

/* The others who may change the role are there, and nobody runs commands yet. */
static int set_up_cluster(struct server *server) {
    const struct cluster_bus_surroundings around = {
        .keyspace = server->keyspace,
        .replication = &server->replication,
        .replica = &server->replica,
        .primary = &server->primary,
        .pause = &server->pause,
        .execution = first_execution,
        .resume = wake_workers,
        .message = bus_message_came,
        .context = server,
    };
    if (!config_current()->cluster_enabled)
        return 0;
    return cluster_bus_create(&around, config_current(), &server->cluster);
}

static void set_up_slot_migrations(struct server *server) {
    const struct slot_exports_around source = {
        .keyspace = server->keyspace,
        .service = &server->service,
        .pause = &server->pause,
        .bus = &server->cluster,
        .records = &server->slot_records,
        .thread_number = server_slots_thread_number((unsigned)config_current()->io_threads),
    };
    const struct slot_imports_around target = {
        .keyspace = server->keyspace,
        .primary = &server->primary,
        .replication = &server->replication,
        .walker = &server->walker,
        .bus = &server->cluster,
        .records = &server->slot_records,
    };
    slot_records_init(&server->slot_records);
    slot_exports_init(&server->slot_exports, &source);
    slot_imports_init(&server->slot_imports, &target);
}

/* All that the workers find when they start. */
static int set_up_server(struct server *server) {
    const struct config *config = config_current();
    process_log_resources();
    make_random_id(server->run_id);
    server->started_ms = server->statistics_reset_ms = clock_now_ms();
    server->started_us = clock_monotonic_us();
    client_list_init(&server->clients);
    if (epoch_start(STALL_MS, stalled, server) != 0 || background_start() != 0 ||
        keyspace_create((unsigned)config->databases, &server->keyspace) != 0)
        return -1;
    blocked_init(&server->keyspace->door);
    set_up_saving(server);
    server->pause.view = &server->keyspace->door.view;
    set_up_replication(server);
    migrator_init(&server->migrator, server->keyspace, &server->service, &server->pause,
                  server_migrator_thread_number((unsigned)config->io_threads));
    set_up_slot_migrations(server);
    server->pubsub = pubsub_create(server->loops, &server->loop_count);
    server->notifications = notifications_create(server->pubsub);
    notifications_configure(server->notifications, &server->keyspace->door,
                            config->notify_keyspace_events);
    server->evictor = evictor_create(server->keyspace);
    server->slowlog = slowlog_create();
    latency_monitor_init(&server->latency_monitor);
    server->accounting.monitor = &server->latency_monitor;
    server->accounting.slowlog = server->slowlog;
    config_on_publish(apply_published, server);
    apply_published(config_current(), server);
    config_on_change("bind", rebind_addresses, server);
    config_on_change("port", rebind_port, server);
    config_on_change("jemalloc-bg-thread", apply_background_thread, server);
    memory_set_background_thread(config_current()->jemalloc_bg_thread);
    config_on_change("repl-backlog-size", resize_backlog, server);
    config_on_change("notify-keyspace-events", change_notifications, server);
    config_on_change("maxclients", raise_client_limit, server);
    show_logo(config_current());
    if (listen_open(server) != 0 || set_up_cluster(server) != 0)
        return -1;
    if (process_write_pid_file(server) < 0)
        return -1;
    process_check_system();
    config_warn_without_effect();
    log_write(LOG_LEVEL_NOTICE, "Server initialized");
    return 0;
}

/* --- The end ---------------------------------------------------------------------------------- */

static void end_snapshots(void *context) {
    struct server *server = context;
    saver_cancel(&server->saver);
    snapshot_walk_abort(&server->walker);
}

static void tear_down(struct server *server) {
    if (server->cluster)
        cluster_bus_stop(server->cluster);
    replica_stop(&server->replica);
    loading_end(&server->persistence);
    for (unsigned i = 0; i < server->loop_count; i++)
        worker_join(workers[i]);
    migrator_stop(&server->migrator);
    slot_exports_stop(&server->slot_exports);
    primary_stop(&server->primary);
    exclusive_run_blocking(end_snapshots, server);
    saver_destroy(&server->saver);
    listen_close(server);
    process_remove_pid_file(server);
    process_notify_systemd(server, "STOPPING=1\n");
    log_write(LOG_LEVEL_WARNING, "Slotwise is now ready to exit, bye bye...");
#ifdef SLOTWISE_ASAN
    /* Only the leak checker wants every byte back; otherwise the kernel does it at once. */
    snapshot_walker_destroy(&server->walker);
    primary_destroy(&server->primary);
    for (unsigned i = 0; i < server->loop_count; i++)
        pubsub_inbox_destroy(server->loops[i]);
    notifications_destroy(server->notifications);
    pubsub_destroy(server->pubsub);
    evictor_destroy(server->evictor); /* looks at the keyspace */
    keyspace_destroy(server->keyspace);
    replication_destroy(&server->replication);
    failover_destroy(&server->failover);
    shutdown_destroy(server->shutdown);
    own_expiry_destroy(&server->own_expiry);
    slowlog_destroy(server->slowlog);
    latency_monitor_destroy(&server->latency_monitor);
    background_work_finish();
    slot_imports_destroy(&server->slot_imports);
    slot_records_destroy(&server->slot_records);
    background_stop();
    epoch_stop();
    for (unsigned i = 0; i < server->loop_count; i++)
        worker_free(workers[i]);
    if (server->cluster)
        cluster_bus_destroy(server->cluster);
    config_destroy();
#endif
}

/* All that there was has been loaded. */
static void announce(struct server *server) {
    if (server->listens_tcp)
        log_write(LOG_LEVEL_NOTICE, "Ready to accept connections tcp");
    if (server->unix_socket[0])
        log_write(LOG_LEVEL_NOTICE, "Ready to accept connections unix");
    process_notify_systemd(server, "STATUS=Ready to accept connections\nREADY=1\n");
}

/* Some old versions write a database of -1 where they have no place. */
static bool has_place(const struct rdb_load_info *info) {
    return info->replication_id[0] && info->stream_database >= 0 && info->replication_offset >= 0;
}

/* The file's place in a history is where a replica goes on, and from where the replicas of a
 * primary may. A server that cannot load its data must not go on without it. */
static void loaded(void *context, const struct rdb_load_info *info) {
    struct server *server = context;
    if (!info) {
        listen_close(server);
        process_remove_pid_file(server);
        _exit(1);
    }
    if (has_place(info) && replication_is_replica(&server->replication))
        replica_adopt_place(&server->replica, info->replication_id,
                            (uint64_t)info->replication_offset, (unsigned)info->stream_database);
    else if (has_place(info))
        primary_resume(&server->primary, info->replication_id, (uint64_t)info->replication_offset);
    if (server->cluster)
        cluster_bus_open(server->cluster, true);
    announce(server);
}

/* Only a primary leaves out what has expired. */
static void expired_in_file(void *context, const struct rdb_load_info *info,
                            const struct rdb_entry *key) {
    struct server *server = context;
    if (has_place(info))
        primary_load_expired(&server->primary, (uint64_t)info->replication_offset, key->database,
                             key->key, key->key_length);
}

/* Workers answer while the data set is being loaded. */
static int serve(struct server *server) {
    unsigned workers_wanted = (unsigned)config_current()->io_threads;
    /* The configuration is the workers' from here on: this thread is no reader of theirs. */
    server->listens_tcp = config_current()->port != 0;
    bool to_load = loading_prepare(&server->persistence, workers_wanted,
                                   server_load_thread_number(workers_wanted));
    int error = create_workers(server);
    atomic_store(&server->startup_bytes, memory_used_bytes());
    if (error == 0 && server->cluster) {
        error = cluster_bus_start(server->cluster);
        if (error == 0 && !to_load)
            cluster_bus_open(server->cluster, false);
    }
    if (error == 0 && to_load)
        error = loading_start(&server->persistence, expired_in_file, loaded, server);
    else if (error == 0)
        announce(server);
    if (error)
        process_remove_pid_file(server);
    else
        process_started();
    return error;
}

static void end_at_once(struct server *server) {
    listen_close(server);
    process_remove_pid_file(server);
    _exit(1);
}

/* What is to be torn down may wait for what nobody gives back. */
static void *limit_end(void *context) {
    struct server *server = context;
    sleep(atomic_load(&server->shutdown_timeout_s) + LAST_SECONDS);
    log_write(LOG_LEVEL_WARNING,
              "The end took longer than shutdown-timeout: the process ends now.");
    end_at_once(server);
    return NULL;
}

int main(int argc, char **argv) {
    struct server *server = &the_server;
    if (argc == 2 && (strcmp(argv[1], "-v") == 0 || strcmp(argv[1], "--version") == 0))
        return process_print_version();
    if (argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0))
        return process_print_help(argv[0]);
    if (set_up_process(server, argc, argv) < 0 || set_up_server(server) < 0 || serve(server) != 0)
        return 1;
    if (!watchdog_run(server, workers))
        end_at_once(server);
    pthread_t limit;
    if (pthread_create(&limit, NULL, limit_end, server) == 0)
        pthread_detach(limit);
    tear_down(server);
    return 0;
}
