/* The file of the cluster (nodes.conf): its lock, reading it, and a thread that writes it.
 *
 * Who writes gives the whole text with a ticket that grows; the thread writes the newest there is
 * (temporary file, fsync, rename, fsync of the folder) and says up to which ticket it is durable.
 * Those in between are never written by themselves. The lock is a file beside it (".lock"), since
 * the file itself is another one after each rename.
 *
 * pending and the tickets belong to the store's lock; all else is set before the thread starts. */
#ifndef SLOTWISE_SERVER_CLUSTER_STORE_H
#define SLOTWISE_SERVER_CLUSTER_STORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cluster_store {
    char *path;
    int lock_fd; /* -1: not locked */
    /* On the store's thread, without its lock. */
    void (*written)(void *context, uint64_t ticket, bool durable);
    void *context;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    char *pending; /* NULL: nothing is to be written */
    size_t pending_length;
    uint64_t pending_ticket;  /* of pending */
    uint64_t finished_ticket; /* tried */
    uint64_t durable_ticket;
    bool stopping;
};

/* Takes the lock of the file. 0, or -1: it has been logged. path is relative to the working
 * directory. Main thread. */
int cluster_store_open(struct cluster_store *store, const char *path);
/* The text of the file, the caller's (memory_free); NULL: there is none, or an empty one; *failed:
 * it is there and cannot be read, which has been logged. */
char *cluster_store_read(const struct cluster_store *store, size_t *length, bool *failed);
/* Writes what is pending on this thread. 0, or -1: it has been logged. Before the thread starts. */
int cluster_store_write_now(struct cluster_store *store, uint64_t *ticket);
/* 0 or a negative errno. */
int cluster_store_start(struct cluster_store *store);
/* The text is copied. Any thread. */
void cluster_store_submit(struct cluster_store *store, const char *text, size_t length,
                          uint64_t ticket);
/* Waits until the ticket has been tried; whether it is durable. For threads that may block. */
bool cluster_store_wait(struct cluster_store *store, uint64_t ticket);
/* Writes what is pending, ends the thread and gives the lock back. */
void cluster_store_close(struct cluster_store *store);

#endif
