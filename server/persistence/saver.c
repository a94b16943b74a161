/* See saver.h. */
#include "server/persistence/saver.h"

#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "replication/rdb_save.h"
#include "replication/snapshot_rdb.h"
#include "server/base/log.h"
#include "server/config/config.h"

#define RETRY_S        5 /* after a save that failed */
#define DELAY_SLICE_US ((uint64_t)50000)

/* What a save needs of the configuration, which its thread may not read. */
struct save_settings {
    char name[256];
    bool compression, checksum, incremental_sync;
    int64_t key_delay_us;
};

struct save {
    struct saver *saver;
    struct save_settings settings;
    struct rdb_save file;
    bool opened; /* the file, by its thread */
    struct rdb_info info;
    char replication_id[64];
    int64_t started_s;
    uint64_t changes; /* at the cut */
    uint64_t keys;
    _Atomic uint64_t keys_delayed; /* its thread */
    _Atomic bool cancelled;        /* written in exclusive sections */
    sem_t hurry;                   /* posted then */
    struct save_end *end;          /* NULL: nobody waits */
};

/* --- What it is told -------------------------------------------------------------------------- */

static int64_t now_s(void) {
    return clock_now_ms() / 1000;
}

static void read_settings(struct save_settings *settings, const struct config *config) {
    snprintf(settings->name, sizeof settings->name, "%s", config->dbfilename);
    settings->compression = config->rdbcompression;
    settings->checksum = config->rdbchecksum;
    settings->incremental_sync = config->rdb_save_incremental_fsync;
    settings->key_delay_us = config->rdb_key_save_delay;
}

/* In an exclusive section. */
static void describe(struct save *save) {
    struct saver *saver = save->saver;
    struct saving_state state;
    saver->around.state(saver->around.context, &state);
    save->changes = state.dirty;
    save->info = (struct rdb_info){.server_version = CONFIG_REDIS_VERSION,
                                   .created_s = now_s(),
                                   .used_memory_bytes = memory_counted_bytes(),
                                   .replication_offset = (int64_t)state.replication_offset,
                                   .stream_database = (int)state.database};
    if (!state.replication_id)
        return;
    snprintf(save->replication_id, sizeof save->replication_id, "%s", state.replication_id);
    save->info.replication_id = save->replication_id;
}

/* Writes are refused from now on if the configuration says so, or no more. Under the lock. */
static void set_outcome(struct saver *saver, bool ok) {
    saver->last_ok = ok;
    service_set(saver->around.persistence->service, SERVICE_DISK_ERROR, !ok);
}

/* Under the lock. */
static void note_saved(struct saver *saver, uint64_t changes) {
    atomic_store(&saver->around.persistence->saved_dirty, changes);
    atomic_store(&saver->around.persistence->last_save_s, now_s());
    set_outcome(saver, true);
}

/* --- Clients that wait ------------------------------------------------------------------------ */

static struct save_end *save_end_make(void) {
    struct save_end *end = memory_alloc_aligned(_Alignof(struct save_end), sizeof *end);
    *end = (struct save_end){.users = 2};
    pthread_mutex_init(&end->queue.lock, NULL);
    return end;
}

void save_end_leave(struct save_end *end) {
    if (atomic_fetch_sub(&end->users, 1) > 1)
        return;
    pthread_mutex_destroy(&end->queue.lock);
    memory_free(end);
}

static void tell_end(struct save *save, bool ok) {
    if (!save->end)
        return;
    save->end->ok = ok;
    waiter_queue_end(&save->end->queue, &save->end->done);
    save_end_leave(save->end);
}

/* --- A save as the sink of a walk ------------------------------------------------------------- */

static void on_cut(void *context, const struct snapshot_cut *cut) {
    struct save *save = context;
    describe(save);
    save->keys = cut->keys;
}

static int on_open(void *context, const struct snapshot_cut *cut) {
    struct save *save = context;
    const struct save_settings *settings = &save->settings;
    const struct rdb_save_options options = {.path = settings->name,
                                             .compression = settings->compression,
                                             .checksum = settings->checksum,
                                             .incremental_sync = settings->incremental_sync,
                                             .version = rdb_version_for(cut->field_timed > 0),
                                             .info = save->info};
    int error = rdb_save_begin(&save->file, save->saver->around.walker->around.keyspace, &options);
    if (error)
        return error;
    save->opened = true;
    for (unsigned i = 0; i < cut->databases; i++)
        if (cut->of[i].keys > 0)
            rdb_save_database(&save->file, i, cut->of[i].keys, cut->of[i].expiring);
    return save->file.writer.error;
}

static int on_write(void *context, const void *data, size_t length) {
    struct save *save = context;
    if (atomic_load_explicit(&save->cancelled, memory_order_relaxed))
        return -ECANCELED;
    rdb_write_bytes(&save->file.writer, data, length);
    return save->file.writer.error;
}

/* rdb-key-save-delay, for tests: a save that takes long, and can be seen to get on. */
static void delay(struct save *save) {
    int64_t delay_us = save->settings.key_delay_us;
    uint64_t slice_keys = delay_us > 0 ? DELAY_SLICE_US / (uint64_t)delay_us + 1
                                       : DELAY_SLICE_US * (uint64_t)-delay_us;
    for (uint64_t keys = 0; delay_us != 0 && keys < save->keys; keys += slice_keys) {
        atomic_store(&save->keys_delayed, keys);
        uint64_t left = save->keys - keys < slice_keys ? save->keys - keys : slice_keys;
        uint64_t us = delay_us > 0 ? left * (uint64_t)delay_us : left / (uint64_t)-delay_us;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        us += (uint64_t)until.tv_nsec / 1000;
        until.tv_sec += (time_t)(us / 1000000);
        until.tv_nsec = (long)(us % 1000000) * 1000;
        if (sem_clockwait(&save->hurry, CLOCK_MONOTONIC, &until) == 0)
            break; /* cancelled */
    }
}

static int on_close(void *context) {
    struct save *save = context;
    struct saver *saver = save->saver;
    delay(save);
    if (atomic_load(&save->cancelled))
        return -ECANCELED;
    save->opened = false;
    int error = rdb_save_close(&save->file);
    if (error)
        return error;
    /* When a cancel has returned, the file no longer takes the place of the next one's. */
    pthread_mutex_lock(&saver->place_lock);
    if (atomic_load(&save->cancelled)) {
        rdb_save_abort(&save->file);
        error = -ECANCELED;
    } else {
        error = rdb_save_rename(&save->file);
    }
    pthread_mutex_unlock(&saver->place_lock);
    return error ? error : rdb_save_settle(&save->file);
}

static void log_outcome(const struct save *save, int error) {
    if (error == -ECANCELED && atomic_load(&save->cancelled))
        log_write(LOG_LEVEL_WARNING, "Background saving terminated by signal %d", SIGUSR1);
    else if (save->end)
        return; /* who waits is told, and the reason is in the log */
    else if (error)
        log_write(LOG_LEVEL_WARNING, "Background saving error");
    else
        log_write(LOG_LEVEL_NOTICE, "Background saving terminated with success");
}

static void on_done(void *context, int error) {
    struct save *save = context;
    struct saver *saver = save->saver;
    if (save->opened && error != -ECANCELED)
        log_write(LOG_LEVEL_WARNING, "Write error while saving DB to the disk(%s): %s",
                  "rdbSaveRio", strerror(-error));
    else if (save->file.message[0])
        log_write(LOG_LEVEL_WARNING, "%s", save->file.message);
    if (error == 0)
        log_write(LOG_LEVEL_NOTICE, "DB saved on disk");
    if (save->opened)
        rdb_save_abort(&save->file);
    pthread_mutex_lock(&saver->lock);
    if (saver->save == save) { /* it was not cancelled */
        saver->save = NULL;
        saver->last_duration_s = now_s() - save->started_s;
        if (error)
            set_outcome(saver, false);
        else
            note_saved(saver, save->changes);
    }
    pthread_mutex_unlock(&saver->lock);
    log_outcome(save, error);
    tell_end(save, error == 0);
    sem_destroy(&save->hurry);
    memory_free(save);
    pthread_mutex_lock(&saver->lock);
    if (--saver->threads == 0)
        pthread_cond_broadcast(&saver->idle);
    pthread_mutex_unlock(&saver->lock);
}

/* --- Beginning and giving up (exclusive sections) --------------------------------------------- */

static int begin(struct saver *saver, const struct save_settings *settings, struct save_end **end) {
    struct snapshot_walker *walker = saver->around.walker;
    if (saver->save || snapshot_walk_is_on(walker))
        return -EBUSY;
    struct save *save = memory_calloc(1, sizeof *save);
    save->saver = saver;
    save->settings = *settings;
    save->started_s = now_s();
    sem_init(&save->hurry, 0, 0);
    if (end)
        *end = save->end = save_end_make();
    pthread_mutex_lock(&saver->lock);
    atomic_fetch_add(&saver->around.persistence->saves, 1);
    saver->last_try_s = save->started_s;
    saver->scheduled = false;
    saver->save = save;
    saver->threads++;
    pthread_mutex_unlock(&saver->lock);
    const struct snapshot_sink sink = {&snapshot_rdb_form,
                                       settings->compression,
                                       on_cut,
                                       on_open,
                                       on_write,
                                       on_close,
                                       on_done,
                                       save};
    int error = snapshot_walk_begin(walker, &sink, 1);
    if (!error) {
        if (!end)
            log_write(LOG_LEVEL_NOTICE, "Background saving started by pid %ld", (long)getpid());
        return 0;
    }
    log_write(LOG_LEVEL_WARNING, "Can't save in background: thread: %s", strerror(-error));
    pthread_mutex_lock(&saver->lock);
    saver->save = NULL;
    saver->threads--;
    set_outcome(saver, false);
    pthread_mutex_unlock(&saver->lock);
    if (end) {
        save_end_leave(save->end);
        save_end_leave(*end);
        *end = NULL;
    }
    sem_destroy(&save->hurry);
    memory_free(save);
    return error;
}

int saver_begin(struct saver *saver, const struct config *config, struct save_end **end) {
    struct save_settings settings;
    read_settings(&settings, config);
    return begin(saver, &settings, end);
}

bool saver_cancel(struct saver *saver) {
    pthread_mutex_lock(&saver->place_lock);
    pthread_mutex_lock(&saver->lock);
    struct save *save = saver->save;
    saver->save = NULL;
    if (save) { /* it cannot end while the lock is held */
        atomic_store(&save->cancelled, true);
        sem_post(&save->hurry);
        snapshot_walk_cancel(saver->around.walker, save);
    }
    pthread_mutex_unlock(&saver->lock);
    pthread_mutex_unlock(&saver->place_lock);
    return save != NULL;
}

int saver_save_now(struct saver *saver, const struct saving_state *state) {
    if (saver_cancel(saver))
        log_write(LOG_LEVEL_WARNING, "There is a child saving an .rdb. Killing it!");
    int error = saving_run(saver->around.persistence, state);
    pthread_mutex_lock(&saver->lock);
    if (!error)
        set_outcome(saver, true);
    pthread_mutex_unlock(&saver->lock);
    return error;
}

void saver_flushed(struct saver *saver, const struct config *config) {
    saver_cancel(saver);
    /* So that a restart does not bring back what is gone. */
    if (config->save.count > 0 && saver_begin(saver, config, NULL) == -EBUSY)
        saver_schedule(saver);
}

/* --- Save points ------------------------------------------------------------------------------ */

void saver_schedule(struct saver *saver) {
    pthread_mutex_lock(&saver->lock);
    saver->scheduled = true;
    pthread_mutex_unlock(&saver->lock);
}

/* The beginning of a save that no command asked for: on a thread of its own, since a worker's timer
 * cannot wait until all others have stopped. */
struct beginning {
    struct saver *saver;
    struct save_settings settings;
    int error;
};

static void begin_in_section(void *context) {
    struct beginning *beginning = context;
    beginning->error = begin(beginning->saver, &beginning->settings, NULL);
}

static void *beginning_main(void *context) {
    struct beginning *beginning = context;
    struct saver *saver = beginning->saver;
    exclusive_run_blocking(begin_in_section, beginning);
    memory_free(beginning);
    pthread_mutex_lock(&saver->lock);
    saver->beginning = false;
    if (--saver->threads == 0)
        pthread_cond_broadcast(&saver->idle);
    pthread_mutex_unlock(&saver->lock);
    return NULL;
}

/* Under the lock. */
static void begin_on_thread(struct saver *saver, const struct config *config) {
    pthread_t thread;
    sigset_t all, before;
    struct beginning *beginning = memory_alloc(sizeof *beginning);
    beginning->saver = saver;
    read_settings(&beginning->settings, config);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, NULL, beginning_main, beginning);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        log_write(LOG_LEVEL_WARNING, "Can't save in background: thread: %s", strerror(error));
        memory_free(beginning);
        saver->last_try_s = now_s();
        set_outcome(saver, false);
        return;
    }
    pthread_detach(thread);
    saver->threads++;
    saver->beginning = true;
}

/* Under the lock. */
static bool save_point_is_due(const struct saver *saver, const struct config *config,
                              uint64_t changes) {
    int64_t now = now_s();
    if (!saver->last_ok && now - saver->last_try_s <= RETRY_S)
        return false;
    for (size_t i = 0; i < config->save.count; i++) {
        const struct config_save_point *point = &config->save.point[i];
        if (changes < (uint64_t)point->changes ||
            now - atomic_load(&saver->around.persistence->last_save_s) <= point->seconds)
            continue;
        log_write(LOG_LEVEL_NOTICE, "%d changes in %d seconds. Saving...", point->changes,
                  (int)point->seconds);
        return true;
    }
    return false;
}

void saver_tick(struct saver *saver, const struct config *config) {
    uint64_t changes = saver->around.changes(saver->around.context);
    pthread_mutex_lock(&saver->lock);
    bool free = !saver->save && !saver->beginning && !snapshot_walk_is_on(saver->around.walker);
    uint64_t saved = atomic_load(&saver->around.persistence->saved_dirty);
    changes = changes > saved ? changes - saved : 0;
    bool scheduled = saver->scheduled && (saver->last_ok || now_s() - saver->last_try_s > RETRY_S);
    if (free && (scheduled || save_point_is_due(saver, config, changes)))
        begin_on_thread(saver, config);
    pthread_mutex_unlock(&saver->lock);
}

/* --- State ------------------------------------------------------------------------------------ */

/* Under the lock. */
static uint64_t keys_done(const struct saver *saver) {
    struct snapshot_progress progress;
    if (saver->save->settings.key_delay_us != 0)
        return atomic_load(&saver->save->keys_delayed);
    snapshot_walk_progress(saver->around.walker, &progress);
    return progress.on ? progress.keys_taken : saver->save->keys;
}

void saver_get_state(const struct saver *saver, struct saver_state *state) {
    pthread_mutex_t *lock = (pthread_mutex_t *)&saver->lock; /* which alone is written to */
    uint64_t changes = saver->around.changes(saver->around.context),
             saved = atomic_load(&saver->around.persistence->saved_dirty);
    pthread_mutex_lock(lock);
    const struct save *save = saver->save;
    *state = (struct saver_state){
        .saving = save != NULL,
        .scheduled = saver->scheduled,
        .last_ok = saver->last_ok,
        .last_duration_s = saver->last_duration_s,
        .started_s = save ? save->started_s : 0,
        .changes = changes > saved ? changes - saved : 0,
        .keys = save ? save->keys : 0,
        .keys_done = save ? keys_done(saver) : 0,
    };
    pthread_mutex_unlock(lock);
}

void saver_init(struct saver *saver, const struct saver_surroundings *around) {
    *saver = (struct saver){.around = *around, .last_ok = true, .last_duration_s = -1};
    pthread_mutex_init(&saver->lock, NULL);
    pthread_mutex_init(&saver->place_lock, NULL);
    pthread_cond_init(&saver->idle, NULL);
}

void saver_destroy(struct saver *saver) {
    pthread_mutex_lock(&saver->lock);
    while (saver->threads > 0)
        pthread_cond_wait(&saver->idle, &saver->lock);
    pthread_mutex_unlock(&saver->lock);
    pthread_mutex_destroy(&saver->lock);
    pthread_mutex_destroy(&saver->place_lock);
    pthread_cond_destroy(&saver->idle);
}
