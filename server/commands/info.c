/* The sections of INFO that describe the process; info_data.c has those about commands
 * and keys, info_replication.c the one about replication.
 *
 * Runs on the worker that got the command, while the others go on: counters are read as they are,
 * so two figures may be some commands apart. Field
 * names and their order are those of Redis 7.2; a field that describes something which this server
 * does not have shows what Redis shows when it is idle. */
#include "server/commands/info.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/background.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/clients/shutdown.h"
#include "server/commands/info_sections.h"
#include "server/commands/memory_report.h"
#include "server/config/config.h"
#include "server/dispatch/blocked_table.h"
#include "server/net/io.h"
#include "slotwise_version.h"

/* --- Server ----------------------------------------------------------------------------------- */

static const char *supervised_name(const struct server *server) {
    static const char *const names[] = {"no", "systemd", "upstart"};
    return server->supervised >= 0 && server->supervised < 3 ? names[server->supervised]
                                                             : "unknown";
}

static void write_listeners(struct text *text) {
    const struct config *config = config_current();
    if (config->port) {
        text_append_string(text, "listener0:name=tcp");
        for (size_t i = 0; i < config->bind.count; i++)
            text_append_format(text, ",bind=%s", config->bind.address[i]);
        text_append_format(text, ",port=%d\r\n", (int)config->port);
    }
    if (config->unixsocket)
        text_append_format(text, "listener1:name=unix,bind=%s\r\n", config->unixsocket);
}

void info_write_server(struct text *text, const struct info *info) {
    const struct server *server = info->server;
    const struct config *config = config_current();
    int64_t now_us = clock_now_us();
    uint64_t uptime_s = (clock_monotonic_us() - server->started_us) / 1000000;
    struct utsname name;
    uname(&name);
    info_word(text, "redis_version", CONFIG_REDIS_VERSION);
    info_word(text, "server_name", "slotwise");
    info_word(text, "slotwise_version", SLOTWISE_VERSION);
    info_word(text, "redis_git_sha1", SLOTWISE_GIT_SHA1);
    info_number(text, "redis_git_dirty", SLOTWISE_GIT_DIRTY);
    info_word(text, "redis_build_id", SLOTWISE_BUILD_ID);
    info_word(text, "redis_mode", info->server->cluster ? "cluster" : "standalone");
    text_append_format(text, "os:%s %s %s\r\n", name.sysname, name.release, name.machine);
    info_number(text, "arch_bits", sizeof(void *) * 8);
    info_word(text, "monotonic_clock", "POSIX clock_gettime");
    info_word(text, "multiplexing_api", io_name(server->loops[0]->io));
    info_word(text, "atomicvar_api", "c11-builtin");
    text_append_format(text, "gcc_version:%d.%d.%d\r\n", __GNUC__, __GNUC_MINOR__,
                       __GNUC_PATCHLEVEL__);
    info_number(text, "process_id", (uint64_t)getpid());
    info_word(text, "process_supervised", supervised_name(server));
    info_word(text, "run_id", server->run_id);
    info_number(text, "tcp_port", (uint64_t)config->port);
    info_number(text, "server_time_usec", (uint64_t)now_us);
    info_number(text, "uptime_in_seconds", uptime_s);
    info_number(text, "uptime_in_days", uptime_s / 86400);
    info_number(text, "hz", (uint64_t)config->hz);
    info_number(text, "configured_hz", (uint64_t)config->hz);
    info_number(text, "lru_clock", access_lru_now());
    info_word(text, "executable", server->executable);
    info_word(text, "config_file", server->configuration_file);
    info_number(text, "io_threads_active", atomic_load(&server->workers_awake) > 1);
    if (shutdown_is_waiting(server->shutdown))
        info_number(text, "shutdown_in_milliseconds", shutdown_remaining_ms(server->shutdown));
    write_listeners(text);
    info_number(text, "workers", server->loop_count);
    info_number(text, "workers_awake", atomic_load(&server->workers_awake));
}

/* --- Clients ---------------------------------------------------------------------------------- */

void info_write_clients(struct text *text, const struct info *info) {
    unsigned clients = atomic_load(&info->server->client_count);
    unsigned replicas = primary_link_count(&info->server->primary);
    info_number(text, "connected_clients", clients > replicas ? clients - replicas : 0);
    struct cluster_bus_figures bus = {0};
    if (info->server->cluster)
        cluster_bus_figures(info->server->cluster, &bus);
    info_number(text, "cluster_connections", bus.links);
    info_number(text, "maxclients", (uint64_t)config_current()->maxclients);
    info_number(text, "client_recent_max_input_buffer", info->sum.input_buffer_max);
    info_number(text, "client_recent_max_output_buffer", info->sum.output_buffer_max);
    info_number(text, "blocked_clients",
                info->sum.paused + info->sum.blocked +
                    atomic_load(&info->server->primary.wait_count) +
                    atomic_load(&info->server->shutdown->clients_waiting));
    INFO_ZEROS(text, "tracking_clients");
    info_number(text, "clients_in_timeout_table", info->sum.blocked_for_a_time);
    info_number(text, "total_blocking_keys", blocked_keys());
    INFO_ZEROS(text, "total_blocking_keys_on_nokey");
}

/* --- Memory ----------------------------------------------------------------------------------- */

static void write_used(struct text *text, const struct memory_report *report) {
    info_number(text, "used_memory", report->used);
    info_human(text, "used_memory_human", report->used);
    info_number(text, "used_memory_rss", report->resident);
    info_human(text, "used_memory_rss_human", report->resident);
    info_number(text, "used_memory_peak", report->peak);
    info_human(text, "used_memory_peak_human", report->peak);
    text_append_format(text, "used_memory_peak_perc:%.2f%%\r\n",
                       memory_ratio(report->used, report->peak) * 100);
    info_number(text, "used_memory_overhead", report->overhead);
    info_number(text, "used_memory_startup", report->startup);
    info_number(text, "used_memory_dataset", report->dataset);
    text_append_format(text, "used_memory_dataset_perc:%.2f%%\r\n",
                       memory_ratio(report->dataset, report->net) * 100);
}

static void write_scripts(struct text *text) {
    INFO_ZEROS(text, "used_memory_lua", "used_memory_vm_eval");
    info_human(text, "used_memory_lua_human", 0);
    INFO_ZEROS(text, "used_memory_scripts_eval", "number_of_cached_scripts", "number_of_functions",
               "number_of_libraries", "used_memory_vm_functions", "used_memory_vm_total");
    info_human(text, "used_memory_vm_total_human", 0);
    INFO_ZEROS(text, "used_memory_functions", "used_memory_scripts");
    info_human(text, "used_memory_scripts_human", 0);
}

static void write_fragmentation(struct text *text, const struct memory_report *report) {
    uint64_t allocator = report->allocator_resident;
    info_decimals(text, "allocator_frag_ratio", memory_ratio(report->active, report->allocated));
    info_number(text, "allocator_frag_bytes", report->active - report->allocated);
    info_decimals(text, "allocator_rss_ratio", memory_ratio(allocator, report->active));
    text_append_format(text, "allocator_rss_bytes:%lld\r\n",
                       (long long)(allocator - report->active));
    info_decimals(text, "rss_overhead_ratio", memory_ratio(report->resident, allocator));
    text_append_format(text, "rss_overhead_bytes:%lld\r\n",
                       (long long)(report->resident - allocator));
    info_decimals(text, "mem_fragmentation_ratio", memory_ratio(report->resident, report->used));
    text_append_format(text, "mem_fragmentation_bytes:%lld\r\n",
                       (long long)(report->resident - report->used));
}

void info_write_memory(struct text *text, const struct info *info) {
    const struct config *config = config_current();
    uint64_t system_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    struct memory_report report;
    memory_report_collect(info->server, &info->sum, &report);
    write_used(text, &report);
    info_number(text, "allocator_allocated", report.allocated);
    info_number(text, "allocator_active", report.active);
    info_number(text, "allocator_resident", report.allocator_resident);
    info_number(text, "total_system_memory", system_bytes);
    info_human(text, "total_system_memory_human", system_bytes);
    write_scripts(text);
    info_number(text, "maxmemory", (uint64_t)config->maxmemory);
    info_human(text, "maxmemory_human", (uint64_t)config->maxmemory);
    info_word(text, "maxmemory_policy",
              config_enum_name("maxmemory-policy", config->maxmemory_policy));
    write_fragmentation(text, &report);
    info_number(text, "mem_not_counted_for_evict", 0);
    info_number(text, "mem_retired", memory_retired_bytes()); /* in used_memory above a bound */
    struct backlog_statistics backlog;
    primary_figures(&info->server->primary, &backlog);
    info_number(text, "mem_replication_backlog", backlog.retained_bytes);
    info_number(text, "mem_total_replication_buffers",
                backlog.retained_bytes + backlog.pinned_bytes);
    info_number(text, "mem_clients_slaves", 0);
    info_number(text, "mem_clients_normal", info->sum.connection_bytes);
    struct cluster_bus_figures bus = {0};
    if (info->server->cluster)
        cluster_bus_figures(info->server->cluster, &bus);
    info_number(text, "mem_cluster_links", bus.buffer_bytes);
    INFO_ZEROS(text, "mem_aof_buffer");
#if defined(SLOTWISE_JEMALLOC)
    info_word(text, "mem_allocator", "jemalloc");
#else
    info_word(text, "mem_allocator", "libc");
#endif
    info_number(text, "active_defrag_running", 0);
    info_number(text, "lazyfree_pending_objects", background_pending());
    info_number(text, "lazyfreed_objects", 0);
}

/* --- Persistence ------------------------------------------------------------------------------ */

static void write_saves(struct text *text, const struct info *info) {
    const struct persistence *persistence = &info->server->persistence;
    struct saver_state save;
    saver_get_state(&info->server->saver, &save);
    info_decimals(text, "current_fork_perc",
                  save.keys > 0 ? 100.0 * (double)save.keys_done / (double)save.keys : 0);
    info_number(text, "current_save_keys_processed", save.keys_done);
    info_number(text, "current_save_keys_total", save.keys);
    info_number(text, "rdb_changes_since_last_save", save.changes);
    info_number(text, "rdb_bgsave_in_progress",
                save.saving || atomic_load(&info->server->primary.round_sinks) > 0);
    info_number(text, "rdb_last_save_time", (uint64_t)atomic_load(&persistence->last_save_s));
    info_word(text, "rdb_last_bgsave_status", save.last_ok ? "ok" : "err");
    info_signed(text, "rdb_last_bgsave_time_sec", save.last_duration_s);
    info_signed(text, "rdb_current_bgsave_time_sec",
                save.saving ? clock_now_ms() / 1000 - save.started_s : -1);
    info_number(text, "rdb_saves", atomic_load(&persistence->saves));
    info_number(text, "rdb_last_cow_size", 0);
    info_number(text, "rdb_last_load_keys_expired",
                atomic_load(&persistence->progress.keys_expired));
    info_number(text, "rdb_last_load_keys_loaded", atomic_load(&persistence->progress.keys_loaded));
}

/* As far as it is known how long the input is, else compared with what its writer used. */
static void write_loading(struct text *text, const struct persistence *persistence) {
    const struct rdb_load_progress *progress = &persistence->progress;
    int64_t since_s = atomic_load(&persistence->loading_since_s);
    if (since_s == 0)
        return;
    uint64_t total = atomic_load(&progress->total_bytes),
             used = atomic_load(&progress->used_memory_bytes);
    uint64_t loaded = atomic_load(&progress->loaded_bytes), goal = total ? total : used;
    uint64_t left = goal > loaded ? goal - loaded : goal ? 0 : 1;
    int64_t elapsed_s = clock_now_ms() / 1000 - since_s;
    info_number(text, "loading_start_time", (uint64_t)since_s);
    info_number(text, "loading_total_bytes", total);
    info_number(text, "loading_rdb_used_mem", used);
    info_number(text, "loading_loaded_bytes", loaded);
    info_decimals(text, "loading_loaded_perc", goal ? (double)loaded / (double)goal * 100 : 0);
    info_number(text, "loading_eta_seconds",
                elapsed_s > 0 ? (uint64_t)elapsed_s * left / (loaded + 1) : 1);
}

void info_write_persistence(struct text *text, const struct info *info) {
    const struct server *server = info->server;
    info_number(text, "loading", (service_limits(&server->service) & SERVICE_LOADING) != 0);
    info_number(text, "async_loading",
                (service_limits(&server->service) & SERVICE_ASYNC_LOADING) != 0);
    INFO_ZEROS(text, "current_cow_peak", "current_cow_size", "current_cow_size_age");
    write_saves(text, info);
    INFO_ZEROS(text, "aof_enabled", "aof_rewrite_in_progress", "aof_rewrite_scheduled");
    info_word(text, "aof_last_rewrite_time_sec", "-1");
    info_word(text, "aof_current_rewrite_time_sec", "-1");
    info_word(text, "aof_last_bgrewrite_status", "ok");
    INFO_ZEROS(text, "aof_rewrites", "aof_rewrites_consecutive_failures");
    info_word(text, "aof_last_write_status", "ok");
    INFO_ZEROS(text, "aof_last_cow_size", "module_fork_in_progress", "module_fork_last_cow_size");
    write_loading(text, &server->persistence);
}

/* --- CPU, modules, cluster -------------------------------------------------------------------- */

static void processor_time(struct text *text, const char *name, struct timeval time) {
    text_append_format(text, "%s:%ld.%06ld\r\n", name, (long)time.tv_sec, (long)time.tv_usec);
}

void info_write_cpu(struct text *text, const struct info *info) {
    (void)info;
    struct rusage self, children, thread;
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    getrusage(RUSAGE_THREAD, &thread);
    processor_time(text, "used_cpu_sys", self.ru_stime);
    processor_time(text, "used_cpu_user", self.ru_utime);
    processor_time(text, "used_cpu_sys_children", children.ru_stime);
    processor_time(text, "used_cpu_user_children", children.ru_utime);
    processor_time(text, "used_cpu_sys_main_thread", thread.ru_stime); /* this worker's */
    processor_time(text, "used_cpu_user_main_thread", thread.ru_utime);
}

void info_write_modules(struct text *text, const struct info *info) {
    (void)text;
    (void)info;
}

void info_write_cluster(struct text *text, const struct info *info) {
    info_number(text, "cluster_enabled", info->server->cluster != NULL);
}

/* --- Choosing --------------------------------------------------------------------------------- */

static const struct section {
    const char *name, *heading;
    bool is_default;
    void (*write)(struct text *text, const struct info *info);
} sections[INFO_SECTION_COUNT] = {
#define SECTION_ROW(upper, lower, heading, is_default)                                             \
    [INFO_##upper] = {#lower, heading, is_default, info_write_##lower},
    INFO_SECTIONS(SECTION_ROW)
#undef SECTION_ROW
};

static bool is_word(const char *name, size_t length, const char *word) {
    return strlen(word) == length && strncasecmp(name, word, length) == 0;
}

uint32_t info_sections_by_name(const char *name, size_t length) {
    bool all = is_word(name, length, "all") || is_word(name, length, "everything");
    bool defaults = is_word(name, length, "default");
    uint32_t set = 0;
    for (unsigned i = 0; i < INFO_SECTION_COUNT; i++)
        if (is_word(name, length, sections[i].name) || (defaults && sections[i].is_default) ||
            (all && i != INFO_DEBUG))
            set |= 1u << i;
    if (is_word(name, length, "module_list"))
        set |= 1u << INFO_MODULES;
    return set;
}

void info_write(struct text *text, const struct server *server, uint32_t wanted) {
    struct info info = {.server = server};
    if (loop_self)
        statistics_sample_connections(loop_self); /* at least its own are of now */
    statistics_sum(server, &info.sum);
    for (unsigned i = 0; i < INFO_SECTION_COUNT; i++) {
        if (!(wanted & 1u << i))
            continue;
        text_append_format(text, "%s# %s\r\n", text->length ? "\r\n" : "", sections[i].heading);
        sections[i].write(text, &info);
    }
}
