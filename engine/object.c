/* Objects: making, copying, freeing the allocation. Layout and who may read what: object.h.
 *
 * Invariant: an object's layout (flags, lengths, type) never changes after publication; only the
 * expiry word, the body word, the snapshot id and the access clock do, each one atomic store. */
#include "engine/object.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/epoch.h"
#include "engine/integer.h"
#include "engine/memory.h"

#define WIDE_KEY_MARK 0xff

_Static_assert(OBJECT_EMBED_MAX_BYTES <= UINT16_MAX, "two bytes are enough for a value's length");

/* For each combination of flags. */
#define OFFSET(flags)                                                                              \
    (sizeof(struct object) + ((flags)&OBJECT_HAS_EXPIRY ? 8 : 0) +                                 \
     ((flags)&OBJECT_HAS_BODY ? 8 : 0) + ((flags)&OBJECT_WIDE_KEY ? 4 : 0) +                       \
     ((flags)&OBJECT_LONG_VALUE ? 1 : 0))
#define OFFSETS_4(flags) OFFSET(flags), OFFSET(flags + 1), OFFSET(flags + 2), OFFSET(flags + 3)
#define OFFSETS_16(flags)                                                                          \
    OFFSETS_4(flags), OFFSETS_4(flags + 4), OFFSETS_4(flags + 8), OFFSETS_4(flags + 12)
const uint8_t object_key_offsets[OBJECT_LAYOUT_MASK + 1] = {OFFSETS_16(0), OFFSETS_16(16)};

static inline uint8_t *key_place(const struct object *o, uint8_t flags) {
    return (uint8_t *)o + object_key_offsets[flags & OBJECT_LAYOUT_MASK];
}

/* The length of a wide key. */
static inline uint8_t *wide_place(const struct object *o, uint8_t flags) {
    return key_place(o, flags) - (flags & OBJECT_LONG_VALUE ? 1 : 0) - 4;
}

/* flags: the body. value_length: of an embedded value. */
static inline struct object *object_new(uint8_t type_encoding, uint8_t flags, size_t value_length,
                                        const char *key, size_t key_length, int64_t expiry_ms) {
    if (expiry_ms != OBJECT_NO_EXPIRY)
        flags |= OBJECT_HAS_EXPIRY;
    if (UNLIKELY(key_length >= WIDE_KEY_MARK))
        flags |= OBJECT_WIDE_KEY;
    if (value_length > UINT8_MAX)
        flags |= OBJECT_LONG_VALUE;
    struct object *o = memory_alloc_object(object_key_offsets[flags] + key_length + value_length);
    uint8_t *place = key_place(o, flags);
    o->type_encoding = type_encoding;
    atomic_init(&o->flags, flags);
    o->key_length = (uint8_t)key_length;
    o->value_length = (uint8_t)value_length;
    atomic_init(&o->access, 0);
    if (expiry_ms != OBJECT_NO_EXPIRY)
        atomic_init((_Atomic int64_t *)o->payload, expiry_ms);
    if (UNLIKELY(flags & OBJECT_WIDE_KEY)) {
        o->key_length = WIDE_KEY_MARK;
        memcpy(wide_place(o, flags), &(uint32_t){(uint32_t)key_length}, 4);
    }
    if (flags & OBJECT_LONG_VALUE)
        place[-1] = (uint8_t)(value_length >> 8);
    memcpy(place, key, key_length);
    return o;
}

size_t object_wide_key_length(const struct object *o) {
    uint32_t wide;
    memcpy(&wide, wide_place(o, object_flags(o)), 4);
    return wide;
}

/* Of an embedded value; 0 if there is none. */
static inline size_t embedded_length(const struct object *o) {
    uint8_t flags = object_flags(o);
    size_t length = o->value_length;
    if (flags & OBJECT_LONG_VALUE)
        length |= (size_t)key_place(o, flags)[-1] << 8;
    return length;
}

const char *object_string(const struct object *o, char buffer[OBJECT_INTEGER_BUFFER],
                          size_t *length) {
    if (UNLIKELY(object_flags(o) & OBJECT_HAS_BODY)) {
        if (object_encoding(o) == ENCODING_INT)
            return integer_text(object_integer(o), buffer + OBJECT_INTEGER_BUFFER, length);
        const struct blob *blob = object_pointer(o);
        *length = blob->length;
        return blob->data;
    }
    size_t key_length;
    const char *key = object_key(o, &key_length);
    *length = embedded_length(o);
    return key + key_length;
}

const uint8_t *object_packed(const struct object *o, size_t *length) {
    ASSERT(!(object_flags(o) & OBJECT_HAS_BODY));
    size_t key_length;
    const char *key = object_key(o, &key_length);
    *length = embedded_length(o);
    return (const uint8_t *)key + key_length;
}

size_t object_string_length(const struct object *o) {
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length;
    object_string(o, buffer, &length);
    return length;
}

static inline struct object *make_embedded(const char *key, size_t key_length, size_t length,
                                           int64_t expiry_ms, enum object_type type,
                                           enum object_encoding encoding, char **content) {
    struct object *o =
        object_new((uint8_t)(type | encoding << 4), 0, length, key, key_length, expiry_ms);
    size_t ignored;
    *content = (char *)object_key(o, &ignored) + key_length;
    return o;
}

struct object *object_make_integer(const char *key, size_t key_length, int64_t value,
                                   int64_t expiry_ms) {
    struct object *o = object_new((uint8_t)(OBJECT_STRING | ENCODING_INT << 4), OBJECT_HAS_BODY, 0,
                                  key, key_length, expiry_ms);
    atomic_init(object_body(o), value);
    return o;
}

struct object *object_make_packed(const char *key, size_t key_length, enum object_type type,
                                  enum object_encoding encoding, const void *bytes, size_t length,
                                  int64_t expiry_ms) {
    ASSERT(length <= OBJECT_EMBED_MAX_BYTES);
    char *content;
    struct object *o = make_embedded(key, key_length, length, expiry_ms, type, encoding, &content);
    memcpy(content, bytes, length);
    return o;
}

struct object *object_make_pointer(const char *key, size_t key_length, enum object_type type,
                                   enum object_encoding encoding, void *pointer,
                                   int64_t expiry_ms) {
    struct object *o = object_new((uint8_t)(type | encoding << 4), OBJECT_HAS_BODY | OBJECT_POINTER,
                                  0, key, key_length, expiry_ms);
    atomic_init(object_body(o), (int64_t)(intptr_t)pointer);
    return o;
}

struct object *object_make_buffer(const char *key, size_t key_length, size_t length,
                                  int64_t expiry_ms, bool zero, char **content) {
    struct object *o;
    if (length > OBJECT_EMBED_MAX_BYTES) {
        struct blob *blob = blob_make(length, length);
        *content = blob->data;
        o = object_make_pointer(key, key_length, OBJECT_STRING, ENCODING_RAW, blob, expiry_ms);
    } else {
        o = make_embedded(key, key_length, length, expiry_ms, OBJECT_STRING, ENCODING_RAW, content);
    }
    if (zero)
        memset(*content, 0, length);
    return o;
}

struct object *object_make_string(const char *key, size_t key_length, const char *value,
                                  size_t value_length, int64_t expiry_ms, enum string_form form) {
    int64_t integer;
    if (form == STRING_SET && integer_parse(value, value_length, &integer))
        return object_make_integer(key, key_length, integer, expiry_ms);
    char *content;
    struct object *o;
    bool raw = form == STRING_RAW || value_length > OBJECT_EMBSTR_MAX_BYTES;
    if (LIKELY(value_length <= OBJECT_EMBED_MAX_BYTES))
        o = make_embedded(key, key_length, value_length, expiry_ms, OBJECT_STRING,
                          raw ? ENCODING_RAW : ENCODING_EMBSTR, &content);
    else
        o = object_make_buffer(key, key_length, value_length, expiry_ms, false, &content);
    memcpy(content, value, value_length);
    return o;
}

struct object *object_remake(const struct object *o, const char *key, size_t key_length,
                             int64_t expiry_ms) {
    uint8_t kept = object_flags(o) & (OBJECT_HAS_BODY | OBJECT_POINTER);
    struct object *copy =
        object_new(o->type_encoding, kept, embedded_length(o), key, key_length, expiry_ms);
    if (kept & OBJECT_HAS_BODY) {
        atomic_init(object_body(copy), object_integer(o));
    } else {
        size_t length, ignored;
        const uint8_t *value = object_packed(o, &length);
        memcpy((char *)object_key(copy, &ignored) + key_length, value, length);
    }
    atomic_init(&copy->access, atomic_load_explicit(&o->access, memory_order_relaxed));
    return copy;
}

size_t object_shell_bytes(const struct object *o) {
    size_t key_length;
    const char *key = object_key(o, &key_length);
    return (size_t)(key - (const char *)o) + key_length + embedded_length(o);
}

/* The access clock is written by readers meanwhile. */
void object_copy_to(void *place, const struct object *o) {
    struct object *copy = place;
    copy->type_encoding = o->type_encoding;
    atomic_init(&copy->flags, object_flags(o));
    copy->key_length = o->key_length;
    copy->value_length = o->value_length;
    atomic_init(&copy->access, atomic_load_explicit(&o->access, memory_order_relaxed));
    memcpy(copy->payload, o->payload, object_shell_bytes(o) - offsetof(struct object, payload));
}

/* --- Letting go ------------------------------------------------------------------------------- */

void object_free_shell(struct object *o) {
    memory_free_object(o, object_shell_bytes(o));
}

void object_retire_shell(struct object *o) {
    epoch_retire_object(o, memory_object_bytes(object_shell_bytes(o)));
}
