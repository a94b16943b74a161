/* DEBUG DIGEST, DIGEST-VALUE, OBJECT, POPULATE.
 *
 * The digest is Redis's: for each key a chain of SHA-1 over its name, type and value, and the
 * exclusive or of those, so that it does not depend on the order of keys and agrees with that of a
 * Redis that holds the same. Keys are taken as they lie in the tables, expired ones included. */
#include "server/commands/debug_data.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "engine/types/field_times.h"
#include "engine/types/list.h"
#include "replication/rdb_collection.h"
#include "replication/rdb_value.h"
#include "replication/rdb_write.h"
#include "server/base/numbers.h"
#include "server/base/sha1.h"
#include "server/commands/cmd_data.h"
#include "server/config/config.h"

/* --- Digests ---------------------------------------------------------------------------------- */

struct digest {
    uint8_t bytes[SHA1_BYTES];
};

/* What is unordered. */
static void digest_add(struct digest *digest, const void *data, size_t length) {
    uint8_t hash[SHA1_BYTES];
    sha1(data, length, hash);
    for (unsigned i = 0; i < SHA1_BYTES; i++)
        digest->bytes[i] ^= hash[i];
}

/* What is ordered. */
static void digest_append(void *context, const char *data, size_t length) {
    struct digest *digest = context;
    digest_add(digest, data, length);
    sha1(digest->bytes, SHA1_BYTES, digest->bytes);
}

static void digest_append_number(struct digest *digest, uint32_t number) {
    uint32_t big_endian = htonl(number);
    digest_append(digest, (const char *)&big_endian, sizeof big_endian);
}

/* An element of a list is one by itself; of a set one of a heap; fields and members go into the
 * heap together with their values and scores. */
static bool digest_element(void *context, const struct element *element,
                           const struct element *value, double score) {
    (void)value, (void)score;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(element, room, &length);
    digest_append(context, text, length);
    return true;
}

static bool digest_member(void *context, const struct element *member, const struct element *value,
                          double score) {
    (void)value, (void)score;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(member, room, &length);
    digest_add(context, text, length);
    return true;
}

static bool digest_field(void *context, const struct element *field, const struct element *value,
                         double score) {
    struct digest pair = {{0}};
    digest_element(&pair, field, NULL, score);
    digest_element(&pair, value, NULL, score);
    digest_add(context, pair.bytes, SHA1_BYTES);
    return true;
}

struct timed_digest {
    struct digest *digest;
    const struct collection *body;
};

/* As Redis 7.4: whether the field has a time to live goes in, not the time itself. */
static bool digest_timed_field(void *context, const struct element *field,
                               const struct element *value, double score) {
    const struct timed_digest *timed = context;
    struct digest pair = {{0}};
    int64_t time_ms;
    digest_element(&pair, field, NULL, score);
    digest_element(&pair, value, NULL, score);
    if (field_times_get(timed->body, field->data, field->length, &time_ms))
        digest_add(&pair, "!!hexpire!!", 11);
    digest_add(timed->digest, pair.bytes, SHA1_BYTES);
    return true;
}

static bool digest_scored(void *context, const struct element *member, const struct element *value,
                          double score) {
    struct digest pair = {{0}};
    char text[NUMBER_DOUBLE_SIZE];
    digest_element(&pair, member, value, score);
    digest_append(&pair, text, number_write_double(text, score));
    digest_add(context, pair.bytes, SHA1_BYTES);
    return true;
}

/* Redis's numbers of the types go into the digest; ours are in the order of OBJECT_STRING ... too.
 */
static void digest_value(struct digest *digest, const struct object *object) {
    static collection_visit *const visits[OBJECT_TYPES] = {[OBJECT_LIST] = digest_element,
                                                           [OBJECT_SET] = digest_member,
                                                           [OBJECT_ZSET] = digest_scored,
                                                           [OBJECT_HASH] = digest_field};
    digest_append_number(digest, (uint32_t)object_type(object));
    if (object_type(object) == OBJECT_STRING)
        type_of(object)->visit(object, digest_append, digest);
    else if (object_has_field_times(object))
        collection_visit_all(object, digest_timed_field,
                             &(struct timed_digest){digest, collection_body(object)});
    else
        collection_visit_all(object, visits[object_type(object)], digest);
    if (object_expiry(object) != OBJECT_NO_EXPIRY)
        digest_add(digest, "!!expire!!", 10);
}

static void digest_key(struct object *object, uint64_t hash, void *context) {
    (void)hash;
    struct digest *all = context, one = {{0}};
    size_t length;
    const char *key = object_key(object, &length);
    digest_append(&one, key, length);
    digest_value(&one, object);
    digest_add(all, one.bytes, SHA1_BYTES);
}

static void reply_digest(struct reply *reply, const struct digest *digest) {
    char text[2 * SHA1_BYTES + 1];
    for (unsigned i = 0; i < SHA1_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", digest->bytes[i]);
    reply_status(reply, text);
}

void debug_digest(struct call *call) {
    struct keyspace *keyspace = call->keyspace;
    struct digest digest = {{0}};
    ASSERT(call->tokens);
    for (unsigned database = 0; database < keyspace->databases; database++) {
        if (keyspace_count(keyspace, database) == 0)
            continue;
        digest_append_number(&digest, database);
        for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
            const table_root *root = keyspace_root(keyspace, database, slot);
            uint64_t next = 0;
            if (!root)
                continue;
            do
                table_walk(root, next, 0, SIZE_MAX, SIZE_MAX, false, digest_key, &digest, &next);
            while (next != 0);
        }
    }
    reply_digest(call->reply, &digest);
}

/* --- One key ---------------------------------------------------------------------------------- */

void debug_key_lock(struct call *call, const struct key *key) {
    if (!call->tokens)
        slot_acquire_waiting(&call->keyspace->slots[key->slot]);
}

void debug_key_unlock(struct call *call, const struct key *key) {
    if (!call->tokens)
        slot_release(&call->keyspace->slots[key->slot]);
}

void debug_digest_value(struct call *call) {
    reply_array(call->reply, (size_t)call->argc - 2);
    for (int i = 2; i < call->argc; i++) {
        struct key key = key_make(call->argv[i].data, call->argv[i].length);
        struct digest digest = {{0}};
        debug_key_lock(call, &key);
        const struct object *object = keyspace_find_raw(call->keyspace, call->database, &key);
        if (object)
            digest_value(&digest, object);
        debug_key_unlock(call, &key);
        reply_digest(call->reply, &digest);
    }
}

/* Bytes of the value in an RDB file. */
static size_t saved_bytes(const struct object *object) {
    struct rdb_writer writer;
    rdb_writer_init(&writer, NULL, config_current()->rdbcompression, true);
    rdb_value_write(&writer, object);
    size_t bytes = writer.used;
    rdb_writer_free(&writer);
    return bytes;
}

/* What Redis tells of a quicklist; nodes as they are saved. */
static void describe_list(const struct object *object, char text[160]) {
    uint64_t nodes, bytes;
    rdb_collection_nodes(object, &nodes, &bytes);
    snprintf(text, 160,
             " ql_nodes:%" PRIu64 " ql_avg_node:%.2f ql_listpack_max:%" PRId64
             " ql_compressed:%d ql_uncompressed_size:%" PRIu64,
             nodes, (double)list_count(object) / (double)nodes,
             collection_limits.list_listpack_size, collection_limits.list_compress_depth != 0,
             bytes);
}

/* Whether Redis would use one of its shared integers. */
static bool is_shared(const struct object *object) {
    return object_encoding(object) == ENCODING_INT && object_integer(object) >= 0 &&
           object_integer(object) < 10000;
}

void debug_object(struct call *call) {
    struct key key = key_make(call->argv[2].data, call->argv[2].length);
    char line[420], list[160] = "";
    debug_key_lock(call, &key);
    const struct object *object = keyspace_find_raw(call->keyspace, call->database, &key);
    if (object && object_encoding(object) == ENCODING_QUICKLIST)
        describe_list(object, list);
    if (object)
        snprintf(line, sizeof line,
                 "Value at:%p refcount:%d encoding:%s serializedlength:%zu lru:%u "
                 "lru_seconds_idle:%llu%s",
                 (const void *)object, is_shared(object) ? INT32_MAX : 1,
                 type_of(object)->encoding_name(object), saved_bytes(object),
                 atomic_load_explicit(&object->access, memory_order_relaxed) & 0xffffff,
                 (unsigned long long)(access_idle_ms(object) / 1000), list);
    debug_key_unlock(call, &key);
    if (object)
        reply_status(call->reply, line);
    else
        reply_error(call->reply, ERROR_NO_SUCH_KEY);
}

/* --- DEBUG POPULATE --------------------------------------------------------------------------- */

/* After so many keys this thread tells that it holds no pointers, and lets a section run. */
#define POPULATE_BREATH 1024

static bool positive_argument(struct call *call, int index, int64_t *value) {
    const struct argument *argument = &call->argv[index];
    if (number_parse_int64(argument->data, argument->length, value) && *value >= 0)
        return true;
    reply_error(call->reply, "ERR value is out of range, must be positive");
    return false;
}

static void populate_one(struct call *call, const struct argument *prefix, int64_t number,
                         char *value, size_t value_bytes) {
    char name[512], text[32];
    int cut = (int)(prefix->length < 100 ? prefix->length : 100);
    int name_length =
        snprintf(name, sizeof name, "%.*s:%lld", cut, prefix->data, (long long)number);
    size_t text_length = (size_t)snprintf(text, sizeof text, "value:%lld", (long long)number);
    struct key key = key_make(name, (size_t)name_length);
    size_t length = value_bytes ? value_bytes : text_length;
    memcpy(value, text, length < text_length ? length : text_length);
    debug_key_lock(call, &key);
    if (!keyspace_find_write(call->change, call->database, &key)) {
        struct effect_argument arguments[3] = {{"SET", 3}, {key.data, key.length}, {value, length}};
        keyspace_add(call->change, call->database, &key,
                     object_make_string(name, (size_t)name_length, value, length, OBJECT_NO_EXPIRY,
                                        STRING_PLAIN),
                     CHANGE_SET);
        call_propagate(call, arguments, 3);
    }
    if (!call->tokens)
        change_commit(call->change);
    debug_key_unlock(call, &key);
}

void debug_populate(struct call *call) {
    int64_t count, value_bytes = 0;
    struct argument prefix = {(char *)"key", 3};
    if (!positive_argument(call, 2, &count))
        return;
    if (call->argc == 5 && (!positive_argument(call, 4, &value_bytes)))
        return;
    if (call->argc > 3)
        prefix = call->argv[3];
    size_t room = (size_t)value_bytes < 32 ? 32 : (size_t)value_bytes;
    char *value = memory_try_alloc(room);
    if (!value) {
        reply_error(call->reply, "ERR OOM in DEBUG POPULATE");
        return;
    }
    memset(value, 0, room);
    for (int64_t i = 0; i < count; i++) {
        populate_one(call, &prefix, i, value, (size_t)value_bytes);
        if (call->tokens || i % POPULATE_BREATH != POPULATE_BREATH - 1)
            continue;
        epoch_quiescent();
        exclusive_point();
    }
    memory_free(value);
    reply_ok(call->reply);
}
