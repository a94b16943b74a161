/* The list of all connections: finding by id, and walks while connections come and go. */
#include <criterion/criterion.h>

#include "server/clients/client_list.h"

#define CLIENTS 1000
#define ROOM    7

static struct client_list list;
static char clients[CLIENTS]; /* whose addresses stand for connections; client i has the id i + 1 */

static void set_up(void) {
    client_list_init(&list);
}

static void tear_down(void) {
    client_list_destroy(&list);
}

TestSuite(client_list, .init = set_up, .fini = tear_down, .timeout = 20);

static struct conn *client(unsigned i) {
    return (struct conn *)(void *)&clients[i];
}

static void add(unsigned from, unsigned end) {
    for (unsigned i = from; i < end; i++)
        cr_assert_eq(client_list_add(&list, client(i)), i + 1);
}

/* Walks on for so many pieces, or to the end, and counts each client that it sees. */
static bool walk_on(struct client_walk *walk, unsigned pieces, unsigned seen[CLIENTS]) {
    bool more = true;
    char *last = NULL;
    for (; pieces > 0 && more; pieces--) {
        struct conn *found[ROOM];
        size_t count = client_walk_next(walk, &list, found, ROOM, &more);
        cr_assert_leq(count, ROOM);
        for (size_t i = 0; i < count; i++) {
            char *one = (char *)(void *)found[i];
            cr_assert_gt(one, last, "not in order");
            last = one;
            seen[one - clients]++;
        }
    }
    return more;
}

Test(client_list, finds_by_id) {
    cr_assert_null(client_list_find(&list, 1));
    add(0, CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++)
        cr_assert_eq(client_list_find(&list, i + 1), client(i));
    cr_assert_null(client_list_find(&list, 0));
    cr_assert_null(client_list_find(&list, CLIENTS + 1));
    cr_assert_null(client_list_find(&list, UINT64_MAX));
    for (unsigned i = 0; i < CLIENTS; i++)
        if (i % 5)
            client_list_remove(&list, i + 1);
    for (unsigned i = 0; i < CLIENTS; i++)
        cr_assert_eq(client_list_find(&list, i + 1), i % 5 ? NULL : client(i));
}

/* Who comes and goes for ever leaves nothing behind. */
Test(client_list, holes_are_closed) {
    client_list_add(&list, client(0));
    for (unsigned i = 2; i < 100000; i++) {
        cr_assert_eq(client_list_add(&list, client(1)), i);
        client_list_remove(&list, i);
    }
    cr_assert_leq(list.capacity, 256);
    cr_assert_eq(client_list_find(&list, 1), client(0));
    cr_assert_eq(client_list_add(&list, client(2)), 100000);
    cr_assert_eq(client_list_find(&list, 100000), client(2));
}

Test(client_list, walk_of_an_empty_list) {
    unsigned seen[CLIENTS] = {0};
    struct client_walk walk = client_walk_begin(&list);
    add(0, 1); /* too late */
    cr_assert(!walk_on(&walk, 1, seen));
    cr_assert_eq(seen[0], 0);
}

Test(client_list, walk_while_clients_come_and_go) {
    unsigned seen[CLIENTS] = {0};
    add(0, 500);
    struct client_walk walk = client_walk_begin(&list);
    cr_assert(walk_on(&walk, 10, seen)); /* 70 of them */
    for (unsigned i = 0; i < 500; i++)
        if (i % 3)
            client_list_remove(&list, i + 1); /* so many that the array is written anew */
    cr_assert_lt(list.left, 200);
    add(500, CLIENTS);
    cr_assert(!walk_on(&walk, CLIENTS, seen));
    for (unsigned i = 0; i < CLIENTS; i++) {
        bool gone = i % 3 && i >= 70, late = i >= 500;
        cr_assert_eq(seen[i], gone || late ? 0 : 1, "client %u: %u", i, seen[i]);
    }
}

Test(client_list, many_walks) {
    static unsigned seen[100][CLIENTS];
    struct client_walk walks[100];
    add(0, CLIENTS);
    for (unsigned w = 0; w < 100; w++)
        walks[w] = client_walk_begin(&list);
    bool more = true;
    for (unsigned turn = 0; more; turn++) {
        more = false;
        for (unsigned w = 0; w < 100; w++)
            more |= walk_on(&walks[w], 1 + w * turn % 5, seen[w]);
        cr_assert_leq(turn, CLIENTS / ROOM + 1);
    }
    for (unsigned w = 0; w < 100; w++)
        for (unsigned i = 0; i < CLIENTS; i++)
            cr_assert_eq(seen[w][i], 1);
}

/* A piece passes a bounded number of holes. */
Test(client_list, pieces_are_bounded) {
    struct conn *found[1];
    bool more = true;
    add(0, CLIENTS);
    for (unsigned i = 0; i < 490; i++)
        client_list_remove(&list, i + 1);
    struct client_walk walk = client_walk_begin(&list);
    unsigned pieces = 0;
    while (client_walk_next(&walk, &list, found, 1, &more) == 0) {
        cr_assert(more);
        pieces++;
    }
    cr_assert_eq(found[0], client(490));
    cr_assert_gt(pieces, 10, "490 holes in %u pieces", pieces);
}
