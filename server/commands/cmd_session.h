/* What the commands that are not about data share (cmd_connection.c, cmd_client.c, cmd_debug.c
 * ...). On the connection's worker. */
#ifndef SLOTWISE_SERVER_CMD_SESSION_H
#define SLOTWISE_SERVER_CMD_SESSION_H

#include "server/base/numbers.h"
#include "server/dispatch/call.h"
#include "server/dispatch/session.h"

#define ERROR_CLIENT_NAME "ERR Client names cannot contain spaces, newlines or special characters."

/* Only printable ASCII without spaces, so that CLIENT LIST can be split. The empty one is valid. */
bool session_name_is_valid(const struct argument *name);
/* Replaces one of session->name, library_name, library_version; an empty value removes it. */
void session_set_text(struct shared_text **field, const struct argument *value);
/* Logs a change of role: "what (by from 'the client, as CLIENT LIST shows it')". */
void replication_log_change(struct call *call, const char *what, const char *by);
/* A timeout in ms as a monotonic time in us; 0 stays 0. false: error replied. */
bool call_timeout_argument(struct call *call, int index, uint64_t *until_us);

#endif
