/* PSYNC's decisions as tables: a primary's answer to each kind of request, and what a replica makes
 * of each reply. */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "replication/psync.h"

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_C "cccccccccccccccccccccccccccccccccccccccc"
#define NONE "0000000000000000000000000000000000000000"

static void expect_log(const struct psync_log *log, const char *first, const char *second,
                       const char *what) {
    int count = (first != NULL) + (second != NULL);
    cr_assert_eq(log->count, count, "%s: %d lines, not %d", what, log->count, count);
    if (first != NULL)
        cr_assert_str_eq(log->lines[0].text, first, "%s: %s", what, log->lines[0].text);
    if (second != NULL)
        cr_assert_str_eq(log->lines[1].text, second, "%s: %s", what, log->lines[1].text);
}

/* --- Primary ---------------------------------------------------------------------------------- */

/* Bytes 101..300 are in the backlog; up to 250 the history was that of ID_B. */
static const struct history promoted = {
    .id = ID_A, .second_id = ID_B, .second_offset = 250, .offset = 300};
static const struct history alone = {
    .id = ID_A, .second_id = NONE, .second_offset = -1, .offset = 300};
static const struct psync_backlog filled = {.first = 101, .length = 200};
static const struct psync_backlog empty = {.first = 301}; /* created at offset 300 */

#define LACK                                                                                       \
    "Unable to partial resync with replica 1.2.3.4:5 for lack of backlog (Replica request was: "
#define AHEAD                                                                                      \
    "Warning: replica 1.2.3.4:5 tried to PSYNC with an offset that is greater than the master "    \
    "replication offset."
#define ACCEPTED "Partial resynchronization request from 1.2.3.4:5 accepted. Sending "
#define MISMATCH                                                                                   \
    "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '"

static const struct decision_case {
    const struct history *history;
    const struct psync_backlog *backlog;
    const char *id;
    int64_t offset;
    bool continues;
    int64_t bytes;
    bool refused;
    const char *log, *warning;
} decisions[] = {
    {&promoted, &filled, ID_A, 101, true, 200, false,
     ACCEPTED "200 bytes of backlog starting from offset 101.", NULL},
    {&promoted, &filled, ID_A, 300, true, 1, false,
     ACCEPTED "1 bytes of backlog starting from offset 300.", NULL},
    {&promoted, &filled, ID_A, 301, true, 0, false,
     ACCEPTED "0 bytes of backlog starting from offset 301.", NULL},
    {&promoted, &filled, "AAAAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 200, true, 101, false,
     ACCEPTED "101 bytes of backlog starting from offset 200.", NULL},
    {&promoted, &filled, ID_A, 100, false, 0, true, LACK "100).", NULL},
    {&promoted, &filled, ID_A, -1, false, 0, true, LACK "-1).", NULL},
    {&promoted, &filled, ID_A, 302, false, 0, true, LACK "302).", AHEAD},
    {&promoted, &filled, ID_B, 101, true, 200, false,
     ACCEPTED "200 bytes of backlog starting from offset 101.", NULL},
    {&promoted, &filled, ID_B, 250, true, 51, false,
     ACCEPTED "51 bytes of backlog starting from offset 250.", NULL},
    {&promoted, &filled, ID_B, 251, false, 0, true,
     "Partial resynchronization not accepted: Requested offset for second ID was 251, but I can "
     "reply up to 250",
     NULL},
    {&promoted, &filled, ID_B, 100, false, 0, true, LACK "100).", NULL},
    {&promoted, &filled, ID_C, 200, false, 0, true,
     MISMATCH ID_C "', my replication IDs are '" ID_A "' and '" ID_B "')", NULL},
    {&promoted, &filled, "", 200, false, 0, true,
     MISMATCH "', my replication IDs are '" ID_A "' and '" ID_B "')", NULL},
    {&promoted, &filled, "?", -1, false, 0, false, "Full resync requested by replica 1.2.3.4:5",
     NULL},
    {&promoted, &filled, "?", 200, false, 0, false, "Full resync requested by replica 1.2.3.4:5",
     NULL},
    {&alone, NULL, ID_A, 301, false, 0, true, LACK "301).", AHEAD},
    {&alone, NULL, ID_A, 300, false, 0, true, LACK "300).", NULL},
    {&alone, NULL, NONE, 1, false, 0, true,
     "Partial resynchronization not accepted: Requested offset for second ID was 1, but I can "
     "reply up to -1",
     NULL},
    {&alone, &empty, ID_A, 301, true, 0, false,
     ACCEPTED "0 bytes of backlog starting from offset 301.", NULL},
    {&alone, &empty, ID_A, 300, false, 0, true, LACK "300).", NULL},
    {&alone, &empty, ID_A, 302, false, 0, true, LACK "302).", AHEAD},
};

Test(psync, a_primary_decides_as_redis_does) {
    for (size_t i = 0; i < sizeof decisions / sizeof *decisions; i++) {
        const struct decision_case *c = &decisions[i];
        struct psync_request request = {.id = c->id, .offset = c->offset, .replica = "1.2.3.4:5"};
        struct psync_decision decision;
        char what[100];
        snprintf(what, sizeof what, "case %zu (%s %lld)", i, c->id, (long long)c->offset);
        psync_decide(c->history, c->backlog, &request, &decision);
        cr_assert_eq(decision.continues, c->continues, "%s", what);
        cr_assert_eq(decision.bytes, c->bytes, "%s: %lld bytes", what, (long long)decision.bytes);
        cr_assert_eq(decision.counts_as_refused, c->refused, "%s", what);
        expect_log(&decision.log, c->log, c->warning, what);
        for (int line = 0; line < decision.log.count; line++)
            cr_assert_eq(decision.log.lines[line].level,
                         line == 0 ? PSYNC_LOG_NOTICE : PSYNC_LOG_WARNING, "%s", what);
    }
}

Test(psync, an_id_of_any_length_is_logged_in_part_and_the_line_stays_whole) {
    char id[3000];
    memset(id, 'x', sizeof id);
    id[sizeof id - 1] = '\0';
    struct psync_request request = {.id = id, .offset = 1, .replica = "1.2.3.4:5"};
    struct psync_decision decision;
    psync_decide(&promoted, &filled, &request, &decision);
    cr_assert(!decision.continues);
    cr_assert_not_null(strstr(decision.log.lines[0].text, "' and '" ID_B "')"));
}

Test(psync, what_stands_in_the_way_is_told_in_order) {
    struct psync_obstacles all = {.failing_over = true,
                                  .is_replica = true,
                                  .pending_output = true,
                                  .filtered = true,
                                  .capabilities = PSYNC_CAPABILITY_PSYNC2};
    cr_assert_str_eq(psync_refusal(&all), "-NOMASTERLINK Can't SYNC while failing over");
    all.failing_over = false;
    cr_assert_str_eq(psync_refusal(&all),
                     "-NOMASTERLINK Can't SYNC while not connected with my master");
    all.is_connected = true;
    cr_assert_str_eq(psync_refusal(&all), "-ERR SYNC and PSYNC are invalid with pending output");
    all.pending_output = false;
    cr_assert_str_eq(psync_refusal(&all), "-ERR Filtered replica requires EOF capability");
    all.capabilities |= PSYNC_CAPABILITY_EOF;
    cr_assert_null(psync_refusal(&all));
}

Test(psync, only_a_replica_of_the_same_history_is_promoted_by_psync_failover) {
    cr_assert_str_eq(psync_failover_refusal(false, ID_A, ID_A),
                     "-ERR PSYNC FAILOVER can't be sent to a master.");
    cr_assert_str_eq(psync_failover_refusal(true, ID_A, ID_B),
                     "-ERR PSYNC FAILOVER replid must match my replid.");
    cr_assert_null(psync_failover_refusal(true, ID_A, ID_A));
}

Test(psync, capabilities_are_known_by_name_and_others_ignored) {
    cr_assert_eq(psync_capability("eof"), PSYNC_CAPABILITY_EOF);
    cr_assert_eq(psync_capability("PSYNC2"), PSYNC_CAPABILITY_PSYNC2);
    cr_assert_eq(psync_capability("slotwise-lz4-1"), PSYNC_CAPABILITY_FRAMES);
    cr_assert_eq(psync_capability("slotwise-blocks-1"), PSYNC_CAPABILITY_BLOCKS);
    cr_assert_eq(psync_capability("lz4"), 0, "another server's compression");
    cr_assert_eq(psync_capability(""), 0);
}

Test(psync, replies_name_the_id_to_who_understands_it_and_frames_to_who_reads_them) {
    char to[PSYNC_REPLY_BYTES];
    unsigned stock = PSYNC_CAPABILITY_EOF | PSYNC_CAPABILITY_PSYNC2;
    cr_assert_eq(psync_format_continue(ID_A, 0, false, to), strlen(to));
    cr_assert_str_eq(to, "+CONTINUE\r\n");
    psync_format_continue(ID_A, stock, false, to);
    cr_assert_str_eq(to, "+CONTINUE " ID_A "\r\n");
    psync_format_continue(ID_A, stock | PSYNC_CAPABILITY_FRAMES, true, to);
    cr_assert_str_eq(to, "+CONTINUE " ID_A " slotwise-lz4-1\r\n");
    cr_assert_eq(psync_format_full(ID_A, INT64_MAX, true, to), strlen(to));
    cr_assert_str_eq(to, "+FULLRESYNC " ID_A " 9223372036854775807 slotwise-lz4-1\r\n");
    psync_format_full(ID_A, 0, false, to);
    cr_assert_str_eq(to, "+FULLRESYNC " ID_A " 0\r\n");
}

/* --- Replica ---------------------------------------------------------------------------------- */

Test(psync, a_replica_asks_for_the_byte_behind_its_last) {
    const char *id;
    int64_t offset;
    struct psync_log log;
    psync_ask(ID_A, 50, &id, &offset, &log);
    cr_assert(strcmp(id, ID_A) == 0 && offset == 51);
    expect_log(&log, "Trying a partial resynchronization (request " ID_A ":51).", NULL, "cached");
    psync_ask(NULL, 50, &id, &offset, &log);
    cr_assert(strcmp(id, "?") == 0 && offset == -1);
    expect_log(&log, "Partial resynchronization not possible (no cached master)", NULL, "none");
}

#define SUCCESS "Successful partial resynchronization with master."
#define SYNTAX  "Master replied with wrong +FULLRESYNC syntax."
#define LATER   "Master is currently unable to PSYNC but should be in the future: "
#define REFUSED "Master does not support PSYNC or is in error state (reply: "
#define STRANGE "Unexpected reply to PSYNC from master: "
#define CHANGED "Master replication ID changed to "

static const struct reply_case {
    const char *line, *cached_id;
    enum psync_outcome outcome;
    const char *id;
    int64_t offset;
    bool id_changed, frames;
    const char *log, *second;
} replies[] = {
    {NULL, ID_A, PSYNC_TRY_LATER, "", -1, false, false,
     "Master did not reply to PSYNC, will try later", NULL},
    {"", ID_A, PSYNC_WAIT, "", -1, false, false, NULL, NULL},
    {"+FULLRESYNC " ID_B " 77", ID_A, PSYNC_FULL, ID_B, 77, false, false,
     "Full resync from master: " ID_B ":77", NULL},
    {"+FULLRESYNC " ID_B " 77 slotwise-lz4-1", NULL, PSYNC_FULL, ID_B, 77, false, true,
     "Full resync from master: " ID_B ":77", NULL},
    {"+FULLRESYNC " ID_B " 77 slotwise-lz4-2", NULL, PSYNC_FULL, ID_B, 77, false, false,
     "Full resync from master: " ID_B ":77", NULL},
    {"+FULLRESYNC " ID_B, ID_A, PSYNC_FULL, "", -1, false, false, SYNTAX, NULL},
    {"+FULLRESYNC", ID_A, PSYNC_FULL, "", -1, false, false, SYNTAX, NULL},
    {"+FULLRESYNC b 77", ID_A, PSYNC_FULL, "", -1, false, false, SYNTAX, NULL},
    {"+FULLRESYNC " ID_B "b 77", ID_A, PSYNC_FULL, "", -1, false, false, SYNTAX, NULL},
    {"+CONTINUE", ID_A, PSYNC_CONTINUE, ID_A, -1, false, false, SUCCESS, NULL},
    {"+CONTINUE " ID_A, ID_A, PSYNC_CONTINUE, ID_A, -1, false, false, SUCCESS, NULL},
    {"+CONTINUE " ID_B, ID_A, PSYNC_CONTINUE, ID_B, -1, true, false, SUCCESS, CHANGED ID_B},
    {"+CONTINUE " ID_A " slotwise-lz4-1", ID_A, PSYNC_CONTINUE, ID_A, -1, false, true, SUCCESS,
     NULL},
    {"+CONTINUE " ID_B " slotwise-lz4-1", ID_A, PSYNC_CONTINUE, ID_B, -1, true, true, SUCCESS,
     CHANGED ID_B},
    {"+CONTINUE bbbb", ID_A, PSYNC_CONTINUE, ID_A, -1, false, false, SUCCESS, NULL},
    {"+CONTINUE " ID_B "b", ID_A, PSYNC_CONTINUE, ID_A, -1, false, false, SUCCESS, NULL},
    {"+CONTINUE slotwise-lz4-1", ID_A, PSYNC_CONTINUE, ID_A, -1, false, false, SUCCESS, NULL},
    {"+CONTINUE " ID_B, NULL, PSYNC_TRY_LATER, "", -1, false, false, STRANGE "+CONTINUE " ID_B,
     NULL},
    {"-NOMASTERLINK Can't SYNC while not connected with my master", ID_A, PSYNC_TRY_LATER, "", -1,
     false, false, LATER "-NOMASTERLINK Can't SYNC while not connected with my master", NULL},
    {"-LOADING Redis is loading the dataset in memory", ID_A, PSYNC_TRY_LATER, "", -1, false, false,
     LATER "-LOADING Redis is loading the dataset in memory", NULL},
    {"-ERR unknown command 'PSYNC'", ID_A, PSYNC_NOT_SUPPORTED, "", -1, false, false,
     REFUSED "-ERR unknown command 'PSYNC')", NULL},
    {"-NOAUTH Authentication required.", ID_A, PSYNC_NOT_SUPPORTED, "", -1, false, false,
     STRANGE "-NOAUTH Authentication required.", NULL},
    {"+OK", NULL, PSYNC_NOT_SUPPORTED, "", -1, false, false, STRANGE "+OK", NULL},
    {"$", ID_A, PSYNC_NOT_SUPPORTED, "", -1, false, false, STRANGE "$", NULL},
};

Test(psync, a_replica_reads_each_reply_as_redis_does) {
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        const struct reply_case *c = &replies[i];
        const char *what = c->line ? c->line : "no reply";
        struct psync_reply reply;
        memset(&reply, 'x', sizeof reply);
        psync_read_reply(c->line, c->cached_id, &reply);
        cr_assert_eq(reply.outcome, c->outcome, "%s: %d", what, (int)reply.outcome);
        cr_assert_str_eq(reply.id, c->id, "%s: %s", what, reply.id);
        cr_assert_eq(reply.offset, c->offset, "%s: %lld", what, (long long)reply.offset);
        cr_assert_eq(reply.id_changed, c->id_changed, "%s", what);
        cr_assert_eq(reply.frames, c->frames, "%s", what);
        expect_log(&reply.log, c->log, c->second, what);
        if (c->log != NULL)
            cr_assert_eq(reply.log.lines[0].level,
                         strncmp(c->log, STRANGE, strlen(STRANGE)) == 0 || c->line == NULL ||
                                 strcmp(c->log, SYNTAX) == 0
                             ? PSYNC_LOG_WARNING
                             : PSYNC_LOG_NOTICE,
                         "%s", what);
    }
}

Test(psync, what_a_primary_writes_its_replica_reads) {
    char line[PSYNC_REPLY_BYTES];
    struct psync_reply reply;
    for (int frames = 0; frames < 2; frames++) {
        line[psync_format_full(ID_A, 123, frames, line) - 2] = '\0';
        psync_read_reply(line, ID_B, &reply);
        cr_assert(reply.outcome == PSYNC_FULL && reply.offset == 123 && reply.frames == frames);
        line[psync_format_continue(ID_A, PSYNC_CAPABILITY_FRAMES, frames, line) - 2] = '\0';
        psync_read_reply(line, ID_B, &reply);
        cr_assert(reply.outcome == PSYNC_CONTINUE && reply.id_changed && reply.frames == frames);
        cr_assert_str_eq(reply.id, ID_A);
    }
}
