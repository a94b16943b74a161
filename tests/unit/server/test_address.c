/* Addresses: what is shown is what is recognised, to the letter. */
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "server/net/address.h"

static struct address parsed(const char *text) {
    struct address address;
    cr_assert(address_parse(text, strlen(text), &address), "%s", text);
    return address;
}

Test(address, there_and_back) {
    static const char *const texts[] = {
        "127.0.0.1:6379", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:1", "[::]:6379",
        "[fe80::1:2]:99", "1.2.3.4:5", "[2001:db8::1]:80"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char text[ADDRESS_TEXT_BYTES];
        struct address address = parsed(texts[i]);
        address_text(&address, text, sizeof text);
        cr_assert_str_eq(text, texts[i]);
    }
}

Test(address, other_spellings_are_nobody) {
    static const char *const texts[] = {"",
                                        ":",
                                        "127.0.0.1",
                                        "127.0.0.1:",
                                        "127.0.0.1:065",
                                        "127.0.0.1:65536",
                                        "1.2.3.4:5 ",
                                        "1.2.3.04:5",
                                        "::1:1",
                                        "[::1]",
                                        "[0:0::1]:1",
                                        "[::1]:x",
                                        "[]:1",
                                        "?:0",
                                        "[1.2.3.4]:5",
                                        "1.2.3:4",
                                        "[::1]:-1",
                                        "localhost:1",
                                        "[::FFFF:1]:1"};
    struct address address;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cr_assert(!address_parse(texts[i], strlen(texts[i]), &address), "%s", texts[i]);
    cr_assert(!address_parse("1.2.3.4:5\0", 10, &address));
    char longest[5000];
    memset(longest, '1', sizeof longest);
    cr_assert(!address_parse(longest, sizeof longest, &address));
}

Test(address, equal_and_loopback) {
    struct address a = parsed("127.0.0.1:1"), b = parsed("127.0.0.1:1"), c = parsed("127.0.0.1:2"),
                   d = parsed("[::1]:1"), e = parsed("128.0.0.1:1"), none = {0};
    cr_assert(address_equal(&a, &b));
    cr_assert(!address_equal(&a, &c) && !address_equal(&a, &d) && !address_equal(&a, &none));
    cr_assert(address_is_loopback(&a) && address_is_loopback(&d));
    cr_assert(!address_is_loopback(&e) && !address_is_loopback(&none));
}

Test(address, of_sockets) {
    char text[ADDRESS_TEXT_BYTES];
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct address peer = address_of_peer(pair[0]);
    cr_assert(address_is_unix(&peer) && address_is_loopback(&peer));
    close(pair[0]);
    close(pair[1]);
    struct address gone = address_of_local(-1);
    cr_assert(!address_is_loopback(&gone));
    address_text(&gone, text, sizeof text);
    cr_assert_str_eq(text, "?:0");
}
