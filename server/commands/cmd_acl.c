/* ACL: there is one user, "default", who may do everything; its password is requirepass. Any
 * worker.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "server/base/sha256.h"
#include "server/commands/cmd_session.h"
#include "server/config/config.h"
#include "server/dispatch/command_category.h"

command_handler cmd_acl_whoami, cmd_acl_users, cmd_acl_cat, cmd_acl_help, cmd_acl_list,
    cmd_acl_getuser, cmd_acl_setuser, cmd_acl_deluser, cmd_acl_log, cmd_acl_load, cmd_acl_save,
    cmd_acl_genpass, cmd_acl_dryrun;

#define PASSWORD_BITS_DEFAULT 256
#define PASSWORD_BITS_MAX     4096

static bool is_default_user(const struct argument *name) {
    return name->length == 7 && memcmp(name->data, "default", 7) == 0; /* case matters */
}

static void write_hex(char *out, const uint8_t *bytes, size_t digits) {
    for (size_t i = 0; i < digits; i++)
        out[i] = "0123456789abcdef"[i % 2 ? bytes[i / 2] & 15 : bytes[i / 2] >> 4];
    out[digits] = '\0';
}

/* The password as ACL shows it; false: there is none, any will do. */
static bool password_digest(char digest[2 * SHA256_BYTES + 1]) {
    const char *password = config_current()->requirepass;
    uint8_t bytes[SHA256_BYTES];
    if (!password)
        return false;
    sha256(password, config_text_length(password), bytes);
    write_hex(digest, bytes, 2 * SHA256_BYTES);
    return true;
}

enum call_result cmd_acl_whoami(struct call *call) {
    reply_bulk_text(call->reply, "default");
    return CALL_DONE;
}

enum call_result cmd_acl_users(struct call *call) {
    reply_array(call->reply, 1);
    reply_bulk_text(call->reply, "default");
    return CALL_DONE;
}

enum call_result cmd_acl_cat(struct call *call) {
    struct reply *reply = call->reply;
    if (call->argc > 3) {
        call_reply_bad_subcommand(call);
        return CALL_DONE;
    }
    if (call->argc == 2) {
        reply_array(reply, CATEGORY_COUNT);
        for (unsigned i = 0; i < CATEGORY_COUNT; i++)
            reply_bulk_text(reply, command_category_name(i));
        return CALL_DONE;
    }
    uint64_t category = command_category_by_name(call->argv[2].data, call->argv[2].length);
    if (!category) {
        reply_error_format(reply, "ERR Unknown category '%.*s'", (int)call->argv[2].length,
                           call->argv[2].data);
        return CALL_DONE;
    }
    struct reply_deferred list = reply_deferred_begin(reply);
    size_t n = 0;
    for (unsigned id = 0; id < command_count(); id++) {
        const struct command *command = command_by_id(id);
        if (!(command->acl_categories & category))
            continue;
        reply_bulk(reply, command->name, command->name_length);
        n++;
    }
    reply_deferred_array(reply, list, n);
    return CALL_DONE;
}

enum call_result cmd_acl_list(struct call *call) {
    char digest[2 * SHA256_BYTES + 1], line[256];
    bool closed = password_digest(digest);
    snprintf(line, sizeof line, "user default on %ssanitize-payload %s%s%s~* &* +@all",
             closed ? "" : "nopass ", closed ? "#" : "", closed ? digest : "", closed ? " " : "");
    reply_array(call->reply, 1);
    reply_bulk_text(call->reply, line);
    return CALL_DONE;
}

enum call_result cmd_acl_getuser(struct call *call) {
    struct reply *reply = call->reply;
    char digest[2 * SHA256_BYTES + 1];
    bool closed = password_digest(digest);
    if (!is_default_user(&call->argv[2])) {
        reply_null(reply);
        return CALL_DONE;
    }
    reply_map(reply, 6);
    reply_bulk_text(reply, "flags");
    reply_set(reply, closed ? 2 : 3);
    reply_bulk_text(reply, "on");
    if (!closed)
        reply_bulk_text(reply, "nopass");
    reply_bulk_text(reply, "sanitize-payload");
    reply_bulk_text(reply, "passwords");
    reply_array(reply, closed);
    if (closed)
        reply_bulk_text(reply, digest);
    reply_bulk_text(reply, "commands");
    reply_bulk_text(reply, "+@all");
    reply_bulk_text(reply, "keys");
    reply_bulk_text(reply, "~*");
    reply_bulk_text(reply, "channels");
    reply_bulk_text(reply, "&*");
    reply_bulk_text(reply, "selectors");
    reply_empty_array(reply);
    return CALL_DONE;
}

enum call_result cmd_acl_setuser(struct call *call) {
    reply_error(call->reply,
                "ERR ACL users and rules are not implemented in this version; the password of the "
                "user 'default' is requirepass");
    return CALL_DONE;
}

enum call_result cmd_acl_deluser(struct call *call) {
    for (int i = 2; i < call->argc; i++)
        if (is_default_user(&call->argv[i])) {
            reply_error(call->reply, "ERR The 'default' user cannot be removed");
            return CALL_DONE;
        }
    reply_integer(call->reply, 0);
    return CALL_DONE;
}

/* Nobody is ever denied anything by a rule. */
enum call_result cmd_acl_log(struct call *call) {
    int64_t count;
    if (call->argc > 3)
        call_reply_bad_subcommand(call);
    else if (call->argc == 3 && argument_is(&call->argv[2], "reset"))
        reply_ok(call->reply);
    else if (call->argc == 2 || argument_integer(call, 2, &count))
        reply_empty_array(call->reply);
    return CALL_DONE;
}

enum call_result cmd_acl_load(struct call *call) {
    reply_error(call->reply,
                "ERR This Redis instance is not configured to use an ACL file. You may want to "
                "specify users via the ACL SETUSER command and then issue a CONFIG REWRITE "
                "(assuming you have a Redis configuration file set) in order to store users in the "
                "Redis configuration.");
    return CALL_DONE;
}

enum call_result cmd_acl_save(struct call *call) {
    return cmd_acl_load(call);
}

enum call_result cmd_acl_genpass(struct call *call) {
    uint8_t random[PASSWORD_BITS_MAX / 8];
    char password[PASSWORD_BITS_MAX / 4 + 1];
    int64_t bits = PASSWORD_BITS_DEFAULT;
    if (call->argc > 3) {
        call_reply_bad_subcommand(call);
        return CALL_DONE;
    }
    if (call->argc == 3 && !argument_integer(call, 2, &bits))
        return CALL_DONE;
    if (bits <= 0 || bits > PASSWORD_BITS_MAX) {
        reply_error(call->reply, "ERR ACL GENPASS argument must be the number of bits for the "
                                 "output password, a positive number up to 4096");
        return CALL_DONE;
    }
    size_t digits = ((size_t)bits + 3) / 4, bytes = (digits + 1) / 2;
    if (getrandom(random, bytes, 0) != (ssize_t)bytes) {
        reply_error(call->reply, "ERR no random numbers are available");
        return CALL_DONE;
    }
    write_hex(password, random, digits);
    reply_bulk_text(call->reply, password);
    return CALL_DONE;
}

enum call_result cmd_acl_dryrun(struct call *call) {
    const struct argument *user = &call->argv[2], *name = &call->argv[3];
    const struct command *container = NULL, *command;
    if (!is_default_user(user)) {
        reply_error_format(call->reply, "ERR User '%.*s' not found", (int)user->length, user->data);
        return CALL_DONE;
    }
    command = command_lookup(call->argv + 3, call->argc - 3, &container);
    if (!command)
        reply_error_format(call->reply, "ERR Command '%.*s' not found", (int)name->length,
                           name->data);
    else if (!command_arity_fits(command, call->argc - 3))
        command_reply_wrong_arity(call->reply, command);
    else
        reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_acl_help(struct call *call) {
    static const char *const lines[] = {
        "CAT [<category>]",
        "    List all commands that belong to <category>, or all command categories",
        "    when no category is specified.",
        "DELUSER <username> [<username> ...]",
        "    Delete a list of users.",
        "DRYRUN <username> <command> [<arg> ...]",
        "    Returns whether the user can execute the given command without executing the "
        "command.",
        "GETUSER <username>",
        "    Get the user's details.",
        "GENPASS [<bits>]",
        "    Generate a secure 256-bit user password. The optional `bits` argument can",
        "    be used to specify a different size.",
        "LIST",
        "    Show users details in config file format.",
        "LOG [<count> | RESET]",
        "    Show the ACL log entries.",
        "USERS",
        "    List all the registered usernames.",
        "WHOAMI",
        "    Return the current connection username.",
        NULL};
    call_reply_help(call, lines);
    return CALL_DONE;
}
