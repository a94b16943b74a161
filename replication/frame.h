/* Frames: the LZ4 framing of the plain replication stream.
 *
 * The stream is a sequence of entries (whole commands or transactions as RESP) whose bytes are
 * numbered from the beginning of the history: the plain offset, the same that stock servers count.
 * A frame carries up to FRAME_PLAIN_MAX consecutive plain bytes, compressed with the plain bytes
 * before it as history (raw LZ4 blocks), and can be opened only by who has that history. A frame
 * that restarts history needs nothing before it: a stream can be taken up there.
 *
 * On the wire, integers in little endian:
 *
 *   byte   0      1..2      3..4      5..8    9..
 *        +------+---------+---------+------+-----------------+
 *        | mark | plain   | payload | hash | payload         |
 *        +------+---------+---------+------+-----------------+
 *
 *   mark     FRAME_MARK in the upper five bits, enum frame_flag in the lower three. No RESP starts
 *            with such a byte, so a plain stream that is taken for frames is noticed at once.
 *   plain    plain bytes in the frame, 1..FRAME_PLAIN_MAX
 *   payload  bytes that follow the header, 1..FRAME_PLAIN_MAX
 *   hash     the lower half of XXH3 of the plain bytes, seeded with their offset and the flags: a
 *            frame that is lost, sent twice or opened at a wrong offset is found out as well
 *
 * Invariants. A stored frame (payload is the plain bytes) restarts history and leaves none behind:
 * the next frame restarts it once more. A frame ends where an entry ends, or says that its last
 * entry goes on (FRAME_CONTINUED).
 *
 * An encoder or decoder belongs to one thread at a time; different ones are independent. */
#ifndef SLOTWISE_REPLICATION_FRAME_H
#define SLOTWISE_REPLICATION_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_PLAIN_MAX       (16 * 1024)
#define FRAME_HEADER_BYTES    9
#define FRAME_WIRE_MAX        (FRAME_HEADER_BYTES + FRAME_PLAIN_MAX)
/* So far back a frame may refer. */
#define FRAME_HISTORY_BYTES   (64 * 1024)
/* Smaller frames are compressed even where that does not make them smaller: the history that they
 * make is worth more than the bytes that storing saves. */
#define FRAME_STORE_MIN_BYTES (4 * 1024)
/* So many frames at most are stored without an attempt after one that did not compress. */
#define FRAME_BACK_OFF_MAX    64

#define FRAME_MARK 0xb0
enum frame_flag {
    FRAME_STORED = 1,
    FRAME_RESTART = 2,   /* nothing before this frame is needed */
    FRAME_CONTINUED = 4, /* the last entry goes on in the next frame */
    FRAME_FLAGS = 7
};

/* Negative results of frame_decode and frame_open. */
enum frame_error {
    FRAME_ERROR_MARK = -1,    /* the first byte is not that of a frame */
    FRAME_ERROR_LENGTH = -2,  /* lengths that no encoder writes */
    FRAME_ERROR_HISTORY = -3, /* it needs history where there is none */
    FRAME_ERROR_PAYLOAD = -4, /* not LZ4, or not as many plain bytes as the header says */
    FRAME_ERROR_HASH = -5,
};
/* What to log; static text. */
const char *frame_error_text(int error);

/* --- Encoding --------------------------------------------------------------------------------- */

struct frame_encoder;

/* The first frame restarts history. */
struct frame_encoder *frame_encoder_create(void);
void frame_encoder_destroy(struct frame_encoder *encoder); /* NULL is fine */
/* The next frame restarts history. What was encoded may be moved or freed from here on. */
void frame_encoder_restart(struct frame_encoder *encoder);

/* Encodes one frame: length (1..FRAME_PLAIN_MAX) plain bytes whose first one has this offset, into
 * wire (FRAME_WIRE_MAX bytes). continued: the last entry goes on behind them. Unless history
 * restarts, plain lies in memory directly behind what was encoded last, and the
 * FRAME_HISTORY_BYTES before it are still there and unchanged. Returns the bytes written.
 *
 * Data that does not compress is stored. The attempt after the first such frame is left out for one
 * frame, then for 2, 4 ... FRAME_BACK_OFF_MAX as long as the attempts in between (which look less
 * closely) fail, so that incompressible data costs next to nothing. */
size_t frame_encode(struct frame_encoder *encoder, const char *plain, size_t length,
                    uint64_t offset, bool continued, char *wire);

/* --- Decoding --------------------------------------------------------------------------------- */

struct frame {
    const char *plain; /* valid until the decoder is called again */
    size_t length;
    uint64_t offset; /* of its first plain byte */
    unsigned flags;  /* enum frame_flag */
    size_t wire_bytes;
};

struct frame_decoder;

/* The next frame's first byte has this plain offset and must restart history. A decoder takes
 * about 150 KB whatever it is fed. */
struct frame_decoder *frame_decoder_create(uint64_t offset);
void frame_decoder_destroy(struct frame_decoder *decoder); /* NULL is fine */

/* Takes wire bytes, split anywhere. Returns 1 and fills *frame when a frame is complete; bytes
 * behind it are left for the next call. Returns 0 when all bytes were taken and more are needed.
 * *consumed says how many were taken. Returns a negative enum frame_error when the bytes are not
 * what an encoder wrote; the decoder then says so forever. The bytes may come from anybody. */
int frame_decode(struct frame_decoder *decoder, const char *data, size_t length, size_t *consumed,
                 struct frame *frame);
/* The offset of the next plain byte: all before it have been handed out. */
uint64_t frame_decoder_offset(const struct frame_decoder *decoder);

/* For who keeps plain bytes and frames in memory: opens the whole frame at wire (wire_bytes as
 * frame_wire_bytes says) into plain, which has room for capacity bytes. The history bytes (0:
 * there is none) directly before plain are the stream since history last restarted, or the last
 * FRAME_HISTORY_BYTES of it. Returns the plain bytes written or a negative enum frame_error. */
int frame_open(const char *wire, size_t wire_bytes, uint64_t offset, size_t history, char *plain,
               size_t capacity);
/* The bytes of the frame that starts with this header (FRAME_HEADER_BYTES), or a negative enum
 * frame_error. */
int frame_wire_bytes(const char *header);
unsigned frame_flags(const char *header);
size_t frame_plain_bytes(const char *header);

#endif
