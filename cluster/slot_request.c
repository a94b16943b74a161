/* See slot_request.h. */
#include "cluster/slot_request.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/memory.h"

#define ERROR_SYNTAX "ERR syntax error"
#define ERROR_SLOT   "ERR Invalid or out of range slot"
#define NUMBER_MAX   20 /* digits that are looked at */

static void set_bit(uint8_t *slots, unsigned slot) {
    slots[slot / 8] |= (uint8_t)(1u << (slot % 8));
}

static bool word_is(const struct slot_word *word, const char *wanted) {
    return word->length == strlen(wanted) && strncasecmp(word->data, wanted, word->length) == 0;
}

/* An integer as Redis reads one: a sign, digits, no leading zeros. */
static bool is_integer(const struct slot_word *word) {
    size_t at = word->length > 1 && word->data[0] == '-';
    if (word->length == 0 || word->length - at > NUMBER_MAX ||
        (word->data[at] == '0' && word->length > 1))
        return false;
    for (; at < word->length; at++)
        if (word->data[at] < '0' || word->data[at] > '9')
            return false;
    return true;
}

/* false: no slot has this number. */
static bool read_slot(const struct slot_word *word, unsigned *slot) {
    *slot = 0;
    if (!is_integer(word) || word->data[0] == '-' || word->length > 5)
        return false;
    for (size_t i = 0; i < word->length; i++)
        *slot = *slot * 10 + (unsigned)(word->data[i] - '0');
    return *slot < WIRE_SLOTS;
}

/* --- MIGRATESLOTS ----------------------------------------------------------------------------- */

struct parsing {
    const struct slot_word *words;
    size_t count, at;
    const struct slot_request_facts *facts;
    struct slot_request *requests;
    size_t request_count;
    char *error;
};

static const char *owner_error(struct parsing *p, unsigned slot, unsigned *owner) {
    unsigned of_slot = p->facts->map->owner[slot];
    if (of_slot == SLOT_MAP_NOBODY) {
        snprintf(p->error, SLOT_REQUEST_ERROR_BYTES, "ERR Slot %u has no node served.", slot);
        return p->error;
    }
    if (*owner != SLOT_MAP_NOBODY && *owner != of_slot)
        return "ERR Requested slots span multiple shards";
    *owner = of_slot;
    return NULL;
}

/* Ranges so far, for the error that names the one that is overlapped. */
static const char *overlap_error(struct parsing *p, size_t begin, unsigned first, unsigned last) {
    for (size_t i = begin; i < p->at; i += 2) {
        unsigned first_before, last_before;
        read_slot(&p->words[i], &first_before);
        read_slot(&p->words[i + 1], &last_before);
        if (first > last_before || last < first_before)
            continue;
        snprintf(p->error, SLOT_REQUEST_ERROR_BYTES,
                 "ERR Slot range %u-%u overlaps with previous range %u-%u.", first, last,
                 first_before, last_before);
        return p->error;
    }
    return NULL;
}

static const char *parse_range(struct parsing *p, size_t begin, struct slot_request *request,
                               unsigned *owner) {
    unsigned first, last;
    if (!read_slot(&p->words[p->at], &first))
        return ERROR_SLOT;
    if (p->at + 1 == p->count)
        return "ERR No end slot for final slot range";
    if (!read_slot(&p->words[p->at + 1], &last))
        return ERROR_SLOT;
    if (first > last) {
        snprintf(p->error, SLOT_REQUEST_ERROR_BYTES,
                 "ERR Start slot number %u is greater than end slot number %u.", first, last);
        return p->error;
    }
    const char *error = NULL;
    for (unsigned slot = first; slot <= last && !error; slot++)
        error = owner_error(p, slot, owner);
    if (!error)
        error = overlap_error(p, begin, first, last);
    for (unsigned slot = first; slot <= last && !error; slot++)
        set_bit(request->slots, slot);
    p->at += 2;
    return error;
}

static const char *parse_ranges(struct parsing *p, struct slot_request *request) {
    unsigned owner = SLOT_MAP_NOBODY;
    size_t begin = p->at;
    const char *error = NULL;
    while (p->at < p->count && is_integer(&p->words[p->at]) && !error)
        error = parse_range(p, begin, request, &owner);
    if (error)
        return error;
    if (p->at == begin)
        return "ERR No slot ranges specified";
    if (owner != SLOT_MAP_MINE)
        return "ERR Slots are not served by this node.";
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        if (!wire_slot_is(request->slots, slot))
            continue;
        if (wire_slot_is(p->facts->busy, slot)) {
            snprintf(p->error, SLOT_REQUEST_ERROR_BYTES, "ERR I am already migrating slot %u.",
                     slot);
            return p->error;
        }
        for (size_t i = 0; i < p->request_count; i++)
            if (wire_slot_is(p->requests[i].slots, slot))
                return "ERR Slot ranges in migrations overlap";
    }
    return NULL;
}

static const char *parse_node(struct parsing *p, struct slot_request *request) {
    if (p->at + 1 >= p->count || !word_is(&p->words[p->at], "node"))
        return ERROR_SYNTAX;
    const struct slot_word *id = &p->words[p->at + 1];
    int shown = id->length > 64 ? 64 : (int)id->length;
    p->at += 2;
    if (id->length != WIRE_ID_LENGTH) {
        snprintf(p->error, SLOT_REQUEST_ERROR_BYTES, "ERR Invalid node name: %.*s", shown,
                 id->data);
        return p->error;
    }
    const struct slot_map *map = p->facts->map;
    for (unsigned i = SLOT_MAP_MINE; i < map->target_count; i++) {
        if (memcmp(map->targets[i].id.hex, id->data, WIRE_ID_LENGTH) != 0)
            continue;
        if (memcmp(map->targets[SLOT_MAP_MINE].id.hex, id->data, WIRE_ID_LENGTH) == 0)
            return "ERR Target node can not be this node.";
        request->target = map->targets[i].id;
        return NULL;
    }
    snprintf(p->error, SLOT_REQUEST_ERROR_BYTES, "ERR Unknown node name: %.*s", shown, id->data);
    return p->error;
}

static const char *parse_request(struct parsing *p) {
    struct slot_request request = {.slots = {0}};
    if (!word_is(&p->words[p->at], "slotsrange"))
        return ERROR_SYNTAX;
    p->at++;
    const char *error = parse_ranges(p, &request);
    if (!error)
        error = parse_node(p, &request);
    if (error)
        return error;
    p->requests = memory_realloc(p->requests, (p->request_count + 1) * sizeof(struct slot_request));
    p->requests[p->request_count++] = request;
    return NULL;
}

const char *slot_request_parse(const struct slot_word *words, size_t count,
                               const struct slot_request_facts *facts,
                               struct slot_request **requests, size_t *request_count,
                               char error[SLOT_REQUEST_ERROR_BYTES]) {
    struct parsing p = {.words = words, .count = count, .facts = facts, .error = error};
    const char *failed = count == 0 ? ERROR_SYNTAX : NULL;
    while (p.at < count && !failed)
        failed = parse_request(&p);
    if (failed) {
        memory_free(p.requests);
        p.requests = NULL;
        p.request_count = 0;
    }
    *requests = p.requests;
    *request_count = p.request_count;
    return failed;
}

/* --- Sets as texts ---------------------------------------------------------------------------- */

char *slot_set_text(const uint8_t *slots) {
    size_t room = 64, used = 0;
    char *text = memory_alloc(room);
    text[0] = '\0';
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        unsigned first = slot;
        if (!wire_slot_is(slots, slot))
            continue;
        while (slot + 1 < WIRE_SLOTS && wire_slot_is(slots, slot + 1))
            slot++;
        if (room - used < 32)
            text = memory_realloc(text, room *= 2);
        used += (size_t)snprintf(text + used, room - used, "%s%u-%u", used ? " " : "", first, slot);
    }
    return text;
}

/* The word up to a byte; it is taken with that. */
static bool take_slot(const char **at, const char *end, char until, unsigned *slot) {
    const char *stop = *at < end ? memchr(*at, until, (size_t)(end - *at)) : NULL;
    if (!stop)
        stop = end;
    const struct slot_word word = {*at, (size_t)(stop - *at)};
    *at = stop < end ? stop + 1 : end;
    return read_slot(&word, slot);
}

bool slot_set_parse(const char *text, size_t length, uint8_t *slots) {
    const char *at = text, *end = text + length;
    unsigned first, last;
    memset(slots, 0, WIRE_SLOT_BYTES);
    if (length == 0)
        return false;
    while (at < end) {
        if (!take_slot(&at, end, '-', &first) || !take_slot(&at, end, ' ', &last) || first > last)
            return false;
        for (unsigned slot = first; slot <= last; slot++)
            set_bit(slots, slot);
    }
    return end[-1] != ' ';
}
