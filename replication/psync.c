/* PSYNC's decisions; see psync.h. Run by: the links, or whoever simulates them. No state. */
#include "replication/psync.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/assert.h"

__attribute__((format(printf, 3, 4))) static void
log_line(struct psync_log *log, enum psync_log_level level, const char *format, ...) {
    va_list arguments;
    ASSERT(log->count < PSYNC_LOG_LINES);
    log->lines[log->count].level = level;
    va_start(arguments, format);
    vsnprintf(log->lines[log->count].text, PSYNC_LINE_BYTES, format, arguments);
    va_end(arguments);
    log->count++;
}

unsigned psync_capability(const char *name) {
    if (strcasecmp(name, "eof") == 0)
        return PSYNC_CAPABILITY_EOF;
    if (strcasecmp(name, "psync2") == 0)
        return PSYNC_CAPABILITY_PSYNC2;
    if (strcasecmp(name, PSYNC_FRAMES_NAME) == 0)
        return PSYNC_CAPABILITY_FRAMES;
    if (strcasecmp(name, PSYNC_BLOCKS_NAME) == 0)
        return PSYNC_CAPABILITY_BLOCKS;
    return 0;
}

/* --- Primary ---------------------------------------------------------------------------------- */

const char *psync_refusal(const struct psync_obstacles *obstacles) {
    if (obstacles->failing_over)
        return "-NOMASTERLINK Can't SYNC while failing over";
    if (obstacles->is_replica && !obstacles->is_connected)
        return "-NOMASTERLINK Can't SYNC while not connected with my master";
    if (obstacles->pending_output)
        return "-ERR SYNC and PSYNC are invalid with pending output";
    if (obstacles->filtered && !(obstacles->capabilities & PSYNC_CAPABILITY_EOF))
        return "-ERR Filtered replica requires EOF capability";
    return NULL;
}

const char *psync_failover_refusal(bool is_replica, const char *our_id, const char *requested_id) {
    if (!is_replica)
        return "-ERR PSYNC FAILOVER can't be sent to a master.";
    if (strcasecmp(requested_id, our_id) != 0)
        return "-ERR PSYNC FAILOVER replid must match my replid.";
    return NULL;
}

/* Is the replica's history ours up to where it is? */
static bool is_our_history(const struct history *history, const struct psync_request *request,
                           struct psync_log *log) {
    bool is_first = strcasecmp(request->id, history->id) == 0;
    bool is_second = strcasecmp(request->id, history->second_id) == 0;
    if (is_first || (is_second && request->offset <= history->second_offset))
        return true;
    if (request->id[0] == '?')
        log_line(log, PSYNC_LOG_NOTICE, "Full resync requested by replica %s", request->replica);
    else if (is_second)
        log_line(log, PSYNC_LOG_NOTICE,
                 "Partial resynchronization not accepted: Requested offset for second ID was %lld, "
                 "but I can reply up to %lld",
                 (long long)request->offset, (long long)history->second_offset);
    else
        log_line(log, PSYNC_LOG_NOTICE,
                 "Partial resynchronization not accepted: Replication ID mismatch (Replica asked "
                 "for '%.100s', my replication IDs are '%s' and '%s')",
                 request->id, history->id, history->second_id);
    return false;
}

static bool is_in_backlog(const struct history *history, const struct psync_backlog *backlog,
                          const struct psync_request *request, struct psync_log *log) {
    if (backlog != NULL && request->offset >= backlog->first &&
        request->offset <= backlog->first + backlog->length)
        return true;
    log_line(log, PSYNC_LOG_NOTICE,
             "Unable to partial resync with replica %s for lack of backlog (Replica request was: "
             "%lld).",
             request->replica, (long long)request->offset);
    if (request->offset > (int64_t)atomic_load(&history->offset))
        log_line(log, PSYNC_LOG_WARNING,
                 "Warning: replica %s tried to PSYNC with an offset that is greater than the "
                 "master replication offset.",
                 request->replica);
    return false;
}

void psync_decide(const struct history *history, const struct psync_backlog *backlog,
                  const struct psync_request *request, struct psync_decision *decision) {
    decision->log.count = 0;
    decision->bytes = 0;
    decision->counts_as_refused = false;
    decision->continues = is_our_history(history, request, &decision->log) &&
                          is_in_backlog(history, backlog, request, &decision->log);
    if (!decision->continues) {
        decision->counts_as_refused = request->id[0] != '?';
        return;
    }
    decision->bytes = backlog->first + backlog->length - request->offset;
    log_line(&decision->log, PSYNC_LOG_NOTICE,
             "Partial resynchronization request from %s accepted. Sending %lld bytes of backlog "
             "starting from offset %lld.",
             request->replica, (long long)decision->bytes, (long long)request->offset);
}

size_t psync_format_continue(const char *id, unsigned capabilities, bool frames, char *to) {
    ASSERT(!frames || (capabilities & PSYNC_CAPABILITY_FRAMES));
    /* Who reads frames reads the id as well. */
    bool names_id = capabilities & (PSYNC_CAPABILITY_PSYNC2 | PSYNC_CAPABILITY_FRAMES);
    int length = snprintf(to, PSYNC_REPLY_BYTES, "+CONTINUE%s%s%s\r\n", names_id ? " " : "",
                          names_id ? id : "", frames ? " " PSYNC_FRAMES_NAME : "");
    ASSERT(length < PSYNC_REPLY_BYTES);
    return (size_t)length;
}

size_t psync_format_full(const char *id, int64_t offset, bool frames, char *to) {
    int length = snprintf(to, PSYNC_REPLY_BYTES, "+FULLRESYNC %s %lld%s\r\n", id, (long long)offset,
                          frames ? " " PSYNC_FRAMES_NAME : "");
    ASSERT(length < PSYNC_REPLY_BYTES);
    return (size_t)length;
}

/* --- Replica ---------------------------------------------------------------------------------- */

void psync_ask(const char *cached_id, int64_t offset, const char **id, int64_t *request_offset,
               struct psync_log *log) {
    log->count = 0;
    if (cached_id == NULL) {
        *id = "?";
        *request_offset = -1;
        log_line(log, PSYNC_LOG_NOTICE,
                 "Partial resynchronization not possible (no cached master)");
        return;
    }
    *id = cached_id;
    *request_offset = offset + 1;
    log_line(log, PSYNC_LOG_NOTICE, "Trying a partial resynchronization (request %s:%lld).",
             cached_id, (long long)*request_offset);
}

static bool starts_with(const char *line, const char *word) {
    return strncmp(line, word, strlen(word)) == 0;
}

/* The last word of the reply says that frames follow. */
static bool ends_in_frames(const char *words) {
    size_t length = strlen(words), name = sizeof PSYNC_FRAMES_NAME;
    return length >= name && strcmp(words + length - name, " " PSYNC_FRAMES_NAME) == 0;
}

static void read_full(const char *line, struct psync_reply *reply) {
    reply->outcome = PSYNC_FULL;
    const char *id = strchr(line, ' ');
    const char *offset = id == NULL ? NULL : strchr(id + 1, ' ');
    if (offset == NULL || offset - (id + 1) != HISTORY_ID_LENGTH) {
        log_line(&reply->log, PSYNC_LOG_WARNING, "Master replied with wrong +FULLRESYNC syntax.");
        return;
    }
    memcpy(reply->id, id + 1, HISTORY_ID_LENGTH);
    reply->id[HISTORY_ID_LENGTH] = '\0';
    reply->offset = strtoll(offset + 1, NULL, 10);
    reply->frames = ends_in_frames(offset + 1);
    log_line(&reply->log, PSYNC_LOG_NOTICE, "Full resync from master: %s:%lld", reply->id,
             (long long)reply->offset);
}

static void read_continue(const char *line, const char *cached_id, struct psync_reply *reply) {
    reply->outcome = PSYNC_CONTINUE;
    log_line(&reply->log, PSYNC_LOG_NOTICE, "Successful partial resynchronization with master.");
    memcpy(reply->id, cached_id, HISTORY_ID_LENGTH);
    reply->id[HISTORY_ID_LENGTH] = '\0';
    const char *id = line + strlen("+CONTINUE");
    if (*id == ' ')
        id++;
    reply->frames = strlen(id) > HISTORY_ID_LENGTH && ends_in_frames(id);
    size_t length = reply->frames ? strlen(id) - sizeof PSYNC_FRAMES_NAME : strlen(id);
    if (length != HISTORY_ID_LENGTH || memcmp(id, cached_id, HISTORY_ID_LENGTH) == 0)
        return;
    memcpy(reply->id, id, HISTORY_ID_LENGTH);
    reply->id_changed = true;
    log_line(&reply->log, PSYNC_LOG_NOTICE, "Master replication ID changed to %s", reply->id);
}

void psync_read_reply(const char *line, const char *cached_id, struct psync_reply *reply) {
    reply->id[0] = '\0';
    reply->offset = -1;
    reply->id_changed = reply->frames = false;
    reply->log.count = 0;
    if (line == NULL) {
        reply->outcome = PSYNC_TRY_LATER;
        log_line(&reply->log, PSYNC_LOG_WARNING, "Master did not reply to PSYNC, will try later");
    } else if (line[0] == '\0') {
        reply->outcome = PSYNC_WAIT;
    } else if (starts_with(line, "+FULLRESYNC")) {
        read_full(line, reply);
    } else if (starts_with(line, "+CONTINUE") && cached_id != NULL) {
        read_continue(line, cached_id, reply);
    } else if (starts_with(line, "+CONTINUE")) {
        /* There is nothing to continue; a stream follows, so SYNC cannot be sent either. */
        reply->outcome = PSYNC_TRY_LATER;
        log_line(&reply->log, PSYNC_LOG_WARNING, "Unexpected reply to PSYNC from master: %s", line);
    } else if (starts_with(line, "-NOMASTERLINK") || starts_with(line, "-LOADING")) {
        reply->outcome = PSYNC_TRY_LATER;
        log_line(&reply->log, PSYNC_LOG_NOTICE,
                 "Master is currently unable to PSYNC but should be in the future: %s", line);
    } else {
        reply->outcome = PSYNC_NOT_SUPPORTED;
        if (starts_with(line, "-ERR"))
            log_line(&reply->log, PSYNC_LOG_NOTICE,
                     "Master does not support PSYNC or is in error state (reply: %s)", line);
        else
            log_line(&reply->log, PSYNC_LOG_WARNING, "Unexpected reply to PSYNC from master: %s",
                     line);
    }
}
