/* Arguments of CLUSTER MIGRATESLOTS, and sets of slots as texts. */
#include <string.h>

#include <criterion/criterion.h>

#include "cluster/slot_request.h"
#include "engine/memory.h"

#define ME    "1111111111111111111111111111111111111111"
#define OTHER "2222222222222222222222222222222222222222"
#define THIRD "3333333333333333333333333333333333333333"

static struct slot_map *map;
static uint8_t busy[WIRE_SLOT_BYTES];
static struct slot_request *requests;
static size_t request_count;

static void begin(void) {
    const char *const ids[] = {"", ME, OTHER, THIRD};
    map = memory_calloc(1, sizeof *map + 4 * sizeof *map->targets);
    map->target_count = 4;
    for (unsigned i = SLOT_MAP_MINE; i < 4; i++)
        memcpy(map->targets[i].id.hex, ids[i], WIRE_ID_LENGTH);
    for (unsigned slot = 0; slot < 100; slot++)
        map->owner[slot] = SLOT_MAP_MINE;
    for (unsigned slot = 100; slot < 200; slot++)
        map->owner[slot] = 2;
    memset(busy, 0, sizeof busy);
    busy[90 / 8] = 1u << (90 % 8);
}

static void end(void) {
    slot_map_free(map);
    memory_free(requests);
}

/* Words between single spaces. NULL: it is fine. */
static const char *parse(const char *line) {
    static char error[SLOT_REQUEST_ERROR_BYTES];
    struct slot_word words[64];
    size_t count = 0;
    for (const char *at = line; *at; count++) {
        size_t length = strcspn(at, " ");
        words[count] = (struct slot_word){at, length};
        at += length + (at[length] == ' ');
    }
    const struct slot_request_facts facts = {map, busy};
    memory_free(requests);
    const char *failed = slot_request_parse(words, count, &facts, &requests, &request_count, error);
    cr_assert_eq(failed != NULL, requests == NULL);
    return failed;
}

static void fails(const char *line, const char *wanted) {
    const char *error = parse(line);
    cr_assert(error && strcmp(error, wanted) == 0, "%s: %s", line, error ? error : "fine");
}

Test(slot_request, several, .init = begin, .fini = end) {
    cr_assert_null(parse("SLOTSRANGE 0 5 7 7 NODE " OTHER " slotsrange 8 9 node " THIRD));
    cr_assert_eq(request_count, 2);
    char *text = slot_set_text(requests[0].slots);
    cr_assert_str_eq(text, "0-5 7-7");
    memory_free(text);
    cr_assert_arr_eq(requests[0].target.hex, OTHER, WIRE_ID_LENGTH);
    text = slot_set_text(requests[1].slots);
    cr_assert_str_eq(text, "8-9");
    memory_free(text);
    cr_assert_arr_eq(requests[1].target.hex, THIRD, WIRE_ID_LENGTH);
}

Test(slot_request, faults, .init = begin, .fini = end) {
    fails("", "ERR syntax error");
    fails("SLOTS 0 1", "ERR syntax error");
    fails("SLOTSRANGE", "ERR No slot ranges specified");
    fails("SLOTSRANGE NODE " OTHER, "ERR No slot ranges specified");
    fails("SLOTSRANGE 0 1", "ERR syntax error");
    fails("SLOTSRANGE 0 1 NODE", "ERR syntax error");
    fails("SLOTSRANGE 0", "ERR No end slot for final slot range");
    fails("SLOTSRANGE -1 5 NODE " OTHER, "ERR Invalid or out of range slot");
    fails("SLOTSRANGE 0 99999999999999999999 NODE " OTHER, "ERR Invalid or out of range slot");
    fails("SLOTSRANGE 0 16384 NODE " OTHER, "ERR Invalid or out of range slot");
    fails("SLOTSRANGE 0 x NODE " OTHER, "ERR Invalid or out of range slot");
    fails("SLOTSRANGE 007 8 NODE " OTHER, "ERR No slot ranges specified");
    fails("SLOTSRANGE 5 1 NODE " OTHER,
          "ERR Start slot number 5 is greater than end slot number 1.");
    fails("SLOTSRANGE 99 100 NODE " OTHER, "ERR Requested slots span multiple shards");
    fails("SLOTSRANGE 0 1 100 101 NODE " OTHER, "ERR Requested slots span multiple shards");
    fails("SLOTSRANGE 100 101 NODE " OTHER, "ERR Slots are not served by this node.");
    fails("SLOTSRANGE 200 201 NODE " OTHER, "ERR Slot 200 has no node served.");
    fails("SLOTSRANGE 1 5 5 6 NODE " OTHER, "ERR Slot range 5-6 overlaps with previous range 1-5.");
    fails("SLOTSRANGE 1 5 NODE " OTHER " SLOTSRANGE 5 6 NODE " THIRD,
          "ERR Slot ranges in migrations overlap");
    fails("SLOTSRANGE 89 91 NODE " OTHER, "ERR I am already migrating slot 90.");
    fails("SLOTSRANGE 1 5 NODE " ME, "ERR Target node can not be this node.");
    fails("SLOTSRANGE 1 5 NODE abc", "ERR Invalid node name: abc");
    fails("SLOTSRANGE 1 5 NODE 4444444444444444444444444444444444444444",
          "ERR Unknown node name: 4444444444444444444444444444444444444444");
}

Test(slot_request, sets) {
    uint8_t slots[WIRE_SLOT_BYTES];
    const char *const same[] = {"0-0", "0-16383", "1-2 4-4 6-100", "16383-16383"};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        cr_assert(slot_set_parse(same[i], strlen(same[i]), slots), "%s", same[i]);
        char *text = slot_set_text(slots);
        cr_assert_str_eq(text, same[i]);
        memory_free(text);
    }
    const char *const wrong[] = {"",    " ",    "1",        "1-",      "-1",  "1-2 ",   " 1-2",
                                 "2-1", "1--2", "1-2  3-4", "0-16384", "a-b", "1-2,3-4"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_assert(!slot_set_parse(wrong[i], strlen(wrong[i]), slots), "\"%s\"", wrong[i]);
    memset(slots, 0xff, sizeof slots);
    slots[0] = 0x55; /* many ranges: the text grows */
    for (unsigned i = 0; i < WIRE_SLOT_BYTES; i++)
        slots[i] = 0x55;
    char *text = slot_set_text(slots);
    uint8_t again[WIRE_SLOT_BYTES];
    cr_assert(slot_set_parse(text, strlen(text), again));
    cr_assert_arr_eq(slots, again, sizeof slots);
    memory_free(text);
}
