/* See sync_round.h. */
#include "server/links/sync_round.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/background.h"
#include "engine/memory.h"

static int open_unnamed(const char *directory) {
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return fd;
    char path[4200]; /* a file system without O_TMPFILE */
    static _Atomic unsigned made;
    snprintf(path, sizeof path, "%s/temp-sync-%ld-%u.rdb", directory, (long)getpid(),
             atomic_fetch_add(&made, 1));
    fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        unlink(path);
    return fd;
}

struct sync_round *sync_round_make(const char *directory, int *error) {
    unsigned char random[SYNC_ROUND_MARK_BYTES];
    int fd = open_unnamed(directory);
    if (fd < 0) {
        *error = errno;
        return NULL;
    }
    struct sync_round *round = memory_calloc(1, sizeof *round);
    round->fd = fd;
    atomic_init(&round->users, 1);
    ssize_t n = getrandom(random, sizeof random, 0);
    ASSERT(n == (ssize_t)sizeof random); /* so few bytes always come at once */
    for (size_t i = 0; i < sizeof random; i++)
        round->mark[i] = "0123456789abcdef"[random[i] & 15];
    return round;
}

struct sync_round *sync_round_use(struct sync_round *round) {
    atomic_fetch_add_explicit(&round->users, 1, memory_order_relaxed);
    return round;
}

static void release(void *argument) {
    struct sync_round *round = argument;
    close(round->fd);
    memory_free(round);
}

/* To free the pages and blocks of a large file takes the kernel long, and the last user may be
 * worker 0. */
void sync_round_leave(struct sync_round *round) {
    if (round && atomic_fetch_sub_explicit(&round->users, 1, memory_order_acq_rel) == 1)
        background_submit(release, round);
}

int sync_round_write(struct sync_round *round, const void *data, size_t length) {
    const char *from = data;
    uint64_t at = atomic_load_explicit(&round->written, memory_order_relaxed);
    while (length > 0) {
        ssize_t n = pwrite(round->fd, from, length, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        from += n;
        at += (uint64_t)n;
        length -= (size_t)n;
        atomic_store_explicit(&round->written, at, memory_order_release);
    }
    return 0;
}

void sync_round_end(struct sync_round *round, bool whole) {
    atomic_store_explicit(&round->state, whole ? SYNC_ROUND_WHOLE : SYNC_ROUND_FAILED,
                          memory_order_release);
}

ssize_t sync_round_read(struct sync_round *round, uint64_t position, char *data, size_t length) {
    uint64_t written = atomic_load_explicit(&round->written, memory_order_acquire);
    if (written - position < length)
        length = (size_t)(written - position);
    if (length == 0)
        return 0;
    ssize_t n;
    do
        n = pread(round->fd, data, length, (off_t)position);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n == 0 ? -EIO : n;
}
