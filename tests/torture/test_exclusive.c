/* Everything that waits, together: worker threads as the server has them (a loop, a mailbox,
 * clients that park), commands over several hot slots, patience, exclusive sections, cancelled
 * waits.
 *
 * What would go wrong shows as: a sum that changes or a data race (two holders, a command inside a
 * section), a client that never finishes its quota and so a timeout (a lost wake, a deadlock), an
 * abort (a wake too many, two owners of patience). */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "engine/patience.h"
#include "engine/slot.h"

#define HOT_SLOTS      6
#define SLOTS_PER_MAX  3
#define MONEY          1000
#define WORKERS_MAX    8
#define CLIENTS        12 /* per worker */
#define TRIES_PATIENCE 3

enum client_state { CLIENT_READY, CLIENT_PARKED, CLIENT_QUEUED, CLIENT_PATIENT };

/* Its worker's thread only, but for waiter and the link (under the mailbox's lock). */
struct client {
    struct waiter waiter; /* first */
    struct worker *worker;
    struct client *next;
    enum client_state state;
    bool exclusive;
    unsigned tries;
    unsigned left; /* commands */
    size_t n;
    uint16_t numbers[SLOTS_PER_MAX];
};

struct worker {
    _Alignas(64) pthread_mutex_t lock;
    pthread_cond_t posted;
    struct client *mail; /* under lock */
    bool asleep;         /* under lock */
    struct client clients[CLIENTS];
    uint64_t random;
    unsigned unfinished;
    long waits, resumes, cancels, patience, sections; /* for the final sums */
    _Alignas(64) _Atomic int inside;                  /* in a command, with tokens */
};

static struct slot slots[SLOT_COUNT];
static long money[HOT_SLOTS]; /* under the token of its slot, or in an exclusive section */
static struct worker workers[WORKERS_MAX];
static size_t workers_count;
static unsigned section_permille;
static struct client *patience_owner; /* only the owner touches it */

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void mail_post(struct waiter *waiter) {
    struct client *client = (struct client *)waiter;
    struct worker *worker = client->worker;
    pthread_mutex_lock(&worker->lock);
    client->next = worker->mail;
    worker->mail = client;
    if (worker->asleep)
        pthread_cond_signal(&worker->posted);
    pthread_mutex_unlock(&worker->lock);
}

static void look_at_all(void *context) {
    struct client *client = context;
    long sum = 0;
    for (int i = 0; i < HOT_SLOTS; i++) {
        sum += money[i];
        uint64_t word = atomic_load_explicit(&slots[i].word, memory_order_relaxed);
        if (word % SLOT_VERSION_ONE != SLOT_SERVING)
            abort();
    }
    if (sum != (long)HOT_SLOTS * MONEY)
        abort();
    for (size_t i = 0; i < workers_count; i++) {
        if (atomic_load_explicit(&workers[i].inside, memory_order_relaxed))
            abort();
        /* Nobody holds a token, so nobody may be left waiting for one: a wake was lost. */
        for (int j = 0; j < CLIENTS; j++) {
            const struct waiter *waiter = &workers[i].clients[j].waiter;
            if (waiter->linked && waiter->slot != NULL)
                abort();
        }
    }
    money[client->numbers[0]]--; /* sections write as well */
    sched_yield();
    money[client->numbers[client->n - 1]]++;
}

static void client_choose(struct client *client) {
    uint64_t *random = &client->worker->random;
    client->n = 0;
    while (client->n == 0) {
        uint64_t set = next_random(random);
        for (uint16_t i = 0; i < HOT_SLOTS && client->n < SLOTS_PER_MAX; i++) {
            if (set >> (4 * i) & 1 && set >> (4 * i + 1) & 1)
                client->numbers[client->n++] = i;
        }
    }
    client->exclusive = next_random(random) % 1000 < section_permille;
    client->tries = 0;
    client->state = CLIENT_READY;
}

/* With the tokens held. */
static void client_work(struct client *client) {
    struct worker *worker = client->worker;
    atomic_store_explicit(&worker->inside, 1, memory_order_relaxed);
    long amount = (long)(next_random(&worker->random) % 10);
    money[client->numbers[0]] -= amount;
    unsigned dice = next_random(&worker->random) % 256;
    if (dice == 0)
        nanosleep(&(struct timespec){0, 20000}, NULL);
    else if (dice < 16)
        sched_yield();
    money[client->numbers[client->n - 1]] += amount;
    /* Something for reclamation to do beside. */
    if (dice % 8 == 0)
        epoch_retire(memory_alloc(32), 32, memory_free);
    atomic_store_explicit(&worker->inside, 0, memory_order_relaxed);
}

static void client_work_patiently(struct client *client) {
    if (patience_owner != NULL)
        abort();
    patience_owner = client;
    if (client->exclusive) {
        exclusive_run(look_at_all, client);
        client->worker->sections++;
    } else {
        slots_acquire_waiting(slots, client->numbers, client->n);
        client_work(client);
        slots_release(slots, client->numbers, client->n);
    }
    client->worker->patience++;
    patience_owner = NULL;
    patience_leave(&client->waiter);
}

/* Now and then a client gives up waiting. true: it is out of the list, start anew. */
static bool client_gives_up(struct client *client) {
    if (next_random(&client->worker->random) % 16 != 0)
        return false;
    if (next_random(&client->worker->random) % 2)
        sched_yield();
    if (!waiter_cancel(&client->waiter))
        return false; /* its resume is on the way */
    client->worker->cancels++;
    client->state = CLIENT_READY;
    return true;
}

/* true: the command is done; false: it waits. */
static bool client_run(struct client *client) {
    if (client->state == CLIENT_QUEUED)
        client->state = CLIENT_PATIENT; /* resumed: it owns patience */
    else if (client->state == CLIENT_PARKED)
        client->state = CLIENT_READY;
    for (;;) {
        if (client->state == CLIENT_PATIENT) {
            client_work_patiently(client);
            return true;
        }
        uint32_t busy = 0;
        if (!client->exclusive && slots_try_acquire(slots, client->numbers, client->n, &busy)) {
            client_work(client);
            slots_release(slots, client->numbers, client->n);
            return true;
        }
        if (client->exclusive || ++client->tries >= TRIES_PATIENCE) {
            client->state = CLIENT_QUEUED;
            if (patience_enter(&client->waiter)) {
                client->state = CLIENT_PATIENT;
                continue;
            }
            client->worker->waits++;
            if (!client_gives_up(client))
                return false;
        } else {
            client->state = CLIENT_PARKED;
            if (!slot_park(slots, busy, &client->waiter)) {
                client->state = CLIENT_READY;
                continue;
            }
            client->worker->waits++;
            if (!client_gives_up(client))
                return false;
        }
    }
}

static struct client *mail_take(struct worker *worker) {
    pthread_mutex_lock(&worker->lock);
    struct client *mail = worker->mail;
    worker->mail = NULL;
    pthread_mutex_unlock(&worker->lock);
    return mail;
}

static void worker_sleep(struct worker *worker) {
    exclusive_sleep_begin();
    epoch_offline();
    pthread_mutex_lock(&worker->lock);
    worker->asleep = true;
    while (worker->mail == NULL)
        pthread_cond_wait(&worker->posted, &worker->lock);
    worker->asleep = false;
    pthread_mutex_unlock(&worker->lock);
    if (next_random(&worker->random) % 2) {
        epoch_online();
        exclusive_sleep_end();
    } else {
        exclusive_sleep_end();
        epoch_online();
    }
}

/* Runs all of the chain once; returns those that are ready for another command. */
static struct client *worker_turn(struct worker *worker, struct client *chain) {
    struct client *ready = NULL;
    while (chain != NULL) {
        struct client *client = chain;
        chain = client->next;
        exclusive_point();
        if (client->state == CLIENT_PARKED || client->state == CLIENT_QUEUED)
            worker->resumes++;
        if (!client_run(client))
            continue;
        if (--client->left == 0) {
            worker->unfinished--;
            continue;
        }
        client_choose(client);
        client->next = ready;
        ready = client;
    }
    return ready;
}

static void *worker_thread(void *argument) {
    struct worker *worker = argument;
    epoch_reader_enter();
    exclusive_join();
    struct client *ready = NULL;
    for (int i = 0; i < CLIENTS; i++) {
        client_choose(&worker->clients[i]);
        worker->clients[i].next = ready;
        ready = &worker->clients[i];
    }
    while (worker->unfinished > 0) {
        struct client *mail = mail_take(worker);
        if (mail == NULL && ready == NULL) {
            worker_sleep(worker);
            continue;
        }
        struct client *resumed = worker_turn(worker, mail);
        struct client **end = &resumed;
        while (*end != NULL)
            end = &(*end)->next;
        *end = worker_turn(worker, ready);
        ready = resumed;
        epoch_quiescent();
    }
    exclusive_leave();
    epoch_reader_leave();
    return NULL;
}

static void run(size_t count, unsigned commands, unsigned permille) {
    cr_assert_eq(epoch_start(10000, NULL, NULL), 0);
    section_permille = permille;
    workers_count = count;
    for (int i = 0; i < HOT_SLOTS; i++) {
        money[i] = MONEY;
        atomic_store(&slots[i].word, SLOT_SERVING);
    }
    for (size_t i = 0; i < count; i++) {
        struct worker *worker = &workers[i];
        pthread_mutex_init(&worker->lock, NULL);
        pthread_cond_init(&worker->posted, NULL);
        worker->random = 0x9e3779b97f4a7c15 * (i + 1);
        worker->unfinished = CLIENTS;
        for (int j = 0; j < CLIENTS; j++) {
            worker->clients[j] = (struct client){
                .waiter = {.resume = mail_post}, .worker = worker, .left = commands};
        }
    }
    pthread_t threads[WORKERS_MAX];
    for (size_t i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, worker_thread, &workers[i]);
    long waits = 0, resumes = 0, cancels = 0, patience = 0, sections = 0;
    for (size_t i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_null(workers[i].mail, "a wake for nobody");
        waits += workers[i].waits;
        cancels += workers[i].cancels;
        resumes += workers[i].resumes;
        patience += workers[i].patience;
        sections += workers[i].sections;
    }
    long sum = 0;
    for (int i = 0; i < HOT_SLOTS; i++) {
        cr_assert_eq(atomic_load(&slots[i].word) % SLOT_VERSION_ONE, SLOT_SERVING);
        sum += money[i];
    }
    cr_assert_eq(sum, (long)HOT_SLOTS * MONEY);
    cr_assert_null(patience_owner);
    cr_assert_eq(waits, resumes + cancels, "each wait ends exactly once");
    cr_log_info("%zu workers: %ld waits, %ld cancels, %ld patience, %ld sections", count, waits,
                cancels, patience, sections);
    cr_assert_eq(sections > 0, permille > 0);
    cr_assert_eq(memory_retired_bytes(), 0);
    epoch_stop();
}

TestSuite(torture_exclusive, .timeout = 60);

Test(torture_exclusive, parking_2) {
    run(2, 4000, 0);
}

Test(torture_exclusive, parking_8) {
    run(8, 1000, 0);
}

Test(torture_exclusive, sections_2) {
    run(2, 3000, 20);
}

Test(torture_exclusive, sections_4) {
    run(4, 1000, 30);
}

Test(torture_exclusive, sections_8) {
    run(8, 500, 30);
}

/* --- Sections against threads that sleep, join, leave and want sections themselves
 * ---------------------- */

#define STORM_THREADS 8
#define STORM_MS      1200

static struct {
    _Alignas(64) long commands; /* its thread while running; anybody in a section */
} storm[STORM_THREADS];
static long storm_sections; /* in sections only */
static _Atomic int in_section;

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void storm_section(void *context) {
    (void)context;
    if (atomic_exchange_explicit(&in_section, 1, memory_order_relaxed))
        abort();
    for (int i = 0; i < STORM_THREADS; i++)
        storm[i].commands++;
    storm_sections++;
    if (storm_sections % 64 == 0)
        nanosleep(&(struct timespec){0, 200000}, NULL);
    atomic_store_explicit(&in_section, 0, memory_order_relaxed);
}

static void *storm_thread(void *argument) {
    size_t me = (size_t)argument;
    uint64_t random = 0x9e3779b97f4a7c15 * (me + 1);
    uint64_t end_ms = now_ms() + STORM_MS;
    epoch_reader_enter();
    if (me == 0) { /* never joins, as the link thread */
        while (now_ms() < end_ms) {
            exclusive_run_blocking(storm_section, NULL);
            epoch_quiescent();
            nanosleep(&(struct timespec){0, (long)(next_random(&random) % 200000)}, NULL);
        }
        epoch_reader_leave();
        return NULL;
    }
    exclusive_join();
    while (now_ms() < end_ms) {
        exclusive_point();
        if (atomic_load_explicit(&in_section, memory_order_relaxed))
            abort();
        storm[me].commands++;
        unsigned dice = next_random(&random) % 256;
        if (dice < 40) {
            exclusive_sleep_begin();
            if (dice < 20)
                nanosleep(&(struct timespec){0, dice * 5000}, NULL);
            exclusive_sleep_end();
            storm[me].commands++;
        } else if (dice < 44) {
            exclusive_leave();
            exclusive_join();
            storm[me].commands++;
        } else if (dice < 47) {
            exclusive_leave();
            exclusive_run_blocking(storm_section, NULL);
            exclusive_join();
        } else if (dice < 64) {
            sched_yield();
        }
        epoch_quiescent();
    }
    exclusive_leave();
    epoch_reader_leave();
    return NULL;
}

Test(torture_exclusive, storm) {
    pthread_t threads[STORM_THREADS];
    for (size_t i = 0; i < STORM_THREADS; i++)
        pthread_create(&threads[i], NULL, storm_thread, (void *)i);
    for (size_t i = 0; i < STORM_THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_assert_gt(storm_sections, 0);
    for (int i = 1; i < STORM_THREADS; i++)
        cr_assert_gt(storm[i].commands, storm_sections);
}

/* --- The moment of waking up against the moment of asking
 * ----------------------------------------------- */

#define WAKING_SECTIONS 300000

static atomic_bool waking_quit, waking_joined;
static _Atomic int waking_runs;

static void *waking_thread(void *unused) {
    exclusive_join();
    atomic_store(&waking_joined, true);
    for (unsigned turn = 0; !atomic_load_explicit(&waking_quit, memory_order_relaxed); turn++) {
        exclusive_sleep_begin();
        for (volatile unsigned pause = 0; pause < turn % 128; pause++)
            ;
        exclusive_sleep_end();
        atomic_store_explicit(&waking_runs, 1, memory_order_relaxed);
        for (int i = 0; i < 20; i++) {
            if (atomic_load_explicit(&in_section, memory_order_relaxed))
                abort();
        }
        atomic_store_explicit(&waking_runs, 0, memory_order_relaxed);
    }
    exclusive_leave();
    return unused;
}

static void waking_section(void *unused) {
    (void)unused;
    atomic_store_explicit(&in_section, 1, memory_order_relaxed);
    for (int i = 0; i < 50; i++) {
        if (atomic_load_explicit(&waking_runs, memory_order_relaxed))
            abort();
    }
    atomic_store_explicit(&in_section, 0, memory_order_relaxed);
}

Test(torture_exclusive, waking_up_and_asking_see_each_other) {
    pthread_t thread;
    uint64_t end_ms = now_ms() + 1500;
    pthread_create(&thread, NULL, waking_thread, NULL);
    while (!atomic_load(&waking_joined))
        sched_yield();
    for (int i = 0; i < WAKING_SECTIONS && now_ms() < end_ms; i++) {
        exclusive_run_blocking(waking_section, NULL);
        for (volatile int pause = 0; pause < i % 64; pause++)
            ;
    }
    atomic_store(&waking_quit, true);
    pthread_join(thread, NULL);
}
