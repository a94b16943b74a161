/* Objects: making, copying, freeing the allocation. Layout and who may read what: object.h.
 *
 * Invariant: an object's layout (flags, lengths, type) never changes after publication; only the
 * expiry word, the body word, the snapshot id and the access clock do, each one atomic store. */
#include "engine/object.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/epoch.h"
#include "engine/memory.h"

#define WIDE_KEY_MARK 0xffff

/* Sizes of the parts behind the header, in order. */
struct layout {
    size_t expiry, body, wide_key, length_width, key, value;
};

static inline size_t layout_bytes(const struct layout *l) {
    return sizeof(struct object) + l->expiry + l->body + l->wide_key + l->length_width + l->key +
           l->value;
}

static inline unsigned width_code(size_t length) {
    return length < 256 ? 1 : length < 65536 ? 2 : 3;
}

static struct object *object_new(struct layout *l, uint8_t type_encoding, uint8_t flags,
                                 const char *key, size_t key_length, int64_t expiry_ms) {
    if (expiry_ms != OBJECT_NO_EXPIRY) {
        flags |= OBJECT_HAS_EXPIRY;
        l->expiry = 8;
    }
    if (UNLIKELY(key_length >= WIDE_KEY_MARK)) {
        flags |= OBJECT_WIDE_KEY;
        l->wide_key = 4;
    }
    l->key = key_length;
    struct object *o = memory_alloc_object(layout_bytes(l));
    o->type_encoding = type_encoding;
    atomic_init(&o->flags, flags);
    o->key_length = (flags & OBJECT_WIDE_KEY) ? WIDE_KEY_MARK : (uint16_t)key_length;
    atomic_init(&o->access, 0);
    uint8_t *p = o->payload;
    if (l->expiry) {
        atomic_init((_Atomic int64_t *)p, expiry_ms);
        p += 8;
    }
    p += l->body;
    if (l->wide_key) {
        uint32_t length = (uint32_t)key_length;
        memcpy(p, &length, 4);
        p += 4;
    }
    unsigned code = (flags & OBJECT_LENGTH_MASK) >> OBJECT_LENGTH_SHIFT;
    if (code == 1)
        *p = (uint8_t)l->value;
    else if (code == 2)
        memcpy(p, &(uint16_t){(uint16_t)l->value}, 2);
    else if (code == 3)
        memcpy(p, &(uint32_t){(uint32_t)l->value}, 4);
    p += l->length_width;
    memcpy(p, key, key_length);
    return o;
}

/* Where the lengths begin: behind expiry and body. */
static inline const uint8_t *object_lengths(const struct object *o) {
    return object_after_expiry(o) + (object_has_body(o) ? 8 : 0);
}

static inline size_t code_bytes(unsigned code) {
    return code == 3 ? 4 : code;
}

const char *object_wide_key(const struct object *o, size_t *length) {
    const uint8_t *p = object_lengths(o);
    uint32_t wide;
    memcpy(&wide, p, 4);
    *length = wide;
    return (const char *)p + 4 +
           code_bytes((object_flags(o) & OBJECT_LENGTH_MASK) >> OBJECT_LENGTH_SHIFT);
}

static inline size_t embedded_length(const struct object *o) {
    const uint8_t *p = object_lengths(o) + ((object_flags(o) & OBJECT_WIDE_KEY) ? 4 : 0);
    switch ((object_flags(o) & OBJECT_LENGTH_MASK) >> OBJECT_LENGTH_SHIFT) {
    case 1:
        return *p;
    case 2: {
        uint16_t n;
        memcpy(&n, p, 2);
        return n;
    }
    case 3: {
        uint32_t n;
        memcpy(&n, p, 4);
        return n;
    }
    default:
        return 0;
    }
}

/* Decimal text of value at the end of buffer; no terminator. */
static const char *integer_text(int64_t value, char buffer[OBJECT_INTEGER_BUFFER], size_t *length) {
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    char *end = buffer + OBJECT_INTEGER_BUFFER, *p = end;
    do {
        *--p = (char)('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude);
    if (value < 0)
        *--p = '-';
    *length = (size_t)(end - p);
    return p;
}

const char *object_string(const struct object *o, char buffer[OBJECT_INTEGER_BUFFER],
                          size_t *length) {
    if (object_encoding(o) == ENCODING_INT)
        return integer_text(object_integer(o), buffer, length);
    if (UNLIKELY(object_flags(o) & OBJECT_POINTER)) {
        const struct blob *blob = object_pointer(o);
        *length = blob->length;
        return blob->data;
    }
    size_t key_length;
    const char *key = object_key(o, &key_length);
    *length = embedded_length(o);
    return key + key_length;
}

size_t object_string_length(const struct object *o) {
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length;
    object_string(o, buffer, &length);
    return length;
}

/* Strict decimal as Redis's string2ll: no spaces, no leading zeros, no "-0". */
static bool parse_integer(const char *text, size_t length, int64_t *value) {
    if (length == 0 || length > 20)
        return false;
    size_t i = 0;
    bool negative = text[0] == '-';
    if (negative && ++i == length)
        return false;
    if (text[i] == '0') {
        *value = 0;
        return length == 1;
    }
    uint64_t magnitude = 0;
    for (; i < length; i++) {
        unsigned digit = (unsigned)(text[i] - '0');
        if (digit > 9 || __builtin_mul_overflow(magnitude, 10, &magnitude) ||
            __builtin_add_overflow(magnitude, digit, &magnitude))
            return false;
    }
    if (magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

static struct object *make_embedded(const char *key, size_t key_length, size_t length,
                                    int64_t expiry_ms, enum object_encoding encoding,
                                    char **content) {
    unsigned code = width_code(length);
    struct layout l = {.length_width = code_bytes(code), .value = length};
    struct object *o =
        object_new(&l, (uint8_t)(OBJECT_STRING | encoding << 4),
                   (uint8_t)(code << OBJECT_LENGTH_SHIFT), key, key_length, expiry_ms);
    size_t ignored;
    *content = (char *)object_key(o, &ignored) + key_length;
    return o;
}

struct object *object_make_integer(const char *key, size_t key_length, int64_t value,
                                   int64_t expiry_ms) {
    struct layout l = {.body = 8};
    struct object *o =
        object_new(&l, (uint8_t)(OBJECT_STRING | ENCODING_INT << 4), 0, key, key_length, expiry_ms);
    atomic_init(object_body(o), value);
    return o;
}

struct object *object_make_pointer(const char *key, size_t key_length, enum object_type type,
                                   enum object_encoding encoding, void *pointer,
                                   int64_t expiry_ms) {
    struct layout l = {.body = 8};
    struct object *o =
        object_new(&l, (uint8_t)(type | encoding << 4), OBJECT_POINTER, key, key_length, expiry_ms);
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
        o = make_embedded(key, key_length, length, expiry_ms, ENCODING_RAW, content);
    }
    if (zero)
        memset(*content, 0, length);
    return o;
}

struct object *object_make_string(const char *key, size_t key_length, const char *value,
                                  size_t value_length, int64_t expiry_ms, enum string_form form) {
    int64_t integer;
    if (form == STRING_SET && value_length <= 20 && parse_integer(value, value_length, &integer))
        return object_make_integer(key, key_length, integer, expiry_ms);
    char *content;
    struct object *o;
    if (form != STRING_RAW && value_length <= OBJECT_EMBSTR_MAX_BYTES)
        o = make_embedded(key, key_length, value_length, expiry_ms, ENCODING_EMBSTR, &content);
    else
        o = object_make_buffer(key, key_length, value_length, expiry_ms, false, &content);
    memcpy(content, value, value_length);
    return o;
}

struct object *object_remake(const struct object *o, const char *key, size_t key_length,
                             int64_t expiry_ms) {
    struct layout l = {0};
    unsigned code = (object_flags(o) & OBJECT_LENGTH_MASK) >> OBJECT_LENGTH_SHIFT;
    uint8_t kept = object_flags(o) & (OBJECT_POINTER | OBJECT_LENGTH_MASK);
    bool has_body = object_has_body(o);
    l.body = has_body ? 8 : 0;
    l.length_width = code_bytes(code);
    l.value = has_body ? 0 : embedded_length(o);
    struct object *copy = object_new(&l, o->type_encoding, kept, key, key_length, expiry_ms);
    if (has_body) {
        atomic_init(object_body(copy), object_integer(o));
    } else {
        char buffer[OBJECT_INTEGER_BUFFER];
        size_t length, ignored;
        const char *value = object_string(o, buffer, &length);
        memcpy((char *)object_key(copy, &ignored) + key_length, value, length);
    }
    atomic_init(&copy->access, atomic_load_explicit(&o->access, memory_order_relaxed));
    return copy;
}

/* On the path of each SET, twice: when the old object is retired and when it is freed. */
static inline size_t shell_bytes(const struct object *o) {
    const uint8_t *lengths = object_lengths(o);
    size_t key = o->key_length;
    unsigned code = (object_flags(o) & OBJECT_LENGTH_MASK) >> OBJECT_LENGTH_SHIFT;
    if (UNLIKELY(object_flags(o) & OBJECT_WIDE_KEY)) {
        object_key(o, &key);
        key += 4;
    }
    size_t value = LIKELY(code == 1) ? *lengths : 0;
    if (UNLIKELY(code > 1 || (object_flags(o) & OBJECT_WIDE_KEY)))
        value = embedded_length(o);
    return (size_t)(lengths - (const uint8_t *)o) + code_bytes(code) + key + value;
}

size_t object_shell_bytes(const struct object *o) {
    return shell_bytes(o);
}

/* --- Letting go ------------------------------------------------------------------------------- */

void object_free_shell(struct object *o) {
    memory_free_object(o, shell_bytes(o));
}

static void free_shell_job(void *o) {
    object_free_shell(o);
}

void object_retire_shell(struct object *o) {
    epoch_retire(o, memory_object_bytes(shell_bytes(o)), free_shell_job);
}
