/* A text that grows. All zero is the empty one; the text is NUL-terminated and freed with
 * memory_free. */
#ifndef SLOTWISE_CLUSTER_LINES_H
#define SLOTWISE_CLUSTER_LINES_H

#include <stddef.h>

struct lines {
    char *text;
    size_t length, capacity;
};

void lines_add(struct lines *lines, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
