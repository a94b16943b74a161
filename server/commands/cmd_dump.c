/* DUMP and RESTORE: a value as bytes, in the format of RDB files, for other servers and later
 * times.
 *
 * Run by: any worker; DUMP also without the token, except for what only that protects. */
#include <limits.h>

#include "engine/memory.h"
#include "engine/value.h"
#include "replication/rdb_read.h"
#include "replication/rdb_write.h"
#include "server/base/log.h"
#include "server/base/numbers.h"
#include "server/commands/cmd_data.h"
#include "server/config/config.h"

/* What a payload may unpack to, whatever proto-max-bulk-len says. */
#define STRING_BYTES_MIN ((uint64_t)512 << 20)

enum call_result cmd_dump(struct call *call) {
    const struct object *object = call_find_read(call, &call->key);
    if (!object) {
        reply_null(call->reply);
        return CALL_DONE;
    }
    if (data_is_protected(call, object))
        return CALL_NEED_TOKENS;
    struct rdb_writer writer;
    rdb_writer_init(&writer, NULL, config_current()->rdbcompression, true);
    rdb_write_payload(&writer, object);
    reply_bulk(call->reply, (const char *)writer.buffer, writer.used);
    rdb_writer_free(&writer);
    return CALL_DONE;
}

/* --- RESTORE ---------------------------------------------------------------------------------- */

struct restore_options {
    bool replace, absolute;
    int64_t idle_s, frequency; /* -1: not given */
};

static bool restore_options_parse(struct call *call, struct restore_options *options) {
    *options = (struct restore_options){.idle_s = -1, .frequency = -1};
    for (int i = 4; i < call->argc; i++) {
        const struct argument *argument = &call->argv[i];
        bool last = i + 1 == call->argc;
        if (argument_is(argument, "replace")) {
            options->replace = true;
        } else if (argument_is(argument, "absttl")) {
            options->absolute = true;
        } else if (argument_is(argument, "idletime") && !last && options->frequency == -1) {
            if (!argument_integer(call, ++i, &options->idle_s))
                return false;
            if (options->idle_s < 0) {
                reply_error(call->reply, "ERR Invalid IDLETIME value, must be >= 0");
                return false;
            }
        } else if (argument_is(argument, "freq") && !last && options->idle_s == -1) {
            if (!argument_integer(call, ++i, &options->frequency))
                return false;
            if (options->frequency < 0 || options->frequency > 255) {
                reply_error(call->reply, "ERR Invalid FREQ value, must be >= 0 and <= 255");
                return false;
            }
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

/* The argument ttl: unix time in ms, OBJECT_NO_EXPIRY for 0. false: error replied. */
static bool restore_expiry(struct call *call, bool absolute, int64_t *expiry_ms) {
    int64_t ttl;
    if (!argument_integer(call, 2, &ttl))
        return false;
    if (ttl < 0) {
        reply_error(call->reply, "ERR Invalid TTL value, must be >= 0");
        return false;
    }
    if (ttl != 0 && !absolute && __builtin_add_overflow(ttl, data_now_ms(call), &ttl))
        ttl = INT64_MAX;
    *expiry_ms = ttl == 0 ? OBJECT_NO_EXPIRY : ttl;
    return true;
}

/* The value in argv[3]. NULL: error replied. */
static struct object *restore_value(struct call *call, int64_t expiry_ms) {
    const struct argument *payload = &call->argv[3];
    uint64_t limit = config_current()->proto_max_bulk_len;
    struct object *object;
    char message[RDB_MESSAGE_BYTES];
    if (!rdb_payload_is_whole(payload->data, payload->length)) {
        reply_error(call->reply, "ERR DUMP payload version or checksum are wrong");
        return NULL;
    }
    if (rdb_payload_read(payload->data, payload->length,
                         limit < STRING_BYTES_MIN ? STRING_BYTES_MIN : limit, call->key.data,
                         call->key.length, expiry_ms, &object, message)) {
        log_write(LOG_LEVEL_VERBOSE, "%s", message);
        reply_error(call->reply, "ERR Bad data format");
        return NULL;
    }
    return object;
}

/* The command with the time at which the key will expire, whenever it is run. */
static void propagate_absolute(struct call *call, int64_t expiry_ms) {
    if (!call_is_logged(call))
        return;
    char text[NUMBER_INT64_SIZE];
    size_t count = (size_t)call->argc + 1;
    struct effect_argument *arguments = memory_alloc(count * sizeof *arguments);
    for (int i = 0; i < call->argc; i++)
        arguments[i] = (struct effect_argument){call->argv[i].data, call->argv[i].length};
    arguments[2] = (struct effect_argument){text, number_write_int64(text, expiry_ms)};
    arguments[count - 1] = (struct effect_argument){"ABSTTL", 6};
    call_propagate(call, arguments, count);
    memory_free(arguments);
}

/* The time to live is over: what the key replaces is all that goes. */
static void restore_nothing(struct call *call, const struct object *old) {
    if (!old)
        return;
    keyspace_delete(call->change, call->database, &call->key, CHANGE_DEL);
    data_propagate_key(call, config_current()->lazyfree_lazy_server_del ? "UNLINK" : "DEL",
                       &call->key);
}

enum call_result cmd_restore(struct call *call) {
    struct restore_options options;
    int64_t expiry_ms;
    if (!restore_options_parse(call, &options))
        return CALL_DONE;
    struct object *old = keyspace_find_write(call->change, call->database, &call->key);
    if (old && !options.replace) {
        reply_error(call->reply, "BUSYKEY Target key name already exists.");
        return CALL_DONE;
    }
    if (!restore_expiry(call, options.absolute, &expiry_ms))
        return CALL_DONE;
    struct object *object = restore_value(call, expiry_ms);
    if (!object)
        return CALL_DONE;
    if (view_is_over(&call->change->view, expiry_ms)) {
        object_free(object);
        restore_nothing(call, old);
        reply_ok(call->reply);
        return CALL_DONE;
    }
    change_also(call->change, call->database, &call->key, CHANGE_NEW);
    data_publish(call, &call->key, old, object, CHANGE_RESTORE);
    access_restore(&call->keyspace->access, object, options.idle_s, (int)options.frequency);
    if (expiry_ms != OBJECT_NO_EXPIRY && !options.absolute)
        propagate_absolute(call, expiry_ms);
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_restore_asking(struct call *call) {
    return cmd_restore(call);
}
