/* See sync_load.h.
 *
 * In one exclusive section the old data go and clients get -LOADING; then the data are loaded, on
 * several threads (replication/rdb_load.h); in another section the id and the offset of the primary
 * are adopted and clients are served again. If the input is no good the data set is empty
 * afterwards: half of one is worse than none.
 *
 * Beside the old data (repl-diskless-load swapdb): the new ones are loaded into a successor of the
 * keyspace, which in the second section becomes its content; if the input is no good nothing has
 * changed. Clients are served meanwhile if the old data are an earlier state of the same history. A
 * snapshot that was begun meanwhile and has not ended is given up: it would take objects of the
 * successor for its own. */
#include "server/links/sync_load.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/exclusive.h"
#include "engine/keyspace.h"
#include "replication/rdb_load.h"
#include "replication/snapshot_walk.h"
#include "server/base/log.h"
#include "server/dispatch/service.h"
#include "server/links/sync_private.h"
#include "server/links/sync_socket.h"
#include "server/persistence/persistence.h"

#define KEEP_ALIVE_MS 1000

struct load {
    struct sync *sync;
    struct change change;
    struct keyspace_garbage *garbage;
    struct keyspace *successor; /* NULL: the old data have gone before */
    unsigned limit;             /* enum service_limit, meanwhile */
    struct rdb_source source;
    int file; /* -1: the source is the socket */
    uint64_t kept_alive_ms;
    bool cancelled, loaded;
};

/* --- The two sections ------------------------------------------------------------------------- */

static void begin_progress(struct persistence *persistence) {
    struct rdb_load_progress *progress = &persistence->progress;
    atomic_store(&progress->total_bytes, 0);
    atomic_store(&progress->loaded_bytes, 0);
    atomic_store(&progress->used_memory_bytes, 0);
    atomic_store(&progress->keys_loaded, 0);
    atomic_store(&progress->keys_expired, 0);
    atomic_store(&persistence->loading_since_s, clock_now_ms() / 1000);
}

static void clear(struct load *load) {
    load->garbage = keyspace_clear(&load->change, -1);
    change_commit(&load->change);
}

static void begin(void *context) {
    struct load *load = context;
    const struct sync *sync = load->sync;
    const struct sync_environment *environment = &sync->environment;
    struct replication *replication = environment->replication;
    atomic_store(&environment->persistence->progress.stop, false); /* before who sets it is seen */
    load->cancelled = sync_is_cancelled(load->sync);
    if (load->cancelled)
        return;
    load->limit = SERVICE_LOADING;
    if (sync->request.beside) {
        load->successor = keyspace_make_successor(environment->keyspace);
        if (strcmp(replication->history.id, sync->id) == 0)
            load->limit = SERVICE_ASYNC_LOADING;
    } else {
        replication_act(replication, place_flushed(&replication->place));
        atomic_store(&replication->data_gone, true);
        log_write(LOG_LEVEL_NOTICE, "MASTER <-> REPLICA sync: Flushing old data");
        clear(load);
    }
    begin_progress(environment->persistence);
    service_set_loading(environment->service, load->limit, clock_monotonic_us());
}

/* The successor takes the place of the old data. */
static void swap(struct load *load) {
    const struct sync_environment *environment = &load->sync->environment;
    struct replication *replication = environment->replication;
    replication_act(replication, place_flushed(&replication->place));
    log_write(LOG_LEVEL_NOTICE, "MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
    if (environment->keyspace->door.snapshot_id != load->successor->door.snapshot_id)
        snapshot_walk_abort(environment->walker);
    load->garbage = keyspace_clear(&load->change, -1);
    keyspace_adopt(&load->change, load->successor);
    change_commit(&load->change);
    log_write(LOG_LEVEL_NOTICE, "MASTER <-> REPLICA sync: Discarding old DB in background");
}

static void end(void *context) {
    struct load *load = context;
    struct sync *sync = load->sync;
    struct replication *replication = sync->environment.replication;
    load->cancelled = load->cancelled || sync_is_cancelled(sync);
    if (load->loaded && !load->cancelled) {
        if (load->successor)
            swap(load);
        place_loaded(&replication->place, &replication->history, sync->id, sync->offset,
                     sync->database);
        atomic_store(&replication->data_gone, false);
    } else if (!load->successor) {
        clear(load);
        place_emptied(&replication->place, &replication->history);
    }
    atomic_store(&sync->environment.persistence->loading_since_s, 0);
    service_set(sync->environment.service, load->limit, false);
    if (replication->serving.changed)
        replication->serving.changed(replication->serving.context);
}

static void run_section(void (*section)(void *context), struct load *load) {
    load->garbage = NULL;
    exclusive_run_blocking(section, load);
    if (load->garbage)
        keyspace_garbage_free(load->garbage, load->successor || load->sync->request.lazy_flush);
}

/* --- The input -------------------------------------------------------------------------------- */

/* The primary must not think that we are gone. */
static void keep_alive(struct load *load) {
    uint64_t now_ms = clock_monotonic_us() / 1000;
    if (now_ms - load->kept_alive_ms < KEEP_ALIVE_MS)
        return;
    load->kept_alive_ms = now_ms;
    ssize_t n = send(load->sync->fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n;
}

static ssize_t read_file(int fd, void *data, size_t room) {
    ssize_t n = read(fd, data, room);
    return n < 0 ? -errno : n;
}

static ssize_t read_input(void *context, void *data, size_t room) {
    struct load *load = context;
    keep_alive(load);
    if (sync_is_cancelled(load->sync))
        return -ECANCELED;
    ssize_t n;
    do
        n = load->file < 0 ? load->source.read(load->source.context, data, room)
                           : read_file(load->file, data, room);
    while (n == -EINTR);
    if (n > 0)
        atomic_fetch_add(&load->sync->environment.persistence->progress.loaded_bytes, (uint64_t)n);
    return n;
}

static void note(void *context, bool warning, const char *text) {
    (void)context;
    log_write(warning ? LOG_LEVEL_WARNING : LOG_LEVEL_NOTICE, "%s", text);
}

static bool read_all(struct load *load, uint64_t bytes) {
    struct sync *sync = load->sync;
    const struct sync_request *request = &sync->request;
    const struct rdb_source source = {read_input, load};
    const struct rdb_load_options options = {
        .keyspace = load->successor ? load->successor : sync->environment.keyspace,
        .threads = request->threads,
        .thread_number = request->thread_number,
        .keep_expired = true,
        /* blocks have checksums */
        .checksum = request->checksum && !sync->blocks,
        .string_bytes = request->string_bytes,
        .note = note};
    struct rdb_load_info info;
    if (rdb_load(&source, bytes, &options, &sync->environment.persistence->progress, &info) !=
        RDB_LOAD_DONE)
        return false;
    if (info.stream_database >= 0 &&
        (unsigned)info.stream_database < sync->environment.keyspace->databases)
        sync->database = (unsigned)info.stream_database;
    return true;
}

static void run(struct load *load, uint64_t bytes, struct transfer *transfer) {
    change_init(&load->change, &load->sync->environment.keyspace->door, VIEW_APPLYING);
    run_section(begin, load);
    if (!load->cancelled) {
        log_write(LOG_LEVEL_NOTICE, "MASTER <-> REPLICA sync: Loading DB in memory");
        load->loaded = read_all(load, bytes) && (!transfer || transfer_finish(transfer));
        run_section(end, load);
    }
    if (load->successor)
        keyspace_destroy(load->successor); /* with what it still has */
    change_destroy(&load->change);
    if (load->cancelled)
        return;
    if (load->loaded)
        log_write(LOG_LEVEL_NOTICE, "MASTER <-> REPLICA sync: Finished with success");
    else
        log_write(LOG_LEVEL_WARNING,
                  "Failed trying to load the MASTER synchronization DB from %s, check server logs.",
                  transfer ? "socket" : "disk");
    if (!load->loaded && load->successor)
        log_write(LOG_LEVEL_NOTICE,
                  "MASTER <-> REPLICA sync: Discarding temporary DB in background");
}

enum sync_result sync_load_file(struct sync *sync, const char *path) {
    struct load load = {.sync = sync};
    struct stat status;
    load.file = open(path, O_RDONLY | O_CLOEXEC);
    if (load.file < 0 || fstat(load.file, &status) < 0) {
        log_write(LOG_LEVEL_WARNING, "Cannot open the received file %s: %s", path, strerror(errno));
        if (load.file >= 0)
            close(load.file);
        return SYNC_FAILED;
    }
    run(&load, (uint64_t)status.st_size, NULL);
    close(load.file);
    if (sync->request.delete_file) {
        log_write(LOG_LEVEL_NOTICE, "Removing the RDB file obtained from the master. This replica "
                                    "has persistence disabled");
        unlink(path);
    }
    return load.loaded && !load.cancelled ? SYNC_LOADED : SYNC_FAILED;
}

enum sync_result sync_load_transfer(struct sync *sync, struct transfer *transfer) {
    struct load load = {.sync = sync, .source = {transfer_read, transfer}, .file = -1};
    if (!transfer_await(transfer)) /* the old data are served until there is something instead */
        return transfer_failure(transfer);
    run(&load, transfer_bytes(transfer), transfer);
    return load.loaded && !load.cancelled ? SYNC_LOADED : transfer_failure(transfer);
}
