/* See history.h. */
#include "replication/history.h"

#include <string.h>
#include <sys/random.h>

#include "engine/assert.h"

static void random_id(char id[HISTORY_ID_LENGTH + 1]) {
    unsigned char bytes[HISTORY_ID_LENGTH / 2];
    size_t have = 0;
    while (have < sizeof bytes) {
        ssize_t n = getrandom(bytes + have, sizeof bytes - have, 0);
        have += n > 0 ? (size_t)n : 0;
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        id[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        id[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    id[HISTORY_ID_LENGTH] = 0;
}

static void forget_second(struct history *history) {
    memset(history->second_id, '0', HISTORY_ID_LENGTH);
    history->second_id[HISTORY_ID_LENGTH] = 0;
    history->second_offset = -1;
}

void history_init(struct history *history) {
    history_new_id(history);
    atomic_init(&history->offset, 0);
}

void history_new_id(struct history *history) {
    random_id(history->id);
    forget_second(history);
}

void history_rename(struct history *history, const char *id) {
    ASSERT(strlen(id) >= HISTORY_ID_LENGTH);
    memcpy(history->second_id, history->id, sizeof history->id);
    history->second_offset = (int64_t)atomic_load(&history->offset) + 1;
    memcpy(history->id, id, HISTORY_ID_LENGTH);
}

void history_promote(struct history *history) {
    char id[HISTORY_ID_LENGTH + 1];
    random_id(id);
    history_rename(history, id);
}

void history_adopt(struct history *history, const char *id, uint64_t offset) {
    ASSERT(strlen(id) == HISTORY_ID_LENGTH);
    memcpy(history->id, id, sizeof history->id);
    forget_second(history);
    atomic_store(&history->offset, offset);
}
