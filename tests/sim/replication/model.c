/* See model.h. */
#include "tests/sim/replication/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "tests/sim/random.h"

/* "*3\r\n" or "$5\r\n" at data: the number and the bytes it takes; 0: not whole, negative: none. */
static int read_number(const char *data, size_t length, char mark, size_t *number) {
    if (length == 0)
        return 0;
    const char *end = memchr(data, '\n', length);
    if (data[0] != mark)
        return -1;
    if (!end)
        return length > 16 ? -1 : 0;
    if (end[-1] != '\r' || end - data < 3)
        return -1;
    *number = strtoul(data + 1, NULL, 10);
    return (int)(end + 1 - data);
}

int command_parse(const char *data, size_t length, struct command *command) {
    size_t at, argc, bytes;
    int head = read_number(data, length, '*', &argc);
    if (head <= 0)
        return head;
    if (argc < 1 || argc > COMMAND_ARGUMENTS)
        return -1;
    at = (size_t)head;
    for (size_t i = 0; i < argc; i++) {
        head = read_number(data + at, length - at, '$', &bytes);
        if (head <= 0)
            return head;
        at += (size_t)head;
        if (length - at < bytes + 2)
            return 0;
        command->argv[i] = data + at;
        command->lengths[i] = bytes;
        at += bytes + 2;
    }
    command->argc = (unsigned)argc;
    command->length = at;
    return 1;
}

static bool argument_is(const struct command *command, unsigned i, const char *text) {
    return i < command->argc && command->lengths[i] == strlen(text) &&
           memcmp(command->argv[i], text, command->lengths[i]) == 0;
}

bool command_is(const struct command *command, const char *name) {
    return argument_is(command, 0, name);
}

static uint64_t argument_number(const struct command *command, unsigned i) {
    return i < command->argc ? strtoull(command->argv[i], NULL, 10) : 0; /* "\r\n" follows */
}

unsigned command_database(const struct command *command) {
    uint64_t database = argument_number(command, 1);
    return database < MODEL_DATABASES ? (unsigned)database : MODEL_DATABASES;
}

static uint64_t digest(uint64_t state, const char *data, size_t length) {
    for (size_t i = 0; i < length; i++)
        state = (state ^ (unsigned char)data[i]) * 0x100000001b3u;
    return sim_random_mix(state + length);
}

static bool move_amount(struct model *model, unsigned database, const struct command *command,
                        int sign) {
    uint64_t account = argument_number(command, 1);
    if (account >= MODEL_ACCOUNTS)
        return false;
    model->accounts[database][account] += sign * (int64_t)argument_number(command, 2);
    return true;
}

bool model_apply(struct model *model, unsigned database, const struct command *command) {
    bool known = true;
    if (command_is(command, "INCR"))
        model->counters[database]++;
    else if (command_is(command, "SET"))
        model->strings[database] = digest(1, command->argv[2], command->lengths[2]);
    else if (command_is(command, "INCRBY"))
        known = move_amount(model, database, command, 1);
    else if (command_is(command, "DECRBY"))
        known = move_amount(model, database, command, -1);
    else
        known = false;
    model->effects++;
    model->chain = sim_random_mix(model->chain + database);
    for (unsigned i = 0; i < command->argc; i++)
        model->chain = digest(model->chain, command->argv[i], command->lengths[i]);
    return known;
}

bool model_is_whole(const struct model *model) {
    for (unsigned i = 0; i < MODEL_DATABASES; i++) {
        int64_t sum = 0;
        for (unsigned j = 0; j < MODEL_ACCOUNTS; j++)
            sum += model->accounts[i][j];
        if (sum != 0)
            return false;
    }
    return true;
}

size_t model_write(const struct model *model, char *text) {
    size_t length = (size_t)sprintf(text, "%" PRIu64 " %" PRIu64, model->chain, model->effects);
    for (unsigned i = 0; i < MODEL_DATABASES; i++) {
        length += (size_t)sprintf(text + length, " %" PRIu64 " %" PRIu64, model->counters[i],
                                  model->strings[i]);
        for (unsigned j = 0; j < MODEL_ACCOUNTS; j++)
            length += (size_t)sprintf(text + length, " %" PRId64, model->accounts[i][j]);
    }
    ASSERT(length < MODEL_TEXT_BYTES);
    return length;
}

bool model_read(struct model *model, const char *text, size_t length) {
    char copy[MODEL_TEXT_BYTES], *at = copy;
    if (length >= sizeof copy)
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    model->chain = strtoull(at, &at, 10);
    model->effects = strtoull(at, &at, 10);
    for (unsigned i = 0; i < MODEL_DATABASES; i++) {
        model->counters[i] = strtoull(at, &at, 10);
        model->strings[i] = strtoull(at, &at, 10);
        for (unsigned j = 0; j < MODEL_ACCOUNTS; j++)
            model->accounts[i][j] = strtoll(at, &at, 10);
    }
    return *at == '\0';
}
