/* Links: connections between two parties in memory, as a socket is one: bytes arrive in order, in
 * pieces of any size, late, and up to the byte where the link breaks. A break is told at once,
 * later or never (then only silence tells).
 *
 * Each link has two ends, 0 and 1. A party is told of what arrives by its struct sim_party, and may
 * close the link in there. After it has closed its end it hears nothing more. Links live as long as
 * the network. One thread. */
#ifndef SLOTWISE_TESTS_SIM_LINK_H
#define SLOTWISE_TESTS_SIM_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/queue.h"
#include "tests/sim/random.h"

struct sim_link;

struct sim_party {
    /* Returns the microseconds after which it wants to be asked again, 0: it took the bytes. */
    uint64_t (*receive)(void *context, struct sim_link *link, const char *data, size_t length);
    /* The other end is closed, or the link is broken; likewise. */
    uint64_t (*ended)(void *context, struct sim_link *link);
    void *context;
};

/* What the network does to bytes; may be changed at any time. */
struct sim_network {
    struct sim_queue *queue;
    struct sim_random random;
    uint64_t delay_min_us, delay_max_us; /* of a piece */
    size_t piece_max_bytes;
    struct sim_link *links;
    uint64_t sent_bytes;
};

/* One direction; end is that of the sender. */
struct sim_direction {
    char *bytes;
    size_t length, capacity;
    bool delivering; /* an event is on its way */
    bool finished;   /* the sender has closed, or the link broke: nothing comes after bytes */
    bool silent;     /* and nobody is told */
    uint64_t budget; /* bytes until it breaks */
};

struct sim_link {
    struct sim_link *next;
    struct sim_network *network;
    struct sim_party parties[2];
    bool open[2]; /* the end has not been closed, and not been told of the end */
    struct sim_direction directions[2];
};

void sim_network_destroy(struct sim_network *network);
struct sim_link *sim_link_open(struct sim_network *network, const struct sim_party *a,
                               const struct sim_party *b);
void sim_link_send(struct sim_link *link, int end, const void *data, size_t length);
/* Bytes that this end has sent and that have not arrived. */
size_t sim_link_unsent(const struct sim_link *link, int end);
/* What has been sent still arrives. */
void sim_link_close(struct sim_link *link, int end);
/* The end closes and its bytes are lost: its process has died. */
void sim_link_reset(struct sim_link *link, int end);
/* From so many bytes of this end on nothing arrives any more, in neither direction. silent: neither
 * end is told. */
void sim_link_break_after(struct sim_link *link, int end, uint64_t bytes, bool silent);

#endif
