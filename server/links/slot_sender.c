/* See slot_sender.h. */
#include "server/links/slot_sender.h"

#include <stdio.h>
#include <string.h>

#include "server/base/numbers.h"

#define DATA_BYTES     (32 * 1024) /* of the keys of one command */
#define DATA_KEYS      128
#define SEND_BYTES     (256 * 1024) /* are gathered before they are sent */
#define UNANSWERED_MAX 256
#define REPLY_BYTES    SLOT_SENDER_ERROR_BYTES

void slot_sender_init(struct slot_sender *sender, struct migration_targets *targets,
                      const char *name) {
    *sender = (struct slot_sender){.targets = targets, .name = name};
    rdb_writer_init(&sender->writer, NULL, false, true);
}

void slot_sender_free(struct slot_sender *sender) {
    rdb_writer_free(&sender->writer);
    text_free(&sender->keys);
    text_free(&sender->text);
}

void slot_sender_close(struct slot_sender *sender) {
    if (sender->target)
        migration_target_close(sender->target);
    sender->target = NULL;
    sender->unanswered = 0;
    text_clear(&sender->keys);
    text_clear(&sender->text);
    sender->key_count = 0;
}

static void append_bulk(struct text *text, const void *data, size_t length) {
    text_append_format(text, "$%zu\r\n", length);
    text_append(text, data, length);
    text_append(text, "\r\n", 2);
}

static void append_word(struct text *text, const char *word) {
    append_bulk(text, word, strlen(word));
}

/* The command of the keys so far. */
static void end_data(struct slot_sender *sender) {
    struct text *text = &sender->text;
    if (sender->key_count == 0)
        return;
    text_append_format(text, "*%u\r\n", 3 + 3 * sender->key_count);
    append_word(text, "CLUSTER");
    append_word(text, "SYNCSLOTS-DATA");
    append_word(text, sender->name);
    text_append(text, sender->keys.data, sender->keys.length);
    text_clear(&sender->keys);
    sender->key_count = 0;
    sender->commands++;
    sender->unanswered++;
}

void slot_sender_put(struct slot_sender *sender, const char *key, size_t length,
                     const struct object *object) {
    char number[NUMBER_INT64_SIZE];
    int64_t expiry_ms = object ? object_expiry(object) : OBJECT_NO_EXPIRY;
    sender->writer.used = 0;
    if (object)
        rdb_write_payload(&sender->writer, object);
    append_bulk(&sender->keys, key, length);
    append_bulk(&sender->keys, number,
                number_write_int64(number, expiry_ms == OBJECT_NO_EXPIRY ? 0 : expiry_ms));
    append_bulk(&sender->keys, sender->writer.buffer, sender->writer.used);
    sender->key_count++;
    sender->keys_sent++;
    sender->bytes_sent += length + sender->writer.used;
    if (sender->key_count >= DATA_KEYS || sender->keys.length >= DATA_BYTES)
        end_data(sender);
}

void slot_sender_say(struct slot_sender *sender, const char *const *words) {
    unsigned count = 0;
    end_data(sender);
    while (words[count])
        count++;
    text_append_format(&sender->text, "*%u\r\n", count);
    for (unsigned i = 0; i < count; i++)
        append_word(&sender->text, words[i]);
    sender->unanswered++;
}

bool slot_sender_send(struct slot_sender *sender, uint64_t timeout_ms) {
    end_data(sender);
    if (!sender->target)
        return false;
    bool sent = migration_target_send(sender->targets, sender->target, sender->text.data,
                                      sender->text.length, timeout_ms);
    text_clear(&sender->text);
    return sent;
}

/* One of them. */
static bool read_answer(struct slot_sender *sender, char *line, size_t size, uint64_t timeout_ms) {
    if (!sender->target ||
        !migration_target_read_line(sender->targets, sender->target, line, size, timeout_ms))
        return false;
    sender->unanswered--;
    if (line[0] == '-' && !sender->error[0])
        snprintf(sender->error, sizeof sender->error, "%s", line + 1);
    return true;
}

static bool read_until(struct slot_sender *sender, uint64_t left, uint64_t timeout_ms) {
    char line[REPLY_BYTES];
    while (sender->unanswered > left)
        if (!read_answer(sender, line, sizeof line, timeout_ms))
            return false;
    return true;
}

bool slot_sender_flush(struct slot_sender *sender, uint64_t timeout_ms) {
    if (slot_sender_pending(sender) < SEND_BYTES)
        return !sender->error[0];
    return slot_sender_send(sender, timeout_ms) && read_until(sender, UNANSWERED_MAX, timeout_ms) &&
           !sender->error[0];
}

bool slot_sender_answers(struct slot_sender *sender, char *line, size_t size, uint64_t timeout_ms) {
    line[0] = '\0';
    return read_until(sender, 1, timeout_ms) &&
           (sender->unanswered == 0 || read_answer(sender, line, size, timeout_ms));
}

bool slot_sender_finish(struct slot_sender *sender, char *line, size_t size, uint64_t timeout_ms) {
    return slot_sender_send(sender, timeout_ms) &&
           slot_sender_answers(sender, line, size, timeout_ms);
}
