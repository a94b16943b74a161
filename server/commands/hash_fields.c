/* See hash_fields.h. No state. */
#include "server/commands/hash_fields.h"

#include "engine/memory.h"

#define FIELDS_FEW 16

void hash_fields_remove_over(struct call *call, const struct key *key, struct object **hash,
                             const struct argument *fields, size_t n) {
    struct hash_field few[FIELDS_FEW], *over = few;
    size_t count = 0;
    if (hash_fields_over(&call->change->view, *hash) == 0 || !view_may_expire(&call->change->view))
        return;
    if (n > FIELDS_FEW)
        over = memory_alloc(n * sizeof *over);
    for (size_t i = 0; i < n; i++)
        if (hash_field_is_over(&call->change->view, *hash, fields[i].data, fields[i].length))
            over[count++] = (struct hash_field){fields[i].data, fields[i].length};
    if (count > 0)
        *hash = hash_expire_fields(call->change, call->database, key, *hash, over, count);
    if (over != few)
        memory_free(over);
}

void hash_fields_expire_all(struct call *call, const struct key *key, struct object **hash) {
    uint64_t over = hash_fields_over(&call->change->view, *hash);
    if (over > 0 && view_may_expire(&call->change->view))
        *hash = hash_expire_due(call->change, call->database, key, *hash, over);
}

bool hash_field_is_hidden(struct call *call, const struct object *hash, const char *field,
                          size_t length) {
    return hash_field_is_over(&call->change->view, hash, field, length);
}

uint64_t hash_fields_count(struct call *call, const struct object *hash) {
    return hash_count(hash) - hash_fields_over(&call->change->view, hash);
}

struct passing {
    struct call *call;
    const struct object *hash;
    collection_visit *visit;
    void *context;
};

static bool visit_shown(void *context, const struct element *field, const struct element *value,
                        double score) {
    const struct passing *passing = context;
    if (hash_field_is_hidden(passing->call, passing->hash, field->data, field->length))
        return true; /* in a body fields are texts */
    return passing->visit(passing->context, field, value, score);
}

void hash_fields_visit(struct call *call, const struct object *hash, collection_visit *visit,
                       void *context) {
    struct passing passing = {call, hash, visit, context};
    if (LIKELY(hash_fields_over(&call->change->view, hash) == 0))
        hash_visit(hash, visit, context);
    else
        hash_visit(hash, visit_shown, &passing);
}

struct gathering {
    struct element *next;
};

static bool gather(void *context, const struct element *field, const struct element *value,
                   double score) {
    struct gathering *gathering = context;
    (void)score;
    *gathering->next++ = *field;
    *gathering->next++ = *value;
    return true;
}

struct element *hash_fields_gather(struct call *call, const struct object *hash) {
    struct element *pairs = memory_alloc(2 * hash_count(hash) * sizeof *pairs);
    struct gathering gathering = {pairs};
    hash_fields_visit(call, hash, gather, &gathering);
    return pairs;
}
