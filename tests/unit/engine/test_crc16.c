/* CRC16 and the slot of a key. */
#include <string.h>

#include <criterion/criterion.h>

#include "engine/crc16.h"
#include "engine/slot.h"

TestSuite(crc16, .init = crc16_init);

static uint16_t slot_of(const char *key) {
    return slot_of_key(key, strlen(key));
}

/* The definition, bit by bit. */
static uint16_t crc16_by_bits(const uint8_t *data, size_t length) {
    unsigned crc = 0;
    for (size_t i = 0; i < length; i++) {
        crc ^= (unsigned)data[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1) & 0xffff;
    }
    return (uint16_t)crc;
}

Test(crc16, the_published_check_value) {
    cr_assert_eq(crc16("123456789", 9), 0x31c3);
    cr_assert_eq(crc16_bytewise("123456789", 9), 0x31c3);
    cr_assert_eq(crc16("", 0), 0);
}

Test(crc16, all_ways_agree_with_the_definition_for_each_length_and_alignment) {
    uint8_t data[300];
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
    for (size_t offset = 0; offset < 9; offset++)
        for (size_t length = 0; length + offset <= sizeof data; length++) {
            uint16_t expected = crc16_by_bits(data + offset, length);
            cr_assert_eq(crc16((const char *)data + offset, length), expected);
            cr_assert_eq(crc16_bytewise((const char *)data + offset, length), expected);
            cr_assert_eq(crc16_sliced((const char *)data + offset, length), expected);
        }
}

Test(crc16, slots_are_those_of_the_cluster_specification) {
    cr_assert_eq(slot_of("foo"), 12182);
    cr_assert_eq(slot_of("bar"), 5061);
    cr_assert_eq(slot_of(""), 0);
    cr_assert_eq(slot_of("123456789"), 0x31c3 & (SLOT_COUNT - 1));
}

Test(crc16, a_hash_tag_decides_alone) {
    cr_assert_eq(slot_of("{foo}bar"), slot_of("foo"));
    cr_assert_eq(slot_of("any{foo}"), slot_of("foo"));
    cr_assert_eq(slot_of("{user1000}.following"), slot_of("{user1000}.followers"));
    cr_assert_eq(slot_of("foo{bar}{zap}"), slot_of("bar"), "the first tag");
    cr_assert_eq(slot_of("foo{{bar}}zap"), slot_of("{bar"), "up to the first closing brace");
    cr_assert_eq(slot_of("a}{foo}"), slot_of("foo"), "an earlier closing brace does not count");
}

Test(crc16, a_tag_is_found_wherever_it_is) {
    char key[80];
    for (size_t length = 3; length <= sizeof key; length++)
        for (size_t at = 0; at + 3 <= length; at++) {
            memset(key, 'k', sizeof key);
            memcpy(key + at, "{t}", 3);
            cr_assert_eq(slot_of_key(key, length), slot_of("t"), "%zu of %zu", at, length);
            /* What is behind the key is not looked at. */
            cr_assert_eq(slot_of_key(key, at), crc16(key, at) & (SLOT_COUNT - 1));
        }
}

Test(crc16, an_empty_or_open_tag_is_none) {
    const char *whole[] = {"foo{}{bar}", "{}", "{", "}", "foo{bar", "foo}bar{"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        size_t length = strlen(whole[i]);
        cr_assert_eq(slot_of(whole[i]), crc16(whole[i], length) & (SLOT_COUNT - 1), "%s", whole[i]);
    }
}
