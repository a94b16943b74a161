/* SAVE, BGSAVE, LASTSAVE: the RDB file. Any worker; the cut of a save is made while all others are
 * stopped. Who calls SAVE waits until the file is in its place, and nobody else does. */
#include <errno.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "server/clients/server.h"
#include "server/commands/cmd_data.h"
#include "server/config/config.h"
#include "server/dispatch/session.h"
#include "server/persistence/saver.h"

command_handler cmd_save, cmd_bgsave, cmd_lastsave;

#define ERROR_IN_PROGRESS "ERR Background save already in progress"

static bool is_saving(struct call *call) {
    struct saver_state state;
    saver_get_state(&call->server->saver, &state);
    return state.saving;
}

enum call_result cmd_lastsave(struct call *call) {
    reply_integer(call->reply, atomic_load(&call->server->persistence.last_save_s));
    return CALL_DONE;
}

/* --- SAVE ------------------------------------------------------------------------------------- */

struct save_wait {
    struct unfinished unfinished; /* first */
    struct save_end *end;
};

static void save_wait_drop(struct unfinished *unfinished) {
    struct save_wait *wait = (struct save_wait *)(void *)unfinished;
    save_end_leave(wait->end);
    memory_free(wait);
}

static enum call_result save_begin(struct call *call) {
    struct save_end *end;
    int error = saver_begin(&call->server->saver, config_current(), &end);
    if (error) {
        reply_error(call->reply, error == -EBUSY ? ERROR_IN_PROGRESS : "ERR");
        return CALL_DONE;
    }
    struct save_wait *wait = memory_alloc(sizeof *wait);
    *wait = (struct save_wait){{save_wait_drop, &end->queue, &end->done, false, NULL, NULL}, end};
    call->session->unfinished = &wait->unfinished;
    return CALL_UNFINISHED;
}

enum call_result cmd_save(struct call *call) {
    const struct unfinished *unfinished = call->session->unfinished;
    if (unfinished) { /* it has ended */
        if (((const struct save_wait *)(const void *)unfinished)->end->ok)
            reply_ok(call->reply);
        else
            reply_error(call->reply, "ERR");
        return CALL_DONE;
    }
    if (is_saving(call)) {
        reply_error(call->reply, ERROR_IN_PROGRESS);
        return CALL_DONE;
    }
    ASSERT(!call->in_exec); /* not allowed there */
    return call->exclusive ? save_begin(call) : CALL_NEED_EXCLUSIVE;
}

/* --- BGSAVE ----------------------------------------------------------------------------------- */

static enum call_result schedule(struct call *call) {
    saver_schedule(&call->server->saver);
    reply_status(call->reply, "Background saving scheduled");
    return CALL_DONE;
}

enum call_result cmd_bgsave(struct call *call) {
    bool scheduling = call->argc == 2 && argument_is(&call->argv[1], "schedule");
    if (call->argc > 1 && !scheduling) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (is_saving(call)) {
        reply_error(call->reply, ERROR_IN_PROGRESS);
        return CALL_DONE;
    }
    if (call->in_exec) /* the transaction is not over */
        return schedule(call);
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    int error = saver_begin(&call->server->saver, config_current(), NULL);
    if (error == -EBUSY && scheduling)
        return schedule(call);
    if (error)
        reply_error(call->reply, error == -EBUSY ? ERROR_IN_PROGRESS : "ERR");
    else
        reply_status(call->reply, "Background saving started");
    return CALL_DONE;
}
