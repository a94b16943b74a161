/* MODULE: modules cannot be loaded, so none are. Any worker. */
#include "server/base/log.h"
#include "server/commands/cmd_session.h"

command_handler cmd_module_help, cmd_module_list, cmd_module_load, cmd_module_loadex,
    cmd_module_unload;

enum call_result cmd_module_list(struct call *call) {
    reply_empty_array(call->reply);
    return CALL_DONE;
}

enum call_result cmd_module_load(struct call *call) {
    const struct argument *path = &call->argv[2];
    log_write(LOG_LEVEL_WARNING, "Module %.*s failed to load: modules are not implemented",
              (int)path->length, path->data);
    reply_error(call->reply, "ERR Error loading the extension. Please check the server logs.");
    return CALL_DONE;
}

enum call_result cmd_module_loadex(struct call *call) {
    return cmd_module_load(call);
}

enum call_result cmd_module_unload(struct call *call) {
    reply_error(call->reply, "ERR Error unloading module: no such module with that name");
    return CALL_DONE;
}

enum call_result cmd_module_help(struct call *call) {
    static const char *const lines[] = {"LIST", "    Return a list of loaded modules.", NULL};
    call_reply_help(call, lines);
    return CALL_DONE;
}
