/* Fields of hashes as commands see them: one whose time to live is over is absent. On a primary the
 * commands that ask for single fields remove those that they meet (hash_fields_expire); those that
 * go over many pass over them, as in Redis. HLEN counts them, HDEL deletes them, and to HSET they
 * are there, which is Redis's too.
 *
 * Called from handlers only. A hash whose fields have times to live has a body, so whoever has come
 * here with one has the token. */
#ifndef SLOTWISE_SERVER_HASH_FIELDS_H
#define SLOTWISE_SERVER_HASH_FIELDS_H

#include "engine/types/hash.h"
#include "engine/types/hash_field_expiry.h"
#include "server/dispatch/call.h"

/* Those of these fields whose time is over are removed if the view allows
 * it; *hash, which may be NULL, is what is there then. */
void hash_fields_remove_over(struct call *call, const struct key *key, struct object **hash,
                             const struct argument *fields, size_t n);
static inline void hash_fields_expire(struct call *call, const struct key *key,
                                      struct object **hash, const struct argument *fields,
                                      size_t n) {
    if (UNLIKELY(*hash && object_has_field_times(*hash)))
        hash_fields_remove_over(call, key, hash, fields, n);
}
/* All fields whose time is over. */
void hash_fields_expire_all(struct call *call, const struct key *key, struct object **hash);

bool hash_field_is_hidden(struct call *call, const struct object *hash, const char *field,
                          size_t length);
/* hash_get, hash_count and hash_visit without fields whose time is over. hash may be NULL in the
 * first. */
static inline bool hash_field_get(struct call *call, const struct object *hash,
                                  const struct argument *field, struct element *value) {
    return hash && hash_get(hash, field->data, field->length, value) &&
           !(UNLIKELY(object_has_field_times(hash)) &&
             hash_field_is_hidden(call, hash, field->data, field->length));
}
uint64_t hash_fields_count(struct call *call, const struct object *hash);
void hash_fields_visit(struct call *call, const struct object *hash, collection_visit *visit,
                       void *context);

/* Of a hash with a body: all fields that are not over, each followed by its value, for memory_free.
 */
struct element *hash_fields_gather(struct call *call, const struct object *hash);

#endif
