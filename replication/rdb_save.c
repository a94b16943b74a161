/* See rdb_save.h. */
#include "replication/rdb_save.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "engine/assert.h"

#define SYNC_STEP_BYTES ((uint64_t)4 * 1024 * 1024)
#define WALK_KEYS       1024 /* of a table in one step */

/* --- The file --------------------------------------------------------------------------------- */

static int write_all(int fd, const char *data, size_t length) {
    while (length > 0) {
        ssize_t count = write(fd, data, length);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        data += count;
        length -= (size_t)count;
    }
    return 0;
}

/* What was written goes to disk while the next piece is made, so that the end has little to wait
 * for and others' writes are not crowded out. Failing is no error here: fsync tells. */
static void sync_step(struct rdb_save *save) {
    if (!save->incremental_sync || save->written_bytes - save->syncing_bytes < SYNC_STEP_BYTES)
        return;
    uint64_t start = save->syncing_bytes, length = save->written_bytes - start;
    uint64_t before = start > SYNC_STEP_BYTES ? start - SYNC_STEP_BYTES : 0;
    (void)sync_file_range(save->fd, (off_t)start, (off_t)length, SYNC_FILE_RANGE_WRITE);
    if (start > before)
        (void)sync_file_range(save->fd, (off_t)before, (off_t)(start - before),
                              SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                  SYNC_FILE_RANGE_WAIT_AFTER);
    save->syncing_bytes = save->written_bytes;
}

static int save_write(void *context, const void *data, size_t length) {
    struct rdb_save *save = context;
    int error = write_all(save->fd, data, length);
    save->written_bytes += length;
    if (error == 0)
        sync_step(save);
    return error;
}

static const char *working_directory(char buffer[PATH_MAX]) {
    const char *directory = getcwd(buffer, PATH_MAX);
    return directory ? directory : "unknown";
}

/* The folder of the path, so that the file gets its name by a rename within it. */
static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

int rdb_save_begin(struct rdb_save *save, const struct keyspace *keyspace,
                   const struct rdb_save_options *options) {
    static _Atomic unsigned begun; /* one that was given up may not be gone yet */
    *save = (struct rdb_save){
        .keyspace = keyspace, .replaced_fd = -1, .incremental_sync = options->incremental_sync};
    int folder = (int)folder_length(options->path);
    snprintf(save->path, sizeof save->path, "%s", options->path);
    snprintf(save->temporary_path, sizeof save->temporary_path, "%.*stemp-%d-%u.rdb", folder,
             options->path, (int)getpid(), atomic_fetch_add(&begun, 1));
    save->fd = open(save->temporary_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (save->fd < 0) {
        int error = errno;
        char directory[PATH_MAX];
        snprintf(save->message, sizeof save->message,
                 "Failed opening the temp RDB file %.100s (in server root dir %.200s) for saving: "
                 "%s",
                 save->temporary_path, working_directory(directory), strerror(error));
        return -error;
    }
    struct rdb_sink sink = {.write = save_write, .context = save};
    rdb_writer_init(&save->writer, &sink, options->compression, options->checksum);
    rdb_write_header(&save->writer, options->version, &options->info);
    return 0;
}

void rdb_save_abort(struct rdb_save *save) {
    if (save->fd >= 0)
        close(save->fd);
    unlink(save->temporary_path);
    rdb_writer_free(&save->writer);
}

/* Its blocks and its pages in the kernel's cache go with the last who has it open. */
static void free_replaced(struct rdb_save *save) {
    if (save->replaced_fd >= 0)
        close(save->replaced_fd);
    save->replaced_fd = -1;
}

static int fail_write(struct rdb_save *save, const char *operation, int error) {
    snprintf(save->message, sizeof save->message, "Write error while saving DB to the disk(%s): %s",
             operation, strerror(-error));
    rdb_save_abort(save);
    return error;
}

/* The folder's entry of the file must outlast a crash as well as the file. */
int rdb_save_settle(struct rdb_save *save) {
    char folder[sizeof save->path + 2];
    free_replaced(save);
    size_t length = folder_length(save->path);
    snprintf(folder, sizeof folder, "%.*s.", (int)length, save->path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    /* Some file systems have nothing to sync in a folder. */
    if (error == 0 || error == -EBADF || error == -EINVAL)
        return 0;
    snprintf(save->message, sizeof save->message, "Failed to fsync directory while saving DB: %s",
             strerror(-error));
    return error;
}

int rdb_save_close(struct rdb_save *save) {
    int error = rdb_write_end(&save->writer);
    if (error)
        return fail_write(save, "rdbSaveRio", error);
    if (fsync(save->fd) < 0)
        return fail_write(save, "fsync", -errno);
    rdb_writer_free(&save->writer);
    close(save->fd);
    save->fd = -1;
    return 0;
}

int rdb_save_rename(struct rdb_save *save) {
    save->replaced_fd = open(save->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (rename(save->temporary_path, save->path) < 0) {
        int error = -errno;
        char directory[PATH_MAX];
        snprintf(save->message, sizeof save->message,
                 "Error moving temp DB file %.100s on the final destination %.100s (in server root "
                 "dir %.150s): %s",
                 save->temporary_path, save->path, working_directory(directory), strerror(-error));
        unlink(save->temporary_path);
        free_replaced(save);
        return error;
    }
    return 0;
}

int rdb_save_finish(struct rdb_save *save) {
    int error = rdb_save_close(save);
    if (!error)
        error = rdb_save_rename(save);
    return error ? error : rdb_save_settle(save);
}

/* --- Keys ------------------------------------------------------------------------------------- */

void rdb_save_database(struct rdb_save *save, unsigned database, uint64_t keys, uint64_t expiring) {
    rdb_write_database(&save->writer, database, keys, expiring);
}

void rdb_save_key(struct rdb_save *save, const struct object *object) {
    struct rdb_key_attributes attributes;
    rdb_key_attributes_of(&save->keyspace->access, object, &attributes);
    rdb_write_key(&save->writer, object, &attributes);
    save->keys++;
}

static void visit(struct object *object, uint64_t hash, void *context) {
    (void)hash;
    rdb_save_key(context, object);
}

static void walk_slot(struct rdb_save *save, unsigned database, uint32_t slot) {
    const table_root *root = keyspace_root(save->keyspace, database, slot);
    if (!root || table_count(root) == 0)
        return;
    uint64_t from = 0;
    do
        table_walk(root, from, 0, WALK_KEYS, SIZE_MAX, false, visit, save, &from);
    while (from != 0);
}

void rdb_save_walk(struct rdb_save *save) {
    const struct keyspace *keyspace = save->keyspace;
    for (unsigned database = 0; database < keyspace->databases; database++) {
        uint64_t keys = keyspace_count(keyspace, database);
        if (keys == 0)
            continue;
        rdb_save_database(save, database, keys, keyspace_expiring_count(keyspace, database));
        for (uint32_t slot = 0; slot < SLOT_COUNT && !save->writer.error; slot++)
            walk_slot(save, database, slot);
    }
}
