/* See watchdog.h.
 *
 * Algorithm. Each worker counts its turns and says when it sleeps. The watchdog looks at these
 * numbers a few times per period; a worker that is awake in the same turn for a whole period gets a
 * signal, and its handler writes the stack and the running command. watchdog-period 0 (the default,
 * as in Redis) leaves the stack out and warns once after STALL_MS. */
#include "server/watchdog.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/clock.h"
#include "engine/exclusive.h"
#include "server/base/log.h"
#include "server/clients/shutdown.h"
#include "server/worker.h"

#define STALL_MS     10000
#define LOOK_MS      100  /* with a watchdog-period, and while the workers end */
#define DOZE_MS      1000 /* without */
#define END_LEAST_US 1000000
#define SIGNAL       SIGALRM
#define STACK_DEPTH  48

struct seen {
    uint64_t turn, since_us;
    bool told;
};

/* In the worker's thread, wherever it is. Only async-signal-safe calls. */
static void on_signal(int number) {
    (void)number;
    int error = errno;
    void *frames[STACK_DEPTH];
    int depth = backtrace(frames, STACK_DEPTH);
    log_write_raw_signal_safe("\n--- WATCHDOG TIMER EXPIRED ---\n");
    int descriptor = log_open_signal_safe();
    if (descriptor >= 0)
        backtrace_symbols_fd(frames, depth, descriptor);
    log_close_signal_safe(descriptor);
    log_write_raw_signal_safe("--------\n");
    errno = error;
}

void watchdog_install(void) {
    void *frames[2];
    backtrace(frames, 2); /* so that its library is loaded before it is needed */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGNAL, &action, NULL);
}

static const char *command_of(const struct worker *worker) {
    const struct command *command =
        atomic_load_explicit(&worker->loop.execution.running, memory_order_relaxed);
    return command ? command->name : "none";
}

static void tell(const struct worker *worker, uint64_t waited_ms, bool stack) {
    log_write(LOG_LEVEL_WARNING,
              "Worker %u has not finished a turn of its loop for %llu ms; running command: %s",
              worker->loop.number, (unsigned long long)waited_ms, command_of(worker));
    if (stack)
        pthread_kill(worker->thread, SIGNAL);
}

static void look(const struct worker *worker, struct seen *seen, uint64_t now_us) {
    uint64_t turn = atomic_load_explicit(&worker->loop.turns, memory_order_relaxed);
    uint64_t period_ms = atomic_load(&worker->loop.server->watchdog_period_ms);
    bool asleep = atomic_load_explicit(&worker->asleep, memory_order_relaxed);
    if (turn != seen->turn || asleep) {
        *seen = (struct seen){turn, now_us, false};
        return;
    }
    uint64_t waited_ms = (now_us - seen->since_us) / 1000;
    if (seen->told || waited_ms < (period_ms ? period_ms : STALL_MS))
        return;
    seen->told = true;
    tell(worker, waited_ms, period_ms != 0);
}

/* Waits to be woken, at most for so long. */
static void doze(struct server *server, long ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += ms % 1000 * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    sem_clockwait(&server->wake_watchdog, CLOCK_MONOTONIC, &until);
}

struct ending {
    struct server *server;
    unsigned flags;
};

static void begin_ending(void *context) {
    const struct ending *ending = context;
    shutdown_begin(ending->server, ending->flags, true);
}

static void act_on_signal(struct server *server) {
    int number = atomic_exchange(&server->signal_received, 0);
    if (!number)
        return;
    struct ending ending = {.server = server};
    ending.flags =
        atomic_load(number == SIGINT ? &server->sigint_shutdown : &server->sigterm_shutdown);
    log_write(LOG_LEVEL_WARNING, "Received %s scheduling shutdown...",
              number == SIGINT ? "SIGINT" : "SIGTERM");
    if (shutdown_stops_workers(server, ending.flags))
        exclusive_run_blocking(begin_ending, &ending);
    else
        shutdown_begin(server, ending.flags, false);
}

static unsigned still_running(struct server *server, struct worker *const *workers) {
    unsigned n = 0;
    for (unsigned i = 0; i < server->loop_count; i++)
        n += !atomic_load(&workers[i]->ended);
    return n;
}

/* The server is stopping. */
static bool wait_for_end(struct server *server, struct worker *const *workers) {
    uint64_t timeout_us = (uint64_t)atomic_load(&server->shutdown_timeout_s) * 1000000;
    if (timeout_us == 0)
        timeout_us = END_LEAST_US; /* nobody is waited for, but all that runs takes its time */
    uint64_t deadline_us = clock_monotonic_us() + timeout_us;
    while (still_running(server, workers) > 0) {
        if (clock_monotonic_us() >= deadline_us) {
            for (unsigned i = 0; i < server->loop_count; i++)
                if (!atomic_load(&workers[i]->ended))
                    tell(workers[i], timeout_us / 1000, true);
            doze(server, LOOK_MS); /* while they write where they stand */
            log_write(
                LOG_LEVEL_WARNING,
                "Workers did not stop within shutdown-timeout: the process ends without them.");
            return false;
        }
        doze(server, LOOK_MS);
    }
    return true;
}

bool watchdog_run(struct server *server, struct worker *const *workers) {
    struct seen seen[SERVER_WORKERS_MAX] = {{0}};
    while (!atomic_load(&server->stopping)) {
        doze(server, atomic_load(&server->watchdog_period_ms) ? LOOK_MS : DOZE_MS);
        act_on_signal(server);
        uint64_t now_us = clock_monotonic_us();
        for (unsigned i = 0; i < server->loop_count; i++)
            look(workers[i], &seen[i], now_us);
    }
    return wait_for_end(server, workers);
}
