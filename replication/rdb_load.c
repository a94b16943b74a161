/* Loading an RDB.
 *
 * Algorithm. The calling thread reads: it checks the frame, takes the checksum, and for each key
 * finds its slot and where its value ends. Type, key and the value's bytes, as they are, go into
 * the batch of that inserter whose share has the slot (slot modulo threads), and full batches into
 * the inserter's queue. Inserters unpack, make objects and put them into the tables under the
 * slots' tokens, in groups whose keys are hashed and whose buckets are fetched ahead. So what is
 * expensive (memory that is not in the cache, LZF, allocation) is done on all cores, and the one
 * thread that knows the order of the bytes does little for each key.
 *
 * Ordering. A batch belongs to the reader until it is queued and to the inserter afterwards; the
 * queue's lock is between the two. Keys of one slot go through one queue: their order stays.
 *
 * Progress. A queue holds at most QUEUE_BYTES (or one batch, if that is larger): the reader waits
 * for the inserter, the inserter for the reader or for a token, whose holder waits for nothing.
 * After an error inserters throw away what comes, so that nobody waits for ever.
 *
 * Reclamation. Inserters are registered readers: tables that grow retire their old arrays. */
#include "replication/rdb_load.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "engine/types/collection.h"
#include "engine/value.h"
#include "replication/rdb_collection.h"
#include "replication/rdb_value.h"

#define BATCH_BYTES   ((size_t)64 * 1024)
#define QUEUE_BYTES   ((size_t)1024 * 1024)
#define GROUP_KEYS    32 /* that are fetched ahead together */
#define STOP_LOOK_MS  100
/* A value of more elements (or nodes of a list) is not gathered in memory as bytes first: the
 * reader makes it. */
#define MADE_ELEMENTS 16384
#define EMPTY_NOTES   10 /* so many of them are noted */

/* A key in a batch: this, the key, the bytes of its value. */
struct entry {
    int64_t expiry_ms, idle_s;
    size_t value_length;
    uint32_t key_length, slot;
    uint16_t database;
    int16_t frequency;
    uint8_t type;
    bool made; /* the value is the address of an object that the reader has made */
};

struct batch {
    struct batch *next;
    size_t used, room;
    uint8_t data[];
};

struct inserter {
    struct loader *loader;
    pthread_t thread;
    unsigned number;
    /* The reader's: what is being filled. */
    struct batch *filling;
    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct batch *first, *last;
    size_t queued_bytes;
    bool ended; /* nothing more comes */
    /* The inserter's. */
    struct change change;
    struct rdb_reader reader;
    uint64_t loaded;
};

struct loader {
    const struct rdb_load_options *options;
    struct rdb_load_progress *progress;
    struct rdb_load_info *info;
    struct inserter *inserters;
    unsigned threads;
    int64_t began_ms;
    uint64_t expired;
    int64_t undelayed;   /* keys since the last delay */
    _Atomic bool failed; /* an inserter has; its message is under the lock */
    pthread_mutex_t lock;
    char message[512];
    uint64_t empty; /* keys that had nothing; under the lock */
};

/* --- Queues ----------------------------------------------------------------------------------- */

static struct batch *batch_make(size_t room) {
    struct batch *batch = memory_alloc(sizeof *batch + room);
    batch->next = NULL;
    batch->used = 0;
    batch->room = room;
    return batch;
}

/* The reader's. */
static void queue_filled(struct inserter *inserter) {
    struct batch *batch = inserter->filling;
    inserter->filling = NULL;
    if (!batch)
        return;
    pthread_mutex_lock(&inserter->lock);
    while (inserter->first && inserter->queued_bytes + batch->used > QUEUE_BYTES)
        pthread_cond_wait(&inserter->changed, &inserter->lock);
    if (inserter->first)
        inserter->last->next = batch;
    else
        inserter->first = batch;
    inserter->last = batch;
    inserter->queued_bytes += batch->used;
    pthread_cond_signal(&inserter->changed);
    pthread_mutex_unlock(&inserter->lock);
}

static void wait_begin(const struct loader *loader) {
    epoch_offline();
    if (!loader->options->exclusive)
        exclusive_sleep_begin();
}

static void wait_end(const struct loader *loader) {
    if (!loader->options->exclusive)
        exclusive_sleep_end();
    epoch_online();
}

/* NULL: that was all. */
static struct batch *queue_take(struct inserter *inserter) {
    pthread_mutex_lock(&inserter->lock);
    if (!inserter->first && !inserter->ended) {
        wait_begin(inserter->loader);
        while (!inserter->first && !inserter->ended)
            pthread_cond_wait(&inserter->changed, &inserter->lock);
        /* A section may be running: the reader must not wait for its end with us. */
        pthread_mutex_unlock(&inserter->lock);
        wait_end(inserter->loader);
        pthread_mutex_lock(&inserter->lock);
    }
    struct batch *batch = inserter->first;
    if (batch) {
        inserter->first = batch->next;
        inserter->queued_bytes -= batch->used;
        pthread_cond_signal(&inserter->changed);
    }
    pthread_mutex_unlock(&inserter->lock);
    return batch;
}

/* --- Inserting -------------------------------------------------------------------------------- */

static void fail(struct loader *loader, const char *message) {
    pthread_mutex_lock(&loader->lock);
    if (!atomic_load(&loader->failed))
        snprintf(loader->message, sizeof loader->message, "%s", message);
    pthread_mutex_unlock(&loader->lock);
    atomic_store(&loader->failed, true);
}

/* An entry with its key, while its group is worked on. */
struct place {
    struct entry entry;
    const uint8_t *value;
    struct key key;
};

static size_t place_read(struct place *place, const uint8_t *data) {
    memcpy(&place->entry, data, sizeof place->entry);
    const char *key = (const char *)data + sizeof place->entry;
    size_t length = place->entry.key_length;
    place->key = (struct key){key, length, table_hash(key, length), place->entry.slot};
    place->value = (const uint8_t *)key + length;
    return sizeof place->entry + length + place->entry.value_length;
}

static void publish(struct inserter *inserter, const struct place *place, struct object *object) {
    const struct entry *entry = &place->entry;
    struct keyspace *keyspace = inserter->loader->options->keyspace;
    struct slot *slot = &keyspace->slots[place->key.slot];
    change_begin(&inserter->change);
    slot_acquire_waiting(slot);
    struct object *old = keyspace_find_raw(keyspace, entry->database, &place->key);
    if (UNLIKELY(old != NULL) && !inserter->loader->options->replace) {
        slot_release(slot);
        object_free(object);
        char message[512];
        int shown = entry->key_length > 128 ? 128 : (int)entry->key_length;
        snprintf(message, sizeof message, "RDB has duplicated key '%.*s' in DB %u", shown,
                 place->key.data, entry->database);
        fail(inserter->loader, message);
        return;
    }
    if (old)
        keyspace_replace(&inserter->change, entry->database, &place->key, old, object,
                         CHANGE_LOADED);
    else
        keyspace_add(&inserter->change, entry->database, &place->key, object, CHANGE_LOADED);
    access_restore(&keyspace->access, object, entry->idle_s, entry->frequency);
    change_commit(&inserter->change);
    slot_release(slot);
    inserter->loaded++;
}

/* As Redis does it: such keys are left out. */
static void note_empty(struct loader *loader, const char *message) {
    pthread_mutex_lock(&loader->lock);
    if (loader->empty++ < EMPTY_NOTES)
        loader->options->note(loader->options->context, false, message);
    pthread_mutex_unlock(&loader->lock);
}

static struct object *made_object(const struct place *place) {
    struct object *object;
    ASSERT(place->entry.made && place->entry.value_length == sizeof object);
    memcpy(&object, place->value, sizeof object);
    return object;
}

static void insert(struct inserter *inserter, const struct place *place) {
    struct rdb_reader *reader = &inserter->reader;
    struct object *object;
    if (place->entry.made) {
        publish(inserter, place, made_object(place));
        return;
    }
    rdb_reader_set_memory(reader, place->value, place->entry.value_length);
    reader->database = place->entry.database;
    int error = rdb_value_read(reader, place->entry.type, place->key.data, place->key.length,
                               place->entry.expiry_ms, &object);
    if (LIKELY(error == 0))
        publish(inserter, place, object);
    else if (error == RDB_ERROR_EMPTY)
        note_empty(inserter->loader, reader->message);
    else
        fail(inserter->loader, reader->message);
}

/* What is in the batch from there on will not be inserted. */
static void discard(const struct batch *batch, size_t at) {
    struct place place;
    while (at < batch->used) {
        at += place_read(&place, batch->data + at);
        if (place.entry.made)
            object_free(made_object(&place));
    }
}

/* Header, then bucket, of each key's table, before the first of them is needed. */
static void fetch_ahead(const struct keyspace *keyspace, const struct place *places, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const table_root *root =
            keyspace_root(keyspace, places[i].entry.database, places[i].key.slot);
        if (root)
            table_prefetch_header(root);
    }
    for (size_t i = 0; i < n; i++) {
        const table_root *root =
            keyspace_root(keyspace, places[i].entry.database, places[i].key.slot);
        if (root)
            table_prefetch_bucket(root, places[i].key.hash);
    }
}

static void insert_batch(struct inserter *inserter, const struct batch *batch) {
    const struct loader *loader = inserter->loader;
    struct place places[GROUP_KEYS];
    for (size_t at = 0; at < batch->used;) {
        if (atomic_load_explicit(&loader->failed, memory_order_relaxed)) {
            discard(batch, at);
            return;
        }
        size_t n = 0;
        while (n < GROUP_KEYS && at < batch->used)
            at += place_read(&places[n++], batch->data + at);
        fetch_ahead(loader->options->keyspace, places, n);
        for (size_t i = 0; i < n; i++)
            insert(inserter, &places[i]);
        epoch_quiescent();
        if (!loader->options->exclusive)
            exclusive_point();
    }
    atomic_fetch_add_explicit(&loader->progress->keys_loaded, inserter->loaded,
                              memory_order_relaxed);
    inserter->loaded = 0;
}

static void *inserter_main(void *context) {
    struct inserter *inserter = context;
    const struct rdb_load_options *options = inserter->loader->options;
    struct batch *batch;
    char name[16];
    snprintf(name, sizeof name, "load-%u", inserter->number);
    pthread_setname_np(pthread_self(), name);
    keyspace_thread_set(options->thread_number + inserter->number);
    epoch_reader_enter();
    if (!options->exclusive)
        exclusive_join();
    change_init(&inserter->change, &options->keyspace->door, VIEW_APPLYING);
    rdb_reader_init_memory(&inserter->reader, NULL, 0, options->string_bytes);
    while ((batch = queue_take(inserter)) != NULL) {
        insert_batch(inserter, batch);
        memory_free(batch);
    }
    rdb_reader_free(&inserter->reader);
    collection_thread_exit();
    change_destroy(&inserter->change);
    if (!options->exclusive)
        exclusive_leave();
    epoch_reader_leave();
    return NULL;
}

/* --- Reading: keys ---------------------------------------------------------------------------- */

/* Whether Redis would not load it: it is over already, and nobody else decides that. */
static bool is_over(const struct loader *loader, const struct rdb_entry *entry) {
    return !loader->options->keep_expired && entry->expiry_ms != OBJECT_NO_EXPIRY &&
           entry->expiry_ms < loader->began_ms;
}

static void hand_over(struct loader *loader, const struct rdb_entry *key, const uint8_t *value,
                      size_t value_length, bool made) {
    uint32_t slot = slot_of_key(key->key, key->key_length);
    struct inserter *inserter = &loader->inserters[slot % loader->threads];
    struct entry entry = {.expiry_ms = key->expiry_ms,
                          .idle_s = key->idle_s,
                          .value_length = value_length,
                          .key_length = (uint32_t)key->key_length,
                          .slot = slot,
                          .database = (uint16_t)key->database,
                          .frequency = (int16_t)key->frequency,
                          .type = (uint8_t)key->type,
                          .made = made};
    size_t size = sizeof entry + key->key_length + value_length;
    if (inserter->filling && inserter->filling->room - inserter->filling->used < size)
        queue_filled(inserter);
    if (!inserter->filling)
        inserter->filling = batch_make(size > BATCH_BYTES ? size : BATCH_BYTES);
    uint8_t *to = inserter->filling->data + inserter->filling->used;
    memcpy(to, &entry, sizeof entry);
    memcpy(to + sizeof entry, key->key, key->key_length);
    memcpy(to + sizeof entry + key->key_length, value, value_length);
    inserter->filling->used += size;
}

static void delay(struct loader *loader, int delay_us) {
    if (delay_us > 0)
        usleep((unsigned)delay_us);
    else if (++loader->undelayed >= -(int64_t)delay_us) {
        loader->undelayed = 0;
        usleep(1);
    }
}

/* The key is not loaded. */
static void leave_out(struct loader *loader, const struct rdb_entry *entry) {
    loader->expired++;
    if (loader->options->expired)
        loader->options->expired(loader->options->context, loader->info, entry);
}

/* A value of many elements, whose number has been read. */
static int load_large(struct loader *loader, struct rdb_reader *reader,
                      const struct rdb_entry *entry, uint64_t elements) {
    struct object *object;
    int error = rdb_collection_read_counted(reader, entry->type, elements, entry->key,
                                            entry->key_length, entry->expiry_ms, &object);
    if (error == RDB_ERROR_EMPTY)
        note_empty(loader, reader->message);
    if (error)
        return error == RDB_ERROR_EMPTY ? 0 : error;
    if (!is_over(loader, entry)) {
        hand_over(loader, entry, (const uint8_t *)&object, sizeof object, true);
        return 0;
    }
    object_free(object);
    leave_out(loader, entry);
    return 0;
}

static int load_small(struct loader *loader, struct rdb_reader *reader,
                      const struct rdb_entry *entry) {
    size_t length;
    const uint8_t *value = rdb_keep_end(reader, &length);
    if (is_over(loader, entry))
        leave_out(loader, entry);
    else
        hand_over(loader, entry, value, length, false);
    return 0;
}

static int load_key(void *context, struct rdb_reader *reader, const struct rdb_entry *entry) {
    struct loader *loader = context;
    if (UNLIKELY(atomic_load_explicit(&loader->failed, memory_order_relaxed) ||
                 atomic_load_explicit(&loader->progress->stop, memory_order_relaxed)))
        return RDB_ERROR_HANDLER;
    if (entry->key_length > UINT32_MAX)
        return rdb_corrupt(reader, "A key is longer than what is possible");
    int delay_us = atomic_load_explicit(&loader->progress->key_delay_us, memory_order_relaxed);
    if (UNLIKELY(delay_us != 0))
        delay(loader, delay_us);
    uint64_t elements = 0;
    size_t ignored;
    bool counted = rdb_collection_is_counted(entry->type);
    rdb_keep_begin(reader);
    int error = counted ? rdb_read_length(reader, &elements) : 0;
    if (error == 0 && elements > MADE_ELEMENTS) {
        rdb_keep_end(reader, &ignored);
        return load_large(loader, reader, entry, elements);
    }
    if (error == 0)
        error = counted ? rdb_collection_skip_counted(reader, entry->type, elements)
                        : rdb_value_skip(reader, entry->type, entry->key, entry->key_length);
    return error ? error : load_small(loader, reader, entry);
}

/* --- Reading: what is about the file ---------------------------------------------------------- */

static __attribute__((format(printf, 3, 4))) void note(const struct loader *loader, bool warning,
                                                       const char *format, ...) {
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    loader->options->note(loader->options->context, warning, text);
}

static bool is(const char *name, const char *expected) {
    return strcasecmp(name, expected) == 0;
}

static void note_age(const struct loader *loader, int64_t created_s) {
    int64_t age_s = loader->began_ms / 1000 - created_s;
    note(loader, false, "RDB age %" PRId64 " seconds", age_s > 0 ? age_s : 0);
}

static int load_aux(void *context, const char *name, size_t name_length, const char *value,
                    size_t value_length) {
    struct loader *loader = context;
    struct rdb_load_info *info = loader->info;
    char field[128], text[256];
    snprintf(field, sizeof field, "%.*s", name_length > 100 ? 100 : (int)name_length, name);
    snprintf(text, sizeof text, "%.*s", value_length > 200 ? 200 : (int)value_length, value);
    int64_t number = strtoll(text, NULL, 10);
    if (field[0] == '%') {
        note(loader, false, "RDB '%s': %s", field, text);
    } else if (is(field, "redis-ver")) {
        note(loader, false, "Loading RDB produced by version %s", text);
    } else if (is(field, "ctime")) {
        note_age(loader, number);
    } else if (is(field, "used-mem")) {
        note(loader, false, "RDB memory usage when created %.2f Mb", (double)number / (1 << 20));
        atomic_store(&loader->progress->used_memory_bytes, (uint64_t)number);
    } else if (is(field, "repl-stream-db")) {
        info->stream_database = (int)number;
    } else if (is(field, "repl-id") && strlen(text) == sizeof info->replication_id - 1) {
        memcpy(info->replication_id, text, sizeof info->replication_id);
    } else if (is(field, "repl-offset")) {
        info->replication_offset = number;
    } else if (is(field, "aof-preamble") && number) {
        note(loader, false, "RDB has an AOF tail");
    } else if (is(field, "aof-base") && number) {
        note(loader, false, "RDB is base AOF");
    }
    return 0;
}

static int load_function(void *context, const char *code, size_t length) {
    const char *end = memchr(code, '\n', length);
    size_t first = end ? (size_t)(end - code) : length;
    note(context, true,
         "The RDB file contains a library of functions, which this version does not have; it is "
         "left out: %.*s",
         first > 200 ? 200 : (int)first, code);
    return 0;
}

static int load_module_aux(void *context, const char *module) {
    note(context, true,
         "The RDB file contains AUX module data I can't load: no matching module '%s'; it is left "
         "out",
         module);
    return 0;
}

static int load_no_checksum(void *context) {
    note(context, false, "RDB file was saved with checksum disabled: no check performed.");
    return 0;
}

/* --- The whole -------------------------------------------------------------------------------- */

static void inserter_init(struct loader *loader, unsigned number) {
    struct inserter *inserter = &loader->inserters[number];
    inserter->loader = loader;
    inserter->number = number;
    pthread_mutex_init(&inserter->lock, NULL);
    pthread_cond_init(&inserter->changed, NULL);
}

/* As many as there can be: one is enough. */
static int inserters_start(struct loader *loader) {
    int error = 0;
    loader->inserters = memory_calloc(loader->options->threads, sizeof *loader->inserters);
    for (unsigned i = 0; i < loader->options->threads && error == 0; i++) {
        inserter_init(loader, i);
        struct inserter *inserter = &loader->inserters[i];
        error = pthread_create(&inserter->thread, NULL, inserter_main, inserter);
        if (error == 0)
            loader->threads++;
    }
    return loader->threads > 0 ? 0 : -error;
}

static void inserters_end(struct loader *loader) {
    for (unsigned i = 0; i < loader->threads; i++) {
        struct inserter *inserter = &loader->inserters[i];
        queue_filled(inserter);
        pthread_mutex_lock(&inserter->lock);
        inserter->ended = true;
        pthread_cond_signal(&inserter->changed);
        pthread_mutex_unlock(&inserter->lock);
    }
    for (unsigned i = 0; i < loader->threads; i++) {
        struct inserter *inserter = &loader->inserters[i];
        pthread_join(inserter->thread, NULL);
        pthread_mutex_destroy(&inserter->lock);
        pthread_cond_destroy(&inserter->changed);
    }
    memory_free(loader->inserters);
}

/* The lines that Redis has for it. */
static void note_failure(const struct loader *loader, int error, const struct rdb_reader *reader) {
    const char *reason = error == RDB_ERROR_SHORT      ? "Unexpected EOF reading RDB file"
                         : error == RDB_ERROR_CHECKSUM ? "RDB CRC error"
                                                       : NULL;
    note(loader, true, "%s", reader->message);
    if (reason)
        note(loader, true, "Internal error in RDB reading offset %" PRIu64 " -> %s",
             rdb_read_offset(reader), reason);
}

/* What has come of it; inserters may have found what the reader could not see. */
static enum rdb_load_result conclude(struct loader *loader, int error,
                                     const struct rdb_reader *reader) {
    atomic_store(&loader->progress->keys_expired, loader->expired);
    if (atomic_load(&loader->failed)) {
        note(loader, true, "%s", loader->message);
        return RDB_LOAD_FAILED;
    }
    if (error && atomic_load(&loader->progress->stop))
        return RDB_LOAD_STOPPED;
    if (error) {
        note_failure(loader, error, reader);
        return RDB_LOAD_FAILED;
    }
    char empty[64] = "";
    if (loader->empty > 0)
        snprintf(empty, sizeof empty, ", empty keys skipped: %" PRIu64, loader->empty);
    note(loader, false, "Done loading RDB, keys loaded: %" PRIu64 ", keys expired: %" PRIu64 "%s.",
         atomic_load(&loader->progress->keys_loaded), loader->expired, empty);
    return RDB_LOAD_DONE;
}

enum rdb_load_result rdb_load(const struct rdb_source *source, uint64_t input_bytes,
                              const struct rdb_load_options *options,
                              struct rdb_load_progress *progress, struct rdb_load_info *info) {
    static const struct rdb_handler handler = {.aux = load_aux,
                                               .function = load_function,
                                               .module_aux = load_module_aux,
                                               .key = load_key,
                                               .no_checksum = load_no_checksum};
    struct loader loader = {
        .options = options, .progress = progress, .info = info, .began_ms = clock_now_ms()};
    struct rdb_limits limits = {.input_bytes = input_bytes,
                                .string_bytes = options->string_bytes,
                                .databases = options->keyspace->databases};
    struct rdb_reader reader;
    ASSERT(options->threads > 0);
    *info = (struct rdb_load_info){.stream_database = -1};
    atomic_store(&progress->total_bytes, input_bytes == RDB_SIZE_UNKNOWN ? 0 : input_bytes);
    /* Inserters wait for grace periods when they end. */
    bool online = epoch_is_online();
    if (online)
        epoch_offline();
    pthread_mutex_init(&loader.lock, NULL);
    rdb_reader_init(&reader, source, &limits, options->checksum);
    int error = inserters_start(&loader);
    if (error)
        fail(&loader, "No thread can be started that loads the RDB");
    else
        error = rdb_read(&reader, &handler, &loader);
    inserters_end(&loader);
    enum rdb_load_result result = conclude(&loader, error, &reader);
    rdb_reader_free(&reader);
    collection_thread_exit();
    pthread_mutex_destroy(&loader.lock);
    if (online)
        epoch_online();
    return result;
}

static void note_to(const struct rdb_load_options *options, const char *path, int error) {
    char text[512];
    snprintf(text, sizeof text, "Fatal error: can't open the RDB file %.300s for reading: %s", path,
             strerror(error));
    options->note(options->context, true, text);
}

struct file {
    int fd;
    bool regular; /* else (a pipe) there may be nothing to read for a while */
    struct rdb_load_progress *progress;
};

static ssize_t file_read(void *context, void *data, size_t room) {
    struct file *file = context;
    ssize_t count;
    struct pollfd wanted = {.fd = file->fd, .events = POLLIN};
    while (!file->regular && poll(&wanted, 1, STOP_LOOK_MS) <= 0)
        if (atomic_load(&file->progress->stop))
            return -ECANCELED;
    if (atomic_load_explicit(&file->progress->stop, memory_order_relaxed))
        return -ECANCELED; /* one key may be all of it */
    do
        count = read(file->fd, data, room);
    while (count < 0 && errno == EINTR);
    if (count < 0)
        return -errno;
    atomic_fetch_add_explicit(&file->progress->loaded_bytes, (uint64_t)count, memory_order_relaxed);
    return count;
}

enum rdb_load_result rdb_load_file(const char *path, const struct rdb_load_options *options,
                                   struct rdb_load_progress *progress, struct rdb_load_info *info) {
    struct file file = {.fd = open(path, O_RDONLY | O_CLOEXEC), .progress = progress};
    struct stat stat;
    if (file.fd < 0) {
        if (errno == ENOENT)
            return RDB_LOAD_NO_FILE;
        note_to(options, path, errno);
        return RDB_LOAD_FAILED;
    }
    file.regular = fstat(file.fd, &stat) == 0 && S_ISREG(stat.st_mode);
    if (file.regular)
        posix_fadvise(file.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    struct rdb_source source = {.read = file_read, .context = &file};
    enum rdb_load_result result = rdb_load(
        &source, file.regular ? (uint64_t)stat.st_size : RDB_SIZE_UNKNOWN, options, progress, info);
    close(file.fd);
    return result;
}
