/* See loading.h. */
#include "server/persistence/loading.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/exclusive.h"
#include "server/base/log.h"
#include "server/config/config.h"

/* Strings may be longer than proto-max-bulk-len allows now; the file's own length bounds them. */
#define STRING_BYTES_MAX UINT32_MAX

static void log_note(void *context, bool warning, const char *text) {
    (void)context;
    log_write(warning ? LOG_LEVEL_WARNING : LOG_LEVEL_NOTICE, "%s", text);
}

static void fill_options(struct persistence *persistence, struct rdb_load_options *options,
                         unsigned threads, unsigned thread_number) {
    *options = (struct rdb_load_options){
        .keyspace = persistence->keyspace,
        .threads = threads,
        .thread_number = thread_number,
        .keep_expired = atomic_load(&persistence->keyspace->door.view.mode) == VIEW_REPLICA,
        .checksum = config_current()->rdbchecksum,
        .string_bytes = STRING_BYTES_MAX,
        .note = log_note};
}

static void progress_begin(struct persistence *persistence) {
    struct rdb_load_progress *progress = &persistence->progress;
    atomic_store(&progress->total_bytes, 0);
    atomic_store(&progress->loaded_bytes, 0);
    atomic_store(&progress->used_memory_bytes, 0);
    atomic_store(&progress->keys_loaded, 0);
    atomic_store(&progress->keys_expired, 0);
    atomic_store(&persistence->loading_since_s, clock_now_ms() / 1000);
}

bool loading_prepare(struct persistence *persistence, unsigned threads, unsigned thread_number) {
    const char *path = config_current()->dbfilename;
    if (access(path, F_OK) != 0)
        return false;
    snprintf(persistence->load_path, sizeof persistence->load_path, "%s", path);
    fill_options(persistence, &persistence->load_options, threads, thread_number);
    progress_begin(persistence);
    service_set_loading(persistence->service, SERVICE_LOADING, clock_monotonic_us());
    return true;
}

struct served {
    struct persistence *persistence;
    const struct rdb_load_info *info;
};

/* Exclusive: from here on everybody is served. */
static void serve(void *context) {
    const struct served *served = context;
    struct persistence *persistence = served->persistence;
    persistence->load_done(persistence->load_context, served->info);
    atomic_store(&persistence->loading_since_s, 0);
    service_set(persistence->service, SERVICE_LOADING, false);
}

static void *load_main(void *context) {
    struct persistence *persistence = context;
    struct rdb_load_info info;
    pthread_setname_np(pthread_self(), "load");
    uint64_t began_us = clock_monotonic_us();
    enum rdb_load_result result = rdb_load_file(persistence->load_path, &persistence->load_options,
                                                &persistence->progress, &info);
    switch (result) {
    case RDB_LOAD_STOPPED:
        break;
    case RDB_LOAD_FAILED:
        log_write(LOG_LEVEL_WARNING, "Fatal error loading the DB, check server logs. Exiting.");
        persistence->load_done(persistence->load_context, NULL);
        break;
    case RDB_LOAD_DONE:
        log_write(LOG_LEVEL_NOTICE, "DB loaded from disk: %.3f seconds",
                  (double)(clock_monotonic_us() - began_us) / 1e6);
        __attribute__((fallthrough));
    case RDB_LOAD_NO_FILE:
        exclusive_run_blocking(serve, &(struct served){persistence, &info});
        break;
    }
    return NULL;
}

int loading_start(struct persistence *persistence, loading_expired *expired, loading_done *done,
                  void *context) {
    persistence->load_options.expired = expired;
    persistence->load_options.context = context;
    persistence->load_done = done;
    persistence->load_context = context;
    int error = pthread_create(&persistence->load_thread, NULL, load_main, persistence);
    persistence->load_thread_started = error == 0;
    return -error;
}

void loading_end(struct persistence *persistence) {
    if (!persistence->load_thread_started)
        return;
    atomic_store(&persistence->progress.stop, true);
    pthread_join(persistence->load_thread, NULL);
    persistence->load_thread_started = false;
}

enum rdb_load_result loading_run(struct persistence *persistence, unsigned threads,
                                 unsigned thread_number, bool replace) {
    struct rdb_load_options options;
    struct rdb_load_info info;
    fill_options(persistence, &options, threads, thread_number);
    options.exclusive = true;
    options.replace = replace;
    progress_begin(persistence);
    enum rdb_load_result result =
        rdb_load_file(config_current()->dbfilename, &options, &persistence->progress, &info);
    atomic_store(&persistence->loading_since_s, 0);
    return result;
}
