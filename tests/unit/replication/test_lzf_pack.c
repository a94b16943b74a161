/* The packer of strings: what it makes is what liblzf reads, and is about as short. */
#include <criterion/criterion.h>
#include <lzf.h>
#include <stdlib.h>
#include <string.h>

#include "replication/lzf_pack.h"

#define LARGE ((size_t)100000)

static struct lzf_packer packer;
static uint64_t state;
static uint8_t data[LARGE], packed[LARGE + LARGE / 16 + 64], back[LARGE];

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void setup(void) {
    lzf_packer_init(&packer);
    state = 88172645463325252u;
}

/* Pieces of which some are repeated, from near or far; noise: of 16 pieces so many are new. */
static void fill(size_t length, unsigned noise) {
    for (size_t at = 0; at < length;) {
        size_t piece = 1 + next() % (next() % 8 == 0 ? 700 : 20);
        bool fresh = at == 0 || next() % 16 < noise;
        size_t from = at == 0 ? 0 : next() % at;
        for (; piece > 0 && at < length; piece--)
            data[at++] = fresh ? (uint8_t)next() : data[from++];
    }
}

static size_t check(size_t length, size_t room) {
    packed[room] = 0xa5;
    size_t result = lzf_pack(&packer, data, length, packed, room);
    cr_assert_leq(result, room);
    cr_assert_eq(packed[room], 0xa5);
    if (result > 0) {
        cr_assert_eq(lzf_decompress(packed, (unsigned)result, back, (unsigned)length), length);
        cr_assert_arr_eq(back, data, length);
    }
    return result;
}

Test(lzf_pack, what_it_makes_is_read_back, .init = setup) {
    for (unsigned round = 0; round < 4000; round++) {
        size_t length = 1 + next() % (round % 16 == 0 ? LARGE : 600);
        fill(length, (unsigned)(next() % 17));
        check(length, length + length / 16 + 32);
    }
}

Test(lzf_pack, room_is_never_exceeded, .init = setup) {
    for (unsigned round = 0; round < 200; round++) {
        size_t length = 4 + next() % 300;
        fill(length, (unsigned)(next() % 10));
        size_t least = check(length, length + length / 16 + 32);
        for (size_t room = 0; room < length + 8; room++)
            cr_assert_eq(check(length, room), room < least ? 0 : least);
    }
}

Test(lzf_pack, edges_of_lengths_and_distances, .init = setup) {
    for (size_t length = 0; length <= 300; length++) {
        memset(data, 'a', length);
        size_t result = check(length, length + 32);
        cr_assert(length < 8 || (result > 0 && result < length));
    }
    /* A repetition exactly as far back as the format can tell, and one byte farther. */
    for (size_t distance = 8190; distance <= 8195; distance++) {
        for (size_t i = 0; i < distance; i++)
            data[i] = (uint8_t)next();
        memcpy(data + distance, data, 4000);
        size_t result = check(distance + 4000, sizeof packed - 1);
        cr_assert(distance <= 8192 ? result < distance + 1000 : result > distance + 3900);
    }
}

/* What an earlier string left in the table is never taken for a part of this one. */
Test(lzf_pack, strings_do_not_see_each_other, .init = setup) {
    for (unsigned round = 0; round < 2000; round++) {
        for (size_t i = 0; i < 64; i++)
            data[i] = (uint8_t)('a' + (i * 7 + round / 50) % 26);
        cr_assert_eq(check(24, 23), 0);
    }
    packer.base = UINT32_MAX - LZF_PACK_MAX_BYTES - 100;
    for (unsigned round = 0; round < 100; round++) {
        fill(600, 8);
        check(600, 700);
    }
    cr_assert_lt(packer.base, 1u << 20, "places have begun anew");
}

/* Values as they are in use: not much longer than what liblzf makes of them. */
Test(lzf_pack, is_about_as_short_as_the_library, .init = setup) {
    static const char *const words[] = {"{\"name\":\"",
                                        "\",\"active\":true",
                                        "\",\"visits\":[",
                                        "lars",
                                        "\",\"token\":\"",
                                        "anna",
                                        "mei",
                                        " street "};
    size_t own = 0, library = 0;
    for (unsigned round = 0; round < 2000; round++) {
        size_t length = 0;
        while (length < 400) {
            const char *word = words[next() % 8];
            memcpy(data + length, word, strlen(word));
            length += strlen(word);
            for (unsigned i = (unsigned)(next() % 10); i > 0; i--)
                data[length++] = (uint8_t)('0' + next() % 10);
        }
        size_t result = check(length, length - 4);
        own += result ? result : length;
        result = lzf_compress(data, (unsigned)length, packed, (unsigned)length - 4);
        library += result ? result : length;
    }
    cr_assert_lt(own, library + library / 20, "%zu bytes against %zu", own, library);
}
