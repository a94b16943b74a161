/* The truth: what every history of a run consists of, by its id: where it branched off which other,
 * and which state of the data belongs to which offset. Written as primaries append to their
 * streams, read by the checks. It also sees that a history has one writer, who goes on where he
 * stopped. */
#ifndef SLOTWISE_TESTS_SIM_TRUTH_H
#define SLOTWISE_TESTS_SIM_TRUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/history.h"

struct truth_point {
    uint64_t offset;
    uint64_t chain; /* of the model, from this offset to the next point's */
};

struct truth_line {
    char id[HISTORY_ID_LENGTH + 1];
    int same;   /* index of the line that this is another id of; its own */
    int parent; /* index, -1: none */
    uint64_t start, end;
    struct truth_point *points;
    size_t count, capacity;
};

struct truth {
    struct truth_line *lines;
    int count, capacity;
};

void truth_destroy(struct truth *truth);
/* Its index, by which it is called in traces ("history 3"); -1: no primary has had it. */
int truth_find(const struct truth *truth, const char *id);
/* A history begins: with the data of a parent at the offset, or (NULL) with these. false: the
 * parent is not known, or has not come so far. */
bool truth_begin(struct truth *truth, const char *id, const char *parent, uint64_t offset,
                 uint64_t chain);
/* Another id of the same history, which goes on under both. */
void truth_rename(struct truth *truth, const char *id, const char *old_id);
/* The two ids are of one history. */
bool truth_is_same(const struct truth *truth, const char *id, const char *other);
/* What is there at the offset is something else now: it was written past the stream. */
void truth_replace(struct truth *truth, const char *id, uint64_t offset, uint64_t chain);
/* The stream goes on from `from` to `to`, behind which the data are these. false: it does not go on
 * there, or there is no such history. */
bool truth_append(struct truth *truth, const char *id, uint64_t from, uint64_t to, uint64_t chain);
/* The data at the offset; false: it is not known. */
bool truth_at(const struct truth *truth, const char *id, uint64_t offset, uint64_t *chain);

#endif
