/* What a replica receives, in whatever pieces it comes: by length and up to a mark. */
#include "server/links/sync_transfer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/clock.h"
#include "replication/psync.h"
#include "replication/rdb_block.h"
#include "server/base/log.h"
#include "server/links/sync_private.h"

static struct sync sync_attempt;
static struct sync_progress progress;
static int primary; /* the other end */

static void start(void) {
    int ends[2];
    clock_init();
    log_set_level(LOG_LEVEL_NOTHING);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    sync_attempt = (struct sync){.fd = ends[0], .environment = {.progress = &progress}};
    pthread_mutex_init(&sync_attempt.lock, NULL);
    primary = ends[1];
}

static void finish(void) {
    close(sync_attempt.fd);
    if (primary >= 0)
        close(primary);
    pthread_mutex_destroy(&sync_attempt.lock);
}

TestSuite(sync_transfer, .init = start, .fini = finish);

static void say(const char *data, size_t length) {
    cr_assert_eq(send(primary, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

static void say_text(const char *text) {
    say(text, strlen(text));
}

static void hang_up(void) {
    close(primary);
    primary = -1;
}

#define MARK "0123456789abcdef0123456789abcdef01234567"

/* Reads to the end, at most room bytes at a time: how many, -1 on failure. */
static ssize_t read_all(struct transfer *transfer, char *into, size_t room) {
    size_t length = 0;
    ssize_t n;
    while ((n = transfer_read(transfer, into + length, room)) > 0)
        length += (size_t)n;
    return n < 0 ? -1 : (ssize_t)length;
}

Test(sync_transfer, by_length) {
    char got[64];
    say_text("\n\n$11\r\nhello worldSTREAM");
    struct transfer *transfer = transfer_begin(&sync_attempt, "disk");
    cr_assert_not_null(transfer);
    cr_assert_eq(transfer_bytes(transfer), 11);
    cr_assert_eq(read_all(transfer, got, 4), 11);
    cr_assert_arr_eq(got, "hello world", 11);
    cr_assert(transfer_finish(transfer));
    cr_assert_eq(atomic_load(&progress.received_bytes), 11);
    transfer_free(transfer);
    /* What follows is the stream's. */
    cr_assert_eq(recv(sync_attempt.fd, got, sizeof got, 0), 6);
    cr_assert_arr_eq(got, "STREAM", 6);
}

Test(sync_transfer, nothing) {
    char got[8];
    say_text("$0\r\n");
    struct transfer *transfer = transfer_begin(&sync_attempt, "disk");
    cr_assert_not_null(transfer);
    cr_assert_eq(read_all(transfer, got, sizeof got), 0);
    transfer_free(transfer);
    say_text("$EOF:" MARK "\r\n" MARK);
    transfer = transfer_begin(&sync_attempt, "parser");
    cr_assert_eq(transfer_bytes(transfer), RDB_SIZE_UNKNOWN);
    cr_assert_eq(read_all(transfer, got, sizeof got), 0);
    transfer_free(transfer);
}

/* The mark is found wherever packets end, and parts of it among the data are data. */
Test(sync_transfer, by_mark_in_pieces) {
    static const char data[] = "0123456789abcdef0123456789abcdef0123456 and 01234 and MARK 012";
    const size_t data_length = sizeof data - 1, all_length = data_length + HISTORY_ID_LENGTH;
    char all[256], got[256];
    memcpy(all, data, data_length);
    memcpy(all + data_length, MARK, HISTORY_ID_LENGTH);
    for (size_t first = 0; first <= all_length; first++) {
        say_text("$EOF:" MARK "\r\n");
        struct transfer *transfer = transfer_begin(&sync_attempt, "parser");
        cr_assert_not_null(transfer);
        size_t length = 0;
        if (first > 0)
            say(all, first);
        /* As much as can be told from the mark is handed on already. */
        while (length + HISTORY_ID_LENGTH < first) {
            ssize_t n = transfer_read(transfer, got + length, 7);
            cr_assert_gt(n, 0);
            length += (size_t)n;
        }
        if (first < all_length)
            say(all + first, all_length - first);
        ssize_t rest = read_all(transfer, got + length, 7);
        cr_assert_eq(rest + (ssize_t)length, (ssize_t)data_length, "cut at %zu", first);
        cr_assert_arr_eq(got, data, data_length);
        cr_assert(transfer_finish(transfer));
        transfer_free(transfer);
    }
}

Test(sync_transfer, what_breaks_off) {
    char got[64];
    say_text("$11\r\nhello");
    struct transfer *transfer = transfer_begin(&sync_attempt, "disk");
    hang_up();
    cr_assert_eq(read_all(transfer, got, sizeof got), -1);
    cr_assert_not(transfer_finish(transfer));
    transfer_free(transfer);
}

/* Two blocks and the end, on the wire; returns their length. */
static size_t make_blocks(char *wire) {
    struct rdb_block_packer *packer = rdb_block_packer_create();
    size_t length =
        rdb_block_pack(packer, "hello hello hello hello hello ", 30, RDB_BLOCK_FAST, wire);
    length += rdb_block_pack(packer, "world", 5, RDB_BLOCK_FAST, wire + length);
    length += rdb_block_pack_last(packer, wire + length);
    rdb_block_packer_destroy(packer);
    return length;
}

Test(sync_transfer, in_blocks) {
    char wire[256], got[64];
    say_text("\n$" PSYNC_BLOCKS_NAME "\r\n");
    size_t length = make_blocks(wire);
    say(wire, length);
    say_text("STREAM");
    struct transfer *transfer = transfer_begin(&sync_attempt, "disk");
    cr_assert_not_null(transfer);
    cr_assert_eq(transfer_bytes(transfer), RDB_SIZE_UNKNOWN);
    cr_assert_eq(read_all(transfer, got, 7), 35);
    cr_assert_arr_eq(got, "hello hello hello hello hello world", 35);
    cr_assert(transfer_finish(transfer));
    cr_assert_eq(atomic_load(&progress.received_bytes), (int64_t)length);
    transfer_free(transfer);
    /* Nothing of what follows was taken. */
    cr_assert_eq(recv(sync_attempt.fd, got, sizeof got, 0), 6);
    cr_assert_arr_eq(got, "STREAM", 6);
}

Test(sync_transfer, blocks_that_break_off) {
    char wire[256], got[64];
    size_t length = make_blocks(wire);
    for (size_t cut = 0; cut < length; cut++) {
        int ends[2];
        say_text("$" PSYNC_BLOCKS_NAME "\r\n");
        say(wire, cut);
        hang_up();
        struct transfer *transfer = transfer_begin(&sync_attempt, "disk");
        cr_assert_eq(read_all(transfer, got, sizeof got), -1);
        cr_assert_eq(transfer_failure(transfer), SYNC_BROKEN, "to be tried at once");
        transfer_free(transfer);
        close(sync_attempt.fd);
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        sync_attempt.fd = ends[0];
        primary = ends[1];
    }
}

Test(sync_transfer, blocks_that_are_none) {
    char wire[256], got[64];
    size_t length = make_blocks(wire);
    wire[length / 2] ^= 1;
    say_text("$" PSYNC_BLOCKS_NAME "\r\n");
    say(wire, length);
    struct transfer *transfer = transfer_begin(&sync_attempt, "disk");
    cr_assert_eq(read_all(transfer, got, sizeof got), -1);
    cr_assert_eq(transfer_failure(transfer), SYNC_FAILED, "to be tried in a while");
    transfer_free(transfer);
}

Test(sync_transfer, what_is_no_transfer) {
    say_text("-ERR no\r\n");
    cr_assert_null(transfer_begin(&sync_attempt, "disk"));
    say_text("what\r\n");
    cr_assert_null(transfer_begin(&sync_attempt, "disk"));
    hang_up();
    cr_assert_null(transfer_begin(&sync_attempt, "disk"));
}
