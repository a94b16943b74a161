/* Listpack: a small sequence of strings and integers in one piece of memory, byte for byte as Redis
 * has it, so that RDB files and DUMP carry it as it is:
 *
 *   total bytes (4, little endian) | number of entries (2; 0xffff: count them) | entries | 0xff
 *   entry: encoding and length | content | length of both, to be read backwards
 *
 * A string that is an integer as Redis takes it (no spaces, no leading zeros, 64 bits) is stored as
 * one.
 *
 * Reading functions take a listpack that is known to be sound (listpack_is_sound for bytes from
 * outside). Any thread that may read the memory. */
#ifndef SLOTWISE_ENGINE_TYPES_LISTPACK_H
#define SLOTWISE_ENGINE_TYPES_LISTPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LISTPACK_HEADER_BYTES 6
#define LISTPACK_EMPTY_BYTES  7
#define LISTPACK_BYTES_MAX    ((size_t)1 << 30)
#define LISTPACK_INTEGER_ROOM 21 /* of the text of an integer */
#define LISTPACK_ENTRY_EXTRA  10 /* an entry of n bytes takes at most so many more */

struct blob;

/* An element as it lies somewhere: bytes, valid as long as what they lie in does not change, or an
 * integer. */
struct element {
    const char *data; /* NULL: integer */
    size_t length;
    int64_t integer;
    struct blob *blob; /* data is all of this one; NULL: it lies elsewhere */
};

/* The bytes of an element; an integer is written into room. */
const char *element_text(const struct element *element, char room[LISTPACK_INTEGER_ROOM],
                         size_t *length);
bool element_equals(const struct element *element, const char *data, size_t length);
/* An element for these bytes, as an integer if that is what they are. */
struct element element_make(const char *data, size_t length);

/* --- Reading ---------------------------------------------------------------------------------- */

size_t listpack_bytes(const uint8_t *listpack);
size_t listpack_count(const uint8_t *listpack); /* walks if there are 65535 entries or more */
/* Positions are addresses of entries; NULL: no such. index below 0: from the end. */
const uint8_t *listpack_first(const uint8_t *listpack);
const uint8_t *listpack_last(const uint8_t *listpack);
const uint8_t *listpack_next(const uint8_t *listpack, const uint8_t *entry);
const uint8_t *listpack_previous(const uint8_t *listpack, const uint8_t *entry);
const uint8_t *listpack_at(const uint8_t *listpack, int64_t index);
void listpack_get(const uint8_t *entry, struct element *element);
/* The first entry from entry on that equals; skip others are passed over after each that was
 * looked at (1: the values of pairs). */
const uint8_t *listpack_find(const uint8_t *listpack, const uint8_t *entry, const char *data,
                             size_t length, unsigned skip);

/* Bytes from outside: of this length, header right, all entries whole, the end where it should be.
 * deep false: the header and the end only. */
bool listpack_is_sound(const uint8_t *bytes, size_t length, bool deep);

/* --- Building and changing: a listpack in a buffer that grows ---------------------------------
 *
 * What is put in lies outside of the buffer. The caller keeps to LISTPACK_BYTES_MAX. */

struct listpack_buffer {
    uint8_t *bytes; /* memory_alloc */
    size_t capacity;
};

/* At least so many bytes; what is there stays. */
void listpack_buffer_reserve(struct listpack_buffer *buffer, size_t bytes);
void listpack_clear(struct listpack_buffer *buffer); /* empty; makes the memory if there is none */
void listpack_assign(struct listpack_buffer *buffer, const uint8_t *bytes, size_t length);
void listpack_buffer_free(struct listpack_buffer *buffer);
/* Position as an offset from the beginning (of an entry, or of the end mark): in front of it.
 * Returns the offset behind the new entry. */
size_t listpack_insert(struct listpack_buffer *buffer, size_t at, const char *data, size_t length);
size_t listpack_insert_integer(struct listpack_buffer *buffer, size_t at, int64_t integer);
void listpack_append(struct listpack_buffer *buffer, const char *data, size_t length);
void listpack_append_integer(struct listpack_buffer *buffer, int64_t integer);
void listpack_prepend(struct listpack_buffer *buffer, const char *data, size_t length);
/* count entries from the one at this offset on, those that there are. */
void listpack_delete(struct listpack_buffer *buffer, size_t at, size_t count);
/* Returns the offset behind it. */
size_t listpack_replace(struct listpack_buffer *buffer, size_t at, const char *data, size_t length);

/* --- Single entries, for leaves that have the same form --------------------------------------- */

/* What the entry of these bytes takes; writes it there. */
size_t listpack_entry_bytes(const char *data, size_t length);
uint8_t *listpack_entry_write(uint8_t *place, const char *data, size_t length); /* behind it */
/* The same of an element from element_make. */
size_t listpack_element_bytes(const struct element *element);
uint8_t *listpack_element_write(uint8_t *place, const struct element *element);
/* Of the entry there: all of it; of the one that ends in front of this address. */
size_t listpack_entry_size(const uint8_t *entry);
const uint8_t *listpack_entry_before(const uint8_t *end);

#endif
