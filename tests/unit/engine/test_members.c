/* Members in trees: a random stream of changes against a plain array, with hashes of all qualities,
 * and copies that share nodes; values and members in and out of their leaves; scans while the tree
 * changes. */
#include "engine/types/members.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/memory.h"
#include "engine/table_hash.h"

#define UNIVERSE     600
#define VALUE_MAX    400
#define STEPS        6000
#define TEXT_MAX     300
#define LONG_MEMBER  30 /* one member in so many lies outside its leaf */
#define HASHES       4
#define COPIES       3
#define SCAN_CURSORS ((uint64_t)1 << 53)
#define MEMBERS_MANY 20000

/* --- Hashes ----------------------------------------------------------------------------------- */

static uint64_t hash_of_few(const char *data, size_t length) {
    return table_hash(data, length) << 61;
}
static uint64_t hash_of_one(const char *data, size_t length) {
    (void)data, (void)length;
    return 0x0123456789abcdefu;
}
/* Many of which the cursors of scans are equal. */
static uint64_t hash_of_low_bits(const char *data, size_t length) {
    return table_hash(data, length) & 0xfff;
}
static uint64_t (*const hashes[HASHES])(const char *data, size_t length) = {
    NULL, hash_of_few, hash_of_one, hash_of_low_bits};

static uint64_t used_before;

static void begin(void) {
    table_set_seed(0x5eed);
    used_before = memory_used_bytes();
    srandom(1);
}

static void end(void) {
    table_hash_for_tests = NULL;
    cr_assert_eq(memory_used_bytes(), used_before, "memory was not given back");
}

TestSuite(members, .init = begin, .fini = end, .timeout = 120);

/* --- The model -------------------------------------------------------------------------------- */

struct entry {
    bool present;
    size_t value_length;
    char value[VALUE_MAX];
};
struct model {
    struct entry entries[UNIVERSE];
    uint64_t count;
};

/* Members of 0 to some hundred bytes. */
static size_t text_of(unsigned number, char text[TEXT_MAX]) {
    if (number == 0)
        return 0;
    size_t length = (size_t)snprintf(text, TEXT_MAX, "%u", number);
    size_t wanted = number % LONG_MEMBER == 0 ? MEMBERS_INLINE_MAX - 1 + number % 5 : number % 40;
    while (length < wanted)
        text[length++] = (char)('a' + number % 26);
    return length;
}

static unsigned number_of(const struct element *member) {
    unsigned number = 0;
    for (size_t i = 0; i < member->length && member->data[i] <= '9'; i++)
        number = number * 10 + (unsigned)(member->data[i] - '0');
    return number;
}

struct walk {
    const struct model *model;
    const struct tree_kind *kind;
    uint64_t met;
    bool seen[UNIVERSE];
};

static void check_value(const struct entry *entry, const struct element *value) {
    cr_assert_eq(value->length, entry->value_length);
    cr_assert_eq(memcmp(value->data, entry->value, value->length), 0);
}

static bool meet(void *context, const struct element *member, const struct element *value,
                 double score) {
    struct walk *walk = context;
    unsigned number = number_of(member);
    const struct entry *entry = &walk->model->entries[number];
    char text[TEXT_MAX];
    cr_assert_eq(member->length, text_of(number, text));
    cr_assert_eq(memcmp(member->data, text, member->length), 0);
    cr_assert(entry->present && !walk->seen[number]);
    cr_assert_eq(value != NULL, walk->kind == &members_with_values);
    if (value)
        check_value(entry, value);
    if (walk->kind == &members_with_scores)
        cr_assert_eq(memcmp(&score, entry->value, sizeof score), 0);
    walk->seen[number] = true;
    walk->met++;
    return true;
}

static void check_all(const struct tree *members, const struct model *model) {
    static struct walk walk;
    tree_check(members);
    cr_assert_eq(members->count, model->count);
    walk = (struct walk){.model = model, .kind = members->kind};
    members_visit(members, meet, &walk);
    cr_assert_eq(walk.met, model->count);
    walk = (struct walk){.model = model, .kind = members->kind};
    uint64_t cursor = 0;
    do {
        cursor = members_scan(members, cursor, 1 + (uint64_t)random() % 40, meet, &walk);
        cr_assert_lt(cursor, SCAN_CURSORS);
    } while (cursor != 0);
    cr_assert_eq(walk.met, model->count);
    walk = (struct walk){.model = model, .kind = members->kind};
    for (uint64_t i = 0; i < model->count; i++) {
        struct element member, value;
        members_at(members, i, &member, &value);
        meet(&walk, &member, members->kind == &members_with_values ? &value : NULL,
             members->kind == &members_with_scores
                 ? *(const double *)memcpy(&(double){0}, value.data, sizeof(double))
                 : 0);
    }
}

static void set_value(const struct tree *members, struct entry *entry) {
    size_t length = members->kind == &members_with_scores   ? sizeof(double)
                    : members->kind == &members_with_values ? (size_t)random() % 20
                                                            : 0;
    if (members->kind == &members_with_values && random() % 8 == 0)
        length = MEMBERS_INLINE_MAX - 3 + (size_t)random() % 20; /* 136 is a mark's number too */
    if (members->kind == &members_with_values && random() % 3 == 0 && entry->present)
        length = entry->value_length;
    entry->value_length = length;
    for (size_t i = 0; i < length; i++)
        entry->value[i] = (char)random();
    if (members->kind == &members_with_scores) {
        double score = (double)random();
        memcpy(entry->value, &score, sizeof score);
    }
}

static void check_one(const struct tree *members, const struct model *model, unsigned number) {
    const struct entry *entry = &model->entries[number];
    struct element value;
    char text[TEXT_MAX];
    size_t length = text_of(number, text);
    cr_assert_eq(members_find(members, text, length, &value), entry->present);
    if (entry->present && members->kind != &members_without_values)
        check_value(entry, &value);
}

/* One change; in waves of growth and shrinking. */
static void step(struct tree *members, struct model *model, unsigned phase) {
    unsigned number = (unsigned)random() % UNIVERSE;
    struct entry *entry = &model->entries[number];
    char text[TEXT_MAX];
    size_t length = text_of(number, text);
    if ((unsigned)random() % 100 < (phase % 2 == 0 ? 75u : 20u)) {
        set_value(members, entry);
        cr_assert_eq(members_put(members, text, length, entry->value, entry->value_length),
                     !entry->present);
        model->count += !entry->present;
        entry->present = true;
    } else {
        cr_assert_eq(members_remove(members, text, length), entry->present);
        model->count -= entry->present;
        entry->present = false;
    }
    check_one(members, model, number);
    check_one(members, model, (unsigned)random() % UNIVERSE);
}

static void run_stream(const struct tree_kind *kind) {
    static struct model model, copied[COPIES];
    struct tree members, copies[COPIES];
    model = (struct model){0};
    tree_init(&members, kind);
    for (unsigned i = 0; i < COPIES; i++) {
        tree_init(&copies[i], kind);
        copied[i] = model;
    }
    for (unsigned i = 0; i < STEPS; i++) {
        step(&members, &model, i / 1500);
        if (i % 250 == 0)
            check_all(&members, &model);
        if (i % 400 == 0) {
            unsigned copy = (unsigned)random() % COPIES;
            check_all(&copies[copy], &copied[copy]);
            tree_clear(&copies[copy]);
            tree_share(&copies[copy], &members);
            copied[copy] = model;
        }
    }
    check_all(&members, &model);
    tree_clear(&members);
    for (unsigned i = 0; i < COPIES; i++) {
        check_all(&copies[i], &copied[i]);
        tree_clear(&copies[i]);
    }
}

static void run_streams(const struct tree_kind *kind) {
    for (unsigned i = 0; i < HASHES; i++) {
        table_hash_for_tests = hashes[i];
        run_stream(kind);
    }
}

Test(members, stream_without_values) {
    run_streams(&members_without_values);
}

Test(members, stream_with_values) {
    run_streams(&members_with_values);
}

Test(members, stream_with_scores) {
    run_streams(&members_with_scores);
}

/* --- Single cases ----------------------------------------------------------------------------- */

static size_t name_of(unsigned number, char text[TEXT_MAX]) {
    return (size_t)snprintf(text, TEXT_MAX, "member:%u", number);
}

static void fill(struct tree *members, unsigned count) {
    char text[TEXT_MAX];
    for (unsigned i = 0; i < count; i++)
        cr_assert(members_put(members, text, name_of(i, text), "value", 5));
}

Test(members, a_member_may_lie_in_the_tree_itself) {
    struct tree members;
    struct element member;
    tree_init(&members, &members_with_values);
    fill(&members, 1000);
    while (members.count > 0) {
        members_at(&members, (uint64_t)random() % members.count, &member, NULL);
        cr_assert(!members_put(&members, member.data, member.length, "another value", 13));
        members_at(&members, (uint64_t)random() % members.count, &member, NULL);
        cr_assert(members_remove(&members, member.data, member.length));
    }
    tree_check(&members);
    cr_assert_null(members.root);
}

/* Leaves of which most was removed go together. */
Test(members, memory_follows_the_number_of_members) {
    struct tree members;
    char text[TEXT_MAX];
    tree_init(&members, &members_with_values);
    fill(&members, MEMBERS_MANY);
    uint64_t full = members.bytes;
    for (unsigned i = 0; i < MEMBERS_MANY; i++)
        if (i % 100 != 0)
            cr_assert(members_remove(&members, text, name_of(i, text)));
    tree_check(&members);
    cr_assert_lt(members.bytes, full / 50);
    tree_clear(&members);
}

struct bag {
    unsigned met[MEMBERS_MANY];
};

static bool note(void *context, const struct element *member, const struct element *value,
                 double score) {
    struct bag *bag = context;
    (void)value, (void)score;
    unsigned number = 0;
    for (size_t i = strlen("member:"); i < member->length; i++)
        number = number * 10 + (unsigned)(member->data[i] - '0');
    if (number < MEMBERS_MANY)
        bag->met[number]++;
    return true;
}

/* What is there all the time is met, once at least, whatever else comes and goes. */
static void scan_while(int change /* 1: members come, -1: they go, 0: both */) {
    static struct bag bag;
    struct tree members;
    char text[TEXT_MAX];
    unsigned lowest = MEMBERS_MANY / 2, next = MEMBERS_MANY, gone = lowest;
    bag = (struct bag){0};
    tree_init(&members, &members_without_values);
    fill(&members, MEMBERS_MANY);
    uint64_t cursor = 0, calls = 0;
    do {
        cursor = members_scan(&members, cursor, 50, note, &bag);
        for (unsigned i = 0; i < 100; i++) {
            if (change >= 0)
                members_put(&members, text, name_of(next++, text), NULL, 0);
            if (change <= 0 && gone < MEMBERS_MANY)
                cr_assert(members_remove(&members, text, name_of(gone++, text)));
        }
        cr_assert_lt(++calls, 10000);
    } while (cursor != 0);
    for (unsigned i = 0; i < lowest; i++)
        cr_assert_eq(bag.met[i], 1);
    tree_check(&members);
    tree_clear(&members);
}

Test(members, scan_meets_all_that_stay) {
    for (int change = -1; change <= 1; change++)
        scan_while(change);
}

Test(members, cursors_from_nowhere) {
    static struct bag bag;
    struct tree members;
    tree_init(&members, &members_without_values);
    cr_assert_eq(members_scan(&members, 0, 10, note, &bag), 0);
    fill(&members, 100);
    cr_assert_eq(members_scan(&members, SCAN_CURSORS - 1, 10, note, &bag), 0);
    cr_assert_eq(members_scan(&members, SCAN_CURSORS, 10, note, &bag), 0);
    cr_assert_eq(members_scan(&members, UINT64_MAX, 10, note, &bag), 0);
    tree_clear(&members);
}

/* A position that is uniform gives a member that is, also after most were removed. */
Test(members, positions_are_members) {
    struct tree members;
    struct element member;
    char text[TEXT_MAX];
    tree_init(&members, &members_without_values);
    fill(&members, MEMBERS_MANY);
    for (unsigned i = 0; i < MEMBERS_MANY; i++)
        if (i % 100 != 0)
            members_remove(&members, text, name_of(i, text));
    static struct bag bag;
    bag = (struct bag){0};
    for (uint64_t i = 0; i < members.count; i++) {
        members_at(&members, i, &member, NULL);
        note(&bag, &member, NULL, 0);
    }
    for (unsigned i = 0; i < MEMBERS_MANY; i++)
        cr_assert_eq(bag.met[i], i % 100 == 0);
    tree_clear(&members);
}

/* It changes nothing, whatever is looked for and whatever the hashes are. */
Test(members, fetching_is_harmless) {
    struct members_sought sought[MEMBERS_AHEAD];
    char text[MEMBERS_AHEAD][TEXT_MAX];
    struct tree members, empty;
    tree_init(&empty, &members_with_values);
    for (unsigned h = 0; h < HASHES; h++) {
        table_hash_for_tests = hashes[h];
        tree_init(&members, &members_with_values);
        for (unsigned count = 1; count < UNIVERSE; count++) {
            members_put(&members, text[0], text_of(count, text[0]), "value", 5);
            unsigned n = count % (MEMBERS_AHEAD + 1);
            for (unsigned i = 0; i < n; i++)
                sought[i] = (struct members_sought){.members = i % 5 == 4 ? &empty : &members,
                                                    .data = text[i],
                                                    .length = text_of(count - n + 2 * i, text[i]),
                                                    .changes = i % 2};
            members_fetch(sought, n);
        }
        tree_check(&members);
        tree_clear(&members);
    }
}
