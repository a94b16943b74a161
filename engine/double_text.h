/* A double as text, as Redis 7.2 writes scores and RESP3 doubles. Pure function, any thread. */
#ifndef SLOTWISE_ENGINE_DOUBLE_TEXT_H
#define SLOTWISE_ENGINE_DOUBLE_TEXT_H

#include <stddef.h>

#define DOUBLE_TEXT_SIZE 32 /* any double and its NUL */

/* Integers plainly, all else with the fewest digits that read back as the same double; "inf",
 * "-inf", "nan", "-0". Puts a NUL behind the text and returns its length without it. */
size_t double_text_write(char *out, double value);

#endif
