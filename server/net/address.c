/* See address.h. */
#include "server/net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/assert.h"
#include "server/base/numbers.h"

static struct address from_kernel(const struct sockaddr_storage *storage) {
    struct address address = {.family = (uint8_t)storage->ss_family};
    if (storage->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)storage;
        address.port = ntohs(in->sin_port);
        memcpy(address.bytes, &in->sin_addr, sizeof in->sin_addr);
    } else if (storage->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)storage;
        address.port = ntohs(in->sin6_port);
        memcpy(address.bytes, &in->sin6_addr, sizeof in->sin6_addr);
    }
    return address;
}

struct address address_of_peer(int fd) {
    struct sockaddr_storage storage = {0};
    socklen_t length = sizeof storage;
    if (getpeername(fd, (struct sockaddr *)&storage, &length) < 0)
        return (struct address){0};
    return from_kernel(&storage);
}

struct address address_of_local(int fd) {
    struct sockaddr_storage storage = {0};
    socklen_t length = sizeof storage;
    if (getsockname(fd, (struct sockaddr *)&storage, &length) < 0)
        return (struct address){0};
    return from_kernel(&storage);
}

bool address_equal(const struct address *a, const struct address *b) {
    return a->family == b->family && a->port == b->port &&
           memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

bool address_is_loopback(const struct address *address) {
    if (address->family == AF_INET)
        return address->bytes[0] == 127;
    if (address->family == AF_INET6)
        return memcmp(address->bytes, &in6addr_loopback, sizeof address->bytes) == 0;
    return address->family == AF_UNIX;
}

void address_host_text(const struct address *address, char *text, size_t size) {
    if ((address->family != AF_INET && address->family != AF_INET6) ||
        !inet_ntop(address->family, address->bytes, text, (socklen_t)size))
        snprintf(text, size, "?");
}

/* Without a format: CLIENT LIST writes many of them. */
void address_text(const struct address *address, char *text, size_t size) {
    char host[INET6_ADDRSTRLEN];
    ASSERT(size >= ADDRESS_TEXT_BYTES);
    if (address->family == AF_INET) {
        for (int i = 0; i < 4; i++) {
            text += number_write_uint64(text, address->bytes[i]);
            *text++ = i < 3 ? '.' : ':';
        }
        number_write_uint64(text, address->port);
        return;
    }
    address_host_text(address, host, sizeof host);
    const char *format = address->family == AF_INET6 ? "[%s]:%u" : "%s:%u";
    snprintf(text, size, format, host, address->port);
}

bool address_is_unix(const struct address *address) {
    return address->family == AF_UNIX;
}

/* Written back it is the same text, so that each address has one spelling. */
bool address_parse(const char *text, size_t length, struct address *address) {
    char copy[ADDRESS_TEXT_BYTES], again[ADDRESS_TEXT_BYTES];
    if (length >= sizeof copy || memchr(text, 0, length))
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    char *host = copy, *colon = strrchr(copy, ':');
    int64_t port;
    if (!colon || !number_parse_int64(colon + 1, strlen(colon + 1), &port) || port < 0 ||
        port > UINT16_MAX)
        return false;
    *colon = '\0';
    size_t host_length = strlen(host);
    *address = (struct address){.family = AF_INET, .port = (uint16_t)port};
    if (host_length >= 2 && host[0] == '[' && host[host_length - 1] == ']') {
        address->family = AF_INET6;
        host[host_length - 1] = '\0';
        host++;
    }
    if (inet_pton(address->family, host, address->bytes) != 1)
        return false;
    address_text(address, again, sizeof again);
    return strlen(again) == length && memcmp(again, text, length) == 0;
}
