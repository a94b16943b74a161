/* Effect log: what replication and the append-only file implement to hear of every change. A
 * keyspace without one (keyspace->door.log is NULL) gathers nothing.
 *
 * Contract. While a unit of work (a command, an EXEC, a script, a piece of a background duty) runs,
 * its effects are gathered in order (change.h): deterministic commands as Redis propagates them,
 * SET k v PXAT ms, DEL k for a key that has expired, each with the number of its database at that
 * moment. Before the first of the unit's tokens is released commit is called once with all of them.
 * Readers see nothing before the first release, so the number that commit takes there is the unit's
 * place in the one true order: numbers are dense, and a unit's number is greater than that of every
 * unit whose effects it can see. A unit without effects does not commit.
 *
 * commit must not wait (backpressure is admission's work, before tokens are taken), must not change
 * the keyspace, and copies what it wants to keep. Several effects are one entry: who writes them
 * down wraps them in MULTI and EXEC, and a SELECT before an effect of another database. */
#ifndef SLOTWISE_ENGINE_EFFECT_LOG_H
#define SLOTWISE_ENGINE_EFFECT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct effect_argument {
    const char *data;
    size_t length;
};

struct effect {
    unsigned database; /* logical number */
    unsigned count;
    const struct effect_argument *arguments;
};

struct effect_log {
    /* Any thread that holds tokens, or is in an exclusive section. Returns the number. */
    uint64_t (*commit)(void *context, const struct effect *effects, size_t count);
    /* Writers have committed more than is read: who wants to write waits a little. The calling
     * thread holds no token. NULL: never. */
    bool (*is_full)(void *context);
    void *context;
};

#endif
