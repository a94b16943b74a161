/* How many workers shall be awake: the decision alone, without threads, clocks or sockets.
 *
 *                busy for 3 samples, or contended for 20            5 samples
 *      STEADY ------------------------------------------> SETTLING -----------> MEASURING
 *        ^  one more, or one less, on trial                                        |
 *        +--------------------------------------------------------------------------+
 *           5 samples: the better number stays, and is remembered for this kind of load
 *
 * A worker more is worth having if it finds a core of its own, or if more commands get done with it
 * though it shares one: on a small machine it may only take the core from the clients, which makes
 * each of them wait longer and does nothing more. Nor is it worth a core where less gets done with
 * it: workers whose clients all write to one large key hand its slot to and fro. Whether it does
 * cannot be known beforehand, so it is tried. What was found holds for loads of that kind (number
 * of clients, depth of pipelines) for a time that doubles with each trial that ends alike, so that
 * trials cost next to nothing.
 *
 * Run by worker 0 (balance.c); a unit test drives it with a model of machines. */
#ifndef SLOTWISE_SERVER_GOVERN_H
#define SLOTWISE_SERVER_GOVERN_H

#include <stdbool.h>
#include <stdint.h>

#define GOVERN_CLIENT_KINDS 16
#define GOVERN_DEPTH_KINDS  4

/* What was measured since the sample before; sums over all workers. */
struct govern_sample {
    uint64_t now_ms;           /* monotonic */
    unsigned load_permille;    /* CPU time of the workers over wall time */
    unsigned waiting_permille; /* ready to run and without a core, over wall time; 0: unknown */
    unsigned clients;
    uint64_t commands, reads; /* of sockets; since the server's start */
};

enum govern_phase { GOVERN_STEADY, GOVERN_SETTLING, GOVERN_MEASURING };

struct govern {
    unsigned limit; /* of workers */
    unsigned awake;
    enum govern_phase phase;
    unsigned samples; /* in this phase */
    unsigned busy, idle, contended;
    unsigned before;        /* how many were awake before the trial */
    uint64_t rate_before;   /* commands in a second */
    uint64_t rate_mean;     /* the same, over the samples that were busy or contended */
    uint64_t commands;      /* at the sample before */
    uint64_t reads;         /* the same */
    uint64_t at_ms;         /* the same */
    uint64_t from_ms;       /* when measuring began */
    uint64_t from_commands; /* the same */
    uint64_t waiting_sum;
    struct govern_memory {
        uint64_t until_ms;
        unsigned trials; /* that ended alike */
        bool more;       /* one more was better */
    } memory[GOVERN_CLIENT_KINDS][GOVERN_DEPTH_KINDS];
    struct govern_memory *kind; /* of the load on trial */
};

/* One worker is awake. */
void govern_init(struct govern *govern, unsigned limit);
/* Takes a sample, about ten a second; returns how many workers shall be awake now, 1 to limit. */
unsigned govern_step(struct govern *govern, const struct govern_sample *sample);

#endif
