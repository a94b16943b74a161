/* See cluster_store.h. */
#include "server/links/cluster_store.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/memory.h"
#include "server/base/log.h"

#define FILE_BYTES_MAX (256 << 20)

static char *path_with(const char *path, const char *suffix) {
    size_t length = strlen(path) + strlen(suffix) + 1;
    char *text = memory_alloc(length);
    snprintf(text, length, "%s%s", path, suffix);
    return text;
}

static int take_lock(const char *path, const char *shown) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        log_write(LOG_LEVEL_WARNING, "Can't open %s in order to acquire a lock: %s", shown,
                  strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (errno == EWOULDBLOCK)
        log_write(LOG_LEVEL_WARNING,
                  "Sorry, the cluster configuration file %s is already used by a different Redis "
                  "Cluster node. Please make sure that different nodes use different cluster "
                  "configuration files.",
                  shown);
    else
        log_write(LOG_LEVEL_WARNING, "Impossible to lock %s: %s", shown, strerror(errno));
    close(fd);
    return -1;
}

int cluster_store_open(struct cluster_store *store, const char *path) {
    *store = (struct cluster_store){.path = memory_strdup(path), .lock_fd = -1};
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->work, NULL);
    pthread_cond_init(&store->done, NULL);
    char *lock_path = path_with(path, ".lock");
    store->lock_fd = take_lock(lock_path, path);
    memory_free(lock_path);
    return store->lock_fd < 0 ? -1 : 0;
}

static char *read_all(int fd, size_t size, size_t *length) {
    char *text = memory_alloc(size + 1);
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, text + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    text[done] = '\0';
    *length = done;
    return text;
}

char *cluster_store_read(const struct cluster_store *store, size_t *length, bool *failed) {
    struct stat status;
    char *text = NULL;
    *failed = false;
    *length = 0;
    int fd = open(store->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return NULL;
    if (fd < 0 || fstat(fd, &status) < 0 || status.st_size > FILE_BYTES_MAX) {
        log_write(LOG_LEVEL_WARNING, "Loading the cluster node config from %s: %s", store->path,
                  strerror(fd < 0 ? errno : EFBIG));
        *failed = true;
    } else if (status.st_size > 0) {
        text = read_all(fd, (size_t)status.st_size, length);
        *failed = *length != (size_t)status.st_size;
        if (*failed)
            log_write(LOG_LEVEL_WARNING, "Loading the cluster node config from %s: %s", store->path,
                      "short read");
    }
    if (fd >= 0)
        close(fd);
    return text;
}

/* --- Writing ---------------------------------------------------------------------------------- */

static bool failed(const char *what) {
    log_write(LOG_LEVEL_WARNING, "Could not %s: %s", what, strerror(errno));
    return false;
}

static bool write_all(int fd, const char *text, size_t length) {
    size_t done = 0;
    while (done < length) {
        ssize_t n = write(fd, text + done, length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            log_write(LOG_LEVEL_WARNING,
                      "Failed after writing (%zu) bytes to tmp cluster config file: %s", done,
                      strerror(errno));
            return false;
        }
        done += (size_t)n;
    }
    return true;
}

static bool sync_folder(const char *path) {
    char *copy = memory_strdup(path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    memory_free(copy);
    /* Some file systems have no such thing for folders. */
    bool synced = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL || errno == EBADF);
    if (!synced)
        failed("fsync cluster config file dir");
    if (fd >= 0)
        close(fd);
    return synced;
}

static bool replace_file(const char *path, const char *text, size_t length) {
    char suffix[48];
    snprintf(suffix, sizeof suffix, ".tmp-%d", (int)getpid());
    char *temporary = path_with(path, suffix);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool done = fd >= 0 || failed("open temp cluster config file");
    if (fd >= 0) {
        done = write_all(fd, text, length) &&
               (fsync(fd) == 0 || failed("sync tmp cluster config file"));
        close(fd);
        done = done && (rename(temporary, path) == 0 || failed("rename tmp cluster config file"));
        if (!done)
            unlink(temporary);
    }
    memory_free(temporary);
    return done && sync_folder(path);
}

/* Writes what is pending. Under the lock, which it gives up meanwhile. */
static bool write_pending(struct cluster_store *store, uint64_t *ticket) {
    char *text = store->pending;
    size_t length = store->pending_length;
    *ticket = store->pending_ticket;
    store->pending = NULL;
    pthread_mutex_unlock(&store->lock);
    bool durable = replace_file(store->path, text, length);
    memory_free(text);
    pthread_mutex_lock(&store->lock);
    return durable;
}

/* Under the lock. Who waits goes on. */
static void finish(struct cluster_store *store, uint64_t ticket, bool durable) {
    store->finished_ticket = ticket;
    if (durable)
        store->durable_ticket = ticket;
    pthread_cond_broadcast(&store->done);
}

int cluster_store_write_now(struct cluster_store *store, uint64_t *ticket) {
    bool durable = true;
    *ticket = 0;
    pthread_mutex_lock(&store->lock);
    if (store->pending) {
        durable = write_pending(store, ticket);
        finish(store, *ticket, durable);
    }
    pthread_mutex_unlock(&store->lock);
    return durable ? 0 : -1;
}

static void *store_main(void *context) {
    struct cluster_store *store = context;
    pthread_mutex_lock(&store->lock);
    for (;;) {
        while (!store->pending && !store->stopping)
            pthread_cond_wait(&store->work, &store->lock);
        if (!store->pending)
            break;
        uint64_t ticket;
        bool durable = write_pending(store, &ticket);
        bool tell = !store->stopping;
        pthread_mutex_unlock(&store->lock);
        if (tell)
            store->written(store->context, ticket, durable);
        pthread_mutex_lock(&store->lock);
        finish(store, ticket, durable); /* who waits finds that the cluster knows */
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

int cluster_store_start(struct cluster_store *store) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&store->thread, NULL, store_main, store);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    store->started = error == 0;
    if (store->started)
        pthread_setname_np(store->thread, "cluster-file");
    return -error;
}

void cluster_store_submit(struct cluster_store *store, const char *text, size_t length,
                          uint64_t ticket) {
    char *copy = memory_alloc(length + 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    pthread_mutex_lock(&store->lock);
    memory_free(store->pending);
    store->pending = copy;
    store->pending_length = length;
    store->pending_ticket = ticket;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->lock);
}

bool cluster_store_wait(struct cluster_store *store, uint64_t ticket) {
    pthread_mutex_lock(&store->lock);
    while (store->finished_ticket < ticket && !store->stopping)
        pthread_cond_wait(&store->done, &store->lock);
    bool durable = store->durable_ticket >= ticket;
    pthread_mutex_unlock(&store->lock);
    return durable;
}

void cluster_store_close(struct cluster_store *store) {
    pthread_mutex_lock(&store->lock);
    store->stopping = true;
    pthread_cond_broadcast(&store->work);
    pthread_cond_broadcast(&store->done);
    pthread_mutex_unlock(&store->lock);
    if (store->started)
        pthread_join(store->thread, NULL);
    store->started = false;
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    memory_free(store->pending);
    memory_free(store->path);
    store->pending = store->path = NULL; /* who waited may still be about to leave the lock */
}
