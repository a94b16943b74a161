/* The file of a sync round: written by one, read by others while it grows, closed elsewhere. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <string.h>

#include "engine/background.h"
#include "server/links/sync_round.h"

static sem_t go_on;

static void wait_until_told(void *unused) {
    (void)unused;
    while (sem_wait(&go_on) != 0)
        ;
}

/* Worker 0 would stand still while the kernel frees a large file. */
Test(sync_round, its_file_is_closed_by_the_background_thread, .timeout = 60) {
    char data[8];
    int error = 0;
    sem_init(&go_on, 0, 0);
    cr_assert_eq(background_start(), 0);
    background_submit(wait_until_told, NULL);
    struct sync_round *round = sync_round_make("/tmp", &error);
    cr_assert_not_null(round, "%s", strerror(error));
    cr_assert_eq(sync_round_write(round, "snapshot", 8), 0);
    cr_assert_eq(sync_round_use(round), round);
    sync_round_leave(round);
    cr_assert_eq(sync_round_read(round, 4, data, sizeof data), 4);
    int fd = round->fd;
    sync_round_leave(round);
    cr_assert_neq(fcntl(fd, F_GETFD), -1, "not by whoever left last");
    sem_post(&go_on);
    background_drain();
    cr_assert_eq(fcntl(fd, F_GETFD), -1);
    cr_assert_eq(errno, EBADF);
    background_stop();
    sem_destroy(&go_on);
}
