/* The hook where an effect gets its number (DESIGN section 7): what replication and the append-only
 * file will implement. Nothing implements it yet; keyspace.log is NULL and nothing is logged.
 *
 * Contract. A command that will change the data set, with all its tokens held and before its first
 * reader-visible store, calls begin once; the number returned is its place in the one true order:
 * numbers are dense and a command's number is greater than that of every command whose effects it
 * can see. The effects (deterministic form, RESP argument vectors as Redis propagates them: SET k v
 * PXAT ms, DEL k for an expired key) are appended in order and end makes the entry visible to the
 * merger. A transaction is one entry. A command that took a number and then changed nothing ends it
 * without effects. begin never waits: backpressure is admission's work, before tokens are taken. */
#ifndef SLOTWISE_ENGINE_EFFECT_LOG_H
#define SLOTWISE_ENGINE_EFFECT_LOG_H

#include <stddef.h>
#include <stdint.h>

struct effect_argument {
    const char *data;
    size_t length;
};

struct effect_log {
    uint64_t (*begin)(void *context);
    void (*append)(void *context, unsigned database, const struct effect_argument *arguments,
                   size_t count);
    void (*end)(void *context, uint64_t number);
    void *context;
};

#endif
