/* See truth.h. */
#include "tests/sim/replication/truth.h"

#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"

void truth_destroy(struct truth *truth) {
    for (int i = 0; i < truth->count; i++)
        free(truth->lines[i].points);
    free(truth->lines);
    *truth = (struct truth){0};
}

int truth_find(const struct truth *truth, const char *id) {
    for (int i = truth->count - 1; i >= 0; i--)
        if (strcmp(truth->lines[i].id, id) == 0)
            return i;
    return -1;
}

static void add_point(struct truth_line *line, uint64_t offset, uint64_t chain) {
    if (line->count == line->capacity) {
        line->capacity = line->capacity ? 2 * line->capacity : 64;
        line->points = realloc(line->points, line->capacity * sizeof *line->points);
        ASSERT(line->points);
    }
    line->points[line->count++] = (struct truth_point){offset, chain};
}

static struct truth_line *add_line(struct truth *truth, const char *id) {
    if (truth->count == truth->capacity) {
        truth->capacity = truth->capacity ? 2 * truth->capacity : 16;
        truth->lines = realloc(truth->lines, (size_t)truth->capacity * sizeof *truth->lines);
        ASSERT(truth->lines);
    }
    struct truth_line *line = &truth->lines[truth->count];
    *line = (struct truth_line){.parent = -1, .same = truth->count++};
    memcpy(line->id, id, sizeof line->id);
    return line;
}

/* The line that has the points of this id; -1: none. */
static int line_of(const struct truth *truth, const char *id) {
    int found = truth_find(truth, id);
    return found < 0 ? -1 : truth->lines[found].same;
}

bool truth_begin(struct truth *truth, const char *id, const char *parent, uint64_t offset,
                 uint64_t chain) {
    int from = parent ? line_of(truth, parent) : -1;
    if (parent && (from < 0 || truth->lines[from].end < offset))
        return false;
    struct truth_line *line = add_line(truth, id);
    line->parent = from;
    line->start = line->end = offset;
    if (!parent)
        add_point(line, offset, chain);
    return true;
}

void truth_rename(struct truth *truth, const char *id, const char *old_id) {
    int old = line_of(truth, old_id);
    add_line(truth, id)->same = old;
}

bool truth_is_same(const struct truth *truth, const char *id, const char *other) {
    return line_of(truth, id) == line_of(truth, other) && line_of(truth, id) >= 0;
}

void truth_replace(struct truth *truth, const char *id, uint64_t offset, uint64_t chain) {
    int found = line_of(truth, id);
    if (found < 0) {
        truth_begin(truth, id, NULL, offset, chain);
        return;
    }
    struct truth_line *line = &truth->lines[found];
    while (line->count > 0 && line->points[line->count - 1].offset >= offset)
        line->count--;
    add_point(line, offset, chain);
}

bool truth_append(struct truth *truth, const char *id, uint64_t from, uint64_t to, uint64_t chain) {
    int found = line_of(truth, id);
    if (found < 0 || truth->lines[found].end != from)
        return false;
    truth->lines[found].end = to;
    add_point(&truth->lines[found], to, chain);
    return true;
}

/* The last point that is not beyond the offset. */
static bool find_point(const struct truth_line *line, uint64_t offset, uint64_t *chain) {
    size_t low = 0, high = line->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (line->points[middle].offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return false;
    *chain = line->points[low - 1].chain;
    return true;
}

bool truth_at(const struct truth *truth, const char *id, uint64_t offset, uint64_t *chain) {
    int at = line_of(truth, id);
    if (at < 0 || offset > truth->lines[at].end)
        return false;
    for (; at >= 0; at = truth->lines[at].parent) {
        const struct truth_line *line = &truth->lines[at];
        if (find_point(line, offset, chain))
            return true;
        if (offset > line->start) /* nothing has changed since it branched off */
            offset = line->start;
    }
    return false;
}
