/* Writing collections.
 *
 * Packed ones are written as they lie in the object, others element by element; nodes of lists are
 * made anew, as Redis has them by default. All of it can be read by Redis 7.0 (a set that is a
 * listpack, which that does not know, is written element by element too), but hashes whose fields
 * have times to live: Redis 7.4 can read those.
 *
 * Values are read by who has their token, or has a body lent. */
#include <string.h>

#include "engine/assert.h"
#include "engine/types/collection.h"
#include "engine/types/intset.h"
#include "replication/rdb_collection.h"
#include "replication/rdb_field_times.h"
#include "replication/rdb_write.h"

#define NODE_BYTES ((size_t)8 * 1024)

enum rdb_type rdb_collection_type(const struct object *object) {
    bool packed = !object_needs_token(object);
    switch (object_type(object)) {
    case OBJECT_LIST:
        return RDB_TYPE_LIST_QUICKLIST_2;
    case OBJECT_SET:
        return packed && object_encoding(object) == ENCODING_INTSET ? RDB_TYPE_SET_INTSET
                                                                    : RDB_TYPE_SET;
    case OBJECT_ZSET:
        return packed ? RDB_TYPE_ZSET_LISTPACK : RDB_TYPE_ZSET_2;
    default:
        ASSERT(object_type(object) == OBJECT_HASH);
        if (object_has_field_times(object))
            return RDB_TYPE_HASH_TIMES;
        return packed ? RDB_TYPE_HASH_LISTPACK : RDB_TYPE_HASH;
    }
}

/* --- Elements by themselves ------------------------------------------------------------------- */

static void write_element(struct rdb_writer *writer, const struct element *element) {
    if (element->data)
        rdb_write_string(writer, element->data, element->length);
    else
        rdb_write_integer(writer, element->integer);
}

static bool write_member(void *context, const struct element *member, const struct element *value,
                         double score) {
    (void)value, (void)score;
    write_element(context, member);
    return true;
}

static bool write_field(void *context, const struct element *field, const struct element *value,
                        double score) {
    (void)score;
    write_element(context, field);
    write_element(context, value);
    return true;
}

static bool write_scored(void *context, const struct element *member, const struct element *value,
                         double score) {
    (void)value;
    write_element(context, member);
    rdb_write_bytes(context, &score, sizeof score);
    return true;
}

/* --- Nodes of lists --------------------------------------------------------------------------- */

/* A node takes elements up to NODE_BYTES, or one larger one; one that no listpack may take is a
 * node by itself. */
struct node {
    struct rdb_writer *writer; /* NULL: nodes are only counted */
    struct listpack_buffer listpack;
    size_t bytes; /* that the listpack has, or would have */
    uint64_t nodes, ended_bytes;
};

static void node_end(struct node *node) {
    if (node->bytes == LISTPACK_EMPTY_BYTES)
        return;
    node->nodes++;
    node->ended_bytes += node->bytes;
    node->bytes = LISTPACK_EMPTY_BYTES;
    if (!node->writer)
        return;
    rdb_write_length(node->writer, RDB_NODE_PACKED);
    rdb_write_string(node->writer, (const char *)node->listpack.bytes,
                     listpack_bytes(node->listpack.bytes));
    listpack_clear(&node->listpack);
}

static void plain_node(struct node *node, const char *data, size_t length) {
    node_end(node);
    node->nodes++;
    node->ended_bytes += length;
    if (!node->writer)
        return;
    rdb_write_length(node->writer, RDB_NODE_PLAIN);
    rdb_write_string(node->writer, data, length);
}

static bool add_to_node(void *context, const struct element *element, const struct element *value,
                        double score) {
    (void)value, (void)score;
    struct node *node = context;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *data = element_text(element, room, &length);
    size_t bytes = listpack_entry_bytes(data, length);
    if (bytes > LISTPACK_BYTES_MAX - LISTPACK_EMPTY_BYTES) {
        plain_node(node, data, length);
        return true;
    }
    if (node->bytes + bytes > NODE_BYTES)
        node_end(node);
    node->bytes += bytes;
    if (node->writer)
        listpack_append(&node->listpack, data, length);
    return true;
}

void rdb_collection_nodes(const struct object *list, uint64_t *nodes, uint64_t *bytes) {
    struct node count = {.bytes = LISTPACK_EMPTY_BYTES};
    collection_visit_all(list, add_to_node, &count);
    node_end(&count);
    *nodes = count.nodes;
    *bytes = count.ended_bytes;
}

static void write_list(struct rdb_writer *writer, const struct object *list) {
    uint64_t nodes, bytes;
    rdb_collection_nodes(list, &nodes, &bytes);
    rdb_write_length(writer, nodes);
    struct node node = {.writer = writer, .bytes = LISTPACK_EMPTY_BYTES};
    listpack_clear(&node.listpack);
    collection_visit_all(list, add_to_node, &node);
    node_end(&node);
    ASSERT(node.nodes == nodes);
    listpack_buffer_free(&node.listpack);
}

/* --- All -------------------------------------------------------------------------------------- */

static void write_packed(struct rdb_writer *writer, const struct object *object) {
    size_t length;
    const uint8_t *bytes = object_packed(object, &length);
    if (object_type(object) == OBJECT_SET && object_encoding(object) != ENCODING_INTSET) {
        rdb_write_length(writer, listpack_count(bytes));
        collection_visit_all(object, write_member, writer);
        return;
    }
    if (object_type(object) == OBJECT_LIST) {
        rdb_write_length(writer, 1);
        rdb_write_length(writer, RDB_NODE_PACKED);
    }
    rdb_write_string(writer, (const char *)bytes, length);
}

void rdb_collection_write(struct rdb_writer *writer, const struct object *object) {
    if (!object_needs_token(object)) {
        write_packed(writer, object);
        return;
    }
    const struct collection *body = collection_body(object);
    switch (object_type(object)) {
    case OBJECT_LIST:
        write_list(writer, object);
        return;
    case OBJECT_SET:
        rdb_write_length(writer, body->members.count);
        collection_visit_all(object, write_member, writer);
        return;
    case OBJECT_ZSET:
        rdb_write_length(writer, body->order.count);
        collection_visit_all(object, write_scored, writer);
        return;
    default:
        if (object_has_field_times(object)) {
            rdb_field_times_write(writer, object);
            return;
        }
        rdb_write_length(writer, body->members.count);
        collection_visit_all(object, write_field, writer);
    }
}
