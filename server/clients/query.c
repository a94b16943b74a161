/* See query.h. */
#include "server/clients/query.h"

#include <string.h>

#include "engine/memory.h"

#define QUERY_TRUST_BYTES (1024 * 1024)

void query_append(struct query_buffer *query, const char *data, size_t length) {
    size_t kept = query->end - query->begin, wanted = kept + length;
    if (query->end + length > query->capacity && query->begin > 0) {
        memmove(query->data, query->data + query->begin, kept);
        query->parsed -= query->begin;
        query->end = kept;
        query->begin = 0;
    }
    if (wanted > query->capacity) {
        /* Doubling; the announced size at once when it is not far away (what was announced need not
         * come). */
        size_t capacity = query->capacity * 2 > wanted ? query->capacity * 2 : wanted;
        size_t needed = query->parsed - query->begin + query->needed;
        if (needed > wanted && (needed <= QUERY_TRUST_BYTES || needed / 4 <= wanted))
            capacity = needed;
        query->data = memory_realloc(query->data, capacity);
        query->capacity = capacity;
    }
    memcpy(query->data + query->end, data, length);
    query->end += length;
}

void query_drop(struct query_buffer *query, size_t offset) {
    query->begin = query->parsed = offset;
    if (query->begin == query->end) {
        memory_free(query->data);
        *query = (struct query_buffer){0};
    }
}
