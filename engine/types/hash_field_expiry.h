/* Field expiry: fields of hashes whose time to live is over. As with keys, to a reader such a field
 * is absent; on a primary it is removed when a command meets it or by the expiry duty, which is
 * logged as HDEL of the field, told as "hexpired" and counted as expired_subkeys, but is no change
 * in the sense of INFO's rdb_changes_since_last_save. A replica removes nothing by itself.
 *
 * Under the token of the key's slot. */
#ifndef SLOTWISE_ENGINE_TYPES_HASH_FIELD_EXPIRY_H
#define SLOTWISE_ENGINE_TYPES_HASH_FIELD_EXPIRY_H

#include "engine/keyspace.h"
#include "engine/types/field_times.h"

/* Whether the time of this field is over in the view. */
bool hash_field_is_over(struct view *view, const struct object *hash, const char *field,
                        size_t length);
/* How many fields there are whose time is over in the view. */
uint64_t hash_fields_over(struct view *view, const struct object *hash);

struct hash_field {
    const char *data;
    size_t length;
};

/* Removes those of these n fields whose time is over. Only if view_may_expire. Returns the object
 * as it is now; NULL: the last field has gone, and the key with it. */
struct object *hash_expire_fields(struct change *change, unsigned database, const struct key *key,
                                  struct object *hash, const struct hash_field *fields, size_t n);
/* The same for the fields that are due first, n at most. The object has field times. */
struct object *hash_expire_due(struct change *change, unsigned database, const struct key *key,
                               struct object *hash, uint64_t n);

/* Logs HDEL of the field beside the effects of the command, and counts it. */
void hash_log_expired_field(struct change *change, unsigned database, const struct key *key,
                            const char *field, size_t length);

#endif
