/* Texts of a configuration; see config_values.h. Pure functions; any thread. */
#include "server/config/config_values.h"

#include <string.h>

#include "engine/memory.h"

/* In front of the bytes, so that readers have a plain C string. */
struct text_header {
    size_t length;
    char bytes[];
};

static const struct text_header *text_header(const char *text) {
    return (const struct text_header *)(const void *)(text - offsetof(struct text_header, bytes));
}

char *config_text_make(const char *bytes, size_t length) {
    struct text_header *made = memory_alloc(sizeof *made + length + 1);

    made->length = length;
    memcpy(made->bytes, bytes, length);
    made->bytes[length] = '\0';
    return made->bytes;
}

void config_text_free(char *text) {
    if (text != NULL)
        memory_free((void *)text_header(text));
}

size_t config_text_length(const char *text) {
    return text != NULL ? text_header(text)->length : 0;
}
