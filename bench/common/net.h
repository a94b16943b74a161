/*
 * Sockets for the benchmark tools. They talk over loopback or a Unix socket only by what they are
 * told; nothing here retries for ever.
 */
#ifndef BENCH_COMMON_NET_H
#define BENCH_COMMON_NET_H

#include <stddef.h>

/* Ends the program with a message; for the world's faults that a measuring tool cannot survive. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Connects (blocking) to socket_path if it is not NULL, else to host:port, with TCP_NODELAY. The
 * descriptor or -1, errno set. */
int net_connect(const char *host, int port, const char *socket_path);

/* A listening TCP socket on host:port, or -1, errno set. */
int net_listen(const char *host, int port);

/* Sends everything on a blocking socket. 0 or -1. */
int net_send_all(int fd, const void *data, size_t length);

/* 0 or -1. */
int net_set_nonblocking(int fd);

/* Raises the soft limit of open files to the hard one, and the hard one if we may, up to `wanted`.
 * Returns what we got. */
unsigned long net_raise_file_limit(unsigned long wanted);

#endif
