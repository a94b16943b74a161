/* DEBUG. */
#include "server/command.h"

command_handler cmd_debug;

enum call_result cmd_debug(struct call *call) {
    reply_error(call->reply, ERROR_SYNTAX);
    return CALL_DONE;
}
