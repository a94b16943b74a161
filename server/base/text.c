/* A growing text and word splitting; see text.h. */
#include "server/base/text.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "engine/memory.h"

/* ---- text ---- */

/* Room for `more` bytes and a NUL behind what is there. */
static void text_reserve(struct text *text, size_t more) {
    size_t needed = text->length + more + 1;

    if (needed <= text->capacity)
        return;
    text->capacity = needed < 32 ? 64 : needed * 2;
    text->data = memory_realloc(text->data, text->capacity);
}

void text_append(struct text *text, const void *bytes, size_t length) {
    text_reserve(text, length);
    if (length > 0)
        memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void text_append_string(struct text *text, const char *string) {
    text_append(text, string, strlen(string));
}

void text_append_format(struct text *text, const char *format, ...) {
    va_list arguments, again;

    text_reserve(text, 64); /* most need no second try */
    size_t room = text->capacity - text->length;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(text->data + text->length, room, format, arguments);
    if (length > 0 && (size_t)length >= room) {
        text_reserve(text, (size_t)length);
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
    }
    text->length += length > 0 ? (size_t)length : 0;
    va_end(again);
    va_end(arguments);
}

void text_append_quoted(struct text *text, const char *bytes, size_t length) {
    static const char named[] = "\n\r\t\a\b\\\"";
    static const char names[] = "nrtab\\\"";

    text_append(text, "\"", 1);
    for (size_t i = 0; i < length; i++) {
        const char *match = bytes[i] != '\0' ? strchr(named, bytes[i]) : NULL;
        if (match != NULL)
            text_append_format(text, "\\%c", names[match - named]);
        else if (isprint((unsigned char)bytes[i]))
            text_append(text, &bytes[i], 1);
        else
            text_append_format(text, "\\x%02x", (unsigned char)bytes[i]);
    }
    text_append(text, "\"", 1);
}

const char *text_string(const struct text *text) {
    return text->data != NULL ? text->data : "";
}

void text_clear(struct text *text) {
    text->length = 0;
    if (text->data != NULL)
        text->data[0] = '\0';
}

void text_free(struct text *text) {
    memory_free(text->data);
    *text = (struct text){0};
}

/* ---- words ---- */

/* Takes over the bytes of `word` and empties it. */
static void words_add(struct words *words, struct text *word) {
    /* Powers of two: the count itself says when the arrays are full. */
    if ((words->count & (words->count - 1)) == 0) {
        size_t room = words->count == 0 ? 1 : (size_t)words->count * 2;
        words->word = memory_realloc(words->word, room * sizeof *words->word);
        words->length = memory_realloc(words->length, room * sizeof *words->length);
    }
    text_append(word, "", 0); /* so that an empty word has its NUL too */
    words->word[words->count] = word->data;
    words->length[words->count] = word->length;
    words->count++;
    *word = (struct text){0};
}

void words_free(struct words *words) {
    for (int i = 0; i < words->count; i++)
        memory_free(words->word[i]);
    memory_free(words->word);
    memory_free(words->length);
    *words = (struct words){0};
}

static int hex_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* One byte of a "..." word that starts with a backslash at *at; moves *at behind it. */
static char unescape(const char **at, const char *end) {
    const char *code = *at + 1;

    if (*code == 'x' && end - code > 2 && hex_value(code[1]) >= 0 && hex_value(code[2]) >= 0) {
        *at = code + 3;
        return (char)(hex_value(code[1]) << 4 | hex_value(code[2]));
    }
    *at = code + 1;
    switch (*code) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return *code;
    }
}

/* The rest of a word from an opening quote at *at. Moves *at behind the closing one; -1 without it.
 */
static int split_quoted(const char **at, const char *end, struct text *word) {
    char quote = *(*at)++;

    while (*at < end && **at != quote) {
        char byte = **at;
        if (byte == '\\' && end - *at > 1 && (quote == '"' || (*at)[1] == '\'')) {
            byte = unescape(at, end);
        } else {
            (*at)++;
        }
        text_append(word, &byte, 1);
    }
    if (*at == end)
        return -1;
    (*at)++;
    return *at == end || isspace((unsigned char)**at) ? 0 : -1;
}

int words_split(const char *line, size_t length, struct words *words) {
    const char *at = line;
    const char *end = line + strnlen(line, length);
    struct text word = {0};

    *words = (struct words){0};
    for (;;) {
        while (at < end && isspace((unsigned char)*at))
            at++;
        if (at == end)
            return 0;
        bool done = false;
        while (!done && at < end) {
            if (*at == '"' || *at == '\'') {
                if (split_quoted(&at, end, &word) < 0) {
                    text_free(&word);
                    words_free(words);
                    return -1;
                }
                done = true;
            } else if (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t') {
                done = true;
            } else {
                text_append(&word, at++, 1);
            }
        }
        words_add(words, &word);
    }
}

void words_split_plain(const char *line, struct words *words) {
    struct text word = {0};

    *words = (struct words){0};
    if (*line == '\0')
        return;
    for (;;) {
        size_t length = strcspn(line, " ");
        text_append(&word, line, length);
        words_add(words, &word);
        if (line[length] == '\0')
            return;
        line += length + 1;
    }
}
