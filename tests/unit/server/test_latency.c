/* server/dispatch/latency.c, server/base/sha1.c and server/base/sha256.c: the arithmetic behind
 * LATENCY HISTOGRAM, DEBUG DIGEST and ACL LIST. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "engine/clock.h"
#include "server/base/sha1.h"
#include "server/base/sha256.h"
#include "server/dispatch/latency.h"

Test(latency, buckets_are_in_order_and_narrow) {
    for (unsigned bucket = 0; bucket < LATENCY_BUCKETS; bucket++) {
        uint64_t top = latency_bucket_top(bucket);
        cr_assert_eq(latency_bucket(top), bucket);
        if (bucket + 1 < LATENCY_BUCKETS)
            cr_assert_eq(latency_bucket(top + 1), bucket + 1);
        uint64_t first = bucket ? latency_bucket_top(bucket - 1) + 1 : 0;
        cr_assert_leq(top - first, first / LATENCY_SUB);
    }
    cr_assert_eq(latency_bucket(UINT64_MAX), LATENCY_BUCKETS - 1);
}

Test(latency, percentiles) {
    static struct latency_histogram histogram, sum;
    clock_init();
    cr_assert_eq(latency_percentile_ns(&histogram, 50), 0, "nothing was called");
    for (uint64_t ticks = 1; ticks <= 100000; ticks++)
        latency_record(&histogram, ticks);
    latency_add(&sum, &histogram);
    latency_add(&sum, &histogram);
    cr_assert_eq(latency_count(&sum), 200000);
    const double percentiles[] = {1, 50, 99, 99.9, 100};
    for (size_t i = 0; i < sizeof percentiles / sizeof *percentiles; i++) {
        double exact = (double)clock_ticks_to_ns((uint64_t)(percentiles[i] * 1000));
        double found = (double)latency_percentile_ns(&sum, percentiles[i]);
        cr_assert_geq(found, exact);
        cr_assert_leq(found, exact * 1.04 + 1);
    }
    cr_assert_eq(latency_count_up_to(&sum, UINT64_MAX), 200000);
}

static const char *hex(const char *text) {
    static char out[2 * SHA1_BYTES + 1];
    uint8_t digest[SHA1_BYTES];
    sha1(text, strlen(text), digest);
    for (unsigned i = 0; i < SHA1_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return out;
}

/* FIPS 180's examples, and lengths around the end of a block. */
Test(sha1, known_digests) {
    cr_assert_str_eq(hex(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    cr_assert_str_eq(hex("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    cr_assert_str_eq(hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
                     "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    cr_assert_str_eq(hex("1234567890123456789012345678901234567890123456789012345"),
                     "827a683fdfdbef225a2421078b7789b134c7eafa");
    cr_assert_str_eq(hex("1234567890123456789012345678901234567890123456789012345678901234"),
                     "c71490fc24aa3d19e11282da77032dd9cdb33103");
}

static const char *sha256_text(const void *data, size_t length) {
    static char text[2 * SHA256_BYTES + 1];
    uint8_t bytes[SHA256_BYTES];
    sha256(data, length, bytes);
    for (size_t i = 0; i < SHA256_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return text;
}

/* Of every length round the block's, chained into one: from another implementation. */
Test(sha256, known_digests) {
    cr_assert_str_eq(sha256_text("", 0),
                     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    cr_assert_str_eq(sha256_text("abc", 3),
                     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    char all[200 * 2 * SHA256_BYTES + 1], bytes[200];
    memset(bytes, 'x', sizeof bytes);
    for (size_t length = 0; length < 200; length++)
        memcpy(all + length * 2 * SHA256_BYTES, sha256_text(bytes, length), 2 * SHA256_BYTES);
    cr_assert_str_eq(sha256_text(all, 200 * 2 * SHA256_BYTES),
                     "f61ffcc417e1f0e59eba2da7fa32fbe05b64e478b68c6bacf990455f00248b98");
}
