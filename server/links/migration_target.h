/* Connections to the servers that MIGRATE sends keys to: blocking, with a limit for each step,
 * ended by a flag. The migrator's thread. */
#ifndef SLOTWISE_SERVER_MIGRATION_TARGET_H
#define SLOTWISE_SERVER_MIGRATION_TARGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MIGRATION_TARGETS       16
#define MIGRATION_TARGET_IDLE_S 10 /* then it is closed */

struct migration_target {
    char *_Atomic name; /* "host:port"; NULL: the place is free, which others may ask */
    int fd;
    int64_t database;  /* that is selected; -1: not known */
    uint64_t used_ms;  /* monotonic */
    char buffer[4096]; /* of what was received */
    size_t begin, end;
};

struct migration_targets {
    struct migration_target of[MIGRATION_TARGETS];
    const atomic_bool *cancelled;
    bool timed_out; /* the last failure was that */
};

/* The connection that is open, else a new one. NULL: it could not be made within the time. */
struct migration_target *migration_target_open(struct migration_targets *targets, const char *host,
                                               const char *port, uint64_t timeout_ms);
void migration_target_close(struct migration_target *target);
/* Those that nobody has used for a while; all of them. */
void migration_targets_close_idle(struct migration_targets *targets);
void migration_targets_close(struct migration_targets *targets);
/* How many are open. Any thread. */
unsigned migration_targets_count(const struct migration_targets *targets);

/* All of it, each step within the time. false: broken or too slow; to be closed. */
bool migration_target_send(struct migration_targets *targets, struct migration_target *target,
                           const void *data, size_t length, uint64_t timeout_ms);
/* A line without its end, cut to size - 1 bytes. */
bool migration_target_read_line(struct migration_targets *targets, struct migration_target *target,
                                char *line, size_t size, uint64_t timeout_ms);

#endif
