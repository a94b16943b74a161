/* An effect log that keeps everything, for tests: entries in the order of their numbers, whatever
 * thread committed them. */
#ifndef SLOTWISE_TESTS_RECORDING_LOG_H
#define SLOTWISE_TESTS_RECORDING_LOG_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/effect_log.h"

struct recorded {
    uint64_t number; /* of the entry that it belongs to */
    struct effect effect;
};

struct recording {
    pthread_mutex_t lock;
    uint64_t number;
    struct recorded *effects;
    size_t count, room;
};

static uint64_t recording_commit(void *context, const struct effect *effects, size_t count) {
    struct recording *recording = context;
    pthread_mutex_lock(&recording->lock);
    uint64_t number = ++recording->number;
    for (size_t i = 0; i < count; i++) {
        if (recording->count == recording->room) {
            recording->room = recording->room ? recording->room * 2 : 1024;
            recording->effects =
                realloc(recording->effects, recording->room * sizeof *recording->effects);
        }
        struct effect_argument *copies = malloc(effects[i].count * sizeof *copies);
        for (unsigned j = 0; j < effects[i].count; j++) {
            size_t length = effects[i].arguments[j].length;
            char *data = malloc(length + 1);
            memcpy(data, effects[i].arguments[j].data, length);
            data[length] = 0;
            copies[j] = (struct effect_argument){data, length};
        }
        recording->effects[recording->count++] =
            (struct recorded){number, {effects[i].database, effects[i].count, copies}};
    }
    pthread_mutex_unlock(&recording->lock);
    return number;
}

static struct recording recording = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct effect_log recording_log = {.commit = recording_commit, .context = &recording};

static void recording_free(void) {
    for (size_t i = 0; i < recording.count; i++) {
        const struct effect *effect = &recording.effects[i].effect;
        for (unsigned j = 0; j < effect->count; j++)
            free((char *)effect->arguments[j].data);
        free((void *)effect->arguments);
    }
    free(recording.effects);
    recording.effects = NULL;
    recording.number = recording.count = recording.room = 0;
}

#endif
