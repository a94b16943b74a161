/* INFO. Stops nobody: the figures are read while the other workers go on. */
#include "server/commands/info.h"
#include "server/dispatch/command.h"

command_handler cmd_info;

enum call_result cmd_info(struct call *call) {
    uint32_t sections = call->argc == 1 ? INFO_SECTIONS_DEFAULT : 0;
    for (int i = 1; i < call->argc; i++)
        sections |= info_sections_by_name(call->argv[i].data, call->argv[i].length);
    struct text text = {0};
    info_write(&text, call->server, sections);
    reply_verbatim(call->reply, "txt", text_string(&text), text.length);
    text_free(&text);
    return CALL_DONE;
}
