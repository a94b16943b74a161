/* See link.h. Each direction has at most one event on its way, which takes one piece. */
#include "tests/sim/link.h"

#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"

static void deliver(void *context, uint64_t end);

static void schedule(struct sim_link *link, int end, uint64_t delay_us) {
    if (link->directions[end].delivering)
        return;
    link->directions[end].delivering = true;
    sim_queue_after(link->network->queue, delay_us, deliver, link, (uint64_t)end);
}

static uint64_t some_delay_us(struct sim_network *network) {
    return sim_random_between(&network->random, network->delay_min_us, network->delay_max_us);
}

/* The link breaks for both ends. */
static void break_now(struct sim_link *link, bool silent) {
    for (int end = 0; end < 2; end++) {
        struct sim_direction *direction = &link->directions[end];
        direction->length = 0;
        direction->finished = true;
        direction->silent = direction->silent || silent;
        if (!direction->silent)
            schedule(link, end, some_delay_us(link->network));
    }
}

/* Often all there is, sometimes a single byte. */
static size_t piece_of(struct sim_network *network, size_t length) {
    if (length > network->piece_max_bytes)
        length = network->piece_max_bytes;
    if (sim_random_chance(&network->random, 60))
        return length;
    return sim_random_between(&network->random, 1, length);
}

static void deliver_end(struct sim_link *link, int end) {
    int to = 1 - end;
    struct sim_direction *direction = &link->directions[end];
    if (!direction->finished || direction->silent || !link->open[to])
        return;
    uint64_t again_us = link->parties[to].ended(link->parties[to].context, link);
    if (again_us)
        schedule(link, end, again_us);
    else
        link->open[to] = false;
}

static void deliver_piece(struct sim_link *link, int end) {
    int to = 1 - end;
    struct sim_network *network = link->network;
    struct sim_direction *direction = &link->directions[end];
    size_t length = piece_of(network, direction->length);
    if (length > direction->budget)
        length = (size_t)direction->budget;
    uint64_t again_us = 0;
    if (length > 0 && link->open[to]) {
        char *piece = malloc(length);
        ASSERT(piece);
        memcpy(piece, direction->bytes, length);
        again_us = link->parties[to].receive(link->parties[to].context, link, piece, length);
        free(piece);
    }
    if (again_us) {
        schedule(link, end, again_us);
        return;
    }
    if (length > direction->length) /* the link broke meanwhile */
        return;
    direction->length -= length;
    memmove(direction->bytes, direction->bytes + length, direction->length);
    if (direction->budget != UINT64_MAX)
        direction->budget -= length;
    if (direction->budget == 0)
        break_now(link, direction->silent);
    else if (direction->length > 0 || direction->finished)
        schedule(link, end, some_delay_us(network));
}

static void deliver(void *context, uint64_t end) {
    struct sim_link *link = context;
    struct sim_direction *direction = &link->directions[end];
    direction->delivering = false;
    if (direction->length == 0)
        deliver_end(link, (int)end);
    else
        deliver_piece(link, (int)end);
}

struct sim_link *sim_link_open(struct sim_network *network, const struct sim_party *a,
                               const struct sim_party *b) {
    struct sim_link *link = calloc(1, sizeof *link);
    ASSERT(link);
    *link = (struct sim_link){
        .next = network->links, .network = network, .parties = {*a, *b}, .open = {true, true}};
    link->directions[0].budget = link->directions[1].budget = UINT64_MAX;
    network->links = link;
    return link;
}

void sim_network_destroy(struct sim_network *network) {
    for (struct sim_link *link = network->links, *next; link; link = next) {
        next = link->next;
        free(link->directions[0].bytes);
        free(link->directions[1].bytes);
        free(link);
    }
    network->links = NULL;
}

void sim_link_send(struct sim_link *link, int end, const void *data, size_t length) {
    struct sim_direction *direction = &link->directions[end];
    ASSERT(link->open[end]);
    if (direction->finished || length == 0)
        return;
    if (direction->length + length > direction->capacity) {
        direction->capacity = 2 * (direction->length + length);
        direction->bytes = realloc(direction->bytes, direction->capacity);
        ASSERT(direction->bytes);
    }
    memcpy(direction->bytes + direction->length, data, length);
    direction->length += length;
    link->network->sent_bytes += length;
    schedule(link, end, some_delay_us(link->network));
}

size_t sim_link_unsent(const struct sim_link *link, int end) {
    return link->directions[end].length;
}

void sim_link_close(struct sim_link *link, int end) {
    link->open[end] = false;
    link->directions[end].finished = true;
    schedule(link, end, some_delay_us(link->network));
}

void sim_link_reset(struct sim_link *link, int end) {
    link->directions[end].length = 0;
    sim_link_close(link, end);
}

void sim_link_break_after(struct sim_link *link, int end, uint64_t bytes, bool silent) {
    struct sim_direction *direction = &link->directions[end];
    direction->silent = direction->silent || silent;
    direction->budget = bytes;
    if (bytes == 0)
        break_now(link, silent);
}
