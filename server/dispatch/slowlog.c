/* See slowlog.h. A list with the newest first; an entry and all that it holds are one allocation.
 */
#include "server/dispatch/slowlog.h"

#include <pthread.h>
#include <stdio.h>

#include "engine/clock.h"
#include "engine/memory.h"
#include "server/config/config.h"
#include "server/dispatch/call.h"
#include "server/dispatch/session.h"

#define REDACTED "(redacted)"

struct slowlog {
    pthread_mutex_t lock; /* of all below */
    struct slowlog_entry *newest;
    size_t length;
    int64_t next_id;
};

struct slowlog *slowlog_create(void) {
    struct slowlog *slowlog = memory_calloc(1, sizeof *slowlog);
    pthread_mutex_init(&slowlog->lock, NULL);
    return slowlog;
}

void slowlog_destroy(struct slowlog *slowlog) {
    slowlog_reset(slowlog);
    pthread_mutex_destroy(&slowlog->lock);
    memory_free(slowlog);
}

/* --- Entries ---------------------------------------------------------------------------------- */

/* Whether an argument holds what nobody else may read. */
static bool is_secret(const struct call *call, int index) {
    const char *name = call->command->name;
    if (strcmp(name, "auth") == 0)
        return index > 0;
    if (strcmp(name, "hello") == 0) {
        bool user = index >= 2 && argument_is(&call->argv[index - 1], "auth");
        bool password = index >= 3 && argument_is(&call->argv[index - 2], "auth");
        return user || password;
    }
    if (strcmp(name, "config|set") == 0 && index >= 3 && index % 2 == 1) {
        char directive[64];
        snprintf(directive, sizeof directive, "%.*s", (int)call->argv[index - 1].length,
                 call->argv[index - 1].data);
        return config_is_sensitive(directive);
    }
    return false;
}

/* What is shown for argument index of an entry: a piece of the argument and a text behind it. */
struct shown {
    struct argument piece;
    char tail[48];
};

static void show(const struct call *call, int index, int shown_count, struct shown *shown) {
    shown->piece = call->argv[index];
    shown->tail[0] = '\0';
    if (shown_count < call->argc && index == shown_count - 1) {
        shown->piece.length = 0;
        snprintf(shown->tail, sizeof shown->tail, "... (%d more arguments)",
                 call->argc - shown_count + 1);
    } else if (is_secret(call, index)) {
        shown->piece.length = 0;
        snprintf(shown->tail, sizeof shown->tail, REDACTED);
    } else if (shown->piece.length > SLOWLOG_TEXT_MAX) {
        snprintf(shown->tail, sizeof shown->tail, "... (%zu more bytes)",
                 shown->piece.length - SLOWLOG_TEXT_MAX);
        shown->piece.length = SLOWLOG_TEXT_MAX;
    }
}

static char *put(char *cursor, struct argument *copy, const char *data, size_t length) {
    copy->data = cursor;
    copy->length = length;
    memcpy(cursor, data, length);
    return cursor + length;
}

static struct slowlog_entry *entry_make(const struct call *call, int64_t duration_us) {
    struct shown shown[SLOWLOG_ARGUMENTS_MAX];
    int argc = call->argc < SLOWLOG_ARGUMENTS_MAX ? call->argc : SLOWLOG_ARGUMENTS_MAX;
    const char *name = shared_text_string(call->session->name);
    char peer[128];
    peer[0] = '\0';
    if (call->session->peer_text)
        call->session->peer_text(call->session, peer, sizeof peer);
    size_t bytes = sizeof(struct slowlog_entry) + (size_t)argc * sizeof(struct argument) +
                   strlen(peer) + strlen(name);
    for (int i = 0; i < argc; i++) {
        show(call, i, argc, &shown[i]);
        bytes += shown[i].piece.length + strlen(shown[i].tail);
    }
    struct slowlog_entry *entry = memory_alloc(bytes);
    entry->time_s = clock_now_ms() / 1000;
    entry->duration_us = duration_us;
    entry->argc = argc;
    entry->argv = (struct argument *)(entry + 1);
    char *cursor = (char *)(entry->argv + argc);
    for (int i = 0; i < argc; i++) {
        struct argument tail;
        cursor = put(cursor, &entry->argv[i], shown[i].piece.data, shown[i].piece.length);
        cursor = put(cursor, &tail, shown[i].tail, strlen(shown[i].tail));
        entry->argv[i].length += tail.length;
    }
    cursor = put(cursor, &entry->peer, peer, strlen(peer));
    put(cursor, &entry->name, name, strlen(name));
    return entry;
}

/* --- The list --------------------------------------------------------------------------------- */

static void entries_free(struct slowlog_entry *entry) {
    while (entry) {
        struct slowlog_entry *older = entry->older;
        memory_free(entry);
        entry = older;
    }
}

/* Takes out and returns all but the newest length entries. With the lock. */
static struct slowlog_entry *cut(struct slowlog *slowlog, size_t length) {
    struct slowlog_entry **end = &slowlog->newest;
    if (slowlog->length <= length)
        return NULL;
    for (size_t i = 0; i < length; i++)
        end = &(*end)->older;
    struct slowlog_entry *rest = *end;
    *end = NULL;
    slowlog->length = length;
    return rest;
}

void slowlog_add(struct slowlog *slowlog, const struct call *call, int64_t duration_us) {
    if (call->command->flags & COMMAND_SKIP_SLOWLOG)
        return;
    struct slowlog_entry *entry = entry_make(call, duration_us);
    size_t limit = (size_t)config_current()->slowlog_max_len;
    pthread_mutex_lock(&slowlog->lock);
    entry->id = slowlog->next_id++;
    entry->older = slowlog->newest;
    slowlog->newest = entry;
    slowlog->length++;
    struct slowlog_entry *rest = cut(slowlog, limit);
    pthread_mutex_unlock(&slowlog->lock);
    entries_free(rest);
}

void slowlog_trim(struct slowlog *slowlog, size_t length) {
    pthread_mutex_lock(&slowlog->lock);
    struct slowlog_entry *rest = cut(slowlog, length);
    pthread_mutex_unlock(&slowlog->lock);
    entries_free(rest);
}

void slowlog_reset(struct slowlog *slowlog) {
    slowlog_trim(slowlog, 0);
}

size_t slowlog_length(struct slowlog *slowlog) {
    pthread_mutex_lock(&slowlog->lock);
    size_t length = slowlog->length;
    pthread_mutex_unlock(&slowlog->lock);
    return length;
}

void slowlog_each(struct slowlog *slowlog, size_t limit, void (*begin)(size_t n, void *context),
                  void (*visit)(const struct slowlog_entry *entry, void *context), void *context) {
    pthread_mutex_lock(&slowlog->lock);
    begin(limit < slowlog->length ? limit : slowlog->length, context);
    for (const struct slowlog_entry *entry = slowlog->newest; entry && limit > 0;
         entry = entry->older, limit--)
        visit(entry, context);
    pthread_mutex_unlock(&slowlog->lock);
}
