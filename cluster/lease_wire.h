/* The data of WIRE_PRIVATE_LEASE and WIRE_PRIVATE_ANSWER (wire.h), which gives them back as they
 * came:
 *
 *     0 enum lease_message [1]   1 incarnation [8]   9 number of the round [8]   17 voters [8] */
#ifndef SLOTWISE_CLUSTER_LEASE_WIRE_H
#define SLOTWISE_CLUSTER_LEASE_WIRE_H

#include "cluster/wire.h"

#define LEASE_ROUND_BYTES 25

enum lease_message {
    LEASE_MESSAGE_OFF, /* it is not bound by its lease, or will soon not be */
    LEASE_MESSAGE_ON,
    LEASE_MESSAGE_GIVEN_BACK, /* it acknowledges nothing until it asks again; no answer */
};

struct lease_round {
    enum lease_message message;
    uint64_t incarnation, number;
    uint64_t voters; /* hash */
};

static inline void lease_put(uint8_t *at, uint64_t number) {
    for (unsigned i = 0; i < 8; i++)
        at[i] = (uint8_t)(number >> (56 - 8 * i));
}

static inline uint64_t lease_get(const uint8_t *at) {
    uint64_t number = 0;
    for (unsigned i = 0; i < 8; i++)
        number = number << 8 | at[i];
    return number;
}

static inline void lease_round_write(uint8_t *data, const struct lease_round *round) {
    data[0] = (uint8_t)round->message;
    lease_put(data + 1, round->incarnation);
    lease_put(data + 9, round->number);
    lease_put(data + 17, round->voters);
}

/* false: it is too short. */
static inline bool lease_round_read(const struct wire_packet *packet, struct lease_round *round) {
    const uint8_t *data = packet->private_data;
    if (packet->private_length < LEASE_ROUND_BYTES)
        return false;
    *round = (struct lease_round){(enum lease_message)data[0], lease_get(data + 1),
                                  lease_get(data + 9), lease_get(data + 17)};
    return true;
}

#endif
