/* COMMAND INFO and COMMAND DOCS replies out of the command table; see command_docs.h. Any thread;
 * nothing is kept between calls. */
#include "server/dispatch/command_docs.h"

#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "server/dispatch/command_category.h"
#include "server/dispatch/command_keys.h"
#include "server/dispatch/command_rows.h"

static const struct command_documentation details[ROW_COUNT] = {
#define DETAILS(id, ...) [ROW_##id] = {__VA_ARGS__},
#include "server/dispatch/command_docs.def"
#undef DETAILS
};

const struct command_documentation *command_documentation(unsigned row) {
    ASSERT(row < ROW_COUNT);
    return &details[row];
}

/* --- Lists of words and flags ----------------------------------------------------------------- */

struct flag_name {
    uint32_t flag;
    const char *name;
};

/* A set of the names of those flags that are there, in the order of the table (ended by a NULL
 * name). */
static void reply_flags(struct reply *reply, uint32_t flags, const struct flag_name *table) {
    size_t n = 0;
    for (const struct flag_name *entry = table; entry->name != NULL; entry++)
        n += (flags & entry->flag) != 0;
    reply_set(reply, n);
    for (const struct flag_name *entry = table; entry->name != NULL; entry++)
        if (flags & entry->flag)
            reply_status(reply, entry->name);
}

/* Flags that Redis does not show (protected, may_replicate, touches_arbitrary_keys) are not in
 * here. */
static void reply_command_flags(struct reply *reply, uint32_t flags) {
    static const struct flag_name table[] = {
        {COMMAND_WRITE, "write"},
        {COMMAND_READONLY, "readonly"},
        {COMMAND_DENYOOM, "denyoom"},
        {COMMAND_MODULE, "module"},
        {COMMAND_ADMIN, "admin"},
        {COMMAND_PUBSUB, "pubsub"},
        {COMMAND_NOSCRIPT, "noscript"},
        {COMMAND_BLOCKING, "blocking"},
        {COMMAND_LOADING, "loading"},
        {COMMAND_STALE, "stale"},
        {COMMAND_SKIP_MONITOR, "skip_monitor"},
        {COMMAND_SKIP_SLOWLOG, "skip_slowlog"},
        {COMMAND_ASKING, "asking"},
        {COMMAND_FAST, "fast"},
        {COMMAND_NO_AUTH, "no_auth"},
        {COMMAND_NO_MANDATORY_KEYS, "no_mandatory_keys"},
        {COMMAND_NO_ASYNC_LOADING, "no_async_loading"},
        {COMMAND_NO_MULTI, "no_multi"},
        {COMMAND_MOVABLE_KEYS, "movablekeys"},
        {COMMAND_ALLOW_BUSY, "allow_busy"},
        {0, NULL},
    };
    reply_flags(reply, flags, table);
}

void command_reply_key_flags(struct reply *reply, uint32_t flags) {
    static const struct flag_name table[] = {
        {KEY_RO, "RO"},
        {KEY_RW, "RW"},
        {KEY_OW, "OW"},
        {KEY_RM, "RM"},
        {KEY_ACCESS, "access"},
        {KEY_UPDATE, "update"},
        {KEY_INSERT, "insert"},
        {KEY_DELETE, "delete"},
        {KEY_NOT_KEY, "not_key"},
        {KEY_INCOMPLETE, "incomplete"},
        {KEY_VARIABLE_FLAGS, "variable_flags"},
        {0, NULL},
    };
    reply_flags(reply, flags, table);
}

static void reply_categories(struct reply *reply, uint64_t categories) {
    size_t n = (size_t)__builtin_popcountll(categories);
    reply_set(reply, n);
    for (unsigned bit = 0; bit < CATEGORY_COUNT; bit++) {
        if (!(categories >> bit & 1))
            continue;
        char name[32] = "@";
        strncat(name, command_category_name(bit), sizeof(name) - 2);
        reply_status(reply, name);
    }
}

/* The next word of *text, which moves behind it; false at the end. */
static bool next_word(const char **text, const char **word, size_t *length) {
    if (*text == NULL || **text == '\0')
        return false;
    *word = *text;
    *length = strcspn(*text, " ");
    *text += *length;
    if (**text == ' ')
        (*text)++;
    return true;
}

static size_t count_words(const char *text) {
    const char *word;
    size_t n = 0, length;
    while (next_word(&text, &word, &length))
        n++;
    return n;
}

static void reply_tips(struct reply *reply, const char *tips) {
    const char *word;
    size_t length;
    reply_set(reply, count_words(tips));
    while (next_word(&tips, &word, &length))
        reply_bulk(reply, word, length);
}

/* --- COMMAND INFO ----------------------------------------------------------------------------- */

static bool is_unknown(const struct key_spec *spec) {
    return spec->first == 0;
}

static void reply_unknown(struct reply *reply) {
    reply_map(reply, 2);
    reply_bulk_text(reply, "type");
    reply_bulk_text(reply, "unknown");
    reply_bulk_text(reply, "spec");
    reply_map(reply, 0);
}

static void reply_begin_search(struct reply *reply, const struct key_spec *spec) {
    if (is_unknown(spec)) {
        reply_unknown(reply);
        return;
    }
    reply_map(reply, 2);
    reply_bulk_text(reply, "type");
    reply_bulk_text(reply, spec->word ? "keyword" : "index");
    reply_bulk_text(reply, "spec");
    if (spec->word) {
        reply_map(reply, 2);
        reply_bulk_text(reply, "keyword");
        reply_bulk_text(reply, spec->word);
        reply_bulk_text(reply, "startfrom");
    } else {
        reply_map(reply, 1);
        reply_bulk_text(reply, "index");
    }
    reply_integer(reply, spec->first);
}

/* Redis shows the last key relative to the first. */
static void reply_key_spec(struct reply *reply, const struct key_spec *spec, const char *note) {
    reply_map(reply, note != NULL ? 4 : 3);
    if (note != NULL) {
        reply_bulk_text(reply, "notes");
        reply_bulk_text(reply, note);
    }
    reply_bulk_text(reply, "flags");
    command_reply_key_flags(reply, spec->flags);

    reply_bulk_text(reply, "begin_search");
    reply_begin_search(reply, spec);

    reply_bulk_text(reply, "find_keys");
    if (is_unknown(spec)) {
        reply_unknown(reply);
        return;
    }
    reply_map(reply, 2);
    reply_bulk_text(reply, "type");
    reply_bulk_text(reply, spec->counted ? "keynum" : "range");
    reply_bulk_text(reply, "spec");
    reply_map(reply, 3);
    if (spec->counted) {
        reply_bulk_text(reply, "keynumidx");
        reply_integer(reply, 0);
        reply_bulk_text(reply, "firstkey");
        reply_integer(reply, 1);
        reply_bulk_text(reply, "keystep");
        reply_integer(reply, spec->step);
        return;
    }
    reply_bulk_text(reply, "lastkey");
    reply_integer(reply, spec->last < 0 || spec->word ? spec->last : spec->last - spec->first);
    reply_bulk_text(reply, "keystep");
    reply_integer(reply, spec->step);
    reply_bulk_text(reply, "limit");
    reply_integer(reply, 0);
}

static size_t count_subcommands(const struct command *command) {
    size_t n = 0;
    while (command->subcommands[n] != NULL)
        n++;
    return n;
}

void command_reply_info(struct reply *reply, const struct command *command) {
    if (command == NULL) {
        reply_null(reply);
        return;
    }
    int first, last, step;
    command_legacy_keys(command, &first, &last, &step);
    reply_array(reply, 10);
    reply_bulk_text(reply, command->name);
    reply_integer(reply, command->arity);
    reply_command_flags(reply, command->flags);
    reply_integer(reply, first);
    reply_integer(reply, last);
    reply_integer(reply, step);
    reply_categories(reply, command->acl_categories);
    reply_tips(reply, command->documentation->tips);
    reply_set(reply, command->key_spec_count);
    for (unsigned i = 0; i < command->key_spec_count; i++)
        reply_key_spec(reply, &command->key_specs[i], command->documentation->key_notes[i]);
    if (command->subcommands == NULL) {
        reply_set(reply, 0);
        return;
    }
    reply_array(reply, count_subcommands(command));
    for (const struct command *const *sub = command->subcommands; *sub != NULL; sub++)
        command_reply_info(reply, *sub);
}

/* --- Arguments: the language of command_docs.h ------------------------------------------------ */

struct word {
    const char *text; /* NULL: not given */
    size_t length;
};

struct documented_argument {
    struct word name, type, key_spec_index, token, display, since, deprecated_since;
    bool optional, multiple, multiple_token;
    const char *arguments; /* behind "(", NULL: none */
};

static struct word read_word(const char **cursor) {
    struct word word;
    if (**cursor == '\'') {
        word.text = *cursor + 1;
        word.length = strcspn(word.text, "'");
        *cursor = word.text + word.length + 1;
    } else {
        word.text = *cursor;
        word.length = strcspn(word.text, " ()?*+#=~^!'");
        *cursor += word.length;
    }
    return word;
}

/* To the ")" that closes the list in which cursor is. */
static const char *skip_list(const char *cursor) {
    for (int depth = 0;; cursor++) {
        if (*cursor == '\'')
            cursor = strchr(cursor + 1, '\'');
        else if (*cursor == '(')
            depth++;
        else if (*cursor == ')' && depth-- == 0)
            return cursor;
        ASSERT(cursor != NULL && *cursor != '\0');
    }
}

/* Reads one argument; false at the end of the list. */
static bool next_argument(const char **cursor, struct documented_argument *argument) {
    while (**cursor == ' ')
        (*cursor)++;
    if (**cursor == '\0' || **cursor == ')')
        return false;
    *argument = (struct documented_argument){.name = read_word(cursor)};
    const char *colon = memchr(argument->name.text, ':', argument->name.length);
    argument->type = (struct word){"string", 6};
    if (colon != NULL) {
        argument->type.text = colon + 1;
        argument->type.length = argument->name.length - (size_t)(colon + 1 - argument->name.text);
        argument->name.length = (size_t)(colon - argument->name.text);
    }
    for (;;) {
        switch (**cursor) {
        case '#':
            ++*cursor;
            argument->key_spec_index = read_word(cursor);
            break;
        case '=':
            ++*cursor;
            argument->token = read_word(cursor);
            break;
        case '~':
            ++*cursor;
            argument->display = read_word(cursor);
            break;
        case '^':
            ++*cursor;
            argument->since = read_word(cursor);
            break;
        case '!':
            ++*cursor;
            argument->deprecated_since = read_word(cursor);
            break;
        case '?':
            ++*cursor;
            argument->optional = true;
            break;
        case '*':
            ++*cursor;
            argument->multiple = true;
            break;
        case '+':
            ++*cursor;
            argument->multiple_token = true;
            break;
        case '(':
            argument->arguments = *cursor + 1;
            *cursor = skip_list(argument->arguments) + 1;
            return true;
        default:
            ASSERT(**cursor == ' ' || **cursor == ')' || **cursor == '\0');
            return true;
        }
    }
}

static void reply_field(struct reply *reply, const char *name, struct word value) {
    if (value.text == NULL)
        return;
    reply_bulk_text(reply, name);
    reply_bulk(reply, value.text, value.length);
}

static void reply_arguments(struct reply *reply, const char *list);

static void reply_argument(struct reply *reply, const struct documented_argument *argument) {
    size_t flags = (size_t)argument->optional + argument->multiple + argument->multiple_token;
    size_t fields = 3; /* name, type, and either display_text or arguments */
    fields += argument->key_spec_index.text != NULL;
    fields += argument->token.text != NULL;
    fields += argument->since.text != NULL;
    fields += argument->deprecated_since.text != NULL;
    fields += flags > 0;
    reply_map(reply, fields);
    reply_field(reply, "name", argument->name);
    reply_field(reply, "type", argument->type);
    if (argument->arguments == NULL)
        reply_field(reply, "display_text",
                    argument->display.text != NULL ? argument->display : argument->name);
    if (argument->key_spec_index.text != NULL) {
        reply_bulk_text(reply, "key_spec_index");
        reply_integer(reply, strtol(argument->key_spec_index.text, NULL, 10));
    }
    reply_field(reply, "token", argument->token);
    reply_field(reply, "since", argument->since);
    reply_field(reply, "deprecated_since", argument->deprecated_since);
    if (flags > 0) {
        reply_bulk_text(reply, "flags");
        reply_set(reply, flags);
        if (argument->optional)
            reply_status(reply, "optional");
        if (argument->multiple)
            reply_status(reply, "multiple");
        if (argument->multiple_token)
            reply_status(reply, "multiple_token");
    }
    if (argument->arguments != NULL) {
        reply_bulk_text(reply, "arguments");
        reply_arguments(reply, argument->arguments);
    }
}

static void reply_arguments(struct reply *reply, const char *list) {
    struct documented_argument argument;
    size_t n = 0;
    for (const char *cursor = list; next_argument(&cursor, &argument);)
        n++;
    reply_array(reply, n);
    while (next_argument(&list, &argument))
        reply_argument(reply, &argument);
}

/* --- COMMAND DOCS ----------------------------------------------------------------------------- */

static void reply_text_field(struct reply *reply, const char *name, const char *value) {
    if (value == NULL)
        return;
    reply_bulk_text(reply, name);
    reply_bulk_text(reply, value);
}

static void reply_history(struct reply *reply, const char *history) {
    size_t n = 0;
    for (const char *c = history; *c != '\0'; c++)
        n += *c == '\n';
    reply_bulk_text(reply, "history");
    reply_set(reply, n);
    while (*history != '\0') {
        size_t version = strcspn(history, " ");
        size_t text = strcspn(history + version + 1, "\n");
        reply_array(reply, 2);
        reply_bulk(reply, history, version);
        reply_bulk(reply, history + version + 1, text);
        history += version + 1 + text + 1;
    }
}

static void reply_doc_flags(struct reply *reply, const char *flags) {
    const char *word;
    size_t length;
    reply_bulk_text(reply, "doc_flags");
    reply_set(reply, count_words(flags));
    while (next_word(&flags, &word, &length)) {
        char text[32] = "";
        ASSERT(length < sizeof(text));
        memcpy(text, word, length);
        reply_status(reply, text);
    }
}

void command_reply_docs(struct reply *reply, const struct command *command) {
    const struct command_documentation *docs = command->documentation;
    size_t fields = 3; /* summary, since, group */
    fields += docs->complexity != NULL;
    fields += docs->flags != NULL;
    fields += docs->deprecated_since != NULL;
    fields += docs->replaced_by != NULL;
    fields += docs->history != NULL;
    fields += docs->arguments != NULL;
    fields += command->subcommands != NULL;
    reply_map(reply, fields);
    reply_text_field(reply, "summary", command->summary);
    reply_text_field(reply, "since", command->since);
    reply_text_field(reply, "group", command->group);
    reply_text_field(reply, "complexity", docs->complexity);
    if (docs->flags != NULL)
        reply_doc_flags(reply, docs->flags);
    reply_text_field(reply, "deprecated_since", docs->deprecated_since);
    reply_text_field(reply, "replaced_by", docs->replaced_by);
    if (docs->history != NULL)
        reply_history(reply, docs->history);
    if (docs->arguments != NULL) {
        reply_bulk_text(reply, "arguments");
        reply_arguments(reply, docs->arguments);
    }
    if (command->subcommands != NULL) {
        reply_bulk_text(reply, "subcommands");
        reply_map(reply, count_subcommands(command));
        for (const struct command *const *sub = command->subcommands; *sub != NULL; sub++) {
            reply_bulk_text(reply, (*sub)->name);
            command_reply_docs(reply, *sub);
        }
    }
}
