/* Slot sender: what an export has written down, on its way to the target: commands in a pipeline,
 * and their answers. Of the export's thread (slot_export.h). */
#ifndef SLOTWISE_SERVER_SLOT_SENDER_H
#define SLOTWISE_SERVER_SLOT_SENDER_H

#include "engine/object.h"
#include "replication/rdb_write.h"
#include "server/base/text.h"
#include "server/links/migration_target.h"
#include "server/links/slot_records.h"

#define SLOT_SENDER_ERROR_BYTES 200

struct slot_sender {
    struct migration_targets *targets;
    struct migration_target *target; /* NULL: not connected */
    const char *name;                /* of the migration */
    struct text keys;                /* of the DATA that is being gathered */
    unsigned key_count;
    struct text text;    /* whole commands that wait to be sent */
    uint64_t unanswered; /* commands that were sent, or wait to be */
    uint64_t commands;   /* DATA so far */
    uint64_t keys_sent, bytes_sent;
    struct rdb_writer writer;
    char error[SLOT_SENDER_ERROR_BYTES]; /* the target's first error */
};

void slot_sender_init(struct slot_sender *sender, struct migration_targets *targets,
                      const char *name);
void slot_sender_free(struct slot_sender *sender);
/* Closes the connection, if there is one. */
void slot_sender_close(struct slot_sender *sender);

/* The key is to be this value at the target; NULL: it is gone. Into memory only. Under its token,
 * or of an object that nobody changes. */
void slot_sender_put(struct slot_sender *sender, const char *key, size_t length,
                     const struct object *object);
/* The command SYNCSLOTS with these words (NULL-terminated), behind what was put before. */
void slot_sender_say(struct slot_sender *sender, const char *const *words);
/* Sends what was gathered if that is worth it; and reads answers while too many are missing. false:
 * the link is lost, or the target has told an error (error is set). */
bool slot_sender_flush(struct slot_sender *sender, uint64_t timeout_ms);
/* Sends all, and reads all answers but the last one, which goes to line. */
bool slot_sender_finish(struct slot_sender *sender, char *line, size_t size, uint64_t timeout_ms);
/* The two halves of it. */
bool slot_sender_send(struct slot_sender *sender, uint64_t timeout_ms);
bool slot_sender_answers(struct slot_sender *sender, char *line, size_t size, uint64_t timeout_ms);
/* Memory that waits to be sent. */
static inline size_t slot_sender_pending(const struct slot_sender *sender) {
    return sender->text.length + sender->keys.length;
}

#endif
