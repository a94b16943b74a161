/* Slot request: the arguments of CLUSTER MIGRATESLOTS, and sets of slots as texts. Pure. */
#ifndef SLOTWISE_CLUSTER_SLOT_REQUEST_H
#define SLOTWISE_CLUSTER_SLOT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/slot_map.h"

#define SLOT_REQUEST_ERROR_BYTES 192

struct slot_word {
    const char *data;
    size_t length;
};

/* One migration: these slots to this node. */
struct slot_request {
    uint8_t slots[WIRE_SLOT_BYTES];
    struct node_id target;
};

/* What is known when it is asked for. */
struct slot_request_facts {
    const struct slot_map *map;
    const uint8_t *busy; /* slots that are on their way already */
};

/* SLOTSRANGE first last [first last ...] NODE id, once or more. The requests are allocated
 * (memory_free). NULL, or the text of the error with its code, in error or static; no requests
 * then. Texts and their order are Valkey's. */
const char *slot_request_parse(const struct slot_word *words, size_t count,
                               const struct slot_request_facts *facts,
                               struct slot_request **requests, size_t *request_count,
                               char error[SLOT_REQUEST_ERROR_BYTES]);

/* "0-5 7-7": allocated (memory_free). */
char *slot_set_text(const uint8_t *slots);
/* The other way, without spaces at the ends. false: it is none. */
bool slot_set_parse(const char *text, size_t length, uint8_t *slots);

#endif
