/* Frames: what comes out is what went in, wherever the wire is split; history restarts where it
 * says so; damaged or hostile bytes are refused; the ratio is that of the LZ4 tool. */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <lz4frame.h>

#include "replication/frame.h"
#include "tests/unit/replication/streams.h"

#define FIRST_OFFSET 1000003
#define BLOCK_BYTES  (256 * 1024) /* history restarts so often, as in a backlog */

/* A plain stream and its frames. */
struct encoded {
    char *plain, *wire;
    size_t plain_bytes, wire_bytes;
    size_t frames, stored;
    size_t *starts; /* of each frame on the wire */
    uint64_t *offsets;
};

static void encoded_release(struct encoded *e) {
    free(e->plain);
    free(e->wire);
    free(e->starts);
    free(e->offsets);
}

static void encode_frame(struct encoded *e, struct frame_encoder *encoder, size_t from, size_t to,
                         bool continued) {
    e->starts = realloc(e->starts, (e->frames + 1) * sizeof *e->starts);
    e->offsets = realloc(e->offsets, (e->frames + 1) * sizeof *e->offsets);
    e->wire = realloc(e->wire, e->wire_bytes + FRAME_WIRE_MAX);
    e->starts[e->frames] = e->wire_bytes;
    e->offsets[e->frames++] = FIRST_OFFSET + from;
    char *wire = e->wire + e->wire_bytes;
    size_t bytes =
        frame_encode(encoder, e->plain + from, to - from, FIRST_OFFSET + from, continued, wire);
    e->stored += (frame_flags(wire) & FRAME_STORED) != 0;
    cr_assert_eq(frame_wire_bytes(wire), (int)bytes);
    cr_assert_eq(frame_plain_bytes(wire), to - from);
    e->wire_bytes += bytes;
}

/* The whole of e->plain in frames of at most frame_bytes (0: of random sizes). */
static void encode(struct encoded *e, size_t frame_bytes, size_t block_bytes, uint64_t seed) {
    struct frame_encoder *encoder = frame_encoder_create();
    for (size_t from = 0, to; from < e->plain_bytes; from = to) {
        size_t most = frame_bytes ? frame_bytes : 1 + random_below(&seed, FRAME_PLAIN_MAX);
        size_t block_end = (from / block_bytes + 1) * block_bytes;
        if (from % block_bytes == 0)
            frame_encoder_restart(encoder);
        to = from + most < e->plain_bytes ? from + most : e->plain_bytes;
        if (to > block_end)
            to = block_end;
        encode_frame(e, encoder, from, to, from % 2 == 0);
    }
    frame_encoder_destroy(encoder);
}

static void make_mixture(struct encoded *e, size_t bytes, uint64_t seed) {
    *e = (struct encoded){.plain = malloc(bytes + 32000)};
    while (e->plain_bytes < bytes) {
        size_t room = bytes - e->plain_bytes;
        e->plain_bytes +=
            any_entry(&seed, e->plain + e->plain_bytes, room < JSON_SET_MAX ? JSON_SET_MAX : room);
    }
}

static void make_json(struct encoded *e, size_t bytes) {
    uint64_t seed = 1;
    *e = (struct encoded){.plain = malloc(bytes + JSON_SET_MAX)};
    while (e->plain_bytes < bytes)
        e->plain_bytes += json_set(&seed, e->plain + e->plain_bytes);
}

/* Decodes one piece of the wire and compares; returns the plain offset reached. Each piece is a
 * copy of its exact size, so that a sanitizer sees a read beyond it. */
static void decode_piece(struct frame_decoder *decoder, const struct encoded *e, size_t from,
                         size_t to) {
    char *copy = malloc(to - from + 1);
    memcpy(copy, e->wire + from, to - from);
    size_t done = 0, consumed;
    struct frame frame;
    int result;
    while ((result = frame_decode(decoder, copy + done, to - from - done, &consumed, &frame)) > 0) {
        done += consumed;
        cr_assert_eq(memcmp(frame.plain, e->plain + (frame.offset - FIRST_OFFSET), frame.length),
                     0);
        cr_assert_eq(frame_decoder_offset(decoder), frame.offset + frame.length);
        cr_assert_eq((frame.flags & FRAME_CONTINUED) != 0, (frame.offset - FIRST_OFFSET) % 2 == 0);
    }
    cr_assert_eq(result, 0, "%s", frame_error_text(result));
    cr_assert_eq(done + consumed, to - from);
    free(copy);
}

static void expect_end(const struct frame_decoder *decoder, const struct encoded *e) {
    cr_assert_eq(frame_decoder_offset(decoder), FIRST_OFFSET + e->plain_bytes);
}

Test(frame, a_stream_split_in_two_anywhere_comes_out_whole) {
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct encoded e;
        make_mixture(&e, 6000, seed);
        encode(&e, 700, BLOCK_BYTES, seed);
        for (size_t split = 0; split <= e.wire_bytes; split++) {
            struct frame_decoder *decoder = frame_decoder_create(FIRST_OFFSET);
            decode_piece(decoder, &e, 0, split);
            decode_piece(decoder, &e, split, e.wire_bytes);
            expect_end(decoder, &e);
            frame_decoder_destroy(decoder);
        }
        encoded_release(&e);
    }
}

Test(frame, random_mixtures_in_random_pieces_come_out_whole) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct encoded e;
        uint64_t state = seed;
        make_mixture(&e, 900000, seed);
        encode(&e, 0, seed % 2 ? BLOCK_BYTES : 16 * 1024, seed);
        cr_assert(e.stored > 0 && e.stored < e.frames);
        struct frame_decoder *decoder = frame_decoder_create(FIRST_OFFSET);
        size_t piece_max = seed % 3 ? 70000 : 40;
        for (size_t from = 0, to; from < e.wire_bytes; from = to) {
            to = from + random_below(&state, piece_max);
            to = to < e.wire_bytes ? to : e.wire_bytes;
            decode_piece(decoder, &e, from, to);
        }
        expect_end(decoder, &e);
        frame_decoder_destroy(decoder);
        encoded_release(&e);
    }
}

Test(frame, a_stream_can_be_taken_up_wherever_history_restarts_and_nowhere_else) {
    struct encoded e;
    make_mixture(&e, 700000, 7);
    encode(&e, 4096, 64 * 1024, 7);
    size_t taken_up = 0;
    for (size_t i = 0; i < e.frames; i++) {
        struct frame_decoder *decoder = frame_decoder_create(e.offsets[i]);
        if (frame_flags(e.wire + e.starts[i]) & FRAME_RESTART) {
            decode_piece(decoder, &e, e.starts[i], e.wire_bytes);
            expect_end(decoder, &e);
            taken_up++;
        } else {
            size_t consumed;
            struct frame frame;
            cr_assert_eq(frame_decode(decoder, e.wire + e.starts[i], e.wire_bytes - e.starts[i],
                                      &consumed, &frame),
                         FRAME_ERROR_HISTORY);
        }
        frame_decoder_destroy(decoder);
    }
    cr_assert(taken_up > 10 && taken_up < e.frames);
    encoded_release(&e);
}

Test(frame, behind_a_stored_frame_history_restarts) {
    struct encoded e;
    make_mixture(&e, 500000, 9);
    encode(&e, FRAME_PLAIN_MAX, BLOCK_BYTES, 9);
    for (size_t i = 0; i + 1 < e.frames; i++)
        if (frame_flags(e.wire + e.starts[i]) & FRAME_STORED)
            cr_assert(frame_flags(e.wire + e.starts[i + 1]) & FRAME_RESTART);
    cr_assert(e.stored > 0);
    encoded_release(&e);
}

/* After `failures` attempts that failed, as many frames as the last back-off says are stored though
 * they would compress. */
static size_t stored_after(unsigned failures) {
    static char noise[FRAME_PLAIN_MAX], same[FRAME_PLAIN_MAX];
    char wire[FRAME_WIRE_MAX];
    uint64_t state = 5;
    random_fill(&state, noise, sizeof noise);
    memset(same, 'x', sizeof same);
    struct frame_encoder *encoder = frame_encoder_create();
    unsigned back_off = 1;
    for (unsigned i = 0; i < failures; i++) {
        /* The attempt, and the frames that are stored without one before the next. */
        for (unsigned frames = 0; frames < (i + 1 < failures ? 1 + back_off : 1); frames++)
            frame_encode(encoder, noise, sizeof noise, 0, false, wire);
        back_off = back_off < FRAME_BACK_OFF_MAX ? 2 * back_off : back_off;
    }
    size_t stored = 0;
    for (;; stored++) {
        frame_encode(encoder, same, sizeof same, 0, false, wire);
        if (!(frame_flags(wire) & FRAME_STORED))
            break;
    }
    frame_encoder_restart(encoder);
    frame_encode(encoder, noise, sizeof noise, 0, false, wire);
    frame_encode(encoder, same, sizeof same, 0, false, wire);
    frame_encode(encoder, same, sizeof same, 0, false, wire);
    cr_assert(!(frame_flags(wire) & FRAME_STORED), "what compressed once starts over with one");
    frame_encoder_destroy(encoder);
    return stored;
}

Test(frame, incompressible_data_is_tried_less_and_less) {
    size_t expected[] = {0, 1, 2, 4, 8, 16, 32, 64, 64, 64};
    for (unsigned failures = 0; failures < sizeof expected / sizeof *expected; failures++)
        cr_assert_eq(stored_after(failures), expected[failures], "after %u: %zu", failures,
                     stored_after(failures));
}

Test(frame, small_frames_make_history_for_each_other) {
    struct encoded e = {.plain = malloc(100 * 40)};
    struct frame_encoder *encoder = frame_encoder_create();
    for (int i = 0; i < 100; i++) {
        size_t from = e.plain_bytes;
        e.plain_bytes += (size_t)sprintf(e.plain + from, "*2\r\n$4\r\nINCR\r\n$9\r\ncount:%03d\r\n",
                                         i * 7 % 100);
        encode_frame(&e, encoder, from, e.plain_bytes, from % 2 == 0);
    }
    cr_assert_eq(e.stored, 0);
    cr_assert_lt(e.wire_bytes, 100 * 25, "%zu", e.wire_bytes);
    struct frame_decoder *decoder = frame_decoder_create(FIRST_OFFSET);
    decode_piece(decoder, &e, 0, e.wire_bytes);
    expect_end(decoder, &e);
    frame_decoder_destroy(decoder);
    frame_encoder_destroy(encoder);
    encoded_release(&e);
}

/* --- Damage ----------------------------------------------------------------------------------- */

/* What the decoder says to these bytes in the end; whatever it hands out before is right. */
static int verdict(const struct encoded *e, const char *wire, size_t length) {
    struct frame_decoder *decoder = frame_decoder_create(FIRST_OFFSET);
    size_t done = 0, consumed;
    struct frame frame;
    int result;
    while ((result = frame_decode(decoder, wire + done, length - done, &consumed, &frame)) > 0) {
        done += consumed;
        cr_assert_leq(frame.offset - FIRST_OFFSET + frame.length, e->plain_bytes);
        cr_assert_eq(memcmp(frame.plain, e->plain + (frame.offset - FIRST_OFFSET), frame.length),
                     0);
    }
    if (result < 0) {
        cr_assert_eq(frame_decode(decoder, wire, length, &consumed, &frame), result, "for good");
        cr_assert_str_neq(frame_error_text(result), "no error");
    }
    frame_decoder_destroy(decoder);
    return result;
}

Test(frame, a_flipped_bit_is_never_handed_out) {
    struct encoded e;
    make_mixture(&e, 3000, 4);
    encode(&e, 500, BLOCK_BYTES, 4);
    for (size_t bit = 0; bit < 8 * e.wire_bytes; bit++) {
        e.wire[bit / 8] ^= (char)(1 << bit % 8);
        verdict(&e, e.wire, e.wire_bytes); /* an error, or more bytes are needed */
        e.wire[bit / 8] ^= (char)(1 << bit % 8);
    }
    encoded_release(&e);
}

Test(frame, a_lost_a_repeated_and_a_misplaced_frame_are_found_out) {
    struct encoded e;
    make_json(&e, 50000);
    encode(&e, 4096, 8192, 1); /* every second frame restarts history */
    for (size_t i = 1; i + 2 < e.frames; i++) {
        char *wire = malloc(2 * e.wire_bytes);
        size_t rest = e.wire_bytes - e.starts[i + 1];
        memcpy(wire, e.wire, e.starts[i]);
        memcpy(wire + e.starts[i], e.wire + e.starts[i + 1], rest);
        cr_assert_lt(verdict(&e, wire, e.starts[i] + rest), 0, "frame %zu is lost", i);
        memcpy(wire, e.wire, e.starts[i + 1]);
        memcpy(wire + e.starts[i + 1], e.wire + e.starts[i], e.wire_bytes - e.starts[i]);
        cr_assert_lt(verdict(&e, wire, e.starts[i + 1] + e.wire_bytes - e.starts[i]), 0,
                     "frame %zu comes twice", i);
        free(wire);
    }
    cr_assert_lt(verdict(&e, e.wire + e.starts[2], e.wire_bytes - e.starts[2]), 0,
                 "it restarts history, but belongs elsewhere");
    encoded_release(&e);
}

static int header_verdict(unsigned mark, unsigned plain, unsigned payload) {
    struct encoded none = {0};
    char wire[FRAME_HEADER_BYTES + 64] = {(char)mark, (char)plain, (char)(plain >> 8),
                                          (char)payload, (char)(payload >> 8)};
    return verdict(&none, wire, sizeof wire);
}

Test(frame, headers_that_no_encoder_writes_are_refused_at_once) {
    cr_assert_eq(header_verdict('*', 10, 10), FRAME_ERROR_MARK);
    cr_assert_eq(header_verdict(0xb8, 10, 10), FRAME_ERROR_MARK);
    cr_assert_eq(header_verdict(FRAME_MARK | FRAME_RESTART, 0, 10), FRAME_ERROR_LENGTH);
    cr_assert_eq(header_verdict(FRAME_MARK | FRAME_RESTART, 10, 0), FRAME_ERROR_LENGTH);
    cr_assert_eq(header_verdict(FRAME_MARK | FRAME_RESTART, FRAME_PLAIN_MAX + 1, 9),
                 FRAME_ERROR_LENGTH);
    cr_assert_eq(header_verdict(FRAME_MARK | FRAME_RESTART, 9, FRAME_PLAIN_MAX + 1),
                 FRAME_ERROR_LENGTH);
    cr_assert_eq(header_verdict(FRAME_MARK | FRAME_RESTART | FRAME_STORED, 9, 8),
                 FRAME_ERROR_LENGTH);
    cr_assert_eq(header_verdict(FRAME_MARK | FRAME_STORED, 9, 9), FRAME_ERROR_LENGTH);
    cr_assert_eq(header_verdict(FRAME_MARK, 9, 9), FRAME_ERROR_HISTORY);
    cr_assert_eq(header_verdict(FRAME_MARK | FRAME_RESTART, 64, 9), FRAME_ERROR_PAYLOAD);
    cr_assert_eq(header_verdict(FRAME_MARK | FRAME_RESTART | FRAME_STORED, 9, 9), FRAME_ERROR_HASH);
}

Test(frame, a_frame_behind_a_stored_one_may_not_need_history) {
    struct encoded e = {.plain = malloc(FRAME_PLAIN_MAX), .plain_bytes = FRAME_PLAIN_MAX};
    uint64_t state = 6;
    random_fill(&state, e.plain, FRAME_PLAIN_MAX);
    encode(&e, FRAME_PLAIN_MAX, BLOCK_BYTES, 1);
    cr_assert_eq(e.stored, 1);
    e.wire = realloc(e.wire, e.wire_bytes + 100);
    memset(e.wire + e.wire_bytes, 20, 100);
    e.wire[e.wire_bytes] = (char)FRAME_MARK;
    e.wire[e.wire_bytes + 2] = e.wire[e.wire_bytes + 4] = 0;
    cr_assert_eq(verdict(&e, e.wire, e.wire_bytes + 100), FRAME_ERROR_HISTORY);
    encoded_release(&e);
}

Test(frame, random_bytes_behind_good_frames_are_refused) {
    struct encoded e;
    make_json(&e, 100000);
    encode(&e, 5000, BLOCK_BYTES, 1);
    uint64_t state = 3;
    for (int round = 0; round < 2000; round++) {
        size_t start = e.starts[random_below(&state, e.frames)];
        char *wire = malloc(start + FRAME_WIRE_MAX);
        memcpy(wire, e.wire, start);
        random_fill(&state, wire + start, FRAME_WIRE_MAX);
        wire[start] = (char)(FRAME_MARK | (round & FRAME_CONTINUED));
        wire[start + 2] &= 0x3f; /* lengths that may be */
        wire[start + 4] &= 0x3f;
        int result = verdict(&e, wire, start + FRAME_WIRE_MAX);
        cr_assert(result < 0, "%d", result);
        free(wire);
    }
    encoded_release(&e);
}

/* --- Ratio ------------------------------------------------------------------------------------ */

/* What `lz4 -1` makes of it with linked blocks, as it is called for a file. */
static size_t lz4_linked(const struct encoded *e) {
    LZ4F_preferences_t preferences = {
        .frameInfo = {.blockSizeID = LZ4F_max4MB,
                      .blockMode = LZ4F_blockLinked,
                      .contentChecksumFlag = LZ4F_contentChecksumEnabled},
        .compressionLevel = 1};
    size_t bound = LZ4F_compressFrameBound(e->plain_bytes, &preferences);
    char *to = malloc(bound);
    size_t bytes = LZ4F_compressFrame(to, bound, e->plain, e->plain_bytes, &preferences);
    cr_assert(!LZ4F_isError(bytes));
    free(to);
    return bytes;
}

Test(frame, json_sets_take_at_most_three_percent_more_than_linked_lz4) {
    struct encoded e;
    make_json(&e, 4 * 1024 * 1024);
    encode(&e, FRAME_PLAIN_MAX, BLOCK_BYTES, 1);
    size_t linked = lz4_linked(&e);
    cr_log_info("plain %zu, frames %zu (%.3f), linked lz4 %zu: %.4f of it", e.plain_bytes,
                e.wire_bytes, (double)e.wire_bytes / (double)e.plain_bytes, linked,
                (double)e.wire_bytes / (double)linked);
    cr_assert_eq(e.stored, 0);
    cr_assert_leq((double)e.wire_bytes, 1.03 * (double)linked);
    encoded_release(&e);
}
