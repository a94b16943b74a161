/* One key with a collection in the keyspace of keyspace_fixture.h, small limits, and hashes of all
 * qualities. */
#ifndef SLOTWISE_TESTS_COLLECTION_FIXTURE_H
#define SLOTWISE_TESTS_COLLECTION_FIXTURE_H

#include <stdlib.h>

#include "engine/types/collection.h"
#include "engine/types/type.h"
#include "tests/unit/engine/keyspace_fixture.h"

#define COLLECTION_NAME "collection"

static struct collection_limits limits_before;

/* The members' hashes only: the table has a single key. */
static inline uint64_t hash_of_few(const char *data, size_t length) {
    return table_hash(data, length) << 61;
}
static uint64_t (*const collection_hashes[])(const char *data, size_t length) = {NULL, hash_of_few};

static void collection_begin(void) {
    keyspace_begin();
    limits_before = collection_limits;
    srandom(1);
}

static void collection_end(void) {
    collection_limits = limits_before;
    table_hash_for_tests = NULL;
    for (int i = 0; i < 4; i++)
        epoch_quiescent();
    collection_thread_exit();
    keyspace_end();
}

static inline struct object *collection_now(void) {
    return raw(0, COLLECTION_NAME);
}

/* The weak hashes are for the members, not for the key. */
static uint64_t (*members_hash)(const char *data, size_t length);

struct open_edit {
    struct collection_edit edit;
    struct key key;
    struct slot *slot;
};

static inline void open_begin(struct open_edit *open, enum object_type type,
                              enum object_encoding encoding) {
    table_hash_for_tests = NULL;
    open->key = key_of(COLLECTION_NAME);
    open->slot = token_of(&open->key);
    struct object *object = keyspace_find_write(&change, 0, &open->key);
    table_hash_for_tests = members_hash;
    collection_edit_begin(&open->edit, &change, 0, &open->key, object, type, encoding);
}

static inline void open_end(struct open_edit *open, enum change_event event) {
    table_hash_for_tests = NULL;
    collection_edit_end(&open->edit, event);
    table_hash_for_tests = members_hash;
    slot_release(open->slot);
    epoch_quiescent();
}

/* Edits at random, each followed by the same change of a model; a copy of the model is kept for a
 * body that was lent, which stays as it was. */
struct model_run {
    void *model, *lent_model; /* of this size; lent_model is overwritten */
    size_t size;
    uint64_t (*count)(const struct object *object);
    /* A few changes that are published together; grows: more come than go. */
    void (*edit)(void *model, bool grows);
    void (*check_object)(const struct object *object, const void *model); /* NULL: absent */
    void (*check_body)(const struct collection *body, const void *model);
};

#define MODEL_EDITS 1500
#define MODEL_FEW   10 /* elements: it is looked at after each edit */
#define MODEL_GROWS 250
#define MODEL_LOOK  20
#define MODEL_LEND  97

static inline void run_edits_against_model(const struct model_run *run) {
    struct collection *lent = NULL;
    memset(run->model, 0, run->size);
    for (unsigned i = 0; i < MODEL_EDITS; i++) {
        run->edit(run->model, i / MODEL_GROWS % 2 == 0);
        const struct object *object = collection_now();
        if (i % MODEL_LOOK == 0 || !object || run->count(object) < MODEL_FEW)
            run->check_object(object, run->model);
        if (i % MODEL_LEND != 0 || !object || !object_needs_token(object))
            continue;
        if (lent) {
            run->check_body(lent, run->lent_model);
            collection_return(lent);
        }
        lent = collection_lend(collection_body(object));
        memcpy(run->lent_model, run->model, run->size);
    }
    if (lent) {
        run->check_body(lent, run->lent_model);
        collection_return(lent);
    }
    table_hash_for_tests = NULL;
    remove_key(0, COLLECTION_NAME);
}

#endif
