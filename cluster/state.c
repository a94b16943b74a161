/* Small things that all parts of the cluster use (state.h). */
#include "cluster/state.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LOG_BYTES 1024

void cluster_log(const struct cluster *cluster, enum cluster_log_level level, const char *format,
                 ...) {
    char text[LOG_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    cluster->calls.log(cluster->context, level, text);
}

const char *cluster_error(struct cluster *cluster, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cluster->error, sizeof cluster->error, format, arguments);
    va_end(arguments);
    return cluster->error;
}

void cluster_random_id(const struct cluster *cluster, struct node_id *id) {
    uint64_t bits = 0;
    for (unsigned i = 0; i < WIRE_ID_LENGTH; i++, bits >>= 4) {
        if (i % 16 == 0)
            bits = cluster_random(cluster);
        id->hex[i] = "0123456789abcdef"[bits & 15];
    }
}

uint64_t cluster_to_unix_ms(const struct cluster *cluster, uint64_t at_ms) {
    if (at_ms == 0)
        return 0;
    uint64_t unix_ms = cluster->calls.unix_ms(cluster->context);
    uint64_t age_ms = cluster_age(cluster_now(cluster), at_ms);
    return unix_ms > age_ms ? unix_ms - age_ms : 0;
}

uint64_t cluster_from_unix_ms(const struct cluster *cluster, uint64_t unix_ms) {
    if (unix_ms == 0)
        return 0;
    uint64_t now_ms = cluster_now(cluster);
    uint64_t age_ms = cluster_age(cluster->calls.unix_ms(cluster->context), unix_ms);
    return now_ms > age_ms ? now_ms - age_ms : 1;
}

int id_compare(const struct node_id *a, const struct node_id *b) {
    return memcmp(a->hex, b->hex, WIRE_ID_LENGTH);
}

bool id_is_valid(const void *text, size_t length) {
    if (length != WIRE_ID_LENGTH)
        return false;
    const char *c = text;
    for (size_t i = 0; i < length; i++)
        if (!(c[i] >= 'a' && c[i] <= 'z') && !(c[i] >= '0' && c[i] <= '9'))
            return false;
    return true;
}

bool name_is_valid(const void *text, size_t length) {
    const unsigned char *c = text;
    if (length >= CLUSTER_NAME_BYTES)
        return false;
    for (size_t i = 0; i < length; i++)
        if (c[i] <= ' ' || c[i] == 127 || strchr(",=\"'\\", c[i]))
            return false;
    return true;
}

bool address_is_valid(const char *text) {
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr(".:-_%", *text))
            return false;
    return true;
}

uint64_t cluster_offset(const struct cluster *cluster) {
    struct cluster_data_position position = {0};
    cluster->calls.position(cluster->context, &position);
    return position.offset;
}
