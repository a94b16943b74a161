/* A growing text, and the quoting rules of redis.conf and of inline commands. No state; a struct
 * text belongs to one thread. Memory is accounted (engine/memory.h). */
#ifndef SLOTWISE_SERVER_TEXT_H
#define SLOTWISE_SERVER_TEXT_H

#include <stddef.h>

/* All zero is an empty text. data is NUL-terminated once something was appended; see text_string.
 */
struct text {
    char *data;
    size_t length;
    size_t capacity;
};

void text_append(struct text *text, const void *bytes, size_t length);
void text_append_string(struct text *text, const char *string);
void text_append_format(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* In double quotes, escaped so that words_split gives the same bytes back. */
void text_append_quoted(struct text *text, const char *bytes, size_t length);
/* The text as a C string, "" when empty; valid until the text is changed or freed. */
const char *text_string(const struct text *text);
/* Empty again, memory kept. */
void text_clear(struct text *text);
void text_free(struct text *text);

/* Words of a line. Each word ends with a NUL and may contain others ("\x00"): see lengths. */
struct words {
    char **word;
    size_t *length;
    int count;
};

/* Splits at white space. "..." knows \n \r \t \b \a \xHH and \ before any other byte; '...' knows
 * \' only. A closing quote must be followed by white space or the end. Returns 0, or -1 when quotes
 * do not balance (words is then empty). The line ends at its length or at a NUL. Free with
 * words_free. */
int words_split(const char *line, size_t length, struct words *words);
/* Splits at every single space, no quotes: "a  b" has three words; the empty line has none. */
void words_split_plain(const char *line, struct words *words);
void words_free(struct words *words);

#endif
