/* Tests of the ground that all tests stand on: whether a fixture runs, whether each test starts
 * from a fresh copy of the program, and whether both assertion styles compile and pass. The same
 * file runs under Criterion and under runner.c. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

static int suite_setups;
static int test_setups;
static int dirt;

static void set_up_suite(void) {
    suite_setups++;
}

static void set_up_test(void) {
    cr_assert_eq(suite_setups, 1, "the suite's fixture runs first");
    test_setups++;
}

static void tear_down_test(void) {
    cr_assert_eq(test_setups, 1);
}

TestSuite(runner, .init = set_up_suite, .timeout = 20);

Test(runner, suite_fixture_runs) {
    cr_assert_eq(suite_setups, 1);
    cr_assert_eq(test_setups, 0);
}

Test(runner, test_fixture_runs, .init = set_up_test, .fini = tear_down_test) {
    cr_assert_eq(test_setups, 1);
}

Test(runner, first_of_two_that_dirty_a_global) {
    cr_assert_eq(dirt++, 0);
}

Test(runner, second_of_two_that_dirty_a_global) {
    cr_assert_eq(dirt++, 0);
}

Test(runner, assertions_that_hold) {
    static const char text[] = "slotwise";
    cr_assert(1 + 1 == 2, "arithmetic %d", 2);
    cr_assert_not(text[0] == 'x');
    cr_assert_lt(1, 2);
    cr_assert_str_eq(text, "slotwise");
    cr_assert_str_not_empty(text);
    cr_assert_arr_eq(text, "slot", 4);
    cr_assert_null(strchr(text, 'x'));
    cr_expect_not_null(strchr(text, 'w'), "%s has a w", text);
    cr_expect_float_eq(0.5, 0.5001, 0.001);
}

Test(runner, expected_signal, .signal = SIGABRT) {
    abort();
}

Test(runner, expected_exit_code, .exit_code = 3) {
    exit(3);
}

Test(runner, disabled_test_does_not_run, .disabled = true) {
    abort();
}

Test(runner, skipped_test_stops_where_it_says_so) {
    cr_skip_test("on purpose");
    abort();
}
