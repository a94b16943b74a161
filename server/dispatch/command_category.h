/* The ACL categories of commands: their bits and their names. Constants; any thread. */
#ifndef SLOTWISE_SERVER_COMMAND_CATEGORY_H
#define SLOTWISE_SERVER_COMMAND_CATEGORY_H

#include <stddef.h>
#include <stdint.h>

/* COMMAND INFO and ACL CAT show them in this order. */
#define CATEGORY_KEYSPACE    (1u << 0)
#define CATEGORY_READ        (1u << 1)
#define CATEGORY_WRITE       (1u << 2)
#define CATEGORY_SET         (1u << 3)
#define CATEGORY_SORTEDSET   (1u << 4)
#define CATEGORY_LIST        (1u << 5)
#define CATEGORY_HASH        (1u << 6)
#define CATEGORY_STRING      (1u << 7)
#define CATEGORY_BITMAP      (1u << 8)
#define CATEGORY_HYPERLOGLOG (1u << 9)
#define CATEGORY_GEO         (1u << 10)
#define CATEGORY_STREAM      (1u << 11)
#define CATEGORY_PUBSUB      (1u << 12)
#define CATEGORY_ADMIN       (1u << 13)
#define CATEGORY_FAST        (1u << 14)
#define CATEGORY_SLOW        (1u << 15)
#define CATEGORY_BLOCKING    (1u << 16)
#define CATEGORY_DANGEROUS   (1u << 17)
#define CATEGORY_CONNECTION  (1u << 18)
#define CATEGORY_TRANSACTION (1u << 19)
#define CATEGORY_SCRIPTING   (1u << 20)
#define CATEGORY_COUNT       21

const char *command_category_name(unsigned bit);                    /* 0..CATEGORY_COUNT-1 */
uint64_t command_category_by_name(const char *name, size_t length); /* any case; 0: none */

#endif
