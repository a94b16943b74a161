/* Places: what each event makes of the history, of the place and of a server's own replicas. */
#include <string.h>

#include <criterion/criterion.h>

#include "replication/place.h"

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_C "cccccccccccccccccccccccccccccccccccccccc"
#define NONE "0000000000000000000000000000000000000000"

static struct history history;
static struct place place;

/* Connected to a primary with ID_A, whose second id is not known here. */
static void begin(bool may_continue) {
    history = (struct history){.id = ID_A, .second_id = ID_B, .second_offset = 50, .offset = 300};
    place = (struct place){.may_continue = may_continue, .database = 3};
}

static void expect(const char *id, const char *second_id, int64_t second_offset, uint64_t offset,
                   bool may_continue, unsigned database) {
    if (id)
        cr_assert_str_eq(history.id, id);
    else
        cr_assert(strcmp(history.id, ID_A) != 0 && strlen(history.id) == HISTORY_ID_LENGTH);
    cr_assert_str_eq(history.second_id, second_id);
    cr_assert_eq(history.second_offset, second_offset);
    cr_assert_eq(history.offset, offset);
    cr_assert_eq(place.may_continue, may_continue);
    cr_assert_eq(place.database, database);
}

Test(place, a_lost_connection_may_continue_if_what_came_was_applied) {
    begin(false);
    place_lost(&place, 7, true);
    expect(ID_A, ID_B, 50, 300, true, 7);
    place_lost(&place, 2, false);
    expect(ID_A, ID_B, 50, 300, false, 2);
}

Test(place, a_primary_that_gets_one_goes_on_from_its_own_stream) {
    begin(false);
    place_demoted(&place);
    expect(ID_A, ID_B, 50, 300, true, 0);
    place_connected(&place);
    expect(ID_A, ID_B, 50, 300, false, 0);
}

Test(place, another_id_makes_the_old_one_the_second) {
    begin(true);
    cr_assert_eq(place_continued(&place, &history, ID_A), 0);
    expect(ID_A, ID_B, 50, 300, true, 3);
    cr_assert_eq(place_continued(&place, &history, ID_C), PLACE_DROP_REPLICAS);
    expect(ID_C, ID_A, 301, 300, true, 3); /* until it is connected it may be asked for once more */
}

Test(place, data_that_are_gone_are_of_no_history) {
    begin(true);
    cr_assert_eq(place_flushed(&place), PLACE_DROP_REPLICAS | PLACE_DROP_BACKLOG);
    expect(ID_A, ID_B, 50, 300, false, 3);
    place_emptied(&place, &history);
    expect(NULL, NONE, -1, 300, false, 3);
}

Test(place, loaded_data_have_their_place_at_once) {
    begin(true);
    place_flushed(&place);
    place_loaded(&place, &history, ID_C, 1000, 5);
    expect(ID_C, NONE, -1, 1000, true, 5);
    begin(false);
    place_restored(&place, &history, ID_C, 1000, 5);
    expect(ID_C, NONE, -1, 1000, true, 5);
}

Test(place, a_promotion_keeps_the_old_id_as_the_second) {
    begin(true);
    cr_assert_eq(place_promoted(&place, &history), PLACE_DROP_REPLICAS);
    expect(NULL, ID_A, 301, 300, false, 3);
}

Test(place, a_primary_that_begins_again_goes_on_from_its_file) {
    begin(false);
    place_resumed(&history, ID_C, 1000);
    expect(NULL, ID_C, 1001, 1000, false, 3);
}

Test(place, what_is_in_no_stream_has_an_id_of_its_own) {
    begin(false);
    place_unlogged(&history);
    expect(NULL, NONE, -1, 300, false, 3);
}

Test(place, a_backlog_expires_after_its_time_to_live) {
    cr_assert_not(place_backlog_expired(1000, 1));
    cr_assert(place_backlog_expired(1001, 1));
    cr_assert_not(place_backlog_expired(UINT64_MAX, 0));
}
