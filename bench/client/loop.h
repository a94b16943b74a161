/*
 * The client's threads: each drives its share of the connections with one epoll loop.
 *
 * Closed loop: on every connection a batch of `pipeline` requests is sent, and when all of its
 * replies are there, the next. The latency of a request is the time from the batch's being sent to
 * its reply's being read.
 *
 * Open loop: batches are due at times fixed in advance (a random moment in each interval of the
 * rate), on one connection after another. A slow server or a late client does not move them, and
 * latency counts from the time at which a batch was due, so that a stall is seen by all requests
 * that it would have hit (no "coordinated omission"). What was due and never answered counts with
 * the time that it has waited.
 *
 * Who writes what: `struct run` is filled by the main thread before the threads start, but for its
 * atomics; a `struct client_thread` belongs to its thread until that has been joined, but for
 * `replies_total`, which the main thread reads.
 */
#ifndef BENCH_CLIENT_LOOP_H
#define BENCH_CLIENT_LOOP_H

#include <pthread.h>
#include <stdatomic.h>

#include "bench/client/options.h"
#include "bench/client/reply.h"
#include "bench/client/workload.h"
#include "bench/common/histogram.h"

/* One slot of the timeline. */
struct timeline_slot {
    uint64_t replies;
    uint64_t worst_ns;
};

/* What all threads share. */
struct run {
    const struct options *options;
    const struct workload *workload;
    pthread_barrier_t barrier; /* met twice: all connected; times set */
    uint64_t warmup_start_ns;
    uint64_t start_ns; /* of the measured part */
    _Atomic uint64_t
        end_ns; /* UINT64_MAX if bounded by requests only; a signal brings it forward */
    uint32_t timeline_slots;
    _Atomic uint64_t issued;   /* measured requests, for --requests */
    _Atomic uint64_t sequence; /* the next request of a sequential run */
    pthread_mutex_t lock;      /* for the two below */
    pthread_cond_t thread_ended;
    unsigned threads_running;
};

struct connection;

struct client_thread {
    struct run *run;
    unsigned index;
    pthread_t thread;
    struct connection *connections;
    unsigned connection_count;
    unsigned open_count;
    unsigned busy_count; /* closed loop: connections with a batch on its way */
    int epoll_fd;
    char *batch;
    char *inbox;
    uint64_t next_arrival; /* open loop */
    _Atomic uint64_t replies_total;
    uint64_t measured; /* replies inside the measured part */
    uint64_t last_reply_ns;
    uint64_t unanswered;
    uint64_t disconnects;
    struct histogram latency; /* ns */
    struct histogram lag;     /* open loop: how late batches were sent, ns */
    struct reply_stats stats;
    struct timeline_slot *timeline;
};

/* Connects the thread's connections and runs its share of the load; the argument is a struct
 * client_thread. */
void *loop_thread(void *argument);

#endif
