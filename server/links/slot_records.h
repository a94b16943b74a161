/* Slot records: the migrations of slots that go on and those that were, for CLUSTER
 * GETSLOTMIGRATIONS, on both sides of each and on the target's replicas.
 *
 * Under the lock: everything but what never changes (name, operation, nodes, slots). A record lives
 * as long as it is not over, then until SLOT_RECORDS_MAX newer ones are. */
#ifndef SLOTWISE_SERVER_SLOT_RECORDS_H
#define SLOTWISE_SERVER_SLOT_RECORDS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "cluster/slot_move.h"
#include "cluster/wire.h"

#define SLOT_RECORDS_MAX      100
#define SLOT_RECORD_NAME      40 /* hexadecimal digits */
#define SLOT_RECORD_TEXT_SIZE 256

struct slot_record {
    struct slot_record *next; /* older */
    char name[SLOT_RECORD_NAME + 1];
    bool imports;
    struct node_id source, target;
    uint8_t slots[WIRE_SLOT_BYTES];
    char *ranges;                                 /* slot_set_text */
    int64_t created_s, updated_s, acknowledged_s; /* Unix times; the last sign of the other side */
    const char *state;                            /* static */
    char message[SLOT_RECORD_TEXT_SIZE];
    bool over;
    bool committed; /* on the target's side: it has the slots, and all that came for them */
    uint64_t keys_total, keys_sent, bytes_sent, pause_us;
};

struct slot_records {
    pthread_mutex_t lock;
    struct slot_record *first; /* newest */
};

void slot_records_init(struct slot_records *records);
void slot_records_destroy(struct slot_records *records);

/* A new one, not over. Any thread. */
struct slot_record *slot_records_add(struct slot_records *records, const char *name, bool imports,
                                     const struct node_id *source, const struct node_id *target,
                                     const uint8_t *slots, const char *state);
/* format NULL: the message stays. */
void slot_record_set(struct slot_records *records, struct slot_record *record, const char *state,
                     bool over, const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The other side has said something. */
void slot_record_heard(struct slot_records *records, struct slot_record *record);
/* What was sent so far. */
void slot_record_count(struct slot_records *records, struct slot_record *record, uint64_t keys,
                       uint64_t bytes);
/* Under the lock. NULL: there is none. */
struct slot_record *slot_records_find(const struct slot_records *records, const char *name,
                                      bool imports);

#endif
