/* Numbers as text. The expected texts are what redis-server 7.2 accepts and prints. */
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/numbers.h"

static bool int64_of(const char *text, int64_t *value) {
    return number_parse_int64(text, strlen(text), value);
}

Test(numbers, int64_accepts_what_it_would_write) {
    static const struct {
        const char *text;
        int64_t value;
    } cases[] = {
        {"0", 0},
        {"7", 7},
        {"-7", -7},
        {"10", 10},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t value = 99;
        char text[NUMBER_INT64_SIZE];
        cr_assert(int64_of(cases[i].text, &value), "%s", cases[i].text);
        cr_assert_eq(value, cases[i].value, "%s", cases[i].text);
        cr_assert_eq(number_write_int64(text, value), strlen(cases[i].text));
        cr_assert_str_eq(text, cases[i].text);
    }
}

Test(numbers, int64_refuses_the_rest) {
    static const char *const cases[] = {
        "",
        "-",
        "+1",
        "-0",
        "00",
        "01",
        "-01",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "0x1",
        "--1",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999",
        "184467440737095516160",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t value = 99;
        cr_assert_not(int64_of(cases[i], &value), "'%s'", cases[i]);
        cr_assert_eq(value, 99, "'%s' touched the result", cases[i]);
    }
    int64_t value = 99;
    cr_assert_not(number_parse_int64("1\0", 2, &value), "a NUL is no digit");
    cr_assert(number_parse_int64("12", 1, &value) && value == 1, "the length counts");
}

Test(numbers, uint64_reaches_its_end) {
    uint64_t value = 99;
    cr_assert(number_parse_uint64("18446744073709551615", 20, &value));
    cr_assert_eq(value, UINT64_MAX);
    cr_assert(number_parse_uint64("0", 1, &value));
    cr_assert_eq(value, 0);
    cr_assert_not(number_parse_uint64("18446744073709551616", 20, &value));
    cr_assert_not(number_parse_uint64("-1", 2, &value));
    cr_assert_not(number_parse_uint64("01", 2, &value));
}

Test(numbers, digits_at_every_power_of_ten) {
    uint64_t power = 1;
    for (unsigned digits = 1; digits <= 20; digits++) {
        char text[NUMBER_INT64_SIZE], expected[32];
        cr_assert_eq(number_digits(power), digits, "%llu", (unsigned long long)power);
        if (power > 1)
            cr_assert_eq(number_digits(power - 1), digits - 1, "%llu", (unsigned long long)power);
        snprintf(expected, sizeof expected, "%llu", (unsigned long long)power);
        cr_assert_eq(number_write_uint64(text, power), digits);
        cr_assert_str_eq(text, expected);
        power *= 10;
    }
    cr_assert_eq(number_digits(0), 1);
    cr_assert_eq(number_digits(UINT64_MAX), 20);
}

Test(numbers, doubles_in) {
    static const char *const good[] = {"1", "-1.5", "1e3", "inf", "-INF", "0x10", ".5", "5.", "+1"};
    static const char *const bad[] = {"",   " 1", "1 ",    "nan",    "1.0.0",
                                      "1e", "a",  "1e999", "1e-999", "-"};
    double value;
    long double long_value;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        cr_assert(number_parse_double(good[i], strlen(good[i]), &value), "%s", good[i]);
        cr_assert_eq(value, strtod(good[i], NULL));
        cr_assert(number_parse_long_double(good[i], strlen(good[i]), &long_value), "%s", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        value = 42;
        cr_assert_not(number_parse_double(bad[i], strlen(bad[i]), &value), "'%s'", bad[i]);
        cr_assert_eq(value, 42, "'%s' touched the result", bad[i]);
    }
    /* A long double reaches further than a double. */
    cr_assert(number_parse_long_double("1e999", 5, &long_value));
    cr_assert_not(number_parse_long_double("1e9999", 6, &long_value));
    cr_assert_not(number_parse_double("1\0", 2, &value));

    /* Long texts: a double has no limit, a long double stops below its size. */
    static char zeros[NUMBER_LONG_DOUBLE_SIZE + 1];
    memset(zeros, '0', NUMBER_LONG_DOUBLE_SIZE);
    zeros[0] = '1';
    zeros[1] = '.';
    cr_assert(number_parse_double(zeros, NUMBER_LONG_DOUBLE_SIZE, &value) && value == 1);
    cr_assert(number_parse_long_double(zeros, NUMBER_LONG_DOUBLE_SIZE - 1, &long_value));
    cr_assert_not(number_parse_long_double(zeros, NUMBER_LONG_DOUBLE_SIZE, &long_value));
}

Test(numbers, doubles_out) {
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0.0, "0"},
        {-0.0, "-0"},
        {3.0, "3"},
        {-3.0, "-3"},
        {0.1, "0.1"},
        {-1.5, "-1.5"},
        {1.0 / 3, "0.3333333333333333"},
        {100000000000000000.0, "100000000000000000"},
        {4.5e18, "4500000000000000000"},
        {1e19, "1e+19"},
        {1.5e300, "1.5e+300"},
        {1e-5, "0.00001"},
        {1e-7, "1e-7"},
        {1.234e-7, "1.234e-7"},
        {DBL_MAX, "1.7976931348623157e+308"},
        {5e-324, "5e-324"},
        {INFINITY, "inf"},
        {-INFINITY, "-inf"},
    };
    char text[NUMBER_DOUBLE_SIZE];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t length = number_write_double(text, cases[i].value);
        cr_assert_str_eq(text, cases[i].text);
        cr_assert_eq(length, strlen(cases[i].text));
    }
    number_write_double(text, NAN);
    cr_assert_str_eq(text, "nan");
    number_write_double(text, -NAN);
    cr_assert_str_eq(text, "nan");
}

Test(numbers, every_double_reads_back) {
    uint64_t state = 0x9e3779b97f4a7c15;
    for (int i = 0; i < 200000; i++) {
        char text[NUMBER_DOUBLE_SIZE];
        double value, again;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(&value, &state, sizeof value);
        if (isnan(value))
            continue;
        size_t length = number_write_double(text, value);
        cr_assert_lt(length, NUMBER_DOUBLE_SIZE);
        cr_assert_eq(length, strlen(text));
        again = strtod(text, NULL);
        cr_assert_eq(memcmp(&again, &value, sizeof value), 0, "%a became %s", value, text);
        /* Never longer than the 17 digits that always do. */
        char always[64];
        snprintf(always, sizeof always, "%.17g", value);
        cr_assert_leq(strspn(text, "-0123456789."), strlen(always) + 6, "%s", text);
    }
}

Test(numbers, long_doubles_for_humans) {
    static const struct {
        long double value;
        const char *text;
    } cases[] = {
        {0.0L, "0"},          {-0.0L, "0"},
        {-1e-20L, "0"},       {3.0L, "3"},
        {10.5L, "10.5"},      {0.1L, "0.1"},
        {5.0e3L, "5000"},     {-100.0L, "-100"},
        {3.0e-5L, "0.00003"}, {1e20L, "100000000000000000000"},
        {INFINITY, "inf"},    {-INFINITY, "-inf"},
    };
    char *text = malloc(NUMBER_LONG_DOUBLE_SIZE);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t length = number_write_long_double(text, cases[i].value);
        cr_assert_str_eq(text, cases[i].text);
        cr_assert_eq(length, strlen(cases[i].text));
    }
    cr_assert_eq(number_write_long_double(text, LDBL_MAX), 4933, "the largest fits");
    free(text);
}

Test(numbers, memory_sizes) {
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},           {"100", 100},
        {"5b", 5},          {"1k", 1000},
        {"1kb", 1024},      {"1K", 1000},
        {"2M", 2000000},    {"2mb", 2 << 20},
        {"1g", 1000000000}, {"3GB", 3ull << 30},
        {"007", 7},         {"", 0},
        {"kb", 0},          {"18446744073709551615", UINT64_MAX},
    };
    static const char *const bad[] = {"-1", "+1", " 1", "1 ", "1 kb", "1.5gb", "1kbb", "x", "1tb"};
    uint64_t bytes;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        bytes = 99;
        cr_assert(number_parse_memory(good[i].text, &bytes), "'%s'", good[i].text);
        cr_assert_eq(bytes, good[i].bytes, "'%s'", good[i].text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_not(number_parse_memory(bad[i], &bytes), "'%s'", bad[i]);
}

Test(numbers, percentages) {
    int64_t percent;
    cr_assert(number_parse_percent("10%", 3, &percent) && percent == 10);
    cr_assert(number_parse_percent("0%", 2, &percent) && percent == 0);
    cr_assert_not(number_parse_percent("%", 1, &percent));
    cr_assert_not(number_parse_percent("10", 2, &percent));
    cr_assert_not(number_parse_percent("-1%", 3, &percent));
    cr_assert_not(number_parse_percent("1.5%", 4, &percent));
}

Test(numbers, zeros_are_trimmed_behind_a_point_only) {
    char text[16];
    strcpy(text, "1.500");
    cr_assert_eq(number_trim_zeros(text, 5), 3);
    cr_assert_str_eq(text, "1.5");
    strcpy(text, "20.000");
    number_trim_zeros(text, 6);
    cr_assert_str_eq(text, "20");
    strcpy(text, "100");
    number_trim_zeros(text, 3);
    cr_assert_str_eq(text, "100");
}
