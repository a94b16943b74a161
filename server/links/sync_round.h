/* Sync round: one snapshot for all replicas that wait for one, in a file without a name.
 *
 * The snapshot's sink writes the file on its own thread; worker 0 reads it for each replica as fast
 * as that one takes it, while it still grows. So a slow replica holds up neither the walk nor the
 * others, and the memory that it costs is the kernel's page cache. The file is closed behind the
 * last user, on the background thread. */
#ifndef SLOTWISE_SERVER_SYNC_ROUND_H
#define SLOTWISE_SERVER_SYNC_ROUND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SYNC_ROUND_MARK_BYTES 40

enum sync_round_state { SYNC_ROUND_WRITING, SYNC_ROUND_WHOLE, SYNC_ROUND_FAILED };

struct sync_round {
    _Atomic unsigned users;
    int fd;
    _Atomic uint64_t written; /* bytes of the file that can be read; by the sink's thread */
    _Atomic uint64_t read;    /* by whoever is furthest; by worker 0 */
    _Atomic int state;        /* enum sync_round_state; by the sink's thread */
    char mark[SYNC_ROUND_MARK_BYTES + 1];
};

/* NULL: no file (*error: errno). One user. */
struct sync_round *sync_round_make(const char *directory, int *error);
struct sync_round *sync_round_use(struct sync_round *round);
void sync_round_leave(struct sync_round *round);

/* Of the sink's thread. 0 or a negative errno. */
int sync_round_write(struct sync_round *round, const void *data, size_t length);
void sync_round_end(struct sync_round *round, bool whole);

/* Of the sink's thread, behind the cut: nobody but the sink uses it any more, nor ever will. */
static inline bool sync_round_is_deserted(const struct sync_round *round) {
    return atomic_load_explicit(&round->users, memory_order_relaxed) == 1;
}

/* Up to length bytes from position on; 0: none yet; negative errno. */
ssize_t sync_round_read(struct sync_round *round, uint64_t position, char *data, size_t length);

/* One of its readers has read so far. Worker 0. */
static inline void sync_round_note_read(struct sync_round *round, uint64_t position) {
    if (position > atomic_load_explicit(&round->read, memory_order_relaxed))
        atomic_store_explicit(&round->read, position, memory_order_relaxed);
}

static inline enum sync_round_state sync_round_state(const struct sync_round *round) {
    return (enum sync_round_state)atomic_load_explicit(&round->state, memory_order_acquire);
}

#endif
