/* The data of a simulated server: in each database a counter, a string, and accounts between which
 * MULTI moves amounts, so that their sum is 0 unless a transaction is torn. `chain` is a digest of
 * all effects in their order: two states are the same if their chains are. */
#ifndef SLOTWISE_TESTS_SIM_MODEL_H
#define SLOTWISE_TESTS_SIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_DATABASES 3
#define MODEL_ACCOUNTS  6

struct model {
    uint64_t chain, effects;
    uint64_t counters[MODEL_DATABASES], strings[MODEL_DATABASES];
    int64_t accounts[MODEL_DATABASES][MODEL_ACCOUNTS];
};

/* A command of the stream; its arguments lie in the bytes it came in. */
#define COMMAND_ARGUMENTS 4
struct command {
    size_t length; /* bytes of the whole */
    unsigned argc;
    const char *argv[COMMAND_ARGUMENTS];
    size_t lengths[COMMAND_ARGUMENTS];
};

/* 1 and *command: it is whole; 0: more is needed; -1: no command. */
int command_parse(const char *data, size_t length, struct command *command);
bool command_is(const struct command *command, const char *name);
/* The number behind SELECT; MODEL_DATABASES: none. */
unsigned command_database(const struct command *command);

/* false: no effect that a primary sends. */
bool model_apply(struct model *model, unsigned database, const struct command *command);
/* Accounts add up in each database. */
bool model_is_whole(const struct model *model);
/* As text and back. */
#define MODEL_TEXT_BYTES 1024
size_t model_write(const struct model *model, char *text);
bool model_read(struct model *model, const char *text, size_t length);

#endif
