/* RDB: the numbers of the file format, for its writer and its reader.
 *
 *     "REDIS" version (4 digits)
 *     AUX name value, FUNCTION2 code, MODULE_AUX ...                    about the file
 *     SELECTDB number, RESIZEDB keys expiring                           for each database
 *         [EXPIRETIME_MS ms] [IDLE seconds | FREQ counter] type key value   for each key
 *     EOF, CRC64 of all before it (8 bytes, little-endian; 0: none was made)
 *
 * A length takes 1, 2, 5 or 9 bytes: 00xxxxxx, 01xxxxxx x, 0x80 and 4 bytes, 0x81 and 8 bytes,
 * big-endian. 11xxxxxx in its place is a string in another form: an integer of 1, 2 or 4 bytes
 * (little-endian), or LZF: packed length, plain length, packed bytes.
 *
 * A DUMP payload is the type and the value of a key, the version (2 bytes, little-endian) and the
 * CRC64 of all that. */
#ifndef SLOTWISE_REPLICATION_RDB_H
#define SLOTWISE_REPLICATION_RDB_H

#include <stdint.h>

#define RDB_VERSION_READ_MAX    12
/* What is written unless a value needs more: Redis 7.0 reads it too. */
#define RDB_VERSION_WRITTEN     10
/* What hashes need whose fields have times to live: Redis 7.4's. */
#define RDB_VERSION_FIELD_TIMES 12

enum rdb_opcode {
    RDB_SLOT_INFO = 244,
    RDB_FUNCTION2 = 245,
    RDB_FUNCTION_PRE_GA = 246,
    RDB_MODULE_AUX = 247,
    RDB_IDLE = 248,
    RDB_FREQ = 249,
    RDB_AUX = 250,
    RDB_RESIZEDB = 251,
    RDB_EXPIRETIME_MS = 252,
    RDB_EXPIRETIME = 253,
    RDB_SELECTDB = 254,
    RDB_EOF = 255,
};

enum rdb_type {
    RDB_TYPE_STRING = 0,
    RDB_TYPE_LIST = 1,
    RDB_TYPE_SET = 2,
    RDB_TYPE_ZSET = 3,
    RDB_TYPE_HASH = 4,
    RDB_TYPE_ZSET_2 = 5,
    RDB_TYPE_MODULE_PRE_GA = 6,
    RDB_TYPE_MODULE_2 = 7,
    RDB_TYPE_HASH_ZIPMAP = 9,
    RDB_TYPE_LIST_ZIPLIST = 10,
    RDB_TYPE_SET_INTSET = 11,
    RDB_TYPE_ZSET_ZIPLIST = 12,
    RDB_TYPE_HASH_ZIPLIST = 13,
    RDB_TYPE_LIST_QUICKLIST = 14,
    RDB_TYPE_STREAM_LISTPACKS = 15,
    RDB_TYPE_HASH_LISTPACK = 16,
    RDB_TYPE_ZSET_LISTPACK = 17,
    RDB_TYPE_LIST_QUICKLIST_2 = 18,
    RDB_TYPE_STREAM_LISTPACKS_2 = 19,
    RDB_TYPE_SET_LISTPACK = 20,
    RDB_TYPE_STREAM_LISTPACKS_3 = 21,
    RDB_TYPE_HASH_TIMES_PRE_GA = 22, /* as 24 and 25, without the earliest time */
    RDB_TYPE_HASH_LISTPACK_TIMES_PRE_GA = 23,
    RDB_TYPE_HASH_TIMES = 24,
    RDB_TYPE_HASH_LISTPACK_TIMES = 25,
    RDB_TYPES
};

/* First byte of a length, and the forms of a string behind 0xc0. */
#define RDB_LENGTH_14   0x40
#define RDB_LENGTH_32   0x80
#define RDB_LENGTH_64   0x81
#define RDB_STRING_FORM 0xc0

enum rdb_string_form { RDB_FORM_INT8, RDB_FORM_INT16, RDB_FORM_INT32, RDB_FORM_LZF };

/* What a module's value consists of, each behind its number as a length. */
enum rdb_module_opcode {
    RDB_MODULE_EOF,
    RDB_MODULE_SINT,
    RDB_MODULE_UINT,
    RDB_MODULE_FLOAT,
    RDB_MODULE_DOUBLE,
    RDB_MODULE_STRING,
};

/* What a node of a quicklist is: one element by itself, or a listpack. */
enum rdb_node { RDB_NODE_PLAIN = 1, RDB_NODE_PACKED = 2 };

#define RDB_PAYLOAD_FOOTER_BYTES 10

#endif
