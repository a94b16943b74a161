/* Field times: when the fields of a hash expire. Two trees beside the fields of a body, of those
 * fields only that have a time to live: one by field (the time in place of a score), one by time.
 * So a hash without such fields has nothing of it but a NULL, which fields are due and how many is
 * known without a look at the others, and a body that is shared shares them too.
 *
 * Times are unix times in ms, from 0 to FIELD_TIME_MAX; all of them are exact as a double, which is
 * what the trees store.
 *
 * Under the token of the key's slot, or by who has the body alone or lent (then only reading). Who
 * changes a body has touched it (collection.h). */
#ifndef SLOTWISE_ENGINE_TYPES_FIELD_TIMES_H
#define SLOTWISE_ENGINE_TYPES_FIELD_TIMES_H

#include "engine/types/collection.h"

#define FIELD_TIME_MAX   (((int64_t)1 << 48) - 1)
#define FIELD_TIME_NEVER INT64_MAX

/* false: it has none, or there is no such field. */
bool field_times_get(const struct collection *body, const char *field, size_t length,
                     int64_t *time_ms);
/* The earliest time, and its field (which may be NULL); FIELD_TIME_NEVER: no field has one. */
int64_t field_times_first(const struct collection *body, struct element *field);
/* How many fields have this time or an earlier one. */
uint64_t field_times_due(const struct collection *body, int64_t now_ms);

/* The field is there; its time becomes this one. */
void field_times_put(struct collection *body, const char *field, size_t length, int64_t time_ms);
/* false: it had none. The field may be what field_times_first gave. */
bool field_times_remove(struct collection *body, const char *field, size_t length);

/* ASSERTs that the two trees agree and that all their fields are in the hash. */
void field_times_check(const struct collection *body);

#endif
