/* Statistics: what the workers have counted, summed up for INFO; and CONFIG RESETSTAT.
 *
 * Each worker counts for itself, without a shared line; all counters are relaxed atomics. Sums are
 * made on any worker while the others go on, so two figures may be some commands apart, and each is
 * exact as soon as its commands have ended. Resetting needs an exclusive section. */
#ifndef SLOTWISE_SERVER_STATISTICS_H
#define SLOTWISE_SERVER_STATISTICS_H

#include "server/clients/conn.h"

struct statistics {
    uint64_t commands, received_bytes, sent_bytes;
    uint64_t hits, misses, expired, expired_fields, evicted, expire_cycle_us, evict_us;
    uint64_t expire_limit_reached;
    uint64_t changes; /* of keys, by commands; since the start */
    uint64_t slowest_us;
    const struct command *slowest_command;        /* NULL: none has run since the last reset */
    uint64_t turns, reads, writes;                /* of the event loops; of sockets */
    uint64_t busy_us;                             /* CPU time of the workers' threads */
    uint64_t input_buffer_max, output_buffer_max; /* of the connections that were looked at */
    uint64_t connection_bytes;   /* memory of all connections, scaled up from those */
    unsigned blocked;            /* commands that wait for a key */
    unsigned blocked_for_a_time; /* of them those that do not wait for ever */
    unsigned paused;             /* connections that CLIENT PAUSE holds back */
};

/* On any worker. What it says of connections is what their workers last sampled. */
void statistics_sum(const struct server *server, struct statistics *sum);
/* On the worker itself, about once a second. Looks at STATISTICS_CONNECTIONS connections and no
 * more, so that ten thousand of them do not make it long. */
#define STATISTICS_CONNECTIONS 256
void statistics_sample_connections(struct loop *loop);
/* Of one command over all workers. On any worker. */
struct command_sum {
    uint64_t calls, ticks, rejected, failed;
};
void statistics_sum_command(const struct server *server, const struct command *command,
                            struct command_sum *sum);
/* The same for its latency histogram. false: it has none. On a worker while it runs a command. */
struct latency_histogram;
bool statistics_sum_latency(const struct server *server, const struct command *command,
                            struct latency_histogram *sum);
/* Takes over the configuration. In an exclusive section, or before the workers start. */
struct config;
void statistics_configure(struct server *server, const struct config *config);

/* What the system and the allocator say. Sampled by worker 0 ten times a second (the allocator:
 * once a second, it takes long), read by INFO. */
void statistics_sample_process(struct server *server);

#endif
