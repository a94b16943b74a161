/* See sync_load.h: the received file becomes the data set.
 *
 * In one exclusive section the old data go and clients get -LOADING; the file is loaded key by key
 * under the keys' tokens; in another the id and the offset of the primary are adopted and clients
 * are served again. If the file is no good the data set is empty afterwards: half of one is worse
 * than none. While it loads the thread is one of those that run commands, as far as the engine is
 * concerned: it stops at exclusive sections between two keys. */
#include "server/links/sync_load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "replication/rdb_read.h"
#include "replication/rdb_value.h"
#include "server/base/log.h"
#include "server/dispatch/service.h"
#include "server/links/sync_private.h"
#include "server/links/sync_socket.h"

#define KEYS_BETWEEN_LOOKS 64
#define KEEP_ALIVE_MS      1000
#define TOKEN_WAIT_US      20

struct load {
    struct sync *sync;
    struct keyspace *keyspace;
    struct change change;
    struct keyspace_garbage *garbage;
    int file;
    uint64_t keys, kept_alive_ms;
    bool cancelled, loaded;
};

/* --- The two sections ------------------------------------------------------------------------- */

static void begin(void *context) {
    struct load *load = context;
    const struct sync_environment *environment = &load->sync->environment;
    struct replication *replication = environment->replication;
    load->cancelled = sync_is_cancelled(load->sync);
    if (load->cancelled)
        return;
    if (replication->serving.drop_replicas)
        replication->serving.drop_replicas(replication->serving.context, false);
    log_write(LOG_LEVEL_NOTICE, "MASTER <-> REPLICA sync: Flushing old data");
    service_set(environment->service, SERVICE_LOADING, true);
    load->sync->flushed = true;
    load->garbage = keyspace_clear(&load->change, -1);
    change_commit(&load->change);
}

static void end(void *context) {
    struct load *load = context;
    struct sync *sync = load->sync;
    struct replication *replication = sync->environment.replication;
    load->cancelled = load->cancelled || sync_is_cancelled(sync);
    if (!load->loaded || load->cancelled) {
        load->garbage = keyspace_clear(&load->change, -1);
        change_commit(&load->change);
    } else {
        history_adopt(&replication->history, sync->id, sync->offset);
    }
    service_set(sync->environment.service, SERVICE_LOADING, false);
    if (replication->serving.changed)
        replication->serving.changed(replication->serving.context);
}

static void run_section(void (*section)(void *context), struct load *load) {
    load->garbage = NULL;
    exclusive_run_blocking(section, load);
    if (load->garbage)
        keyspace_garbage_free(load->garbage, load->sync->request.lazy_flush);
}

/* --- The file --------------------------------------------------------------------------------- */

/* Neither exclusive sections nor reclamation wait for the disk. */
static ssize_t read_file(void *context, void *data, size_t room) {
    struct load *load = context;
    epoch_offline();
    exclusive_sleep_begin();
    ssize_t n;
    do
        n = read(load->file, data, room);
    while (n < 0 && errno == EINTR);
    int error = errno;
    exclusive_sleep_end();
    epoch_online();
    return n < 0 ? -error : n;
}

/* The primary must not think that we are gone. */
static void keep_alive(struct load *load) {
    uint64_t now_ms = clock_monotonic_us() / 1000;
    if (now_ms - load->kept_alive_ms < KEEP_ALIVE_MS)
        return;
    load->kept_alive_ms = now_ms;
    ssize_t n = send(load->sync->fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n;
}

static int load_aux(void *context, const char *name, size_t name_length, const char *value,
                    size_t value_length) {
    struct load *load = context;
    if (name_length == 14 && memcmp(name, "repl-stream-db", 14) == 0) {
        unsigned database = 0;
        for (size_t i = 0; i < value_length && value[i] >= '0' && value[i] <= '9'; i++)
            database = database * 10 + (unsigned)(value[i] - '0');
        if (database < load->keyspace->databases)
            load->sync->database = database;
    }
    return 0;
}

/* Commands that need no key of ours may still hold the token, for a moment. */
static void take_token(struct load *load, const struct key *key) {
    struct slot *slot = &load->keyspace->slots[key->slot];
    while (!slot_try_acquire(slot)) {
        epoch_offline();
        exclusive_sleep_begin();
        usleep(TOKEN_WAIT_US);
        exclusive_sleep_end();
        epoch_online();
    }
}

static int load_key(void *context, struct rdb_reader *reader, const struct rdb_entry *entry) {
    struct load *load = context;
    struct object *object;
    if (load->keys++ % KEYS_BETWEEN_LOOKS == 0) {
        if (sync_is_cancelled(load->sync))
            return RDB_ERROR_HANDLER;
        keep_alive(load);
        epoch_quiescent();
    }
    exclusive_point();
    int error = rdb_value_read(reader, entry->type, entry->key, entry->key_length, entry->expiry_ms,
                               &object);
    if (error)
        return error;
    struct key key = key_make(entry->key, entry->key_length);
    exclusive_point();
    take_token(load, &key);
    bool twice = keyspace_find_raw(load->keyspace, entry->database, &key) != NULL;
    change_begin(&load->change);
    if (!twice) {
        keyspace_add(&load->change, entry->database, &key, object, CHANGE_RESTORE);
        access_restore(&load->keyspace->access, object, entry->idle_s, entry->frequency);
    }
    change_commit(&load->change);
    slot_release(&load->keyspace->slots[key.slot]);
    if (!twice)
        return 0;
    object_free(object);
    return rdb_corrupt(reader, "RDB has duplicated key");
}

static bool read_all(struct load *load) {
    const struct sync_request *request = &load->sync->request;
    static const struct rdb_handler handler = {.aux = load_aux, .key = load_key};
    const struct rdb_source source = {read_file, load};
    struct rdb_limits limits = {RDB_SIZE_UNKNOWN, request->string_bytes, load->keyspace->databases};
    struct stat status;
    struct rdb_reader reader;
    if (fstat(load->file, &status) == 0)
        limits.input_bytes = (uint64_t)status.st_size;
    rdb_reader_init(&reader, &source, &limits, request->checksum);
    int error = rdb_read(&reader, &handler, load);
    if (error && error != RDB_ERROR_HANDLER)
        log_write(LOG_LEVEL_WARNING, "%s", reader.message);
    rdb_reader_free(&reader);
    return error == 0;
}

static bool load_all(struct load *load) {
    keyspace_thread_set(load->sync->request.thread_number);
    epoch_reader_enter();
    exclusive_join();
    bool loaded = read_all(load);
    exclusive_leave();
    epoch_reader_leave();
    return loaded;
}

enum sync_result sync_load_file(struct sync *sync, const char *path) {
    struct load load = {.sync = sync, .keyspace = sync->environment.keyspace};
    load.file = open(path, O_RDONLY | O_CLOEXEC);
    if (load.file < 0) {
        log_write(LOG_LEVEL_WARNING, "Cannot open the received file %s: %s", path, strerror(errno));
        return SYNC_FAILED;
    }
    change_init(&load.change, &load.keyspace->door, VIEW_APPLYING);
    run_section(begin, &load);
    if (!load.cancelled) {
        log_write(LOG_LEVEL_NOTICE, "MASTER <-> REPLICA sync: Loading DB in memory");
        load.loaded = load_all(&load);
        run_section(end, &load);
    }
    change_destroy(&load.change);
    close(load.file);
    if (!load.loaded && !load.cancelled)
        log_write(LOG_LEVEL_WARNING, "Failed trying to load the MASTER synchronization DB from "
                                     "disk, check server logs.");
    if (sync->request.delete_file) {
        log_write(LOG_LEVEL_NOTICE, "Removing the RDB file obtained from the master. This replica "
                                    "has persistence disabled");
        unlink(path);
    }
    if (!load.loaded || load.cancelled)
        return SYNC_FAILED;
    log_write(LOG_LEVEL_NOTICE, "MASTER <-> REPLICA sync: Finished with success");
    return SYNC_LOADED;
}
