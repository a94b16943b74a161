/* Glob matching, with the oddities that clients of Redis see. */
#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#include "server/base/glob.h"

static bool matches(const char *pattern, const char *text) {
    return glob_match(pattern, strlen(pattern), text, strlen(text), false);
}

static bool matches_any_case(const char *pattern, const char *text) {
    return glob_match(pattern, strlen(pattern), text, strlen(text), true);
}

Test(glob, stars_and_question_marks) {
    cr_assert(matches("*", "anything"));
    cr_assert(matches("h*llo", "hello"));
    cr_assert(matches("h*llo", "hllo"));
    cr_assert(matches("h*llo", "heeeello"));
    cr_assert(matches("**a**", "xxaxx"));
    cr_assert(matches("a*b*c", "a1b2b3c"));
    cr_assert(matches("h?llo", "hallo"));
    cr_assert(matches("abc*", "abc"));
    cr_assert_not(matches("h?llo", "hllo"));
    cr_assert_not(matches("a*b*c", "a1b2b3"));
    cr_assert_not(matches("abc", "abcd"));
    cr_assert_not(matches("abcd", "abc"));
    cr_assert_not(matches("*b", "ac"));
}

Test(glob, classes) {
    cr_assert(matches("h[ae]llo", "hallo"));
    cr_assert_not(matches("h[ae]llo", "hillo"));
    cr_assert(matches("h[^e]llo", "hallo"));
    cr_assert_not(matches("h[^e]llo", "hello"));
    cr_assert(matches("h[a-c]llo", "hbllo"));
    cr_assert_not(matches("h[a-c]llo", "hdllo"));
    cr_assert(matches("[c-a]", "b"), "a range may be upside down");
    cr_assert(matches("[\\]]", "]"));
    cr_assert(matches("[\\^x]", "^"));
}

Test(glob, odd_classes) {
    cr_assert_not(matches("[]", "]"), "an empty class matches nothing");
    cr_assert(matches("[^]", "x"), "unless negated");
    cr_assert(matches("[abc", "b"), "a class may stay open");
    cr_assert(matches("[a-]", "]"), "] ends a range rather than the class");
    cr_assert(matches("x[", "x[") == false);
}

Test(glob, escapes) {
    cr_assert(matches("a\\*b", "a*b"));
    cr_assert_not(matches("a\\*b", "axb"));
    cr_assert(matches("\\?", "?"));
    cr_assert(matches("\\\\", "\\"));
    cr_assert(matches("a\\", "a\\"), "a backslash at the end is itself");
}

Test(glob, case) {
    cr_assert_not(matches("ABC*", "abcd"));
    cr_assert(matches_any_case("ABC*", "abcd"));
    cr_assert(matches_any_case("[A-C]x", "bX"));
    cr_assert(matches_any_case("save", "SAVE"));
}

Test(glob, nothing) {
    cr_assert(matches("", ""));
    cr_assert_not(matches("*", ""), "as in Redis");
    cr_assert_not(matches("", "a"));
}

Test(glob, bytes) {
    cr_assert(glob_match("a?c", 3, "a\0c", 3, false));
    cr_assert(glob_match("a\0*", 3, "a\0bc", 4, false));
    cr_assert_not(glob_match("ab", 1, "ab", 2, false));
    cr_assert(glob_match("[\x80-\xff]", 5, "\xc3", 1, false));
}

/* Backtracking into every star would take longer than the universe has. */
Test(glob, many_stars_are_cheap) {
    static char pattern[2001], text[10000];
    for (int i = 0; i < 1000; i++)
        memcpy(pattern + 2 * i, "*a", 2);
    pattern[2000] = 'b';
    memset(text, 'a', sizeof text);
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    cr_assert_not(glob_match(pattern, sizeof pattern, text, sizeof text, false));
    clock_gettime(CLOCK_MONOTONIC, &end);
    cr_assert_lt(end.tv_sec - start.tv_sec, 5);
    cr_assert(glob_match(pattern, sizeof pattern - 1, text, sizeof text, false));
}
