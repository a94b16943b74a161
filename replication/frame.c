/* Frames: see frame.h for the format and its invariants. Run by: whoever owns the encoder or
 * decoder; nothing here is shared.
 *
 * Encoder. LZ4 keeps a table of positions and refers to the caller's own memory, so nothing is
 * copied: a frame's plain bytes follow the last one's in memory until history restarts. A frame
 * that saves less than 1/32 is stored instead. LZ4's state is undefined after an attempt that did
 * not fit, and the other side has no history behind a stored frame: both are mended by a restart.
 *
 * Decoder. A window of plain bytes: frames are opened one behind the other, and when there is no
 * room for another one the last FRAME_HISTORY_BYTES move to the front. A frame that came in pieces
 * is gathered first; one that is whole in the input is opened from there. Both buffers are as large
 * as the format allows, so no input makes them grow. */
#include "replication/frame.h"

#include <string.h>

#include <lz4.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/assert.h"
#include "engine/memory.h"

#define SAVING_SHIFT       5 /* less than 1/32 saved: stored */
#define ACCELERATION       1
#define ACCELERATION_PROBE 8
#define WINDOW_BYTES       (2 * FRAME_HISTORY_BYTES)

_Static_assert(LZ4_COMPRESSBOUND(FRAME_STORE_MIN_BYTES) <= FRAME_PLAIN_MAX,
               "a small frame fits even where compression makes it larger");
_Static_assert(WINDOW_BYTES >= FRAME_HISTORY_BYTES + FRAME_PLAIN_MAX,
               "the window holds the history and a frame");

struct frame_encoder {
    const char *next;     /* where the next frame's plain bytes must lie; NULL: restart */
    unsigned back_off;    /* frames stored without an attempt after the last failure; 0: none */
    unsigned left_out;    /* of these, how many are still to come */
    LZ4_stream_t history; /* has seen what lies before next */
};

struct frame_decoder {
    uint64_t offset; /* of the next plain byte */
    size_t used;     /* plain bytes in the window */
    size_t history;  /* of these, how many since history restarted */
    size_t gathered; /* bytes of an incomplete frame */
    int error;       /* 0, or what every further call returns */
    char partial[FRAME_WIRE_MAX];
    char window[WINDOW_BYTES];
};

/* --- Header ----------------------------------------------------------------------------------- */

static void store16(char *at, size_t value) {
    at[0] = (char)(value & 0xff);
    at[1] = (char)(value >> 8);
}

static size_t load16(const char *at) {
    return (size_t)(unsigned char)at[0] | (size_t)(unsigned char)at[1] << 8;
}

static void store32(char *at, uint32_t value) {
    store16(at, value & 0xffff);
    store16(at + 2, value >> 16);
}

static uint32_t load32(const char *at) {
    return (uint32_t)load16(at) | (uint32_t)load16(at + 2) << 16;
}

static uint32_t hash_of(const char *plain, size_t length, uint64_t offset, unsigned flags) {
    return (uint32_t)XXH3_64bits_withSeed(plain, length, offset ^ (uint64_t)flags << 60);
}

unsigned frame_flags(const char *header) {
    return (unsigned char)header[0] & FRAME_FLAGS;
}

size_t frame_plain_bytes(const char *header) {
    return load16(header + 1);
}

int frame_wire_bytes(const char *header) {
    size_t plain = load16(header + 1), payload = load16(header + 3);
    if (((unsigned char)header[0] & ~(unsigned)FRAME_FLAGS) != FRAME_MARK)
        return FRAME_ERROR_MARK;
    if (plain == 0 || plain > FRAME_PLAIN_MAX || payload == 0 || payload > FRAME_PLAIN_MAX)
        return FRAME_ERROR_LENGTH;
    unsigned flags = frame_flags(header);
    if (flags & FRAME_STORED && (payload != plain || !(flags & FRAME_RESTART)))
        return FRAME_ERROR_LENGTH;
    return (int)(FRAME_HEADER_BYTES + payload);
}

const char *frame_error_text(int error) {
    switch (error) {
    case FRAME_ERROR_MARK:
        return "no frame where one should start";
    case FRAME_ERROR_LENGTH:
        return "a frame with impossible lengths";
    case FRAME_ERROR_HISTORY:
        return "a frame that needs history which is not there";
    case FRAME_ERROR_PAYLOAD:
        return "a frame that cannot be decompressed";
    case FRAME_ERROR_HASH:
        return "a frame whose checksum is wrong";
    default:
        return "no error";
    }
}

/* --- Encoding --------------------------------------------------------------------------------- */

struct frame_encoder *frame_encoder_create(void) {
    struct frame_encoder *encoder = memory_calloc(1, sizeof *encoder);
    LZ4_initStream(&encoder->history, sizeof encoder->history);
    return encoder;
}

void frame_encoder_destroy(struct frame_encoder *encoder) {
    memory_free(encoder);
}

void frame_encoder_restart(struct frame_encoder *encoder) {
    encoder->next = NULL;
}

/* Returns the length of the payload, 0 when the frame is to be stored. */
static size_t compress(struct frame_encoder *encoder, const char *plain, size_t length,
                       char *payload) {
    if (encoder->left_out > 0) {
        encoder->left_out--;
        return 0;
    }
    if (encoder->next == NULL)
        LZ4_resetStream_fast(&encoder->history);
    bool may_store = length >= FRAME_STORE_MIN_BYTES;
    size_t room = may_store ? length - (length >> SAVING_SHIFT) : FRAME_PLAIN_MAX;
    int written =
        LZ4_compress_fast_continue(&encoder->history, plain, payload, (int)length, (int)room,
                                   encoder->back_off > 0 ? ACCELERATION_PROBE : ACCELERATION);
    ASSERT(written > 0 || may_store);
    if (written > 0) {
        if (may_store)
            encoder->back_off = 0;
        return (size_t)written;
    }
    encoder->back_off = encoder->back_off == 0                       ? 1
                        : encoder->back_off < FRAME_BACK_OFF_MAX / 2 ? 2 * encoder->back_off
                                                                     : FRAME_BACK_OFF_MAX;
    encoder->left_out = encoder->back_off;
    return 0;
}

size_t frame_encode(struct frame_encoder *encoder, const char *plain, size_t length,
                    uint64_t offset, bool continued, char *wire) {
    ASSERT(length > 0 && length <= FRAME_PLAIN_MAX);
    ASSERT(encoder->next == NULL || encoder->next == plain);
    unsigned flags =
        (encoder->next == NULL ? FRAME_RESTART : 0) | (continued ? FRAME_CONTINUED : 0);
    size_t payload = compress(encoder, plain, length, wire + FRAME_HEADER_BYTES);
    encoder->next = plain + length;
    if (payload == 0) {
        flags |= FRAME_STORED | FRAME_RESTART;
        payload = length;
        memcpy(wire + FRAME_HEADER_BYTES, plain, length);
        frame_encoder_restart(encoder);
    }
    wire[0] = (char)(FRAME_MARK | flags);
    store16(wire + 1, length);
    store16(wire + 3, payload);
    store32(wire + 5, hash_of(plain, length, offset, flags));
    return FRAME_HEADER_BYTES + payload;
}

/* --- Decoding --------------------------------------------------------------------------------- */

int frame_open(const char *wire, size_t wire_bytes, uint64_t offset, size_t history, char *plain,
               size_t capacity) {
    int bytes = frame_wire_bytes(wire);
    if (bytes < 0)
        return bytes;
    ASSERT((size_t)bytes == wire_bytes);
    size_t length = frame_plain_bytes(wire), payload = wire_bytes - FRAME_HEADER_BYTES;
    unsigned flags = frame_flags(wire);
    if (length > capacity)
        return FRAME_ERROR_LENGTH;
    if (flags & FRAME_RESTART)
        history = 0;
    else if (history == 0)
        return FRAME_ERROR_HISTORY;
    else if (history > FRAME_HISTORY_BYTES)
        history = FRAME_HISTORY_BYTES;
    if (flags & FRAME_STORED)
        memcpy(plain, wire + FRAME_HEADER_BYTES, length);
    else if (LZ4_decompress_safe_usingDict(wire + FRAME_HEADER_BYTES, plain, (int)payload,
                                           (int)length, plain - history,
                                           (int)history) != (int)length)
        return FRAME_ERROR_PAYLOAD;
    if (hash_of(plain, length, offset, flags) != load32(wire + 5))
        return FRAME_ERROR_HASH;
    return (int)length;
}

struct frame_decoder *frame_decoder_create(uint64_t offset) {
    struct frame_decoder *decoder = memory_alloc(sizeof *decoder);
    decoder->offset = offset;
    decoder->used = decoder->history = decoder->gathered = 0;
    decoder->error = 0;
    return decoder;
}

void frame_decoder_destroy(struct frame_decoder *decoder) {
    memory_free(decoder);
}

uint64_t frame_decoder_offset(const struct frame_decoder *decoder) {
    return decoder->offset;
}

/* Makes room for another frame behind the history. */
static void window_make_room(struct frame_decoder *decoder) {
    if (WINDOW_BYTES - decoder->used >= FRAME_PLAIN_MAX)
        return;
    if (decoder->history > FRAME_HISTORY_BYTES)
        decoder->history = FRAME_HISTORY_BYTES;
    memmove(decoder->window, decoder->window + decoder->used - decoder->history, decoder->history);
    decoder->used = decoder->history;
}

/* A whole frame has come. */
static int decode_frame(struct frame_decoder *decoder, const char *wire, size_t wire_bytes,
                        struct frame *frame) {
    unsigned flags = frame_flags(wire);
    window_make_room(decoder);
    char *plain = decoder->window + decoder->used;
    int length = frame_open(wire, wire_bytes, decoder->offset, decoder->history, plain,
                            WINDOW_BYTES - decoder->used);
    if (length < 0)
        return decoder->error = length;
    *frame = (struct frame){
        .plain = plain,
        .length = (size_t)length,
        .offset = decoder->offset,
        .flags = flags,
        .wire_bytes = wire_bytes,
    };
    if (flags & FRAME_RESTART)
        decoder->history = 0;
    if (!(flags & FRAME_STORED))
        decoder->history += (size_t)length;
    decoder->used += (size_t)length;
    decoder->offset += (uint64_t)length;
    return 1;
}

/* Moves bytes of the input to the partial frame until it has `wanted`; false: not so many came. */
static bool gather(struct frame_decoder *decoder, size_t wanted, const char *data, size_t length,
                   size_t *consumed) {
    size_t missing = wanted > decoder->gathered ? wanted - decoder->gathered : 0;
    size_t taken = missing < length - *consumed ? missing : length - *consumed;
    if (taken > 0)
        memcpy(decoder->partial + decoder->gathered, data + *consumed, taken);
    decoder->gathered += taken;
    *consumed += taken;
    return taken == missing;
}

int frame_decode(struct frame_decoder *decoder, const char *data, size_t length, size_t *consumed,
                 struct frame *frame) {
    *consumed = 0;
    if (decoder->error != 0)
        return decoder->error;
    if (decoder->gathered == 0 && length >= FRAME_HEADER_BYTES) {
        int wire_bytes = frame_wire_bytes(data);
        if (wire_bytes < 0)
            return decoder->error = wire_bytes;
        if ((size_t)wire_bytes <= length) {
            *consumed = (size_t)wire_bytes;
            return decode_frame(decoder, data, (size_t)wire_bytes, frame);
        }
    }
    if (!gather(decoder, FRAME_HEADER_BYTES, data, length, consumed))
        return 0;
    int wire_bytes = frame_wire_bytes(decoder->partial);
    if (wire_bytes < 0)
        return decoder->error = wire_bytes;
    if (!gather(decoder, (size_t)wire_bytes, data, length, consumed))
        return 0;
    decoder->gathered = 0;
    return decode_frame(decoder, decoder->partial, (size_t)wire_bytes, frame);
}
