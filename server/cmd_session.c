/* See cmd_session.h. */
#include "server/cmd_session.h"

#include <string.h>

#include "engine/clock.h"
#include "engine/memory.h"
#include "server/conn.h"

bool session_name_is_valid(const struct argument *name) {
    for (size_t i = 0; i < name->length; i++)
        if (name->data[i] < '!' || name->data[i] > '~')
            return false;
    return true;
}

void session_set_text(char **field, const struct argument *value) {
    memory_free(*field);
    *field = NULL;
    if (value->length == 0)
        return;
    *field = memory_alloc(value->length + 1);
    memcpy(*field, value->data, value->length);
    (*field)[value->length] = '\0';
}

bool session_is_local(struct session *session) {
    const struct conn *conn = conn_of_session(session);
    if (!conn->tcp)
        return true;
    char peer[128];
    conn_peer_text(conn, peer, sizeof peer);
    return strncmp(peer, "127.", 4) == 0 || strncmp(peer, "[::1]:", 6) == 0;
}

bool call_timeout_argument(struct call *call, int index, int64_t *until_ms) {
    const struct argument *argument = &call->argv[index];
    const char *error = NULL;
    if (!number_parse_int64(argument->data, argument->length, until_ms))
        error = "ERR timeout is not an integer or out of range";
    else if (*until_ms < 0)
        error = "ERR timeout is negative";
    else if (*until_ms > 0 && __builtin_add_overflow(*until_ms, clock_now_ms(), until_ms))
        error = "ERR timeout is out of range";
    if (error)
        reply_error(call->reply, error);
    return !error;
}
