/* Error replies counted by their code (INFO errorstats, total_error_replies). Each thread counts in
 * a table of its own that stays when the thread ends; reading sums over them. */
#ifndef SLOTWISE_SERVER_ERROR_STATISTICS_H
#define SLOTWISE_SERVER_ERROR_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

/* Counts one error; its code is the first word of text, or ERR if that is none. */
void error_statistics_count(const char *text, size_t length);
/* Takes back the last n errors that this thread counted (the last 16 can be). */
void error_statistics_undo(uint64_t n);

/* Sums over threads, any thread. The callback sees each code once, in alphabetical order. Reset
 * needs the other threads stopped, else it may miss an error that is just being counted. A thread
 * tells at most ERROR_CODES_MAX codes apart. */
#define ERROR_CODES_MAX 128
void error_statistics_each(void (*visit)(const char *code, uint64_t count, void *context),
                           void *context);
void error_statistics_reset(void);
uint64_t error_statistics_total(void);

#endif
