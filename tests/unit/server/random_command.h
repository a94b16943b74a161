/* Random commands on a few keys of a few databases, and the comparison of two keyspaces: for tests
 * that hold a stream of changes against what it leads to. Included after run_command.h. */
#ifndef SLOTWISE_TESTS_RANDOM_COMMAND_H
#define SLOTWISE_TESTS_RANDOM_COMMAND_H

#include "engine/random_slot.h"
#include "tests/unit/server/run_command.h"

#define RANDOM_DATABASES 3
#define RANDOM_KEYS      40
#define RANDOM_WORDS     8

struct random_command {
    char text[RANDOM_WORDS][64];
    struct argument argv[RANDOM_WORDS];
    int argc;
    char *large; /* a value too large for text */
};

/* K a key, D a database, T a time to live in ms, S one in seconds, A a point in time in ms, V a
 * value, N a number, B a value of many KB, O an offset. */
static const char *const random_shapes[] = {
    "SET K V",
    "SET K N",
    "SET K V PX T",
    "SET K V EX S",
    "SET K V PXAT A",
    "SET K V GET",
    "SET K V GET PX T",
    "SET K V KEEPTTL",
    "SET K V NX",
    "SET K V XX PX T",
    "SET K B",
    "SETNX K V",
    "SETEX K S V",
    "PSETEX K T V",
    "GETSET K V",
    "GETDEL K",
    "GETEX K PX T",
    "GETEX K PXAT A",
    "GETEX K PERSIST",
    "MSET K V K V K N",
    "MSETNX K V K V",
    "APPEND K V",
    "APPEND K B",
    "SETRANGE K O V",
    "INCR K",
    "DECRBY K N",
    "INCRBY K N",
    "INCRBYFLOAT K N",
    "EXPIRE K S",
    "PEXPIRE K T",
    "PEXPIREAT K A",
    "PEXPIRE K T NX",
    "PEXPIRE K T XX GT",
    "PEXPIRE K T LT",
    "EXPIRE K S",
    "PERSIST K",
    "DEL K",
    "DEL K K K",
    "UNLINK K K",
    "RENAME K K",
    "RENAMENX K K",
    "COPY K K",
    "COPY K K REPLACE",
    "COPY K K DB D REPLACE",
    "MOVE K D",
    "GET K",
    "MGET K K K",
    "TTL K",
    "STRLEN K",
    "TOUCH K K",
    "GETRANGE K O O",
};

static void random_command_free(struct random_command *command) {
    free(command->large);
    command->large = NULL;
}

static struct argument random_argument(struct random_command *command, char letter,
                                       uint64_t *random) {
    char *text = command->text[command->argc];
    size_t room = sizeof command->text[0];
    int64_t small = (int64_t)random_below(random, 12);
    switch (letter) {
    case 'K': /* two thirds of them in one slot */
        snprintf(text, room, small % 3 ? "{one}%d" : "key:%d",
                 (int)random_below(random, RANDOM_KEYS));
        break;
    case 'D':
        snprintf(text, room, "%d", (int)random_below(random, RANDOM_DATABASES));
        break;
    case 'T':
        snprintf(text, room, "%d", small == 0 ? 0 : 1 + (int)random_below(random, 20));
        break;
    case 'S':
        snprintf(text, room, "%d", (int)small - 1);
        break;
    case 'A':
        snprintf(text, room, "%lld", (long long)(clock_now_ms() + 5 * (small - 2)));
        break;
    case 'N':
        snprintf(text, room, "%d", (int)small * 1000 - 3000);
        break;
    case 'O':
        snprintf(text, room, "%d", small < 10 ? (int)small * 7 : (int)random_below(random, 40000));
        break;
    case 'B':
        free(command->large);
        command->large = filled('b', 10000 + (size_t)small * 2000);
        return (struct argument){command->large, strlen(command->large)};
    default:
        snprintf(text, room, "value %d %.*s", (int)random_below(random, 1000), (int)small * 3,
                 "..................................");
    }
    return (struct argument){text, strlen(text)};
}

static void random_command_make(struct random_command *command, uint64_t *random) {
    size_t shapes = sizeof random_shapes / sizeof *random_shapes;
    const char *shape = random_shapes[random_below(random, shapes)];
    command->argc = 0;
    while (*shape) {
        size_t length = strcspn(shape, " ");
        command->argv[command->argc] = length == 1 ? random_argument(command, *shape, random)
                                                   : (struct argument){shape, length};
        command->argc++;
        shape += length + (shape[length] == ' ');
    }
}

/* --- What is in a keyspace -------------------------------------------------------------------- */

struct dump {
    char (*lines)[160];
    size_t count, room;
};

static void dump_add(struct dump *dump, unsigned physical, const struct object *object) {
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t key_length, length;
    const char *key = object_key(object, &key_length);
    const char *value = object_string(object, buffer, &length);
    if (dump->count == dump->room) {
        dump->room = dump->room ? dump->room * 2 : 256;
        dump->lines = realloc(dump->lines, dump->room * sizeof *dump->lines);
    }
    snprintf(dump->lines[dump->count++], sizeof *dump->lines, "%u %.*s %zu %llx %lld", physical,
             (int)key_length, key, length, (unsigned long long)table_hash(value, length),
             (long long)object_expiry(object));
}

struct dump_walk {
    struct dump *dump;
    unsigned physical;
    int id; /* only objects of another one; -1: all */
};

static void dump_visit(struct object *object, uint64_t hash, void *context) {
    const struct dump_walk *walk = context;
    (void)hash;
    if (walk->id < 0 || object_snapshot_id(object) != (unsigned)walk->id)
        dump_add(walk->dump, walk->physical, object);
}

/* A database by its logical number, named by its physical one. */
static void dump_database(struct dump *dump, const struct keyspace *from, unsigned logical,
                          int id) {
    struct dump_walk walk = {dump, from->database_map[logical], id};
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        const table_root *root = keyspace_root(from, logical, slot);
        uint64_t next = 0;
        if (!root)
            continue;
        do
            table_walk(root, next, 0, SIZE_MAX, SIZE_MAX, false, dump_visit, &walk, &next);
        while (next != 0);
    }
}

static int dump_compare(const void *a, const void *b) {
    return strcmp(a, b);
}

/* Empties both. */
static void dumps_are_equal(struct dump *a, struct dump *b) {
    if (a->count > 0)
        qsort(a->lines, a->count, sizeof *a->lines, dump_compare);
    if (b->count > 0)
        qsort(b->lines, b->count, sizeof *b->lines, dump_compare);
    for (size_t i = 0; i < a->count && i < b->count; i++)
        cr_assert_str_eq(a->lines[i], b->lines[i]);
    cr_assert_eq(a->count, b->count, "%zu and %zu", a->count, b->count);
    free(a->lines);
    free(b->lines);
    *a = *b = (struct dump){0};
}

/* Same keys, values and times to live under the same logical numbers. */
static void keyspaces_are_equal(const struct keyspace *a, const struct keyspace *b) {
    for (unsigned i = 0; i < a->databases; i++) {
        struct dump of_a = {0}, of_b = {0};
        dump_database(&of_a, a, i, -1);
        dump_database(&of_b, b, i, -1);
        for (size_t j = 0; j < of_a.count; j++)
            memmove(of_a.lines[j], strchr(of_a.lines[j], ' '),
                    strlen(strchr(of_a.lines[j], ' ')) + 1);
        for (size_t j = 0; j < of_b.count; j++)
            memmove(of_b.lines[j], strchr(of_b.lines[j], ' '),
                    strlen(strchr(of_b.lines[j], ' ')) + 1);
        dumps_are_equal(&of_a, &of_b);
    }
}

#endif
