/* All connections of the process in the order in which they came, whichever loop has them, and
 * those on their way from one loop to another; and walks over them in pieces.
 *
 * Knows connections by their addresses and ids only. All functions: any thread, at any time; none
 * waits for anything but the lock, which is held for a piece of a walk or, now and then, for a copy
 * of the array. */
#ifndef SLOTWISE_SERVER_CLIENT_LIST_H
#define SLOTWISE_SERVER_CLIENT_LIST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;

struct client_entry {
    uint64_t id;
    struct conn *conn; /* NULL: it has left */
};

/* Lives as long as the process. All fields under the lock. */
struct client_list {
    pthread_mutex_t lock;
    struct client_entry *entries; /* by ascending id */
    size_t end, capacity;
    size_t left; /* entries of those that have left */
    uint64_t next_id;
};

void client_list_init(struct client_list *list);
void client_list_destroy(struct client_list *list);
/* Returns its id: the next one, from 1 on. */
uint64_t client_list_add(struct client_list *list, struct conn *conn);
void client_list_remove(struct client_list *list, uint64_t id);
/* NULL: there is none (any more). Who uses it sees to it that it is not removed meanwhile: it runs
 * on the thread that would do that, or in an exclusive section. */
struct conn *client_list_find(struct client_list *list, uint64_t id);

/* A walk sees those that were in the list when it began, in order: each that stays until the end
 * exactly once, one that leaves meanwhile once or not at all. */
struct client_walk {
    uint64_t next_id; /* those before have been seen */
    uint64_t end_id;  /* those from here on came later */
};

struct client_walk client_walk_begin(struct client_list *list);
/* The next ones, at most room, into connections (valid as what client_list_find gives); returns how
 * many. *more: there may be further ones, even if this call found none. */
size_t client_walk_next(struct client_walk *walk, struct client_list *list,
                        struct conn **connections, size_t room, bool *more);

#endif
