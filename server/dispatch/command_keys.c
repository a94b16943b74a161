/* See command_keys.h. */
#include "server/dispatch/command_keys.h"

#include <string.h>
#include <strings.h>

#include "server/base/numbers.h"
#include "server/dispatch/command_rows.h"

/* What the key of a command is used for may depend on the arguments: SET reads it only with GET. */
static uint32_t key_flags(const struct command *command, const struct key_spec *spec,
                          const struct argument *argv, int argc) {
    if (!(spec->flags & KEY_VARIABLE_FLAGS) || command->row != ROW_set)
        return spec->flags;
    for (int i = 3; i < argc; i++)
        if (argv[i].length == 3 && strncasecmp(argv[i].data, "get", 3) == 0)
            return KEY_RW | KEY_ACCESS | KEY_UPDATE;
    return KEY_OW | KEY_UPDATE;
}

/* MIGRATE: the fourth argument, or if that is empty what follows the word KEYS. */
static int migrate_keys(const struct command *command, const struct argument *argv, int argc,
                        int *out, uint32_t *flags, int room) {
    int first = 3, last = 3, n = 0;
    if (argv[3].length == 0)
        for (int i = 6; i < argc; i++)
            if (argv[i].length == 4 && strncasecmp(argv[i].data, "keys", 4) == 0) {
                first = i + 1;
                last = argc - 1;
                break;
            }
    for (int i = first; i <= last; i++, n++) {
        if (n >= room)
            continue;
        out[n] = i;
        if (flags != NULL)
            flags[n] = command->key_specs[0].flags;
    }
    return n;
}

/* GEORADIUS and GEORADIUSBYMEMBER: the first argument, and what follows the last STORE or STOREDIST
 * among the options, as the handler reads them. */
static int georadius_keys(const struct command *command, const struct argument *argv, int argc,
                          int *out, uint32_t *flags, int room) {
    int indexes[2] = {1, 0}, n = 1;
    for (int i = command->key_specs[1].first; i + 1 < argc; i++)
        if ((argv[i].length == 5 && strncasecmp(argv[i].data, "store", 5) == 0) ||
            (argv[i].length == 9 && strncasecmp(argv[i].data, "storedist", 9) == 0)) {
            indexes[1] = ++i;
            n = 2;
        }
    for (int i = 0; i < n && i < room; i++) {
        out[i] = indexes[i];
        if (flags != NULL)
            flags[i] = command->key_specs[i].flags;
    }
    return n;
}

/* How many arguments follow an option of SORT. */
static int sort_option_arguments(const struct argument *option) {
    if (option->length == 5 && strncasecmp(option->data, "limit", 5) == 0)
        return 2;
    return (option->length == 3 && strncasecmp(option->data, "get", 3) == 0) ||
           (option->length == 2 && strncasecmp(option->data, "by", 2) == 0);
}

/* SORT: the first argument, and what follows the last STORE. Those that BY and GET lead to are not
 * told: it runs while all is stopped. */
static int sort_keys(const struct command *command, const struct argument *argv, int argc, int *out,
                     uint32_t *flags, int room) {
    int indexes[2] = {1, 0}, n = 1;
    for (int i = 2; i < argc; i += 1 + sort_option_arguments(&argv[i]))
        if (argv[i].length == 5 && strncasecmp(argv[i].data, "store", 5) == 0 && i + 1 < argc) {
            indexes[1] = i + 1;
            n = 2;
        }
    for (int i = 0; i < n && i < room; i++) {
        out[i] = indexes[i];
        if (flags != NULL)
            flags[i] = command->key_specs[i == 0 ? 0 : 2].flags;
    }
    return n;
}

/* The keys behind their number at argv[*first]. false: there are not so many arguments, or none. */
static bool counted_range(const struct argument *argv, int argc, int *first, int *last) {
    int64_t count;
    if (*first >= argc || !number_parse_int64(argv[*first].data, argv[*first].length, &count) ||
        count < 1 || count > argc - 1 - *first)
        return false;
    *last = *first + (int)count;
    ++*first;
    return true;
}

int command_keys_and_flags(const struct command *command, const struct argument *argv, int argc,
                           int *out, uint32_t *flags, int room) {
    int n = 0;
    if (command->row == ROW_migrate)
        return migrate_keys(command, argv, argc, out, flags, room);
    if (command->row == ROW_georadius || command->row == ROW_georadiusbymember)
        return georadius_keys(command, argv, argc, out, flags, room);
    if (command->row == ROW_sort)
        return sort_keys(command, argv, argc, out, flags, room);
    for (unsigned s = 0; s < command->key_spec_count; s++) {
        const struct key_spec *spec = &command->key_specs[s];
        if ((spec->flags & KEY_NOT_KEY) || spec->first == 0)
            continue;
        int first = spec->first;
        int last = spec->last < 0 ? argc + spec->last : spec->last;
        if (spec->counted && !counted_range(argv, argc, &first, &last))
            return -1;
        if (last >= argc || last < first)
            return -1;
        uint32_t spec_flags = flags != NULL ? key_flags(command, spec, argv, argc) : 0;
        for (int i = first; i <= last; i += spec->step, n++) {
            if (n >= room)
                continue;
            out[n] = i;
            if (flags != NULL)
                flags[n] = spec_flags;
        }
        if (spec->flags & KEY_INCOMPLETE)
            return -1;
    }
    return n;
}

int command_keys(const struct command *command, const struct argument *argv, int argc, int *out,
                 int room) {
    return command_keys_and_flags(command, argv, argc, out, NULL, room);
}

bool command_legacy_keys(const struct command *command, int *first, int *last, int *step) {
    bool complete = true;
    int previous_last = 0;
    *first = *last = *step = 0;
    for (unsigned i = 0; i < command->key_spec_count; i++) {
        const struct key_spec *spec = &command->key_specs[i];
        if (spec->flags & KEY_INCOMPLETE)
            complete = false;
        if (spec->word || spec->counted || spec->first == 0) {
            complete = false;
            continue;
        }
        /* Several specs make one range only if they are single-stepped and follow each other. */
        if (command->key_spec_count > 1 &&
            (spec->step != 1 || (previous_last != 0 && previous_last != spec->first - 1))) {
            complete = false;
            continue;
        }
        if (*first == 0 || spec->first < *first)
            *first = spec->first;
        /* Unsigned: "to the last argument" is the greatest. */
        if ((unsigned)spec->last > (unsigned)*last)
            *last = spec->last;
        *step = spec->step;
        previous_last = *last;
    }
    return complete;
}
