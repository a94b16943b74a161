/* Collection: what lists, sets, hashes and sorted sets have in common: where their elements lie,
 * how a command changes one, and how its memory goes.
 *
 *   packed   a listpack or an intset, embedded in the object as a short string is. Never changed in
 *            place: a command that changes it makes a new object (collection_edit). So readers need
 *            no token.
 *   body     an object with OBJECT_POINTER to a struct collection: one or two trees (tree.h),
 *            changed in place under the token; readers need the token too.
 *
 * The encoding of the object is the name that OBJECT ENCODING shows, by Redis's limits and one way.
 * It does not say which of the two forms the object has: a large "listpack" may have a body, since
 * what is copied on each change is to stay small (COLLECTION_PACKED_MAX_BYTES).
 *
 * Bodies are counted like blobs: who holds the token may lend one (collection_lend), and who got it
 * reads it without a token as it was at that moment; a change meanwhile goes to a new body that
 * shares the trees' nodes.
 *
 * Under the token of the key's slot unless it says otherwise. */
#ifndef SLOTWISE_ENGINE_TYPES_COLLECTION_H
#define SLOTWISE_ENGINE_TYPES_COLLECTION_H

#include "engine/keyspace.h"
#include "engine/types/listpack.h"
#include "engine/types/tree.h"

/* More bytes than this are not packed into the object, whatever Redis's limits allow. */
#define COLLECTION_PACKED_MAX_BYTES 4096

struct collection {
    _Atomic uint32_t references; /* 1 for the object, 1 for each who reads a lent one */
    uint32_t reserved;
    struct tree members; /* hash and set: all; zset: member to score (hash_order.h); list: unused */
    struct tree order;   /* list: by position (list_order.h); zset: by score (score_order.h) */
    /* hash: FIELD_TIMES_TREES of times to live (field_times.h). NULL: no field has one. */
    struct tree *field_times;
};
#define FIELD_TIMES_TREES 2

/* An empty body; kinds NULL: that tree is not used. */
struct collection *collection_make(const struct tree_kind *members, const struct tree_kind *order);
/* One more reference, for a thread that will read it and then return it. */
struct collection *collection_lend(struct collection *body);
/* Any thread; the last one frees it, a large one on the background thread. */
void collection_return(struct collection *body);
/* What it takes in memory. Constant time. */
size_t collection_bytes(const struct collection *body);

/* For struct type. */
size_t collection_body_bytes(const struct object *object);
void *collection_body_copy(const struct object *object); /* shares all nodes */
void collection_body_free(struct object *object);
const char *collection_encoding_name(const struct object *object);

/* The calling thread makes no more edits: frees its buffers. */
void collection_thread_exit(void);

/* --- Reading ---------------------------------------------------------------------------------- */

static inline struct collection *collection_body(const struct object *object) {
    return object_pointer(object);
}

/* One element as it leaves a collection: member of a set, element of a list, field of a hash with
 * its value, member of a sorted set with its score. What it points to is valid until the collection
 * changes. false: enough. */
typedef bool collection_visit(void *context, const struct element *member,
                              const struct element *value, double score);
/* All elements of a collection of whatever type, in its order. Also by who has the body lent. */
void collection_visit_all(const struct object *object, collection_visit *visit, void *context);

/* ASSERTs all invariants of a collection of whatever type. Takes as long as there are elements; of
 * a packed one that squared. */
void collection_check(const struct object *object);

/* --- Changing ---------------------------------------------------------------------------------
 *
 * One command's changes of one collection:
 *
 *     collection_edit_begin
 *     the type's functions (list.h, set.h, hash.h, zset.h), which take the edit
 *     collection_edit_end: publishes what has changed, once; or nothing, if nothing has
 *
 * or, of a collection that is no key's yet (loading, RESTORE, *STORE, GEOSEARCHSTORE):
 *
 *     collection_draft_begin, the type's functions,
 *     collection_draft_end: an object, to be published; or collection_draft_drop
 *
 * Nothing else of the unit may touch the key between begin and end. A thread may have
 * COLLECTION_EDITS of them open at once (SMOVE, LMOVE); the last one begun ends first. */

#define COLLECTION_EDITS 4

struct collection_edit {
    struct change *change; /* NULL: a draft */
    unsigned database;
    const struct key *key;
    struct object *object; /* as it was; NULL: absent */
    enum object_type type;
    enum object_encoding encoding;  /* to be, when it ends */
    uint64_t count;                 /* elements (fields) as they are now; kept by the type */
    uint64_t changed;               /* changes so far as Redis counts them ("dirty"); 0: none */
    struct collection *body;        /* the elements are here, nobody else's once touched */
    struct listpack_buffer *packed; /* or here if body is NULL; the thread's */
    bool touched;                   /* collection_edit_touch has been done */
};

/* object: of this type, or NULL. encoding: of a new one. A new one, and a packed one, begin in
 * packed (a copy of the bytes). */
void collection_edit_begin(struct collection_edit *edit, struct change *change, unsigned database,
                           const struct key *key, struct object *object, enum object_type type,
                           enum object_encoding encoding);
/* Before a change in body, by the types' functions: a running snapshot takes what was, and the body
 * becomes the edit's alone. Cheap when it was done. */
void collection_edit_touch_first(struct collection_edit *edit);
static inline void collection_edit_touch(struct collection_edit *edit) {
    if (!edit->touched)
        collection_edit_touch_first(edit);
}
/* The elements have moved from packed into this new body. */
void collection_edit_unpack(struct collection_edit *edit, struct collection *body);
/* Publishes. Tells event if something has changed, and CHANGE_DEL if count is 0: then the key goes.
 * Returns the object as it is now; NULL: there is none. The time to live stays. */
struct object *collection_edit_end(struct collection_edit *edit, enum change_event event);

void collection_draft_begin(struct collection_edit *draft, enum object_type type,
                            enum object_encoding encoding);
/* NULL if count is 0. */
struct object *collection_draft_end(struct collection_edit *draft, const char *key,
                                    size_t key_length, int64_t expiry_ms);
void collection_draft_drop(struct collection_edit *draft);

/* Limits as configured now (hash-max-listpack-entries ...). Written by CONFIG SET in an exclusive
 * section, read by threads that hold tokens. */
struct collection_limits {
    uint64_t hash_listpack_entries, hash_listpack_value_bytes;
    uint64_t set_intset_entries, set_listpack_entries, set_listpack_value_bytes;
    uint64_t zset_listpack_entries, zset_listpack_value_bytes;
    int64_t list_listpack_size; /* below 0: -1 to -5, 4 KB to 64 KB; else entries */
    uint64_t list_compress_depth;
};
extern struct collection_limits collection_limits;

#endif
