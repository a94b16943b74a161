/*
 * The counting RESP reader. See reply.h.
 */
#include "bench/client/reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void reply_reader_init(struct reply_reader *reader, const struct workload *workload,
                       struct reply_stats *stats) {
    memset(reader, 0, sizeof(*reader));
    reader->workload = workload;
    reader->stats = stats;
}

static inline void complete_reply(struct reply_reader *reader) {
    reader->completed++;
    reader->seed++;
    reader->stats->replies++;
}

static inline void complete_element(struct reply_reader *reader) {
    if (--reader->elements_left == 0) {
        complete_reply(reader);
    }
}

static void note_error(struct reply_reader *reader, const char *text, size_t length) {
    struct reply_stats *stats = reader->stats;
    if (stats->first_error[0] == '\0') {
        snprintf(stats->first_error, sizeof(stats->first_error), "%.*s", (int)length, text);
    }
}

/* The first line of a reply: which request it answers, and whether it may look like this. */
static void begin_reply(struct reply_reader *reader, const char *line, size_t length) {
    reader->operation = workload_operation(reader->workload, reader->seed);
    reader->elements_left = 1;
    reader->value_index = 0;
    const char *kinds = reader->operation->expected_kinds;
    if (kinds != NULL && line[0] != '-' && strchr(kinds, line[0]) == NULL) {
        reader->stats->unexpected++;
        note_error(reader, line, length);
    }
}

static void expect_value(struct reply_reader *reader, uint64_t length) {
    reader->expected = NULL;
    if (!reader->workload->verify || !reader->operation->returns_values) {
        return;
    }
    uint64_t key = workload_key(reader->workload, reader->seed, reader->value_index++);
    workload_value(reader->workload, key, &reader->expected, &reader->expected_left);
    reader->matches = reader->expected_left == length;
}

/* A piece of a bulk string. The last two bytes, its line end, are counted in bulk_left but not
 * compared. */
static void take_bulk(struct reply_reader *reader, const char *data, size_t length) {
    if (reader->expected != NULL) {
        size_t compared = length < reader->expected_left ? length : reader->expected_left;
        reader->matches = reader->matches && memcmp(data, reader->expected, compared) == 0;
        reader->expected += compared;
        reader->expected_left -= compared;
    }
    reader->bulk_left -= length;
    if (reader->bulk_left == 0) {
        if (reader->expected != NULL) {
            reader->stats->values++;
            reader->stats->mismatches += !reader->matches;
            reader->expected = NULL;
        }
        complete_element(reader);
    }
}

static void take_nil(struct reply_reader *reader) {
    reader->stats->nils++;
    reader->value_index++;
    complete_element(reader);
}

/* A whole line without its line end. */
static int take_line(struct reply_reader *reader, const char *line, size_t length) {
    if (reader->elements_left == 0) {
        begin_reply(reader, line, length);
    }
    switch (line[0]) {
    case '-':
        reader->stats->errors++;
        note_error(reader, line, length);
        complete_element(reader);
        return 0;
    case '+':
    case ':':
    case ',':
    case '#':
    case '(':
        complete_element(reader);
        return 0;
    case '_':
        take_nil(reader);
        return 0;
    case '$':
    case '=':
    case '!':
    case '*':
    case '~':
    case '%':
        break;
    default:
        note_error(reader, line, length);
        return -1;
    }
    long long count = strtoll(line + 1, NULL, 10);
    if (count < 0) {
        take_nil(reader);
    } else if (line[0] == '*' || line[0] == '~' || line[0] == '%') {
        reader->elements_left += (uint64_t)count << (line[0] == '%');
        complete_element(reader);
    } else {
        expect_value(reader, (uint64_t)count);
        reader->bulk_left = (uint64_t)count + 2;
    }
    return 0;
}

/*
 * The two replies that nearly all of a load consists of, while they lie whole in the buffer: +OK,
 * and a bulk string that nobody wants to compare. Returns how far it got.
 */
static const char *take_common(struct reply_reader *reader, const char *data, const char *end) {
    const bool one_kind = reader->workload->operation_count == 1;
    const char *kinds = reader->workload->operations[0].expected_kinds;
    if (!one_kind || kinds == NULL) {
        return data;
    }
    if (kinds[0] == '+') {
        while (end - data >= 5 && memcmp(data, "+OK\r\n", 5) == 0) {
            complete_reply(reader);
            data += 5;
        }
    } else if (kinds[0] == '$' && !reader->workload->verify) {
        while (end - data > 16 && data[0] == '$' && data[1] >= '0') {
            size_t length = 0;
            const char *c = data + 1;
            for (; *c >= '0' && *c <= '9' && c < data + 10; c++) {
                length = length * 10 + (size_t)(*c - '0');
            }
            if (c[0] != '\r' || (size_t)(end - c) < length + 4) {
                break;
            }
            complete_reply(reader);
            data = c + 2 + length + 2;
        }
    }
    return data;
}

/* Keeps the unfinished line at the end of what has arrived. Only the start matters of one that is
 * too long. */
static void keep_line(struct reply_reader *reader, const char *data, size_t length) {
    size_t room = sizeof(reader->line) - 1 - reader->line_length;
    size_t kept = length < room ? length : room;
    memcpy(reader->line + reader->line_length, data, kept);
    reader->line_length += (unsigned)kept;
    reader->line[reader->line_length] = '\0';
}

int reply_read(struct reply_reader *reader, const char *data, size_t length) {
    const char *end = data + length;
    while (data < end) {
        if (reader->bulk_left > 0) {
            size_t left = (size_t)(end - data);
            size_t taken = left < reader->bulk_left ? left : (size_t)reader->bulk_left;
            take_bulk(reader, data, taken);
            data += taken;
            continue;
        }
        if (reader->elements_left == 0 && reader->line_length == 0) {
            data = take_common(reader, data, end);
            if (data == end) {
                return 0;
            }
        }
        const char *newline = memchr(data, '\n', (size_t)(end - data));
        if (newline == NULL) {
            keep_line(reader, data, (size_t)(end - data));
            return 0;
        }
        const char *line = data;
        size_t line_length = (size_t)(newline - data);
        if (reader->line_length > 0) {
            keep_line(reader, data, line_length);
            line = reader->line;
            line_length = reader->line_length;
            reader->line_length = 0;
        }
        if (line_length > 0 && line[line_length - 1] == '\r') {
            line_length--;
        }
        data = newline + 1;
        if (line_length == 0 || take_line(reader, line, line_length) < 0) {
            return -1;
        }
    }
    return 0;
}
