/* See capability.h. */
#include "cluster/capability.h"

#include <string.h>

#include "cluster/wire.h"

#define VOTERS_AT 8

static const uint8_t mark[4] = {'S', 'L', 'T', 'W'};

void capability_write(uint8_t *spare, unsigned capabilities, uint64_t voters) {
    memset(spare, 0, WIRE_SPARE_LENGTH);
    memcpy(spare, mark, sizeof mark);
    for (unsigned i = 0; i < 4; i++)
        spare[sizeof mark + i] = (uint8_t)(capabilities >> (24 - 8 * i));
    for (unsigned i = 0; i < 8; i++)
        spare[VOTERS_AT + i] = (uint8_t)(voters >> (56 - 8 * i));
}

unsigned capability_read(const uint8_t *spare, uint64_t *voters) {
    unsigned capabilities = 0;
    *voters = 0;
    if (memcmp(spare, mark, sizeof mark) != 0)
        return 0;
    for (unsigned i = 0; i < 4; i++)
        capabilities = capabilities << 8 | spare[sizeof mark + i];
    for (unsigned i = 0; i < 8; i++)
        *voters = *voters << 8 | spare[VOTERS_AT + i];
    return capabilities;
}
