/* Strings that change in place: integers and blobs. All else of a string is never changed after
 * publication; a new object takes its place (keyspace_replace).
 *
 * Under the token of the key's slot. */
#ifndef SLOTWISE_ENGINE_TYPES_STRING_H
#define SLOTWISE_ENGINE_TYPES_STRING_H

#include "engine/keyspace.h"

/* The object has ENCODING_INT. */
void string_set_integer(struct change *change, unsigned database, const struct key *key,
                        struct object *object, int64_t value, enum change_event event);

/* Writes length bytes at offset into a string; bytes between its end and offset become zeros. The
 * encoding becomes RAW, as in Redis; the expiry stays. Changes a blob in place, else replaces the
 * object, which must not be used afterwards. Returns the new length, which must be one that fits
 * into memory (proto-max-bulk-len). */
size_t string_write_range(struct change *change, unsigned database, const struct key *key,
                          struct object *object, size_t offset, const char *data, size_t length,
                          enum change_event event);

#endif
