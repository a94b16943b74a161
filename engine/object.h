/* Object: a key with its value, one allocation.
 *
 *   offset  bytes
 *   0       1        type and encoding
 *   1       1        flags, snapshot id
 *   2       1        key length
 *   3       1        length of an embedded value, its lower eight bits
 *   4       4        access clock
 *   8       0 or 8   expiry (HAS_EXPIRY)
 *           0 or 8   body (HAS_BODY; INT: the number, POINTER: the pointer)
 *           0 or 4   key length of a wide key (WIDE_KEY)
 *           0 or 1   upper eight bits of the length of an embedded value (LONG_VALUE)
 *           n        key
 *           n        value, if it is embedded
 *
 * So a short key with a short value takes eight bytes beside them, which with a key of 16 and a
 * value of 64 bytes fills a size class to the last byte.
 *
 * - key length: keys of 255 bytes and more store 0xff here and 32 bits after the body.
 * - value: embedded strings and packed collections up to OBJECT_EMBED_MAX_BYTES are never changed
 * in place; an integer is the 8-byte body (one atomic store changes it); anything larger or with
 * structure is a pointer in the body (struct blob for strings, the collection for the rest; types/
 * knows which).
 * - expiry: unix time in ms, 8 bytes, atomic; OBJECT_NO_EXPIRY when the field is there but unused.
 * - the access clock is a memory location of its own, written relaxed by readers too.
 *
 * Embedded values and integers may be read under RCU alone; bodies that are pointers only under
 * the slot's token. Writers hold the token. */
#ifndef SLOTWISE_ENGINE_OBJECT_H
#define SLOTWISE_ENGINE_OBJECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/blob.h"

enum object_type {
    OBJECT_STRING,
    OBJECT_LIST,
    OBJECT_SET,
    OBJECT_ZSET,
    OBJECT_HASH,
    OBJECT_STREAM,
    OBJECT_MODULE,
    OBJECT_TYPES
};

/* What OBJECT ENCODING shows; where the bytes are is told by the POINTER flag. */
enum object_encoding {
    ENCODING_INT,
    ENCODING_EMBSTR,
    ENCODING_RAW,
    ENCODING_LISTPACK, /* from here on: collections */
    ENCODING_INTSET,
    ENCODING_HASHTABLE,
    ENCODING_SKIPLIST,
    ENCODING_QUICKLIST,
    ENCODING_LISTPACK_EX,       /* fields of the hash had times to live */
    ENCODING_LISTPACK_EX_TIMED, /* from here on: fields have them now (types/field_times.h) */
    ENCODING_HASHTABLE_TIMED,
};

#define OBJECT_EMBED_MAX_BYTES  (16 * 1024)
#define OBJECT_EMBSTR_MAX_BYTES 44        /* Redis's limit between embstr and raw */
#define OBJECT_NO_EXPIRY        INT64_MIN /* no command can set this time */

#define OBJECT_HAS_EXPIRY     0x01 /* the expiry field is there */
#define OBJECT_HAS_BODY       0x02 /* the body is there */
#define OBJECT_POINTER        0x04 /* the body is a pointer */
#define OBJECT_WIDE_KEY       0x08 /* 32-bit key length after the body */
#define OBJECT_LONG_VALUE     0x10 /* a second byte of the value's length before the key */
#define OBJECT_LAYOUT_MASK    0x1f /* all of the above: where everything is */
/* Two bits: which cut of a snapshot the object is newer than (snapshot.h); alone of all flags they
 * change after publication, by an atomic store under the token. */
#define OBJECT_SNAPSHOT_SHIFT 6
#define OBJECT_SNAPSHOT_MASK  0xc0
#define OBJECT_SNAPSHOT_IDS   4

struct object {
    uint8_t type_encoding; /* type | encoding << 4 */
    _Atomic uint8_t flags;
    uint8_t key_length;
    uint8_t value_length;    /* the lower eight bits; 0 if there is no embedded value */
    _Atomic uint32_t access; /* LRU clock (unix seconds) or LFU (16 bit minutes << 8 | counter) */
    _Alignas(8) uint8_t payload[];
};

static inline uint8_t object_flags(const struct object *o) {
    return atomic_load_explicit(&o->flags, memory_order_relaxed);
}
static inline unsigned object_snapshot_id(const struct object *o) {
    return object_flags(o) >> OBJECT_SNAPSHOT_SHIFT;
}
static inline enum object_type object_type(const struct object *o) {
    return (enum object_type)(o->type_encoding & 15);
}
static inline enum object_encoding object_encoding(const struct object *o) {
    return (enum object_encoding)(o->type_encoding >> 4);
}
/* Fields of this hash have times to live of their own. As the encoding it never changes. */
static inline bool object_has_field_times(const struct object *o) {
    return o->type_encoding >= ENCODING_LISTPACK_EX_TIMED << 4;
}
static inline uint8_t *object_after_expiry(const struct object *o) {
    return (uint8_t *)o->payload + ((object_flags(o) & OBJECT_HAS_EXPIRY) ? 8 : 0);
}
static inline _Atomic int64_t *object_body(const struct object *o) {
    return (_Atomic int64_t *)object_after_expiry(o);
}
static inline int64_t object_integer(const struct object *o) {
    return atomic_load_explicit(object_body(o), memory_order_relaxed);
}
static inline void *object_pointer(const struct object *o) {
    return (void *)(intptr_t)atomic_load_explicit(object_body(o), memory_order_relaxed);
}
static inline int64_t object_expiry(const struct object *o) {
    return (object_flags(o) & OBJECT_HAS_EXPIRY)
               ? atomic_load_explicit((_Atomic int64_t *)o->payload, memory_order_relaxed)
               : OBJECT_NO_EXPIRY;
}
/* The expiry duty looks at it. */
static inline bool object_is_volatile(const struct object *o) {
    return object_expiry(o) != OBJECT_NO_EXPIRY || object_has_field_times(o);
}
/* A key without an expiry never is. */
static inline bool object_expired_at(const struct object *o, int64_t now_ms) {
    int64_t expiry_ms = object_expiry(o);
    return expiry_ms != OBJECT_NO_EXPIRY && expiry_ms <= now_ms;
}
/* From the object to its key, by OBJECT_LAYOUT_MASK of the flags. */
extern const uint8_t object_key_offsets[OBJECT_LAYOUT_MASK + 1];
size_t object_wide_key_length(const struct object *o);
static inline const char *object_key(const struct object *o, size_t *length) {
    uint8_t flags = object_flags(o);
    *length = o->key_length;
    if (__builtin_expect(flags & OBJECT_WIDE_KEY, 0))
        *length = object_wide_key_length(o);
    return (const char *)o + object_key_offsets[flags & OBJECT_LAYOUT_MASK];
}
static inline bool object_key_equals(const struct object *o, const char *key, size_t length) {
    size_t n;
    const char *k = object_key(o, &n);
    return n == length && __builtin_memcmp(k, key, n) == 0;
}

/* The bytes of a string value. An integer is formatted into buffer (at least
 * OBJECT_INTEGER_BUFFER); else the result points into the object or its blob and lives as long as
 * that does. A blob needs the token (or a reference). */
#define OBJECT_INTEGER_BUFFER 24
const char *object_string(const struct object *o, char buffer[OBJECT_INTEGER_BUFFER],
                          size_t *length);
/* The embedded bytes of an object without a body, whatever its type. */
const uint8_t *object_packed(const struct object *o, size_t *length);
/* Length only. */
size_t object_string_length(const struct object *o);
/* true: only the token protects this value (blob or collection). */
static inline bool object_needs_token(const struct object *o) {
    return object_flags(o) & OBJECT_POINTER;
}

/* --- Making them. The result is unpublished and belongs to the caller ------------------------- */

/* How a string value is to be stored. */
enum string_form {
    STRING_SET,   /* as SET does: integers become INT, <= 44 bytes EMBSTR, else RAW */
    STRING_RAW,   /* as APPEND and SETRANGE leave it: always RAW */
    STRING_PLAIN, /* no integer encoding; EMBSTR or RAW by length */
};
/* expiry OBJECT_NO_EXPIRY: no field. */
struct object *object_make_string(const char *key, size_t key_length, const char *value,
                                  size_t value_length, int64_t expiry_ms, enum string_form form);
struct object *object_make_integer(const char *key, size_t key_length, int64_t value,
                                   int64_t expiry_ms);
/* A string of length bytes whose content the caller fills through *content before publication
 * (zeroed when zero is true). RAW encoding. */
struct object *object_make_buffer(const char *key, size_t key_length, size_t length,
                                  int64_t expiry_ms, bool zero, char **content);
/* Of any type, with bytes of at most OBJECT_EMBED_MAX_BYTES embedded. */
struct object *object_make_packed(const char *key, size_t key_length, enum object_type type,
                                  enum object_encoding encoding, const void *bytes, size_t length,
                                  int64_t expiry_ms);
/* For any pointer body; takes over the pointer. */
struct object *object_make_pointer(const char *key, size_t key_length, enum object_type type,
                                   enum object_encoding encoding, void *pointer, int64_t expiry_ms);
/* The same value (moved if it is a pointer, copied if embedded) under another key and/or expiry;
 * keeps encoding and access clock. The old object must then be retired with object_retire_shell if
 * the value was moved (it has OBJECT_POINTER), else with object_retire (value.h). */
struct object *object_remake(const struct object *o, const char *key, size_t key_length,
                             int64_t expiry_ms);

/* Bytes of the allocation itself. */
size_t object_shell_bytes(const struct object *o);
/* A copy of an object without OBJECT_POINTER that is only read, at place (aligned to 8, of
 * object_shell_bytes). Under the object's token. */
void object_copy_to(void *place, const struct object *o);

/* Frees the allocation, not what a pointer body points to (value.h: object_free). */
void object_free_shell(struct object *o);   /* never published */
void object_retire_shell(struct object *o); /* the value was moved to another object */

#endif
