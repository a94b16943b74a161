/* RDB reader: takes apart a file, a stream from a primary or a DUMP payload, of versions 1 to 12,
 * and trusts none of it: nothing is allocated by a length that the input has not been seen to
 * justify (its bytes are known to be there, or to have been announced within limits).
 *
 * A reader belongs to one thread at a time. It has a window on the input, at whose position it is;
 * bytes that are consumed leave it. The input is a source that is asked for more, or the window is
 * all there is (rdb_reader_init_memory).
 *
 * Results are 0 or a negative enum rdb_error; rdb_reader.message says then what is wrong, for the
 * log and in Redis's words where it has some. After an error the reader is of no further use. */
#ifndef SLOTWISE_REPLICATION_RDB_READ_H
#define SLOTWISE_REPLICATION_RDB_READ_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/object.h"
#include "replication/rdb.h"

enum rdb_error {
    RDB_ERROR_SHORT = -1,     /* the input ended too early */
    RDB_ERROR_READ = -2,      /* the source failed */
    RDB_ERROR_SIGNATURE = -3, /* no RDB */
    RDB_ERROR_VERSION = -4,
    RDB_ERROR_CHECKSUM = -5,
    RDB_ERROR_CORRUPT = -6,
    RDB_ERROR_REFUSED = -7,  /* right, but holds what this version does not have */
    RDB_ERROR_DATABASE = -8, /* a database beyond those configured */
    RDB_ERROR_HANDLER = -9,  /* a handler had enough */
    RDB_ERROR_EMPTY = -10,   /* a collection without elements: no key. The value is consumed, and
                                the reader may be used on. */
};

/* Bytes read, at least 1; 0 at the end; a negative errno. */
struct rdb_source {
    ssize_t (*read)(void *context, void *data, size_t room);
    void *context;
};

#define RDB_SIZE_UNKNOWN  UINT64_MAX
#define RDB_MESSAGE_BYTES 512

struct rdb_limits {
    uint64_t input_bytes;  /* how long the input is, or RDB_SIZE_UNKNOWN */
    uint64_t string_bytes; /* no string may be longer */
    unsigned databases;
};

struct rdb_reader {
    struct rdb_source source; /* read NULL: the window is all there is */
    struct rdb_limits limits;
    bool checksum;
    bool owns_window;
    unsigned version;  /* from the header */
    unsigned database; /* of the keys that come */
    uint8_t *window;
    size_t position, end, room;
    size_t summed;         /* bytes of the window that are in crc; at most position */
    size_t kept;           /* bytes from here on stay in the window; SIZE_MAX: none need to */
    uint64_t window_start; /* how many bytes have left the window */
    uint64_t crc;          /* of consumed bytes, up to summed */
    uint8_t *scratch;      /* what was LZF */
    size_t scratch_room;
    char *key; /* the copy that handlers get */
    size_t key_room;
    char *element; /* of a collection, while what follows it is read */
    size_t element_room;
    char number[OBJECT_INTEGER_BUFFER];
    char message[RDB_MESSAGE_BYTES];
};

void rdb_reader_init(struct rdb_reader *reader, const struct rdb_source *source,
                     const struct rdb_limits *limits, bool checksum);
/* data stays the caller's, and where it is until rdb_reader_free. */
void rdb_reader_init_memory(struct rdb_reader *reader, const void *data, size_t length,
                            uint64_t string_bytes);
/* The same reader, of rdb_reader_init_memory, for other bytes. */
static inline void rdb_reader_set_memory(struct rdb_reader *reader, const void *data,
                                         size_t length) {
    reader->limits.input_bytes = length;
    reader->window = (uint8_t *)data; /* read only */
    reader->position = reader->summed = 0;
    reader->window_start = 0;
    reader->end = reader->room = length;
}
void rdb_reader_free(struct rdb_reader *reader);
static inline uint64_t rdb_read_offset(const struct rdb_reader *reader) {
    return reader->window_start + reader->position;
}

/* --- A whole input ---------------------------------------------------------------------------- */

struct rdb_entry {
    unsigned database, type;
    const char *key; /* valid until the handler returns */
    size_t key_length;
    int64_t expiry_ms; /* unix time; OBJECT_NO_EXPIRY */
    int64_t idle_s;    /* -1: not told */
    int frequency;     /* -1: not told */
};

/* What is told about the input as it comes. A result other than 0 ends the reading: a negative enum
 * rdb_error with its message, or RDB_ERROR_HANDLER. All but key may be NULL: not wanted. */
struct rdb_handler {
    /* name and value are not terminated. */
    int (*aux)(void *context, const char *name, size_t name_length, const char *value,
               size_t value_length);
    /* How many keys come in the reader's database, about. */
    int (*resize)(void *context, unsigned database, uint64_t keys, uint64_t expiring);
    /* Code of a library of functions. */
    int (*function)(void *context, const char *code, size_t length);
    /* Data of a module beside its keys, which has been passed over. */
    int (*module_aux)(void *context, const char *module);
    /* The reader is at the value: consume it by rdb_value_read or rdb_value_skip. */
    int (*key)(void *context, struct rdb_reader *reader, const struct rdb_entry *entry);
    /* The file says that its checksum was not made. */
    int (*no_checksum)(void *context);
};

/* From the signature to the checksum. */
int rdb_read(struct rdb_reader *reader, const struct rdb_handler *handler, void *context);

/* --- DUMP payloads ---------------------------------------------------------------------------- */

/* DEBUG SET-SKIP-CHECKSUM-VALIDATION: checksums of payloads and of files are taken as right. By
 * anybody. */
extern _Atomic bool rdb_checksums_are_skipped;

/* Whether version and checksum of the payload are right. */
bool rdb_payload_is_whole(const void *payload, size_t length);
/* The value in a whole payload under this key: 0 and a new object, or a negative enum rdb_error and
 * its message. */
int rdb_payload_read(const void *payload, size_t length, uint64_t string_bytes, const char *key,
                     size_t key_length, int64_t expiry_ms, struct object **object,
                     char message[RDB_MESSAGE_BYTES]);

/* --- What values consist of (rdb_value.c) ----------------------------------------------------- */

enum rdb_string_kind { RDB_STRING_PLAIN, RDB_STRING_INTEGER, RDB_STRING_LZF };

/* What stands before the bytes of a string. The lengths are within the limits. */
struct rdb_string {
    enum rdb_string_kind form;
    int64_t integer;
    size_t length;        /* of the string itself: PLAIN, LZF */
    size_t packed_length; /* LZF: bytes that come */
};

int rdb_read_string_head(struct rdb_reader *reader, struct rdb_string *string);
/* A whole string. *text is valid until the next call of this reader. */
int rdb_read_string(struct rdb_reader *reader, const char **text, size_t *length);
/* The same into reader->element, where reading on leaves it alone: the first of a pair. */
int rdb_read_kept_string(struct rdb_reader *reader, size_t *length);
int rdb_skip_string(struct rdb_reader *reader);
int rdb_read_length(struct rdb_reader *reader, uint64_t *length);
/* The next bytes, consumed, where they are: valid until the next call. */
int rdb_read_window(struct rdb_reader *reader, size_t length, const uint8_t **bytes);
int rdb_read_bytes(struct rdb_reader *reader, void *data, size_t length);
int rdb_skip(struct rdb_reader *reader, uint64_t length);
/* From now on all that is consumed stays in the window; *start (valid until the next call) of the
 * bytes since then. */
void rdb_keep_begin(struct rdb_reader *reader);
const uint8_t *rdb_keep_end(struct rdb_reader *reader, size_t *length);

/* All note the message and return the code. description: "a hash". */
int rdb_empty(struct rdb_reader *reader, const char *key, size_t key_length);
int rdb_corrupt(struct rdb_reader *reader, const char *reason);
int rdb_refuse(struct rdb_reader *reader, const char *description, const char *key,
               size_t key_length);

#endif
