/* Query buffer: bytes of a connection that have been received and not yet executed. Knows no
 * connection. On the connection's thread. */
#ifndef SLOTWISE_SERVER_QUERY_H
#define SLOTWISE_SERVER_QUERY_H

#include <stddef.h>

/* data[begin, end). Empty most of the time: commands are parsed where they were received. */
struct query_buffer {
    char *data;
    size_t begin, end, capacity;
    size_t parsed; /* data[begin, parsed) are entries of the batch */
    size_t needed; /* no use parsing before end - parsed reaches this */
};

/* Moves what is there; nothing may point into it. */
void query_append(struct query_buffer *query, const char *data, size_t length);
/* Drops everything before the offset; frees the buffer when nothing is left. */
void query_drop(struct query_buffer *query, size_t offset);

#endif
