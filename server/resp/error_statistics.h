/* Error replies counted by their code (INFO errorstats, total_error_replies). Each thread counts in
 * a table of its own that stays when the thread ends; reading sums over them. The readers' side is
 * in reply.h. */
#ifndef SLOTWISE_SERVER_ERROR_STATISTICS_H
#define SLOTWISE_SERVER_ERROR_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

/* Counts one error; its code is the first word of text, or ERR if that is none. */
void error_statistics_count(const char *text, size_t length);
/* Takes back the last n errors that this thread counted (the last 16 can be). */
void error_statistics_undo(uint64_t n);

#endif
