/* nodes.conf: the lock, the newest text on disk, failures that are told. */
#include "server/links/cluster_store.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/memory.h"
#include "server/base/log.h"

static struct cluster_store store;
static char folder[] = "/tmp/cluster-store-XXXXXX", path[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told_some = PTHREAD_COND_INITIALIZER;
static uint64_t told;
static bool told_durable;

static void written(void *context, uint64_t ticket, bool durable) {
    (void)context;
    pthread_mutex_lock(&lock);
    told = ticket;
    told_durable = durable;
    pthread_cond_signal(&told_some);
    pthread_mutex_unlock(&lock);
}

static bool wait_told(uint64_t ticket) {
    pthread_mutex_lock(&lock);
    while (told < ticket)
        pthread_cond_wait(&told_some, &lock);
    pthread_mutex_unlock(&lock);
    return told_durable;
}

static void begin(void) {
    log_set_level(LOG_LEVEL_NOTHING);
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/nodes.conf", folder);
    cr_assert_eq(cluster_store_open(&store, path), 0);
    store.written = written;
}

static void end(void) {
    char command[128];
    cluster_store_close(&store);
    chmod(folder, 0700);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(cluster_store, .init = begin, .fini = end);

static void expect_file(const char *text) {
    size_t length;
    bool failed;
    char *there = cluster_store_read(&store, &length, &failed);
    cr_assert(!failed);
    cr_assert_not_null(there);
    cr_assert_str_eq(there, text);
    cr_assert_eq(length, strlen(text));
    memory_free(there);
}

Test(cluster_store, has_no_text_without_a_file_or_with_an_empty_one) {
    size_t length;
    bool failed;
    cr_assert_null(cluster_store_read(&store, &length, &failed));
    cr_assert(!failed);
    fclose(fopen(path, "w"));
    cr_assert_null(cluster_store_read(&store, &length, &failed));
    cr_assert(!failed);
}

Test(cluster_store, tells_of_a_file_that_cannot_be_read) {
    size_t length;
    bool failed;
    cr_assert_eq(mkdir(path, 0700), 0);
    memory_free(cluster_store_read(&store, &length, &failed));
    cr_assert(failed);
}

Test(cluster_store, keeps_a_second_process_away) {
    struct cluster_store second;
    cr_assert_eq(cluster_store_open(&second, path), -1);
    cluster_store_close(&second);
}

Test(cluster_store, writes_before_its_thread_runs) {
    uint64_t ticket;
    cr_assert_eq(cluster_store_write_now(&store, &ticket), 0);
    cr_assert_eq(ticket, 0);
    cluster_store_submit(&store, "one\n", 4, 1);
    cluster_store_submit(&store, "two\n", 4, 2);
    cr_assert_eq(cluster_store_write_now(&store, &ticket), 0);
    cr_assert_eq(ticket, 2);
    expect_file("two\n");
}

Test(cluster_store, the_newest_text_is_durable_when_it_is_told) {
    cr_assert_eq(cluster_store_start(&store), 0);
    for (uint64_t ticket = 1; ticket <= 50; ticket++) {
        char text[32];
        snprintf(text, sizeof text, "text %d\n", (int)ticket);
        cluster_store_submit(&store, text, strlen(text), ticket);
        if (ticket % 10 == 0) {
            cr_assert(cluster_store_wait(&store, ticket));
            cr_assert(wait_told(ticket));
            expect_file(text);
        }
    }
}

Test(cluster_store, a_failure_leaves_the_file_and_the_next_one_goes_well) {
    char away[80];
    snprintf(away, sizeof away, "%s.away", folder);
    cr_assert_eq(cluster_store_start(&store), 0);
    cluster_store_submit(&store, "one\n", 4, 1);
    cr_assert(cluster_store_wait(&store, 1));
    cr_assert_eq(rename(folder, away), 0);
    cluster_store_submit(&store, "two\n", 4, 2);
    cr_assert(!cluster_store_wait(&store, 2));
    cr_assert(!wait_told(2));
    cr_assert_eq(rename(away, folder), 0);
    expect_file("one\n");
    cluster_store_submit(&store, "three\n", 6, 3);
    cr_assert(cluster_store_wait(&store, 3));
    cr_assert(wait_told(3));
    expect_file("three\n");
}

Test(cluster_store, writes_what_is_pending_when_it_is_closed) {
    cr_assert_eq(cluster_store_start(&store), 0);
    cluster_store_submit(&store, "last\n", 5, 7);
    cluster_store_close(&store);
    cr_assert_eq(cluster_store_open(&store, path), 0);
    expect_file("last\n");
}
