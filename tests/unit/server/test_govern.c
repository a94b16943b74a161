/* How many workers are awake: the decision against a model of machines and loads. */
#include <criterion/criterion.h>

#include "server/clients/govern.h"

/* A machine with so many cores, on which clients take some themselves. Workers want what the load
 * asks for; if all together want more than there is, each gets its part and waits for the rest. */
struct model {
    unsigned cores;
    unsigned
        offered; /* commands in a second that clients send at most; 0: as many as are answered */
    unsigned per_core;        /* commands in a second that a core can do */
    unsigned client_permille; /* of a core, for each per_core commands in a second */
    unsigned clients, depth;
    unsigned one_key_permille; /* of what one worker does is left to several; 0: they add up */
    bool waiting_unknown;
    struct govern govern;
    struct govern_sample sample;
    unsigned trials;
};

static void model_init(struct model *model, unsigned limit) {
    govern_init(&model->govern, limit);
    model->sample.now_ms = 1000;
}

static unsigned step(struct model *model) {
    unsigned awake = model->govern.awake;
    /* Per mille of per_core that the workers do: bounded by themselves, the load and the cores. */
    unsigned rate = awake * 1000;
    if (model->offered && (uint64_t)model->offered * 1000 / model->per_core < rate)
        rate = (unsigned)((uint64_t)model->offered * 1000 / model->per_core);
    if (model->one_key_permille && awake > 1)
        rate = model->one_key_permille;
    unsigned wanted = awake * 1000 + rate * model->client_permille / 1000;
    unsigned waiting = 0;
    unsigned possible = model->cores * 1000 * 1000 / (1000 + model->client_permille);
    if (rate > possible) {
        waiting = (wanted - model->cores * 1000) * awake * 1000 / wanted;
        rate = possible;
    }
    struct govern_sample *sample = &model->sample;
    sample->now_ms += 100;
    sample->load_permille = model->one_key_permille ? awake * 1000 : rate;
    sample->waiting_permille = model->waiting_unknown ? 0 : waiting;
    sample->clients = model->clients;
    uint64_t commands = (uint64_t)rate * model->per_core / 10000;
    sample->commands += commands;
    sample->reads += commands / model->depth;
    enum govern_phase before = model->govern.phase;
    unsigned now = govern_step(&model->govern, sample);
    cr_assert(now >= 1 && now <= model->govern.limit);
    cr_assert(now <= awake + 1 && now + 1 >= awake, "one at a time");
    if (before == GOVERN_STEADY && model->govern.phase != GOVERN_STEADY)
        model->trials++;
    return now;
}

static unsigned run_for(struct model *model, unsigned seconds) {
    for (unsigned i = 0; i < seconds * 10; i++)
        step(model);
    return model->govern.awake;
}

/* How many samples of the next `seconds` have more than one worker awake. */
static unsigned samples_with_more(struct model *model, unsigned seconds) {
    unsigned more = 0;
    for (unsigned i = 0; i < seconds * 10; i++)
        more += step(model) > 1;
    return more;
}

Test(govern, wakes_all_where_there_are_cores) {
    struct model model = {
        .cores = 16, .per_core = 200000, .client_permille = 500, .clients = 50, .depth = 1};
    model_init(&model, 8);
    cr_assert_eq(run_for(&model, 20), 8);
    model.offered = 1000; /* next to nothing is left */
    cr_assert_eq(run_for(&model, 20), 1);
}

/* Two cores, and a client that needs as much as a worker: the second takes it from the client. */
Test(govern, a_worker_that_brings_nothing_goes_again) {
    struct model model = {
        .cores = 2, .per_core = 200000, .client_permille = 950, .clients = 50, .depth = 1};
    model_init(&model, 2);
    run_for(&model, 600);
    cr_assert_eq(model.govern.awake, 1);
    cr_assert(model.trials >= 5 && model.trials <= 12, "%u", model.trials);
    cr_assert(samples_with_more(&model, 600) < 600 * 10 / 100, "less than a hundredth of the time");
}

/* The same machine, and deep pipelines that cost the client little. */
Test(govern, a_worker_that_shares_its_core_and_does_more_stays) {
    struct model model = {
        .cores = 2, .per_core = 3000000, .client_permille = 350, .clients = 50, .depth = 64};
    model_init(&model, 2);
    run_for(&model, 3);
    cr_assert_eq(run_for(&model, 60), 2);
    cr_assert(samples_with_more(&model, 600) > 600 * 10 * 98 / 100);
}

Test(govern, a_load_that_one_can_carry_wakes_nobody) {
    struct model model = {.cores = 4,
                          .per_core = 200000,
                          .offered = 150000,
                          .client_permille = 500,
                          .clients = 50,
                          .depth = 1};
    model_init(&model, 4);
    cr_assert_eq(samples_with_more(&model, 60), 0);
}

/* A load of a fixed rate gets no faster by a second worker, but with cores to spare nobody waits.
 */
Test(govern, a_fixed_rate_keeps_the_worker_that_has_a_core) {
    struct model model = {.cores = 4,
                          .per_core = 200000,
                          .offered = 195000,
                          .client_permille = 500,
                          .clients = 50,
                          .depth = 1};
    model_init(&model, 4);
    cr_assert_eq(run_for(&model, 5), 2);
    cr_assert_eq(run_for(&model, 60), 2);
}

/* All clients write to one large key: a second worker has a core, and both do less than one did. */
Test(govern, workers_that_are_in_each_others_way_are_fewer) {
    struct model model = {.cores = 8,
                          .per_core = 300000,
                          .client_permille = 200,
                          .clients = 50,
                          .depth = 64,
                          .one_key_permille = 700};
    model_init(&model, 4);
    step(&model); /* the first sample has none before it that tells a rate */
    model.govern.busy = 0;
    run_for(&model, 60);
    cr_assert_eq(model.govern.awake, 1);
    cr_assert(samples_with_more(&model, 600) < 600 * 10 / 50);
}

Test(govern, one_client_wakes_nobody) {
    struct model model = {
        .cores = 4, .per_core = 200000, .client_permille = 500, .clients = 1, .depth = 64};
    model_init(&model, 4);
    cr_assert_eq(samples_with_more(&model, 60), 0);
}

/* Somebody else comes to use the cores: what was worth having is tried again with one less. */
Test(govern, contention_that_comes_later_is_found) {
    struct model model = {
        .cores = 4, .per_core = 200000, .client_permille = 950, .clients = 50, .depth = 1};
    model_init(&model, 2);
    cr_assert_eq(run_for(&model, 10), 2);
    model.cores = 2;
    run_for(&model, 60);
    cr_assert_eq(model.govern.awake, 1);
    cr_assert(samples_with_more(&model, 300) < 300 * 10 / 20);
}

/* What one kind of load has taught says nothing about another. */
Test(govern, another_kind_of_load_is_tried_at_once) {
    struct model model = {
        .cores = 2, .per_core = 200000, .client_permille = 950, .clients = 50, .depth = 1};
    model_init(&model, 2);
    run_for(&model, 60);
    cr_assert_eq(model.govern.awake, 1);
    model.depth = 64;
    model.client_permille = 300;
    model.per_core = 3000000;
    cr_assert_eq(run_for(&model, 5), 2);
}

/* Where the kernel tells nothing about waiting, each seems to have a core of its own. */
Test(govern, without_the_time_waited_more_stay) {
    struct model model = {.cores = 2,
                          .per_core = 200000,
                          .client_permille = 950,
                          .clients = 50,
                          .depth = 1,
                          .waiting_unknown = true};
    model_init(&model, 2);
    cr_assert_eq(run_for(&model, 10), 2);
}

/* Counters that are set back give no absurd rates. */
Test(govern, counters_may_be_reset) {
    struct model model = {
        .cores = 2, .per_core = 200000, .client_permille = 950, .clients = 50, .depth = 1};
    model_init(&model, 2);
    for (unsigned i = 0; i < 3000; i++) {
        step(&model);
        if (i % 7 == 0)
            model.sample.commands = model.sample.reads = 0;
    }
    cr_assert(model.govern.rate_mean < 10000000);
}
