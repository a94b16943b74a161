/* History: the identity of the replication stream that this server has. Two servers whose streams
 * have the same id agree on every byte before the smaller of their offsets.
 *
 * Ids are 40 hexadecimal digits. The second id is that of the primary whose replica this server was
 * until it was promoted: its stream is ours up to second_offset.
 *
 * Written in exclusive sections, or by one thread that no other reads beside; the offset by the
 * thread that appends to the stream, read by any. */
#ifndef SLOTWISE_REPLICATION_HISTORY_H
#define SLOTWISE_REPLICATION_HISTORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define HISTORY_ID_LENGTH 40

struct history {
    char id[HISTORY_ID_LENGTH + 1];
    char second_id[HISTORY_ID_LENGTH + 1]; /* all '0': none */
    int64_t second_offset;                 /* first offset (as PSYNC counts) beyond it; -1: none */
    _Atomic uint64_t offset;               /* bytes of the stream so far */
};

/* A new stream that begins at offset 0. */
void history_init(struct history *history);
/* Another id; no second one. */
void history_new_id(struct history *history);
/* The stream goes on from here under another id, and the one so far becomes the second. */
void history_rename(struct history *history, const char *id);
/* The same with an id of its own: the stream so far was somebody else's, what follows is ours. */
void history_promote(struct history *history);
/* The stream of another server from this offset on. */
void history_adopt(struct history *history, const char *id, uint64_t offset);

#endif
