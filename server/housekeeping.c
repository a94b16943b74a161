/* See housekeeping.h. Runs on worker 0. */
#include "server/housekeeping.h"

#include "engine/background.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/clients/loop.h"
#include "server/clients/server.h"
#include "server/commands/statistics.h"
#include "server/config/config.h"

#define RATE_SAMPLES 16

/* Redis's instantaneous metrics: mean of the last 16 samples of the rate. */
struct rate {
    uint64_t last, samples[RATE_SAMPLES];
    unsigned index;
};

static uint64_t rate_update(struct rate *rate, uint64_t total, uint64_t elapsed_us) {
    uint64_t delta = total >= rate->last ? total - rate->last : 0, sum = 0;
    rate->last = total;
    rate->samples[rate->index++ % RATE_SAMPLES] = elapsed_us ? delta * 1000000 / elapsed_us : 0;
    for (unsigned i = 0; i < RATE_SAMPLES; i++)
        sum += rate->samples[i];
    return sum / RATE_SAMPLES;
}

static void update_rates(struct server *server) {
    static struct rate commands, input, output, turns, busy; /* worker 0 only */
    static uint64_t last_us;
    uint64_t now_us = clock_monotonic_us(), c = 0, i = 0, o = 0, t = 0, b = 0;
    for (unsigned n = 0; n < server->loop_count; n++) {
        const struct loop *loop = server->loops[n];
        c += atomic_load_explicit(&loop->execution.commands, memory_order_relaxed);
        i += atomic_load_explicit(&loop->received_bytes, memory_order_relaxed);
        o += atomic_load_explicit(&loop->sent_bytes, memory_order_relaxed);
        t += atomic_load_explicit(&loop->turns, memory_order_relaxed);
        b += atomic_load_explicit(&loop->busy_ns, memory_order_relaxed) / 1000;
    }
    uint64_t elapsed_us = last_us ? now_us - last_us : 0;
    last_us = now_us;
    atomic_store(&server->instantaneous_commands, rate_update(&commands, c, elapsed_us));
    atomic_store(&server->instantaneous_input_bytes, rate_update(&input, i, elapsed_us));
    atomic_store(&server->instantaneous_output_bytes, rate_update(&output, o, elapsed_us));
    atomic_store(&server->instantaneous_turns, rate_update(&turns, t, elapsed_us));
    atomic_store(&server->instantaneous_busy_us, rate_update(&busy, b, elapsed_us));
}

void housekeeping_tick(struct server *server) {
    update_rates(server);
    memory_peak_sample();
    background_give_back_memory();
    statistics_sample_process(server);
    if (!(service_limits(&server->service) & SERVICE_LOADING))
        saver_tick(&server->saver, config_current());
}
