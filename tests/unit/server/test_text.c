/* Growing texts and word splitting. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "server/base/text.h"

/* The words of a line, each in brackets; "!" if quotes do not balance. */
static const char *split(const char *line) {
    static char result[512];
    struct words words;
    size_t length = 0;

    result[0] = '\0';
    if (words_split(line, strlen(line), &words) < 0) {
        cr_assert_eq(words.count, 0);
        return "!";
    }
    for (int i = 0; i < words.count; i++)
        length += (size_t)snprintf(result + length, sizeof result - length, "[%s]", words.word[i]);
    words_free(&words);
    return result;
}

Test(text, grows) {
    struct text text = {0};
    cr_assert_str_eq(text_string(&text), "");
    for (int i = 0; i < 1000; i++)
        text_append_format(&text, "%d,", i);
    cr_assert_eq(text.length, strlen(text_string(&text)));
    cr_assert_eq(text.length, 10 * 2 + 90 * 3 + 900 * 4);
    text_append_format(&text, "%*s", 5000, "x");
    cr_assert_eq(text.length, 3890 + 5000);
    cr_assert_eq(text_string(&text)[8889], 'x');
    text_clear(&text);
    cr_assert_str_eq(text_string(&text), "");
    text_append_string(&text, "again");
    cr_assert_str_eq(text_string(&text), "again");
    text_free(&text);
    cr_assert_eq(text.capacity, 0);
}

Test(text, splits) {
    cr_assert_str_eq(split(""), "");
    cr_assert_str_eq(split("  \t "), "");
    cr_assert_str_eq(split("a"), "[a]");
    cr_assert_str_eq(split("  set  foo\tbar\r\n"), "[set][foo][bar]");
    cr_assert_str_eq(split("save \"\""), "[save][]");
    cr_assert_str_eq(split("''"), "[]");
    cr_assert_str_eq(split("\"a b\" c"), "[a b][c]");
    cr_assert_str_eq(split("x\"a b\""), "[xa b]");
    cr_assert_str_eq(split("\"\\x41\\n\\t\\q\\\"\""), "[A\n\tq\"]");
    cr_assert_str_eq(split("\"\\x4g\""), "[x4g]");
    cr_assert_str_eq(split("'a\\'b\\n'"), "[a'b\\n]");
    cr_assert_str_eq(split("a\\nb"), "[a\\nb]");
}

Test(text, quotes_must_balance) {
    cr_assert_str_eq(split("\"a"), "!");
    cr_assert_str_eq(split("'a"), "!");
    cr_assert_str_eq(split("one \"two\"three"), "!");
    cr_assert_str_eq(split("'a'b"), "!");
    cr_assert_str_eq(split("\"a\\\""), "!");
    cr_assert_str_eq(split("\"a\\"), "!");
}

Test(text, quoting_round_trip) {
    struct text quoted = {0};
    struct words words;
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    text_append_quoted(&quoted, all, sizeof all);
    cr_assert_eq(strlen(quoted.data), quoted.length, "no NUL inside");
    cr_assert_eq(words_split(quoted.data, quoted.length, &words), 0);
    cr_assert_eq(words.count, 1);
    cr_assert_eq(words.length[0], sizeof all);
    cr_assert_eq(memcmp(words.word[0], all, sizeof all), 0);
    words_free(&words);
    text_free(&quoted);
}

Test(text, quoting_is_readable) {
    struct text quoted = {0};
    text_append_quoted(&quoted, "a \"b\"\\\n\x01", 8);
    cr_assert_str_eq(quoted.data, "\"a \\\"b\\\"\\\\\\n\\x01\"");
    text_free(&quoted);
}

Test(text, plain_split_counts_every_space) {
    struct words words;
    words_split_plain("a  b", &words);
    cr_assert_eq(words.count, 3);
    cr_assert_str_eq(words.word[1], "");
    words_free(&words);
    words_split_plain(" ", &words);
    cr_assert_eq(words.count, 2);
    words_free(&words);
    words_split_plain("", &words);
    cr_assert_eq(words.count, 0);
    words_free(&words);
}

Test(text, many_words) {
    struct text line = {0};
    struct words words;
    for (int i = 0; i < 1000; i++)
        text_append_format(&line, "w%d ", i);
    cr_assert_eq(words_split(line.data, line.length, &words), 0);
    cr_assert_eq(words.count, 1000);
    cr_assert_str_eq(words.word[999], "w999");
    words_free(&words);
    text_free(&line);
}
