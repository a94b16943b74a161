/*
 * Bake-off: slot tokens against messages to the slot's owner, on two threads.
 *
 * Each thread drives connections that each have one batch of commands at a time. With tokens a
 * thread runs its whole batch itself. With owners a slot belongs to one thread: commands on others'
 * slots travel there, bundled per batch and owner, and the batch is complete when all bundles are
 * back. Prefetching is the same in both; sleeping and waking, which messages need more of, is left
 * out in favour of the messages.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bakeoff/common.h"
#include "bench/bakeoff/world.h"
#include "bench/common/clock.h"
#include "bench/common/net.h"
#include "engine/epoch.h"

#ifdef BENCH_HAVE_CK
#include <ck_ring.h>
#endif

#define THREADS     2
#define CONNECTIONS 32  /* per thread */
#define RING_SIZE   128 /* more than bundles can be on their way */

enum { COMMANDS_PER_SECOND, CPU_NS, METRIC_COUNT };

struct subject {
    bool messages;
    bool zipf;     /* a hot set: a tenth of a percent of the keys gets half of the commands */
    unsigned sets; /* per 11 commands */
};

struct command {
    struct key key;
    bool set;
    char reply[WORLD_VALUE_BYTES];
};

struct connection;

/* The commands of one batch that belong to one owner. */
struct bundle {
    struct connection *connection;
    unsigned count;
    uint8_t index[WORLD_BATCH];
};

struct connection {
    struct command commands[WORLD_BATCH];
    struct bundle bundles[THREADS];
    unsigned pending; /* bundles that are away */
};

struct shared;

struct thread {
    struct shared *shared;
    unsigned number;
    uint64_t draw;
    uint64_t done;
    uint64_t cpu_ns;
    struct connection *connections;
    pthread_t handle;
};

struct shared {
    const struct subject *subject;
    struct world world;
    _Atomic bool stop;
    _Atomic unsigned drained; /* threads that have nothing away any more */
    pthread_barrier_t barrier;
    struct thread threads[THREADS];
#ifdef BENCH_HAVE_CK
    /* [from][to], one producer and one consumer each. */
    struct ck_ring requests[THREADS][THREADS];
    struct ck_ring replies[THREADS][THREADS];
    ck_ring_buffer_t request_slots[THREADS][THREADS][RING_SIZE];
    ck_ring_buffer_t reply_slots[THREADS][THREADS][RING_SIZE];
#endif
};

static void make_batch(struct thread *thread, struct connection *connection) {
    struct shared *shared = thread->shared;
    const struct subject *subject = shared->subject;
    for (unsigned i = 0; i < WORLD_BATCH; i++) {
        uint64_t random = random_mix(thread->draw++);
        uint64_t keys = shared->world.keys;
        if (subject->zipf && (random & 1) != 0) {
            keys = keys / 1000 + 1;
        }
        struct command *command = &connection->commands[i];
        command->key = world_key(&shared->world, random_below(random_mix(random), keys));
        command->set = (random >> 8) % 11 < subject->sets;
    }
}

static void run_with_tokens(struct thread *thread, struct connection *connection) {
    struct world *world = &thread->shared->world;
    struct key keys[WORLD_BATCH];
    for (unsigned i = 0; i < WORLD_BATCH; i++) {
        keys[i] = connection->commands[i].key;
    }
    world_prefetch(world, keys, WORLD_BATCH);
    for (unsigned i = 0; i < WORLD_BATCH; i++) {
        struct command *command = &connection->commands[i];
        if (command->set) {
            world_set(world, &command->key);
        } else {
            world_get(world, &command->key, command->reply);
        }
    }
    thread->done += WORLD_BATCH;
}

static void token_loop(struct thread *thread) {
    struct shared *shared = thread->shared;
    while (!atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
        for (unsigned c = 0; c < CONNECTIONS; c++) {
            make_batch(thread, &thread->connections[c]);
            run_with_tokens(thread, &thread->connections[c]);
        }
        epoch_quiescent();
    }
}

#ifdef BENCH_HAVE_CK

static void run_bundle(struct thread *thread, struct bundle *bundle) {
    struct world *world = &thread->shared->world;
    struct key keys[WORLD_BATCH];
    for (unsigned i = 0; i < bundle->count; i++) {
        keys[i] = bundle->connection->commands[bundle->index[i]].key;
    }
    world_prefetch(world, keys, bundle->count);
    for (unsigned i = 0; i < bundle->count; i++) {
        struct command *command = &bundle->connection->commands[bundle->index[i]];
        if (command->set) {
            world_set_owned(world, &command->key);
        } else {
            world_get_owned(world, &command->key, command->reply);
        }
    }
}

static void send_batch(struct thread *thread, struct connection *connection) {
    struct shared *shared = thread->shared;
    for (unsigned owner = 0; owner < THREADS; owner++) {
        connection->bundles[owner].connection = connection;
        connection->bundles[owner].count = 0;
    }
    for (unsigned i = 0; i < WORLD_BATCH; i++) {
        struct bundle *bundle = &connection->bundles[connection->commands[i].key.slot % THREADS];
        bundle->index[bundle->count++] = (uint8_t)i;
    }
    for (unsigned owner = 0; owner < THREADS; owner++) {
        if (owner == thread->number || connection->bundles[owner].count == 0) {
            continue;
        }
        connection->pending++;
        if (!ck_ring_enqueue_spsc(&shared->requests[thread->number][owner],
                                  shared->request_slots[thread->number][owner],
                                  &connection->bundles[owner])) {
            die("a ring is full that cannot be");
        }
    }
    run_bundle(thread, &connection->bundles[thread->number]);
    if (connection->pending == 0) {
        thread->done += WORLD_BATCH;
    }
}

/* Serves others' requests and takes the replies to ours; returns how many bundles it saw. */
static unsigned drain(struct thread *thread) {
    struct shared *shared = thread->shared;
    const unsigned me = thread->number;
    struct bundle *bundle = NULL;
    unsigned seen = 0;
    for (unsigned other = 0; other < THREADS; other++) {
        while (ck_ring_dequeue_spsc(&shared->requests[other][me], shared->request_slots[other][me],
                                    &bundle)) {
            run_bundle(thread, bundle);
            if (!ck_ring_enqueue_spsc(&shared->replies[me][other], shared->reply_slots[me][other],
                                      bundle)) {
                die("a ring is full that cannot be");
            }
            seen++;
        }
        while (ck_ring_dequeue_spsc(&shared->replies[other][me], shared->reply_slots[other][me],
                                    &bundle)) {
            if (--bundle->connection->pending == 0) {
                thread->done += WORLD_BATCH;
            }
            seen++;
        }
    }
    return seen;
}

static bool anything_away(const struct thread *thread) {
    for (unsigned c = 0; c < CONNECTIONS; c++) {
        if (thread->connections[c].pending > 0) {
            return true;
        }
    }
    return false;
}

static void message_loop(struct thread *thread) {
    struct shared *shared = thread->shared;
    bool drained = false;
    while (atomic_load(&shared->drained) < THREADS) {
        bool stop = atomic_load_explicit(&shared->stop, memory_order_relaxed);
        unsigned seen = drain(thread);
        for (unsigned c = 0; c < CONNECTIONS && !stop; c++) {
            struct connection *connection = &thread->connections[c];
            if (connection->pending == 0) {
                make_batch(thread, connection);
                send_batch(thread, connection);
                seen++;
            }
        }
        if (stop && !drained && !anything_away(thread)) {
            drained = true;
            atomic_fetch_add(&shared->drained, 1);
        }
        if (seen == 0) {
            sched_yield();
        }
        epoch_quiescent();
    }
}

static void init_rings(struct shared *shared) {
    for (unsigned from = 0; from < THREADS; from++) {
        for (unsigned to = 0; to < THREADS; to++) {
            ck_ring_init(&shared->requests[from][to], RING_SIZE);
            ck_ring_init(&shared->replies[from][to], RING_SIZE);
        }
    }
}

#endif

static void *run_thread(void *argument) {
    struct thread *thread = argument;
    world_thread_enter(thread->number);
    epoch_offline();
    pthread_barrier_wait(&thread->shared->barrier);
    epoch_online();
    uint64_t start = bakeoff_thread_cpu_ns();
#ifdef BENCH_HAVE_CK
    if (thread->shared->subject->messages) {
        message_loop(thread);
    } else {
        token_loop(thread);
    }
#else
    token_loop(thread);
#endif
    thread->cpu_ns = bakeoff_thread_cpu_ns() - start;
    world_thread_leave();
    return NULL;
}

static void measure(const struct bakeoff_options *options, void *context, double *values) {
    static struct shared shared;
    shared.subject = context;
    world_start(&shared.world, options->keys);
    world_thread_enter(THREADS);
    world_fill(&shared.world);
    world_thread_leave();
    pthread_barrier_init(&shared.barrier, NULL, THREADS + 1);
#ifdef BENCH_HAVE_CK
    init_rings(&shared);
#endif
    for (unsigned t = 0; t < THREADS; t++) {
        struct thread *thread = &shared.threads[t];
        thread->shared = &shared;
        thread->number = t;
        thread->draw = (uint64_t)t << 40;
        thread->connections = calloc(CONNECTIONS, sizeof(struct connection));
        pthread_create(&thread->handle, NULL, run_thread, thread);
    }
    pthread_barrier_wait(&shared.barrier);
    uint64_t start = clock_now_ns();
    struct timespec wait = {(time_t)options->seconds,
                            (long)((options->seconds - (double)(time_t)options->seconds) * 1e9)};
    nanosleep(&wait, NULL);
    atomic_store(&shared.stop, true);
    uint64_t done = 0;
    uint64_t cpu_ns = 0;
    for (unsigned t = 0; t < THREADS; t++) {
        pthread_join(shared.threads[t].handle, NULL);
        done += shared.threads[t].done;
        cpu_ns += shared.threads[t].cpu_ns;
    }
    values[COMMANDS_PER_SECOND] = (double)done * 1e9 / (double)(clock_now_ns() - start);
    values[CPU_NS] = (double)cpu_ns / (double)done;
}

int main(int argc, char **argv) {
    static struct subject subjects[] = {
        {false, false, 1}, {true, false, 1}, {false, false, 11},
        {true, false, 11}, {false, true, 1}, {true, true, 1},
    };
    const struct bakeoff_metric metrics[METRIC_COUNT] = {
        [COMMANDS_PER_SECOND] = {"throughput", "commands/s", "", 0, true},
        [CPU_NS] = {"cpu_ns", "CPU per command", "ns", 1, false},
    };
    static const char *const groups[] = {"1:10 SET:GET", "SET", "1:10 SET:GET, hot keys"};
    struct bakeoff_contender contenders[6];
    struct bakeoff_options options;
    unsigned count = 0;
    bakeoff_parse(argc, argv, &options);
    for (unsigned i = 0; i < 6; i++) {
#ifndef BENCH_HAVE_CK
        if (subjects[i].messages) {
            continue;
        }
#endif
        contenders[count++] = (struct bakeoff_contender){
            groups[i / 2], subjects[i].messages ? "owner messages" : "tokens", measure,
            &subjects[i]};
    }
    return bakeoff_run(&options, "token or owner, two threads", metrics, METRIC_COUNT, contenders,
                       count);
}
