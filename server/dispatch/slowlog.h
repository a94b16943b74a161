/* SLOWLOG: the commands that took long, newest last. One for the process, under a lock: only what
 * is slow comes here. Any thread. */
#ifndef SLOTWISE_SERVER_SLOWLOG_H
#define SLOTWISE_SERVER_SLOWLOG_H

#include "server/dispatch/command.h"

#define SLOWLOG_ARGUMENTS_MAX 32
#define SLOWLOG_TEXT_MAX      128

struct slowlog_entry {
    struct slowlog_entry *older;
    int64_t id, time_s, duration_us;
    int argc;
    struct argument *argv; /* copies, cut; in one allocation with the entry */
    struct argument peer, name;
};

struct slowlog;

struct slowlog *slowlog_create(void);
void slowlog_destroy(struct slowlog *slowlog);
/* Notes a command that has run. Passwords are left out. On the connection's worker. */
void slowlog_add(struct slowlog *slowlog, const struct call *call, int64_t duration_us);
/* Drops the oldest beyond so many. */
void slowlog_trim(struct slowlog *slowlog, size_t length);
size_t slowlog_length(struct slowlog *slowlog);
void slowlog_reset(struct slowlog *slowlog);
/* Calls visit for the newest limit entries, newest first; begin before with their number. */
void slowlog_each(struct slowlog *slowlog, size_t limit, void (*begin)(size_t n, void *context),
                  void (*visit)(const struct slowlog_entry *entry, void *context), void *context);

#endif
