/* The decoder of frames on arbitrary bytes.
 *
 * The first bytes of the input choose how much of it is a plain stream that is encoded first, into
 * frames of which size, and where one of their bytes is damaged; the rest follows as it is. So the
 * decoder meets hostile frames with and without history. Checked: no byte outside the input is
 * touched (each call gets a copy of exactly its size), what is handed out of undamaged frames is
 * the plain stream, offsets go on without gaps, and pieces of any size lead to the same result. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "replication/frame.h"

#define HEAD_BYTES   6
#define FIRST_OFFSET 77

struct outcome {
    int result;
    uint64_t offset;
    uint64_t digest; /* of everything handed out */
};

static struct outcome decode(const char *wire, size_t length, size_t piece, const char *plain,
                             size_t intact) {
    struct outcome outcome = {.offset = FIRST_OFFSET};
    struct frame_decoder *decoder = frame_decoder_create(FIRST_OFFSET);
    for (size_t from = 0; from < length && outcome.result == 0; from += piece) {
        size_t bytes = piece < length - from ? piece : length - from, done = 0, consumed;
        char *copy = malloc(bytes);
        memcpy(copy, wire + from, bytes);
        struct frame frame;
        while ((outcome.result =
                    frame_decode(decoder, copy + done, bytes - done, &consumed, &frame)) > 0) {
            ASSERT(consumed <= bytes - done && frame.offset == outcome.offset);
            done += consumed;
            size_t at = frame.offset - FIRST_OFFSET;
            ASSERT(frame.length > 0 && frame.length <= FRAME_PLAIN_MAX);
            if (at + frame.length <= intact)
                ASSERT(memcmp(frame.plain, plain + at, frame.length) == 0);
            for (size_t i = 0; i < frame.length; i++)
                outcome.digest = outcome.digest * 31 + (unsigned char)frame.plain[i];
            outcome.offset += frame.length;
        }
        ASSERT(outcome.result < 0 || done + consumed == bytes);
        free(copy);
    }
    ASSERT(frame_decoder_offset(decoder) == outcome.offset);
    frame_decoder_destroy(decoder);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < HEAD_BYTES)
        return 0;
    const char *data = (const char *)bytes + HEAD_BYTES;
    size -= HEAD_BYTES;
    size_t piece = 1 + (size_t)bytes[0] * (bytes[0] >> 4 ? 16 : 1);
    size_t frame_bytes = 1 + (size_t)bytes[1] * 64;
    size_t plain = bytes[2] < 128 ? size * bytes[2] / 127 : size;
    size_t damaged = (size_t)bytes[3] | (size_t)bytes[4] << 8;

    char *wire = malloc(size + (plain / frame_bytes + 1) * FRAME_WIRE_MAX), *end = wire;
    struct frame_encoder *encoder = frame_encoder_create();
    size_t intact = 0;
    for (size_t from = 0, to; from < plain; from = to) {
        to = frame_bytes < plain - from ? from + frame_bytes : plain;
        if (from / 65536 != to / 65536)
            frame_encoder_restart(encoder);
        end += frame_encode(encoder, data + from, to - from, FIRST_OFFSET + from, false, end);
        if (bytes[5] == 0 || (size_t)(end - wire) <= damaged)
            intact = to;
    }
    frame_encoder_destroy(encoder);
    memcpy(end, data + plain, size - plain);
    end += size - plain;
    if (damaged < (size_t)(end - wire))
        wire[damaged] ^= (char)bytes[5];

    struct outcome whole = decode(wire, (size_t)(end - wire), size + 65536, data, intact);
    struct outcome split = decode(wire, (size_t)(end - wire), piece, data, intact);
    ASSERT(whole.offset >= FIRST_OFFSET + intact);
    ASSERT(whole.result == split.result && whole.offset == split.offset);
    ASSERT(whole.digest == split.digest);
    free(wire);
    return 0;
}
