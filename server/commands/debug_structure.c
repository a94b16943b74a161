/* DEBUG CHECK, HTSTATS, HTSTATS-KEY.
 *
 * CHECK ends the process with an assertion if a structure is not as it is to be. HTSTATS and its
 * kind tell in Redis's words what is built in another way here: of a tree the leaves take the place
 * of buckets, and nothing is ever rehashed as a whole. */
#include "server/commands/debug_structure.h"

#include <inttypes.h>

#include "engine/types/collection.h"
#include "engine/types/type.h"
#include "server/base/text.h"
#include "server/commands/cmd_data.h"
#include "server/commands/debug_data.h"

#define LENGTHS 50 /* that are counted apart; the last one stands for all above */

/* --- CHECK ------------------------------------------------------------------------------------ */

static void check_value(struct object *object, uint64_t hash, void *context) {
    (void)hash, (void)context;
    if (object_type(object) != OBJECT_STRING)
        collection_check(object);
}

static void check_all(const struct keyspace *keyspace) {
    for (unsigned database = 0; database < keyspace->databases; database++)
        for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
            const table_root *root = keyspace_root(keyspace, database, slot);
            uint64_t next = 0;
            if (!root)
                continue;
            table_check(root);
            do
                table_walk(root, next, 0, SIZE_MAX, SIZE_MAX, false, check_value, NULL, &next);
            while (next != 0);
        }
}

enum call_result debug_check(struct call *call) {
    if (call->argc == 2 && !call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    if (call->argc == 2) {
        check_all(call->keyspace);
        reply_ok(call->reply);
        return CALL_DONE;
    }
    struct key key = key_make(call->argv[2].data, call->argv[2].length);
    debug_key_lock(call, &key);
    struct object *object = keyspace_find_raw(call->keyspace, call->database, &key);
    if (object)
        check_value(object, 0, NULL);
    debug_key_unlock(call, &key);
    if (object)
        reply_ok(call->reply);
    else
        reply_error(call->reply, ERROR_NO_SUCH_KEY);
    return CALL_DONE;
}

/* --- HTSTATS ---------------------------------------------------------------------------------- */

static void describe(struct text *text, uint64_t places, uint64_t elements) {
    text_append_string(text, "Hash table 0 stats (main hash table):\n");
    if (elements == 0)
        text_append_string(text, "No stats available for empty dictionaries\n");
    else
        text_append_format(text,
                           " table size: %" PRIu64 "\n"
                           " number of elements: %" PRIu64 "\n",
                           places, elements);
}

/* How long the ways are to the keys of one table is its own business (table_check). */
void debug_table_statistics(struct call *call) {
    const struct keyspace *keyspace = call->keyspace;
    uint64_t bytes = 0, keys = 0, volatile_keys = 0;
    struct text text = {0};
    int database;
    if (!data_int_argument(call, 2, NULL, &database))
        return;
    if (database < 0 || (unsigned)database >= keyspace->databases) {
        reply_error(call->reply, "ERR Out of range database");
        return;
    }
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        const table_root *root = keyspace_root(keyspace, (unsigned)database, slot);
        bytes += root ? table_bytes(root) : 0;
        keys += root ? table_count(root) : 0;
        volatile_keys += root ? table_volatile_count(root) : 0;
    }
    text_append_string(&text, "[Dictionary HT]\n");
    describe(&text, bytes / sizeof(uint64_t), keys);
    text_append_string(&text, "[Expires HT]\n");
    describe(&text, bytes / sizeof(uint64_t), volatile_keys);
    reply_verbatim(call->reply, "txt", text.data, text.length);
    text_free(&text);
}

struct leaves {
    uint64_t count, most, of_length[LENGTHS];
};

static struct leaves count_leaves(const struct tree *tree) {
    struct leaves leaves = {0};
    struct tree_path path;
    tree_first(tree, &path);
    for (bool more = path.leaf; more; more = tree_next(tree, &path)) {
        unsigned length = path.leaf->count;
        leaves.count++;
        leaves.of_length[length < LENGTHS ? length : LENGTHS - 1]++;
        if (length > leaves.most)
            leaves.most = length;
    }
    return leaves;
}

static void describe_leaves(struct text *text, const struct tree *tree, bool full) {
    struct leaves leaves = count_leaves(tree);
    double average = (double)tree->count / (double)leaves.count;
    describe(text, leaves.count, tree->count);
    if (!full)
        return;
    text_append_format(text,
                       " different slots: %" PRIu64 "\n"
                       " max chain length: %" PRIu64 "\n"
                       " avg chain length (counted): %.02f\n"
                       " avg chain length (computed): %.02f\n"
                       " Chain length distribution:\n",
                       leaves.count, leaves.most, average, average);
    for (unsigned i = 0; i < LENGTHS; i++)
        if (leaves.of_length[i] > 0)
            text_append_format(text, "   %u: %" PRIu64 " (%.02f%%)\n", i, leaves.of_length[i],
                               100.0 * (double)leaves.of_length[i] / (double)leaves.count);
}

void debug_key_statistics(struct call *call) {
    struct key key = key_make(call->argv[2].data, call->argv[2].length);
    bool full = call->argc > 3 && argument_is(&call->argv[3], "full");
    struct text text = {0};
    debug_key_lock(call, &key);
    const struct object *object = keyspace_find_raw(call->keyspace, call->database, &key);
    if (object && (object_encoding(object) == ENCODING_HASHTABLE ||
                   object_encoding(object) == ENCODING_HASHTABLE_TIMED ||
                   object_encoding(object) == ENCODING_SKIPLIST))
        describe_leaves(&text, &collection_body(object)->members, full);
    debug_key_unlock(call, &key);
    if (!object)
        reply_error(call->reply, ERROR_NO_SUCH_KEY);
    else if (text.length == 0)
        reply_error(call->reply, "ERR The value stored at the specified key is not represented "
                                 "using an hash table");
    else
        reply_verbatim(call->reply, "txt", text.data, text.length);
    text_free(&text);
}
