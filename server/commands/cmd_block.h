/* What the commands that block share. Called from handlers only, with the tokens of all keys. */
#ifndef SLOTWISE_SERVER_CMD_BLOCK_H
#define SLOTWISE_SERVER_CMD_BLOCK_H

#include "server/dispatch/blocked.h"

/* A time to wait in argv[index], in seconds, 0 for ever: monotonic, UINT64_MAX for ever. false:
 * error replied. */
bool block_timeout_argument(struct call *call, int index, uint64_t *until_us);

/* Nothing was found: waits, or replies that there is nothing where that is not possible (EXEC). */
enum call_result block_or_reply_null_array(struct call *call,
                                           const struct blocked_request *request);

#endif
