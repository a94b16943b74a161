/* One job of an export while it runs: what its parts share (slot_export.c decides and talks,
 * slot_export_walk.c writes keys down and stops the slots). All on the export's thread. */
#ifndef SLOTWISE_SERVER_SLOT_EXPORT_PRIVATE_H
#define SLOTWISE_SERVER_SLOT_EXPORT_PRIVATE_H

#include "server/links/slot_export_types.h"
#include "server/links/slot_sender.h"

struct slot_run {
    struct slot_exports *exports;
    struct slot_job *job;
    struct slot_sender sender;
    uint64_t clears;      /* of the database, when it began */
    uint64_t epoch;       /* with which the target claims */
    uint64_t round_bytes; /* of the last round */
    bool fenced, held;
    uint8_t stopped[WIRE_SLOT_BYTES];    /* those that serve nobody because of this job */
    uint64_t fenced_us;                  /* monotonic */
    char message[SLOT_RECORD_TEXT_SIZE]; /* why it ends */
};

#define SLOT_SEND_TIMEOUT_MS 10000

/* The thread counts as asleep meanwhile: nothing published is held. */
void slot_run_sleep(void);
void slot_run_wake(void);
/* Whether the job is to end now, and how (HALTED, DEMOTED); true: *event says. */
bool slot_run_is_over(struct slot_run *run, enum slot_move_event *event);

/* All keys once. DONE, or how it ended. */
enum slot_move_event slot_run_copy(struct slot_run *run);
/* What has changed; *keys: how many. DONE: it has been sent or is in the sender. send: also to the
 * wire as it grows. */
enum slot_move_event slot_run_round(struct slot_run *run, uint64_t *keys, bool send);
/* The slots serve nobody, or serve again. Stops before a pause of the server's. */
enum slot_move_event slot_run_fence(struct slot_run *run);
void slot_run_unfence(struct slot_run *run);
/* The copies of what is another's now. */
void slot_run_delete(struct slot_run *run);
/* Slots of the job, one after the other: from this number on; SLOT_COUNT: there are no more. */
uint32_t slot_run_next_slot(const struct slot_run *run, uint32_t slot);

#endif
