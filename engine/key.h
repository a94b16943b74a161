/* Key: the name of an object, with the two hashes that say where it is. Points to bytes of somebody
 * else (an argument, an object). */
#ifndef SLOTWISE_ENGINE_KEY_H
#define SLOTWISE_ENGINE_KEY_H

#include "engine/crc16.h"
#include "engine/table_hash.h"

struct key {
    const char *data;
    size_t length;
    uint64_t hash;
    uint32_t slot;
};

static inline struct key key_make(const char *data, size_t length) {
    return (struct key){data, length, table_hash(data, length), slot_of_key(data, length)};
}

#endif
