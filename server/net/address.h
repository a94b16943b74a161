/* Addresses of sockets: read once, compared and shown without a system call. No state; any thread.
 */
#ifndef SLOTWISE_SERVER_ADDRESS_H
#define SLOTWISE_SERVER_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESS_TEXT_BYTES 64 /* of an Internet address with its port */

struct address {
    uint8_t family; /* AF_INET, AF_INET6, AF_UNIX (no path is kept); 0: not known */
    uint16_t port;
    uint8_t bytes[16]; /* network order; zero beyond the address */
};

/* Of a socket: its other end, its own. Not known if the kernel does not tell. */
struct address address_of_peer(int fd);
struct address address_of_local(int fd);
bool address_equal(const struct address *a, const struct address *b);
/* 127.0.0.0/8 and ::1; a Unix socket is loopback too. */
bool address_is_loopback(const struct address *address);
bool address_is_unix(const struct address *address);
/* The host alone, without brackets; "?" if there is none. */
void address_host_text(const struct address *address, char *text, size_t size);
/* "1.2.3.4:5", "[::1]:5"; "?:0" if it is no Internet address. size: ADDRESS_TEXT_BYTES at least. */
void address_text(const struct address *address, char *text, size_t size);
/* The address that address_text writes so, to the letter. false: there is none. */
bool address_parse(const char *text, size_t length, struct address *address);

#endif
