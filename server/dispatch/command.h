/* Commands: the table row, and what a handler gets.
 *
 * One row per command or subcommand in commands.def feeds everything: lookup, COMMAND, ACL,
 * routing, the choice between reading, writing and exclusive execution. A handler never sees
 * sockets, threads or other handlers' state: it gets arguments, a view of the keyspace and a reply
 * builder; so the same handler serves clients, MULTI and later scripts, the replication link and
 * AOF load. */
#ifndef SLOTWISE_SERVER_COMMAND_H
#define SLOTWISE_SERVER_COMMAND_H

#include "engine/keyspace.h"
#include "server/resp/reply.h"
#include "server/resp/resp_parse.h"

struct session; /* server/dispatch/session.h: the connection's logical state */
struct server;  /* server/clients/server.h: the process's parts, passed, never global */
struct command;
struct call;

/* How the dispatcher runs it. */
enum command_access {
    ACCESS_NONE, /* touches no key: runs at once */
    ACCESS_READ, /* keys by key specs; first without tokens, validated; with tokens if that fails */
    ACCESS_WRITE,       /* keys by key specs, under their tokens */
    ACCESS_EXCLUSIVE,   /* all workers stopped */
    ACCESS_WATCHED,     /* under the tokens of the session's watched keys, which it forgets */
    ACCESS_TRANSACTION, /* EXEC: under the tokens of all that is queued and watched */
};

enum call_result {
    CALL_DONE,
    CALL_NEED_TOKENS, /* only from ACCESS_READ without tokens: a value that only the token protects.
                         The dispatcher rewinds the reply and runs it again with tokens */
    CALL_UNFINISHED,  /* session->unfinished has what it has done so far (session.h): it waits and
                         runs again. Not with call->in_exec */
    CALL_NEED_EXCLUSIVE, /* only from ACCESS_NONE, without call->exclusive: nothing has happened;
                            the dispatcher rewinds the reply and runs it again with all workers
                            stopped */
    CALL_CLOSE,          /* done; close the connection after the reply */
};

/* Redis's command flags (COMMAND shows them in this order). */
#define COMMAND_WRITE                  (1u << 0)
#define COMMAND_READONLY               (1u << 1)
#define COMMAND_DENYOOM                (1u << 2)
#define COMMAND_MODULE                 (1u << 3)
#define COMMAND_ADMIN                  (1u << 4)
#define COMMAND_PUBSUB                 (1u << 5)
#define COMMAND_NOSCRIPT               (1u << 6)
#define COMMAND_BLOCKING               (1u << 7)
#define COMMAND_LOADING                (1u << 8)
#define COMMAND_STALE                  (1u << 9)
#define COMMAND_SKIP_MONITOR           (1u << 10)
#define COMMAND_SKIP_SLOWLOG           (1u << 11)
#define COMMAND_ASKING                 (1u << 12)
#define COMMAND_FAST                   (1u << 13)
#define COMMAND_NO_AUTH                (1u << 14)
#define COMMAND_MAY_REPLICATE          (1u << 15)
#define COMMAND_NO_MANDATORY_KEYS      (1u << 16)
#define COMMAND_PROTECTED              (1u << 17)
#define COMMAND_NO_ASYNC_LOADING       (1u << 18)
#define COMMAND_NO_MULTI               (1u << 19)
#define COMMAND_ALLOW_BUSY             (1u << 20)
#define COMMAND_MOVABLE_KEYS           (1u << 21)
#define COMMAND_TOUCHES_ARBITRARY_KEYS (1u << 22)
/* Of our own; not shown. */
#define COMMAND_NOT_QUEUED             (1u << 24) /* runs at once inside MULTI */
#define COMMAND_MAY_STOP_ALL           (1u << 25) /* may reply CALL_NEED_EXCLUSIVE */
#define COMMAND_SUBSCRIBED             (1u << 27) /* allowed to who has subscribed, in RESP2 */
#define COMMAND_REFUSED_AS_WRITE       (1u << 28) /* PING tells that writes are refused */
#define COMMAND_MEMBER                 (1u << 29) /* argv[2] is a member of what is at its key */
#define COMMAND_MEMBER_LAST            (1u << 30) /* the last argument is one */
#define COMMAND_RANK                   (1u << 23) /* which is looked for by its score too */
#define COMMAND_SCORE                  (1u << 31) /* which gets the score in the argument before */
#define COMMAND_ALWAYS_TOUCH           (1u << 26) /* notes the access whatever CLIENT NO-TOUCH says */

/* Where keys are: at places that are counted, behind their number (ZUNION numkeys key ...), or
 * behind a word. What none of these can tell is found by a function (command_keys.c). */
struct key_spec {
    int16_t first; /* index of the first key; 0: that cannot be told. With a word: where it is
                      looked for from; from the end, backwards, when negative */
    int16_t
        last; /* relative to argc when negative (-1: the last argument), as Redis's legacy triple */
    int16_t step;
    uint16_t flags;   /* KEY_RO ... */
    const char *word; /* the keys follow it; NULL: none. last is negative then */
    bool counted;     /* at first is not a key but how many follow it; last is 0 then */
};
#define KEY_RO             (1u << 0)
#define KEY_RW             (1u << 1)
#define KEY_OW             (1u << 2)
#define KEY_RM             (1u << 3)
#define KEY_ACCESS         (1u << 4)
#define KEY_UPDATE         (1u << 5)
#define KEY_INSERT         (1u << 6)
#define KEY_DELETE         (1u << 7)
#define KEY_NOT_KEY        (1u << 8)
#define KEY_INCOMPLETE     (1u << 9)
#define KEY_VARIABLE_FLAGS (1u << 10)

#define COMMAND_KEY_SPECS_MAX 3

typedef enum call_result command_handler(struct call *call);

struct command_documentation; /* command_docs.h: complexity, arguments, history ... */

struct command {
    const char *name;         /* lower case; "config|get" for a subcommand */
    command_handler *handler; /* NULL: a container that is no command by itself */
    int16_t arity;
    uint8_t access; /* enum command_access */
    uint8_t key_spec_count;
    uint32_t flags;
    uint32_t id;     /* dense, 0..command_count()-1: index of statistics */
    uint16_t row;    /* its row in commands.def */
    bool single_key; /* one key spec, of one key */
    uint16_t name_length;
    uint64_t acl_categories; /* command_category.h */
    struct key_spec key_specs[COMMAND_KEY_SPECS_MAX];
    const struct command *parent;             /* of a subcommand */
    const struct command *const *subcommands; /* NULL-terminated, or NULL */
    const char *group, *since, *summary;
    const struct command_documentation *documentation;
};

/* Builds the table out of the rows whose handlers are linked in. Once, before threads exist; what
 * follows only reads and may be called by any thread. */
void command_table_init(void);
unsigned command_count(void);                     /* rows, subcommands included */
const struct command *command_by_id(unsigned id); /* a parent comes right before its subcommands */
unsigned command_top_level_count(void);           /* as COMMAND COUNT counts */
/* By full name: "get", "config|get"; case-insensitive. NULL: unknown. */
const struct command *command_by_name(const char *name, size_t length);
/* rename-command of the configuration file: before threads exist. An empty new name removes it.
 * Returns NULL, or Redis's message. */
const char *command_rename(const char *name, const char *new_name);
/* Case-insensitive; for a container looks at argv[1]. NULL: unknown command. When the container is
 * known and the subcommand is not, *container is set (error text differs). */
const struct command *command_lookup(const struct argument *argv, int argc,
                                     const struct command **container);
/* Writes Redis's "ERR unknown command 'x', with args beginning with: ..." or "unknown subcommand".
 */
void command_reply_unknown(struct reply *reply, const struct argument *argv, int argc,
                           const struct command *container);
bool command_arity_fits(const struct command *command, int argc);

#define CALL_KEYS_CACHED 1

struct call {
    const struct command *command;
    struct argument *argv;
    int argc;
    int first_key;          /* index of the first key, 0: none */
    struct key key;         /* of argv[first_key], hashed when the command was parsed */
    const struct key *keys; /* all of them, hashed, if the command has a list of keys that fit into
                               the batch's arena; NULL: not known */
    uint32_t key_count, key_step; /* of keys; in argv */
    struct reply *reply;
    struct session *session;
    struct server *server;
    struct keyspace *keyspace;
    struct change *change; /* of the unit of work that this call is part of; its view */
    unsigned database;
    bool tokens;    /* the tokens of all keys are held (or all is stopped): changes are allowed */
    bool exclusive; /* all workers are stopped */
    bool in_exec;   /* inside EXEC */
    bool wants_tokens;     /* a lookup without tokens has left something to do under them */
    uint32_t hits, misses; /* of its lookups; counted when it is done */
};

/* The key in argv[index]; the cached one when it is the first. */
static inline struct key call_key(const struct call *call, int index) {
    if (__builtin_expect(index == call->first_key, 1))
        return call->key;
    if (call->keys)
        return call->keys[(uint32_t)(index - call->first_key) / call->key_step];
    return key_make(call->argv[index].data, call->argv[index].length);
}

/* "ERR wrong number of arguments for 'get' command", as the dispatcher does before a handler runs.
 */
void command_reply_wrong_arity(struct reply *reply, const struct command *command);

#endif
