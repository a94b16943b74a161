/* What the list commands share: cmd_list.c, cmd_list_move.c and those that block. Called from
 * handlers only, as command.h says. */
#ifndef SLOTWISE_SERVER_CMD_LIST_H
#define SLOTWISE_SERVER_CMD_LIST_H

#include "engine/types/list.h"
#include "server/commands/cmd_collection.h"

/* LEFT (head) or RIGHT in argv[index]. false: error replied. */
bool list_end_argument(struct call *call, int index, bool *head);
/* An integer from min to max in argv[index]; message is the error for anything else. false: error
 * replied. */
bool list_number_argument(struct call *call, int index, int64_t min, int64_t max,
                          const char *message, int64_t *value);

/* Replies the elements at an end, as many as there are up to count, as an array and removes them.
 * key is that of object. Returns how many there were. */
uint64_t list_pop_range(struct call *call, const struct key *key, struct object *object, bool head,
                        uint64_t count);
/* Replies one element and removes it. */
void list_pop_one(struct call *call, const struct key *key, struct object *object, bool head);

/* LMPOP and BLMPOP: numkeys at argv[index], keys, LEFT or RIGHT, COUNT. */
struct list_mpop {
    int first_key, key_count;
    bool head;
    int64_t count;
};
/* false: error replied. */
bool list_mpop_arguments(struct call *call, int index, struct list_mpop *arguments);
/* Replies what is popped from the list in argv[index] with its key, and propagates that as LPOP or
 * RPOP. */
void list_mpop_from(struct call *call, int index, struct object *object,
                    const struct list_mpop *arguments);
/* Moves an element from the list in argv[1], which is there, to argv[2] and replies it. false:
 * argv[2] is no list, and the error is replied. */
bool list_move(struct call *call, struct object *source, bool from_head, bool to_head);

#endif
