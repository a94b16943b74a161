/* See lzf_pack.h. The format: a control byte below 32 is followed by so many plain bytes and one
 * more. Else its upper three bits are the length of a repetition less two, 7 if a byte follows that
 * is to be added; its lower five bits and the next byte are how far back it begins, less one. */
#include "replication/lzf_pack.h"

#include <stdbool.h>
#include <string.h>

#include "engine/assert.h"

#define PLAIN_MAX      32
#define DISTANCE_MAX   8192
#define MATCH_MAX      264
#define MATCH_MIN      4 /* of three bytes nothing is gained once plain bytes stand around it */
#define SHORT_MAX      8 /* a longer match takes a third byte */
#define MISSES_PER_ONE 5 /* bits: after so many misses steps become longer by one */

struct packing {
    const uint8_t *data;
    uint8_t *to, *end;
};

void lzf_packer_init(struct lzf_packer *packer) {
    packer->base = 1;
    memset(packer->places, 0, sizeof packer->places);
}

static uint32_t load_4(const uint8_t *from) {
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static uint64_t load_8(const uint8_t *from) {
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static uint32_t *place_of(struct lzf_packer *packer, const uint8_t *at) {
    return &packer->places[load_4(at) * 2654435761U >> (32 - LZF_PLACES_BITS)];
}

/* false: there is no room. */
static bool put_plain(struct packing *packing, size_t from, size_t to) {
    while (from < to) {
        size_t length = to - from < PLAIN_MAX ? to - from : PLAIN_MAX;
        if ((size_t)(packing->end - packing->to) <= length)
            return false;
        *packing->to++ = (uint8_t)(length - 1);
        memcpy(packing->to, packing->data + from, length);
        packing->to += length;
        from += length;
    }
    return true;
}

static bool put_match(struct packing *packing, size_t distance, size_t length) {
    if (packing->end - packing->to < (length <= SHORT_MAX ? 2 : 3))
        return false;
    size_t far = distance - 1;
    if (length <= SHORT_MAX) {
        *packing->to++ = (uint8_t)((length - 2) << 5 | far >> 8);
    } else {
        *packing->to++ = (uint8_t)(7 << 5 | far >> 8);
        *packing->to++ = (uint8_t)(length - 2 - 7);
    }
    *packing->to++ = (uint8_t)far;
    return true;
}

/* How many bytes are the same there and at `at`; four are. Never beyond end. */
static size_t match_length(const uint8_t *data, size_t earlier, size_t at, size_t end) {
    size_t length = MATCH_MIN;
    if (end - at > MATCH_MAX)
        end = at + MATCH_MAX;
    while (at + length + 8 <= end) {
        uint64_t difference = load_8(data + earlier + length) ^ load_8(data + at + length);
        if (difference)
            return length + (size_t)__builtin_ctzll(difference) / 8;
        length += 8;
    }
    while (at + length < end && data[earlier + length] == data[at + length])
        length++;
    return length;
}

/* The next repetition from at on. false: there is none. */
static bool find_match(struct lzf_packer *packer, const uint8_t *data, size_t at, size_t last,
                       size_t *earlier, size_t *found) {
    for (size_t misses = 1 << MISSES_PER_ONE; at <= last; at += misses++ >> MISSES_PER_ONE) {
        uint32_t *place = place_of(packer, data + at);
        uint32_t here = packer->base + (uint32_t)at, before = *place;
        *place = here;
        if (before < packer->base || here - before > DISTANCE_MAX)
            continue;
        *earlier = before - packer->base;
        if (load_4(data + *earlier) == load_4(data + at)) {
            *found = at;
            return true;
        }
    }
    return false;
}

static bool pack(struct lzf_packer *packer, struct packing *packing, size_t length) {
    const uint8_t *data = packing->data;
    size_t plain = 0, earlier, at = 0, last = length - MATCH_MIN;
    while (at <= last && find_match(packer, data, at, last, &earlier, &at)) {
        size_t repeated = match_length(data, earlier, at, length);
        while (at > plain && earlier > 0 && repeated < MATCH_MAX &&
               data[at - 1] == data[earlier - 1]) {
            at--;
            earlier--;
            repeated++;
        }
        if (!put_plain(packing, plain, at) || !put_match(packing, at - earlier, repeated))
            return false;
        plain = at += repeated;
        if (at - 2 <= last)
            *place_of(packer, data + at - 2) = packer->base + (uint32_t)at - 2;
    }
    return put_plain(packing, plain, length);
}

size_t lzf_pack(struct lzf_packer *packer, const void *data, size_t length, void *packed,
                size_t room) {
    ASSERT(length <= LZF_PACK_MAX_BYTES);
    if (length < MATCH_MIN || room == 0)
        return 0;
    if (UNLIKELY(packer->base > UINT32_MAX - LZF_PACK_MAX_BYTES))
        lzf_packer_init(packer);
    struct packing packing = {data, packed, (uint8_t *)packed + room};
    bool fits = pack(packer, &packing, length);
    packer->base += (uint32_t)length;
    return fits ? (size_t)(packing.to - (uint8_t *)packed) : 0;
}
