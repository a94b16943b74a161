/* LCS: the longest common subsequence of two strings.
 *
 * Dynamic programming over the lengths for all pairs of prefixes, O(n * m) time and memory; the
 * memory is bounded by proto-max-bulk-len. Which of several equally long subsequences is named is
 * visible to clients: on a tie the walk back shortens the second string, as Redis does.
 *
 * Run by: any worker, also without tokens. */
#include "engine/memory.h"
#include "server/commands/cmd_data.h"
#include "server/config/config.h"

/* About a millisecond. */
#define OPTIMISTIC_CELLS_MAX 1000000

struct lcs {
    const char *a, *b;
    uint32_t a_length, b_length;
    uint32_t *lengths; /* [a_length + 1][b_length + 1] */
};

static inline uint32_t *cell(const struct lcs *lcs, uint32_t i, uint32_t j) {
    return &lcs->lengths[(size_t)i * (lcs->b_length + 1) + j];
}

static void lengths_compute(struct lcs *lcs) {
    memset(lcs->lengths, 0, ((size_t)lcs->b_length + 1) * sizeof *lcs->lengths);
    for (uint32_t i = 1; i <= lcs->a_length; i++) {
        const uint32_t *above = cell(lcs, i - 1, 0);
        uint32_t *row = cell(lcs, i, 0);
        char c = lcs->a[i - 1];
        row[0] = 0;
        for (uint32_t j = 1; j <= lcs->b_length; j++) {
            if (c == lcs->b[j - 1])
                row[j] = above[j - 1] + 1;
            else
                row[j] = above[j] > row[j - 1] ? above[j] : row[j - 1];
        }
    }
}

/* The walk back from the ends of both strings; what is before the position is still to be seen. */
struct position {
    uint32_t i, j;
};

/* The next stretch of matches without a gap in either string, going backwards: its length, with
 * *position at its beginning in both strings. 0: no more. */
static uint32_t next_match(const struct lcs *lcs, struct position *position) {
    uint32_t i = position->i, j = position->j;
    while (i > 0 && j > 0 && lcs->a[i - 1] != lcs->b[j - 1]) {
        if (*cell(lcs, i - 1, j) > *cell(lcs, i, j - 1))
            i--;
        else
            j--;
    }
    uint32_t length = 0;
    while (i > 0 && j > 0 && lcs->a[i - 1] == lcs->b[j - 1]) {
        length++;
        i--;
        j--;
    }
    *position = (struct position){i, j};
    return length;
}

static void reply_subsequence(struct call *call, const struct lcs *lcs, uint32_t total) {
    char *text = memory_alloc(total ? total : 1);
    struct position position = {lcs->a_length, lcs->b_length};
    uint32_t length, rest = total;
    while ((length = next_match(lcs, &position)) > 0) {
        rest -= length;
        memcpy(text + rest, lcs->a + position.i, length);
    }
    ASSERT(rest == 0);
    reply_bulk(call->reply, text, total);
    memory_free(text);
}

static void reply_range(struct call *call, uint32_t first, uint32_t length) {
    reply_array(call->reply, 2);
    reply_integer(call->reply, first);
    reply_integer(call->reply, (int64_t)first + length - 1);
}

static void reply_indexes(struct call *call, const struct lcs *lcs, uint32_t total, int64_t minimum,
                          bool with_length) {
    struct position position = {lcs->a_length, lcs->b_length};
    uint32_t length;
    size_t count = 0;
    while ((length = next_match(lcs, &position)) > 0)
        count += length >= minimum;
    reply_map(call->reply, 2);
    reply_bulk_text(call->reply, "matches");
    reply_array(call->reply, count);
    position = (struct position){lcs->a_length, lcs->b_length};
    while ((length = next_match(lcs, &position)) > 0) {
        if (length < minimum)
            continue;
        reply_array(call->reply, with_length ? 3 : 2);
        reply_range(call, position.i, length);
        reply_range(call, position.j, length);
        if (with_length)
            reply_integer(call->reply, length);
    }
    reply_bulk_text(call->reply, "len");
    reply_integer(call->reply, total);
}

struct lcs_options {
    bool length, indexes, with_length;
    int64_t minimum;
};

static bool options_parse(struct call *call, struct lcs_options *options) {
    *options = (struct lcs_options){0};
    for (int i = 3; i < call->argc; i++) {
        const struct argument *argument = &call->argv[i];
        if (argument_is(argument, "idx")) {
            options->indexes = true;
        } else if (argument_is(argument, "len")) {
            options->length = true;
        } else if (argument_is(argument, "withmatchlen")) {
            options->with_length = true;
        } else if (argument_is(argument, "minmatchlen") && i + 1 < call->argc) {
            if (!argument_integer(call, ++i, &options->minimum))
                return false;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    if (options->length && options->indexes) {
        reply_error(call->reply,
                    "ERR If you want both the length and indexes, please just use IDX.");
        return false;
    }
    return true;
}

/* false: error replied. */
static bool lengths_allocate(struct call *call, struct lcs *lcs, size_t a_length, size_t b_length) {
    if (a_length >= UINT32_MAX - 1 || b_length >= UINT32_MAX - 1) {
        reply_error(call->reply, "ERR String too long for LCS");
        return false;
    }
    lcs->a_length = (uint32_t)a_length;
    lcs->b_length = (uint32_t)b_length;
    size_t bytes;
    lcs->lengths = NULL;
    if (!__builtin_mul_overflow((a_length + 1) * (b_length + 1), sizeof *lcs->lengths, &bytes)) {
        if (bytes > (size_t)config_current()->proto_max_bulk_len) {
            reply_error(call->reply, "ERR Insufficient memory, transient memory for LCS exceeds "
                                     "proto-max-bulk-len");
            return false;
        }
        lcs->lengths = memory_try_alloc(bytes);
    }
    if (!lcs->lengths)
        reply_error(call->reply,
                    "ERR Insufficient memory, failed allocating transient memory for LCS");
    return lcs->lengths;
}

enum call_result cmd_lcs(struct call *call) {
    struct key keys[2] = {call_key(call, 1), call_key(call, 2)};
    struct object *objects[2];
    char buffers[2][OBJECT_INTEGER_BUFFER];
    const char *texts[2] = {"", ""};
    size_t lengths[2] = {0, 0};
    for (int i = 0; i < 2; i++)
        objects[i] = call_find_read(call, &keys[i]);
    for (int i = 0; i < 2; i++) {
        if (!objects[i])
            continue;
        if (object_type(objects[i]) != OBJECT_STRING) {
            reply_error(call->reply, "ERR The specified keys must contain string values");
            return CALL_DONE;
        }
        if (data_is_protected(call, objects[i]))
            return CALL_NEED_TOKENS;
        texts[i] = object_string(objects[i], buffers[i], &lengths[i]);
    }
    /* Seconds of work are not repeated because somebody wrote to one of the slots meanwhile. */
    if (!call->tokens && lengths[0] * lengths[1] > OPTIMISTIC_CELLS_MAX)
        return CALL_NEED_TOKENS;
    struct lcs_options options;
    struct lcs lcs = {.a = texts[0], .b = texts[1]};
    if (!options_parse(call, &options) || !lengths_allocate(call, &lcs, lengths[0], lengths[1]))
        return CALL_DONE;
    lengths_compute(&lcs);
    uint32_t total = *cell(&lcs, lcs.a_length, lcs.b_length);
    if (options.indexes)
        reply_indexes(call, &lcs, total, options.minimum, options.with_length);
    else if (options.length)
        reply_integer(call->reply, total);
    else
        reply_subsequence(call, &lcs, total);
    memory_free(lcs.lengths);
    return CALL_DONE;
}
