/* Glob patterns as KEYS, SCAN, CONFIG GET and PSUBSCRIBE use them. */
#ifndef SLOTWISE_SERVER_GLOB_H
#define SLOTWISE_SERVER_GLOB_H

#include <stdbool.h>
#include <stddef.h>

/* True when the whole text matches the pattern: `*`, `?`, `[a-z]`, `[^a-z]`, `\x`. Takes at most
 * pattern_length * text_length steps and no stack, whatever the pattern. Any thread. */
bool glob_match(const char *pattern, size_t pattern_length, const char *text, size_t text_length,
                bool ignore_case);

#endif
