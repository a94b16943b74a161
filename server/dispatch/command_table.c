/* The command table: built once out of commands.def, then read by all threads.
 *
 * Lookup is a small open-addressing table keyed by length and up to 16 bytes of the name with bit 5
 * of each byte set, which folds the case of letters. That alone would take "\x07et" for no letter
 * but "-" and "|" for their neighbours, so a name that has other bytes than letters, or more than
 * 16, is compared exactly too.
 *
 * Handlers are weak references: a row whose handler is not linked in does not exist. (Weak
 * references do not pull members out of a static library: the program links the library as a
 * whole.) */
#include "server/dispatch/command.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "server/dispatch/command_category.h"
#include "server/dispatch/command_docs.h"
#include "server/dispatch/command_keys.h"
#include "server/dispatch/command_rows.h"

#define COMMAND(id, ...) extern command_handler cmd_##id __attribute__((weak));
#define CONTAINER(id, ...)
#define SUBCOMMAND(parent, id, ...) extern command_handler cmd_##id __attribute__((weak));
#include "server/dispatch/commands.def"
#undef COMMAND
#undef CONTAINER
#undef SUBCOMMAND

/* --- Rows ------------------------------------------------------------------------------------- */

struct row {
    const char *name;
    command_handler *handler;
    int16_t parent_row; /* -1: top level */
    int16_t arity;
    uint8_t access;
    bool container; /* has no handler and exists only with subcommands */
    uint8_t key_spec_count;
    struct key_spec key_specs[COMMAND_KEY_SPECS_MAX];
    uint32_t flags;
    uint64_t acl_categories;
    const char *group, *since, *summary;
};

/* In parentheses, since they have commas. */
#define NO_KEYS (.key_spec_count = 0)
#define KEYS(first, last, step, flags)                                                             \
    (.key_spec_count = 1, .key_specs = {{first, last, step, flags, NULL, false}})
#define COUNTED_KEYS(at, flags) (.key_spec_count = 1, .key_specs = {{at, 0, 1, flags, NULL, true}})
#define TWO_KEYS(first1, last1, step1, flags1, first2, last2, step2, flags2)                       \
    (.key_spec_count = 2, .key_specs = {{first1, last1, step1, flags1, NULL, false},               \
                                        {first2, last2, step2, flags2, NULL, false}})
#define TWO_SPECS(one, two)          (.key_spec_count = 2, .key_specs = {one, two})
#define THREE_SPECS(one, two, three) (.key_spec_count = 3, .key_specs = {one, two, three})
#define SPEC_RANGE(first, last, step, flags)                                                       \
    { first, last, step, flags, NULL, false }
#define SPEC_COUNTED(at, flags)                                                                    \
    { at, 0, 1, flags, NULL, true }
#define SPEC_UNKNOWN(flags)                                                                        \
    { 0, 0, 1, flags, NULL, false }
#define SPEC_WORD(word, from, last, step, flags)                                                   \
    { from, last, step, flags, word, false }
#define KEY_FIELDS(...) __VA_ARGS__

#define ROW(id_, parent_, handler_, container_, name_, arity_, access_, group_, since_, flags_,    \
            categories_, keys_, summary_)                                                          \
    [ROW_##id_] = {.name = name_,                                                                  \
                   .handler = handler_,                                                            \
                   .parent_row = parent_,                                                          \
                   .arity = arity_,                                                                \
                   .access = access_,                                                              \
                   .container = container_,                                                        \
                   .flags = flags_,                                                                \
                   .acl_categories = categories_,                                                  \
                   .group = group_,                                                                \
                   .since = since_,                                                                \
                   .summary = summary_,                                                            \
                   KEY_FIELDS keys_},
#define COMMAND(id, ...)            ROW(id, -1, cmd_##id, false, __VA_ARGS__)
#define CONTAINER(id, ...)          ROW(id, -1, NULL, true, __VA_ARGS__)
#define SUBCOMMAND(parent, id, ...) ROW(id, ROW_##parent, cmd_##id, false, __VA_ARGS__)

static const struct row rows[ROW_COUNT] = {
#include "server/dispatch/commands.def"
};

#undef COMMAND
#undef CONTAINER
#undef SUBCOMMAND

/* --- The table, written by command_table_init and command_rename only ------------------------- */

#define NAMES_LOG2 9 /* at least twice the number of top-level names */
#define NAMES      (1u << NAMES_LOG2)
#define FOLD       0x2020202020202020ull

struct name_slot {
    uint64_t first, last; /* folded bytes of the name, see name_key */
    const struct command *command;
    const char *name; /* not command->name when it was renamed */
    uint16_t length;
    bool letters; /* first and last tell the whole name */
};

static struct command commands[ROW_COUNT];
static unsigned count, top_level_count;
static struct name_slot names[NAMES];
/* The NULL-terminated lists of all containers, one after the other. */
static const struct command *subcommand_lists[2 * ROW_COUNT];

struct name_key {
    uint64_t first, last;
};

/* Up to 16 bytes of a name are all in here; of a longer one its first and last 8. */
static inline struct name_key name_key(const char *name, size_t length) {
    struct name_key key = {0, 0};
    if (length >= 8) {
        memcpy(&key.first, name, 8);
        memcpy(&key.last, name + length - 8, 8);
    } else if (length >= 4) {
        uint32_t low, high;
        memcpy(&low, name, 4);
        memcpy(&high, name + length - 4, 4);
        key.first = (uint64_t)high << 32 | low;
    } else if (length > 0) {
        key.first = (uint64_t)(uint8_t)name[0] | (uint64_t)(uint8_t)name[length / 2] << 8 |
                    (uint64_t)(uint8_t)name[length - 1] << 16;
    }
    key.first |= FOLD;
    key.last |= FOLD;
    return key;
}

static inline unsigned name_hash(struct name_key key, size_t length) {
    uint64_t mixed = key.first ^ (key.last << 29 | key.last >> 35) ^ length;
    return (unsigned)((mixed * 0x9e3779b97f4a7c15ull) >> (64 - NAMES_LOG2));
}

static bool names_equal(const char *a, const char *b, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (tolower((unsigned char)a[i]) != tolower((unsigned char)b[i]))
            return false;
    return true;
}

static struct name_slot *find_name(const char *name, size_t length) {
    struct name_key key = name_key(name, length);
    for (unsigned i = name_hash(key, length);; i++) {
        struct name_slot *slot = &names[i % NAMES];
        if (slot->command == NULL)
            return NULL;
        if (slot->first == key.first && slot->last == key.last && slot->length == length &&
            (LIKELY(slot->letters) || names_equal(slot->name, name, length)))
            return slot;
    }
}

static void add_name(const char *name, size_t length, const struct command *command) {
    struct name_key key = name_key(name, length);
    bool letters = length <= 16;
    for (size_t i = 0; i < length; i++)
        letters = letters && isalpha((unsigned char)name[i]);
    unsigned i = name_hash(key, length);
    while (names[i % NAMES].command != NULL)
        i++;
    names[i % NAMES] = (struct name_slot){.first = key.first,
                                          .last = key.last,
                                          .command = command,
                                          .name = name,
                                          .length = (uint16_t)length,
                                          .letters = letters};
}

/* The categories that follow from the flags. */
static uint64_t implied_categories(const struct row *row) {
    static const struct {
        uint32_t flag;
        uint64_t categories;
    } implied[] = {
        {COMMAND_WRITE, CATEGORY_WRITE},       {COMMAND_ADMIN, CATEGORY_ADMIN | CATEGORY_DANGEROUS},
        {COMMAND_PUBSUB, CATEGORY_PUBSUB},     {COMMAND_FAST, CATEGORY_FAST},
        {COMMAND_BLOCKING, CATEGORY_BLOCKING},
    };
    uint64_t categories = row->acl_categories;
    for (size_t i = 0; i < sizeof(implied) / sizeof(implied[0]); i++)
        if (row->flags & implied[i].flag)
            categories |= implied[i].categories;
    if ((row->flags & COMMAND_READONLY) && !(categories & CATEGORY_SCRIPTING))
        categories |= CATEGORY_READ;
    if (!(categories & CATEGORY_FAST))
        categories |= CATEGORY_SLOW;
    return categories;
}

static bool row_exists(unsigned index) {
    if (!rows[index].container)
        return rows[index].handler != NULL;
    for (unsigned i = index + 1; i < ROW_COUNT && rows[i].parent_row == (int)index; i++)
        if (rows[i].handler != NULL)
            return true;
    return false;
}

static struct command *add_row(unsigned index) {
    const struct row *row = &rows[index];
    struct command *command = &commands[count];
    *command = (struct command){.name = row->name,
                                .handler = row->handler,
                                .arity = row->arity,
                                .access = row->access,
                                .key_spec_count = row->key_spec_count,
                                .single_key = row->key_spec_count == 1 &&
                                              row->key_specs[0].first == row->key_specs[0].last,
                                .flags = row->flags,
                                .id = count,
                                .row = (uint16_t)index,
                                .name_length = (uint16_t)strlen(row->name),
                                .acl_categories = implied_categories(row),
                                .group = row->group,
                                .since = row->since,
                                .summary = row->summary,
                                .documentation = command_documentation(index)};
    memcpy(command->key_specs, row->key_specs, sizeof(command->key_specs));
    int first, last, step;
    if (!command_legacy_keys(command, &first, &last, &step))
        command->flags |= COMMAND_MOVABLE_KEYS;
    count++;
    return command;
}

void command_table_init(void) {
    const struct command **list = subcommand_lists;
    struct command *parent = NULL;
    count = top_level_count = 0;
    memset(names, 0, sizeof(names));
    for (unsigned i = 0; i < ROW_COUNT; i++) {
        if (!row_exists(i))
            continue;
        struct command *command = add_row(i);
        if (rows[i].parent_row < 0) {
            top_level_count++;
            ASSERT(top_level_count <= NAMES / 2);
            add_name(command->name, command->name_length, command);
            parent = command;
            continue;
        }
        ASSERT(parent != NULL && parent->row == rows[i].parent_row);
        command->parent = parent;
        if (parent->subcommands == NULL) {
            if (list != subcommand_lists)
                *list++ = NULL;
            parent->subcommands = list;
        }
        *list++ = command;
        *list = NULL;
    }
}

unsigned command_count(void) {
    return count;
}

unsigned command_top_level_count(void) {
    return top_level_count;
}

const struct command *command_by_id(unsigned id) {
    ASSERT(id < count);
    return &commands[id];
}

/* --- Lookup ----------------------------------------------------------------------------------- */

static const struct command *find_subcommand(const struct command *container, const char *name,
                                             size_t length) {
    size_t skip = container->name_length + 1u;
    for (const struct command *const *list = container->subcommands; *list != NULL; list++)
        if ((*list)->name_length == skip + length &&
            names_equal((*list)->name + skip, name, length))
            return *list;
    return NULL;
}

const struct command *command_lookup(const struct argument *argv, int argc,
                                     const struct command **container) {
    const struct name_slot *slot = find_name(argv[0].data, argv[0].length);
    *container = NULL;
    if (UNLIKELY(slot == NULL))
        return NULL;
    const struct command *command = slot->command;
    if (LIKELY(command->subcommands == NULL) || argc == 1)
        return command;
    *container = command;
    return find_subcommand(command, argv[1].data, argv[1].length);
}

const struct command *command_by_name(const char *name, size_t length) {
    const char *bar = length > 0 ? memchr(name, '|', length) : NULL;
    size_t head = bar == NULL ? length : (size_t)(bar - name);
    const struct name_slot *slot = find_name(name, head);
    if (slot == NULL || bar == NULL)
        return slot == NULL ? NULL : slot->command;
    if (slot->command->subcommands == NULL)
        return NULL;
    return find_subcommand(slot->command, bar + 1, length - head - 1);
}

const char *command_rename(const char *name, const char *new_name) {
    struct name_slot *slot = find_name(name, strlen(name));
    if (slot == NULL)
        return "No such command in rename-command";
    size_t length = strlen(new_name);
    const struct name_slot *taken = find_name(new_name, length);
    if (length > UINT16_MAX || (taken != NULL && taken != slot))
        return "Target command name already exists";
    const struct command *command = slot->command;

    /* Take the slot out and put all others in again: probe sequences must have no holes. */
    static struct name_slot old[NAMES];
    slot->command = NULL;
    memcpy(old, names, sizeof(names));
    memset(names, 0, sizeof(names));
    for (unsigned i = 0; i < NAMES; i++)
        if (old[i].command != NULL)
            add_name(old[i].name, old[i].length, old[i].command);
    if (length > 0)
        add_name(memory_strdup(new_name), length, command);
    else
        top_level_count--;
    return NULL;
}

bool command_arity_fits(const struct command *command, int argc) {
    return command->arity > 0 ? argc == command->arity : argc >= -command->arity;
}

/* --- Error replies ---------------------------------------------------------------------------- */

/* Length as far as a C string goes and at most max: Redis prints arguments with %.128s. */
static int printed_length(const struct argument *argument, size_t max) {
    return (int)strnlen(argument->data, argument->length < max ? argument->length : max);
}

void command_reply_unknown(struct reply *reply, const struct argument *argv, int argc,
                           const struct command *container) {
    if (container != NULL) {
        char upper[128];
        size_t length = argv[0].length < sizeof(upper) ? argv[0].length : sizeof(upper);
        for (size_t i = 0; i < length; i++)
            upper[i] = (char)toupper((unsigned char)argv[0].data[i]);
        reply_error_format(reply, "ERR unknown subcommand '%.*s'. Try %.*s HELP.",
                           printed_length(&argv[1], 128), argv[1].data, (int)length, upper);
        return;
    }
    char arguments[128 + sizeof("'' ")];
    size_t used = 0;
    for (int i = 1; i < argc && used < 128; i++)
        used += (size_t)snprintf(arguments + used, sizeof(arguments) - used, "'%.*s' ",
                                 printed_length(&argv[i], 128 - used), argv[i].data);
    reply_error_format(reply, "ERR unknown command '%.*s', with args beginning with: %.*s",
                       printed_length(&argv[0], 128), argv[0].data, (int)used, arguments);
}

void command_reply_wrong_arity(struct reply *reply, const struct command *command) {
    reply_error_format(reply, "ERR wrong number of arguments for '%s' command", command->name);
}
