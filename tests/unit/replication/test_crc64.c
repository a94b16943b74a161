/* CRC64 of RDB files. */
#include <criterion/criterion.h>

#include "replication/crc64.h"

TestSuite(crc64, .init = crc64_init);

/* The definition, bit by bit. */
static uint64_t crc64_by_bits(const uint8_t *data, size_t length) {
    uint64_t crc = 0;
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x95ac9329ac4bc9b5u : 0);
    }
    return crc;
}

Test(crc64, the_published_check_value) {
    cr_assert_eq(crc64(0, "123456789", 9), 0xe9c6d914c4b8d9cau);
    cr_assert_eq(crc64(0, "", 0), 0);
}

Test(crc64, agrees_with_the_definition_for_each_length_and_alignment) {
    uint8_t data[700]; /* from 256 on another way is gone */
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
    for (size_t offset = 0; offset < 9; offset++)
        for (size_t length = 0; length + offset <= sizeof data; length++)
            cr_assert_eq(crc64(0, data + offset, length), crc64_by_bits(data + offset, length));
}

Test(crc64, pieces_give_what_the_whole_gives) {
    uint8_t data[1000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * i * 7);
    uint64_t whole = crc64(0, data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut++)
        cr_assert_eq(crc64(crc64(0, data, cut), data + cut, sizeof data - cut), whole);
}
