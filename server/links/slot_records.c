/* See slot_records.h. */
#include "server/links/slot_records.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cluster/slot_request.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/base/log.h"

void slot_records_init(struct slot_records *records) {
    *records = (struct slot_records){.first = NULL};
    pthread_mutex_init(&records->lock, NULL);
}

static void record_free(struct slot_record *record) {
    memory_free(record->ranges);
    memory_free(record);
}

void slot_records_destroy(struct slot_records *records) {
    for (struct slot_record *record; (record = records->first) != NULL; record_free(record))
        records->first = record->next;
    pthread_mutex_destroy(&records->lock);
}

/* Under the lock: those that are over, the newest SLOT_RECORDS_MAX apart. */
static void trim(struct slot_records *records) {
    unsigned over = 0;
    for (struct slot_record **at = &records->first; *at;) {
        struct slot_record *record = *at;
        if (record->over && ++over > SLOT_RECORDS_MAX) {
            *at = record->next;
            record_free(record);
        } else {
            at = &record->next;
        }
    }
}

struct slot_record *slot_records_add(struct slot_records *records, const char *name, bool imports,
                                     const struct node_id *source, const struct node_id *target,
                                     const uint8_t *slots, const char *state) {
    struct slot_record *record = memory_calloc(1, sizeof *record);
    memcpy(record->name, name, SLOT_RECORD_NAME);
    record->imports = imports;
    record->source = *source;
    record->target = *target;
    memcpy(record->slots, slots, WIRE_SLOT_BYTES);
    record->ranges = slot_set_text(slots);
    record->created_s = record->updated_s = record->acknowledged_s = clock_now_ms() / 1000;
    record->state = state;
    pthread_mutex_lock(&records->lock);
    trim(records);
    record->next = records->first;
    records->first = record;
    pthread_mutex_unlock(&records->lock);
    log_write(LOG_LEVEL_NOTICE, "Slot migration %s: new %s of slots %.200s", record->name,
              imports ? "import" : "export", record->ranges);
    return record;
}

void slot_record_set(struct slot_records *records, struct slot_record *record, const char *state,
                     bool over, const char *format, ...) {
    char message[SLOT_RECORD_TEXT_SIZE] = "";
    if (format) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(message, sizeof message, format, arguments);
        va_end(arguments);
    }
    log_write(over && format && format[0] ? LOG_LEVEL_WARNING : LOG_LEVEL_NOTICE,
              "Slot migration %s: %s%s%s", record->name, state, message[0] ? ": " : "", message);
    pthread_mutex_lock(&records->lock);
    record->state = state;
    record->over = over;
    record->updated_s = clock_now_ms() / 1000;
    if (format)
        memcpy(record->message, message, sizeof message);
    pthread_mutex_unlock(&records->lock);
}

void slot_record_heard(struct slot_records *records, struct slot_record *record) {
    pthread_mutex_lock(&records->lock);
    record->acknowledged_s = clock_now_ms() / 1000;
    pthread_mutex_unlock(&records->lock);
}

void slot_record_count(struct slot_records *records, struct slot_record *record, uint64_t keys,
                       uint64_t bytes) {
    pthread_mutex_lock(&records->lock);
    record->keys_sent = keys;
    record->bytes_sent = bytes;
    pthread_mutex_unlock(&records->lock);
}

struct slot_record *slot_records_find(const struct slot_records *records, const char *name,
                                      bool imports) {
    for (struct slot_record *record = records->first; record; record = record->next)
        if (record->imports == imports && strcmp(record->name, name) == 0)
            return record;
    return NULL;
}
