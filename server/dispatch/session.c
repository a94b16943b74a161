/* See session.h. */
#include "server/dispatch/session.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"

void session_init(struct session *session, uint64_t id, bool authenticated) {
    memset(session, 0, sizeof *session);
    session->id = id;
    session->resp = 2;
    session->authenticated = authenticated;
    session->created_ms = clock_monotonic_us() / 1000;
}

void session_discard(struct session *session) {
    struct transaction *transaction = &session->transaction;
    for (size_t i = 0; i < transaction->count; i++)
        memory_free(transaction->commands[i].argv);
    memory_free(transaction->commands);
    *transaction = (struct transaction){0};
    session->in_multi = false;
    session->multi_failed = false;
}

void session_drop_unfinished(struct session *session) {
    struct unfinished *unfinished = session->unfinished;
    session->unfinished = NULL;
    if (unfinished)
        unfinished->drop(unfinished);
}

void session_destroy(struct session *session) {
    ASSERT(!session->watchers);
    session_discard(session);
    session_drop_unfinished(session);
    shared_text_drop(session->name);
    shared_text_drop(session->library_name);
    shared_text_drop(session->library_version);
}
