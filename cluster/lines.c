/* See lines.h. */
#include "cluster/lines.h"

#include <stdarg.h>
#include <stdio.h>

#include "engine/memory.h"

void lines_add(struct lines *lines, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    size_t room = lines->capacity - lines->length;
    int wanted = vsnprintf(room ? lines->text + lines->length : NULL, room, format, arguments);
    va_end(arguments);
    size_t added = wanted > 0 ? (size_t)wanted : 0;
    if (added >= room) {
        lines->capacity = (lines->length + added + 1) * 2;
        lines->text = memory_realloc(lines->text, lines->capacity);
        vsnprintf(lines->text + lines->length, lines->capacity - lines->length, format, again);
    }
    va_end(again);
    lines->length += added;
}
