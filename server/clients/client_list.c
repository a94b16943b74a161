/* See client_list.h.
 *
 * Algorithm: an array in which ids ascend, since who comes is put at its end. Who leaves leaves a
 * hole; when the holes are more than half, the array is written anew without them. A walk remembers
 * an id, not a place, so whatever is written anew between two of its pieces is nothing to it.
 * Ordering and progress: the lock. A piece passes a bounded number of entries, holes included.
 * Reclamation: what the entries point to is their owners'. */
#include "server/clients/client_list.h"

#include "engine/assert.h"
#include "engine/memory.h"

#define CAPACITY_FIRST 64
#define PASSED_FACTOR  16 /* entries passed for each that there is room for */

void client_list_init(struct client_list *list) {
    *list = (struct client_list){.next_id = 1};
    pthread_mutex_init(&list->lock, NULL);
}

void client_list_destroy(struct client_list *list) {
    memory_free(list->entries);
    pthread_mutex_destroy(&list->lock);
}

/* --- Under the lock --------------------------------------------------------------------------- */

/* The first entry with this id or a later one; list->end if there is none. */
static size_t position(const struct client_list *list, uint64_t id) {
    size_t low = 0, high = list->end;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list->entries[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct client_entry *entry_of(const struct client_list *list, uint64_t id) {
    size_t at = position(list, id);
    return at < list->end && list->entries[at].id == id ? &list->entries[at] : NULL;
}

static void close_holes(struct client_list *list) {
    size_t kept = 0;
    for (size_t i = 0; i < list->end; i++)
        if (list->entries[i].conn)
            list->entries[kept++] = list->entries[i];
    list->end = kept;
    list->left = 0;
}

static void make_room(struct client_list *list) {
    if (list->left > list->end / 2)
        close_holes(list);
    if (list->end < list->capacity)
        return;
    list->capacity = list->capacity ? list->capacity * 2 : CAPACITY_FIRST;
    list->entries = memory_realloc(list->entries, list->capacity * sizeof *list->entries);
}

/* --- The list --------------------------------------------------------------------------------- */

uint64_t client_list_add(struct client_list *list, struct conn *conn) {
    pthread_mutex_lock(&list->lock);
    if (list->end == list->capacity)
        make_room(list);
    uint64_t id = list->next_id++;
    list->entries[list->end++] = (struct client_entry){id, conn};
    pthread_mutex_unlock(&list->lock);
    return id;
}

void client_list_remove(struct client_list *list, uint64_t id) {
    pthread_mutex_lock(&list->lock);
    struct client_entry *entry = entry_of(list, id);
    ASSERT(entry && entry->conn);
    entry->conn = NULL;
    list->left++;
    if (list->left > CAPACITY_FIRST && list->left > list->end / 2)
        close_holes(list);
    pthread_mutex_unlock(&list->lock);
}

struct conn *client_list_find(struct client_list *list, uint64_t id) {
    pthread_mutex_lock(&list->lock);
    const struct client_entry *entry = entry_of(list, id);
    struct conn *conn = entry ? entry->conn : NULL;
    pthread_mutex_unlock(&list->lock);
    return conn;
}

/* --- Walks ------------------------------------------------------------------------------------ */

struct client_walk client_walk_begin(struct client_list *list) {
    pthread_mutex_lock(&list->lock);
    struct client_walk walk = {.next_id = 1, .end_id = list->next_id};
    pthread_mutex_unlock(&list->lock);
    return walk;
}

size_t client_walk_next(struct client_walk *walk, struct client_list *list,
                        struct conn **connections, size_t room, bool *more) {
    size_t count = 0;
    pthread_mutex_lock(&list->lock);
    size_t first = position(list, walk->next_id), at = first;
    for (; at < list->end && list->entries[at].id < walk->end_id && count < room &&
           at - first < room * PASSED_FACTOR;
         at++) {
        walk->next_id = list->entries[at].id + 1;
        if (list->entries[at].conn)
            connections[count++] = list->entries[at].conn;
    }
    *more = at < list->end && list->entries[at].id < walk->end_id;
    pthread_mutex_unlock(&list->lock);
    return count;
}
