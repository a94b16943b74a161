/* See govern.h. */
#include "server/clients/govern.h"

#include <string.h>

#include "engine/assert.h"

#define WAKE_PERMILLE      900 /* mean load of those awake above which one more is tried */
#define SLEEP_PERMILLE     850 /* what the mean would become, below which one goes to sleep */
#define CONTENDED_PERMILLE 200 /* mean waiting above which one less is tried */
#define ALONE_PERMILLE     60  /* mean waiting up to which each has a core of its own */
#define GAIN_PERMILLE      200 /* that the second must bring; the n-th: the n-th part */
#define KEPT_PERMILLE      900 /* of the rate with fewer: below it a core of its own is no reason */
#define BUSY_SAMPLES       3
#define IDLE_SAMPLES       10
#define CONTENDED_SAMPLES  20
#define SETTLING_SAMPLES   3
#define MEASURING_SAMPLES  5
#define HOLDS_MS           15000 /* what a first trial has found */
#define HOLDS_DOUBLINGS    3

void govern_init(struct govern *govern, unsigned limit) {
    ASSERT(limit > 0);
    *govern = (struct govern){.limit = limit, .awake = 1};
}

static unsigned binary_digits(uint64_t number) {
    return number ? 64 - (unsigned)__builtin_clzll(number) : 0;
}

/* Of a counter that CONFIG RESETSTAT may have set back. */
static uint64_t since(uint64_t now, uint64_t before) {
    return now >= before ? now - before : 0;
}

static uint64_t per_second(uint64_t count, uint64_t elapsed_ms) {
    return count * 1000 / (elapsed_ms ? elapsed_ms : 1);
}

/* Loads whose clients and pipelines are about as many and as deep. */
static struct govern_memory *kind_of(struct govern *govern, const struct govern_sample *sample) {
    uint64_t reads = since(sample->reads, govern->reads);
    uint64_t commands = since(sample->commands, govern->commands);
    unsigned clients = binary_digits(sample->clients);
    unsigned depth = binary_digits(reads ? commands / reads : 0) / 2;
    return &govern->memory[clients < GOVERN_CLIENT_KINDS ? clients : GOVERN_CLIENT_KINDS - 1]
                          [depth < GOVERN_DEPTH_KINDS ? depth : GOVERN_DEPTH_KINDS - 1];
}

static void enter(struct govern *govern, enum govern_phase phase) {
    govern->phase = phase;
    govern->samples = govern->busy = govern->idle = govern->contended = 0;
}

static void try_with(struct govern *govern, unsigned awake, struct govern_memory *kind) {
    govern->before = govern->awake;
    govern->rate_before = govern->rate_mean;
    govern->awake = awake;
    govern->kind = kind;
    enter(govern, GOVERN_SETTLING);
}

/* The trial is over: which of the two numbers is it to be? */
static void judge(struct govern *govern, const struct govern_sample *sample) {
    uint64_t rate = per_second(since(sample->commands, govern->from_commands),
                               sample->now_ms - govern->from_ms);
    bool grown = govern->awake > govern->before;
    unsigned fewer = grown ? govern->before : govern->awake;
    uint64_t with_fewer = grown ? govern->rate_before : rate;
    uint64_t with_more = grown ? rate : govern->rate_before;
    bool alone =
        grown &&
        govern->waiting_sum <= (uint64_t)MEASURING_SAMPLES * govern->awake * ALONE_PERMILLE &&
        with_more * 1000 >= with_fewer * KEPT_PERMILLE;
    bool more = alone || with_more * 1000 >= with_fewer * (1000 + GAIN_PERMILLE / fewer);
    govern->awake = more ? fewer + 1 : fewer;
    struct govern_memory *kind = govern->kind;
    kind->trials = kind->more == more && kind->until_ms ? kind->trials + 1 : 0;
    kind->more = more;
    unsigned doublings = kind->trials < HOLDS_DOUBLINGS ? kind->trials : HOLDS_DOUBLINGS;
    kind->until_ms = sample->now_ms + ((uint64_t)HOLDS_MS << doublings);
    enter(govern, GOVERN_STEADY);
}

static void count(unsigned *samples, bool is) {
    *samples = is ? *samples + 1 : 0;
}

static void steady(struct govern *govern, const struct govern_sample *sample) {
    unsigned awake = govern->awake, load = sample->load_permille;
    count(&govern->busy,
          load > awake * WAKE_PERMILLE && awake < govern->limit && sample->clients > awake);
    count(&govern->idle, awake > 1 && load < (awake - 1) * SLEEP_PERMILLE);
    count(&govern->contended, awake > 1 && sample->waiting_permille > awake * CONTENDED_PERMILLE);
    struct govern_memory *kind = kind_of(govern, sample);
    bool known = sample->now_ms < kind->until_ms;
    if (govern->busy >= BUSY_SAMPLES && known && kind->more) {
        govern->awake++;
        govern->busy = 0;
    } else if (govern->busy >= BUSY_SAMPLES && !known) {
        try_with(govern, awake + 1, kind);
    } else if (govern->idle >= IDLE_SAMPLES) {
        govern->awake--;
        govern->idle = 0;
    } else if (govern->contended >= CONTENDED_SAMPLES && !(known && kind->more)) {
        try_with(govern, awake - 1, kind);
    }
}

unsigned govern_step(struct govern *govern, const struct govern_sample *sample) {
    uint64_t rate =
        per_second(since(sample->commands, govern->commands), sample->now_ms - govern->at_ms);
    unsigned alike = govern->busy > govern->contended ? govern->busy : govern->contended;
    govern->rate_mean = (govern->rate_mean * alike + rate) / (alike + 1);
    govern->samples++;
    switch (govern->phase) {
    case GOVERN_STEADY:
        steady(govern, sample);
        break;
    case GOVERN_SETTLING:
        if (govern->samples < SETTLING_SAMPLES)
            break;
        enter(govern, GOVERN_MEASURING);
        govern->from_ms = sample->now_ms;
        govern->from_commands = sample->commands;
        govern->waiting_sum = 0;
        break;
    case GOVERN_MEASURING:
        govern->waiting_sum += sample->waiting_permille;
        if (govern->samples >= MEASURING_SAMPLES)
            judge(govern, sample);
        break;
    }
    govern->commands = sample->commands;
    govern->reads = sample->reads;
    govern->at_ms = sample->now_ms;
    return govern->awake;
}
