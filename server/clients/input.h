/* Input of a connection: bytes become entries of the batch; what cannot run now is kept. On the
 * connection's thread. */
#ifndef SLOTWISE_SERVER_INPUT_H
#define SLOTWISE_SERVER_INPUT_H

#include "server/clients/conn.h"

/* Bytes of a connection in IDLE that has no entries in the batch: parses them, keeps the rest. They
 * stay valid until the batch has run and the backend's buffers are given back. */
void input_parse(struct conn *conn, const char *data, size_t length);
/* The same for what was kept. */
void input_parse_kept(struct conn *conn);

/* It has had its share of this turn. */
bool input_turn_is_over(struct conn *conn);
/* The row of a command that came as a multibulk request; NULL: unknown. On the loop's thread. */
const struct command *input_command(struct loop *loop, const struct argument *argv, int argc);

#endif
