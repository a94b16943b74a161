/* A runner for Criterion test programs that does not need libcriterion.
 *
 * The sanitizers' builds link this file in place of the library and compile the test sources as
 * they are, against Criterion's headers. ThreadSanitizer and libcriterion exclude each other:
 * Criterion's sandbox maps memory where TSan keeps its shadow. With AddressSanitizer libcriterion
 * works, but a leak in a test is printed and the test passes. The headers' Test() and TestSuite()
 * put pointers to their descriptions into the sections cr_tst and cr_sts; the runner walks these
 * and defines the few functions that the macros call.
 *
 * What it supports: Test, TestSuite, ParameterizedTest, .init .fini .timeout .disabled .signal
 * .exit_code, cr_assert*, cr_expect*, cr_skip_test, cr_log*; not the criteria of
 * <criterion/new/assert.h>, theories and report hooks.
 *
 * Each test runs in a forked child, so that it starts from a fresh copy of the program and may
 * crash or hang on its own. The child ends with exit(), where a sanitizer turns a report into an
 * exit code; that fails the test. Test after test, not in parallel: torture tests bring threads of
 * their own.
 *
 * Threads: the parent has one. In the child the assertions may be used from any thread of the test.
 * A failed cr_assert on another thread than the test's own cannot unwind to the runner and ends the
 * process. Nothing here synchronises threads on the way of an assertion that holds, or it would
 * hide the very races that TSan is to find.
 *
 * Usage: <program> [--filter=<suite>/<test>] [--list] [--verbose]; a filter is a pattern as the
 * shell's. SLOTWISE_TEST_SLOWNESS multiplies every time limit (5 by default: sanitizers are slow).
 */
#include <errno.h>
#include <fnmatch.h>
#include <getopt.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <criterion/parameterized.h>

#define DEFAULT_TIMEOUT_S 60.0
#define DEFAULT_SLOWNESS  5.0

/* The linker brackets every section whose name is an identifier with these two symbols. */
extern struct criterion_test *__start_cr_tst[];
extern struct criterion_test *__stop_cr_tst[];
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak));
extern struct criterion_suite *__stop_cr_sts[] __attribute__((weak));

enum verdict { VERDICT_PASSED, VERDICT_FAILED, VERDICT_CRASHED, VERDICT_SKIPPED };

/* What a child tells its parent, in memory that both map. Written by any thread of the child, read
 * by the parent once the child is gone. */
struct report {
    atomic_int failed_assertions;
    atomic_bool skipped;
    atomic_bool finished; /* the test came to its end and did not leave through exit() */
};

struct totals {
    int tested;
    int failed;
    int crashed;
};

struct criterion_options criterion_options;

static struct report *report;
static const struct criterion_test *current_test;
static void *current_parameter;
static pthread_t test_thread;
static sigjmp_buf test_exit;
static bool test_exit_valid;
static bool setup_failed;
static bool verbose;
static double slowness = DEFAULT_SLOWNESS;

/* --- What the assertions call, in the child
 * ----------------------------------------------------------------------- */

static void print_indented(const char *text) {
    while (*text != '\0') {
        size_t line_length = strcspn(text, "\n");
        fprintf(stderr, "[----]   %.*s\n", (int)line_length, text);
        text += line_length + (text[line_length] == '\n');
    }
}

int cr_vasprintf(char **text, const char *format, va_list arguments) {
    int length = vasprintf(text, format, arguments);
    if (length < 0)
        *text = NULL;
    return length;
}

int cr_asprintf(char **text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = cr_vasprintf(text, format, arguments);
    va_end(arguments);
    return length;
}

void cr_asprintf_free(char *text) {
    free(text);
}

/* The headers pass the text of the expression first and, for comparisons of strings, the two
 * strings after it. */
char *cr_translate_assert_msg(int message, ...) {
    char *text;
    va_list arguments;
    va_start(arguments, message);
    const char *expression = va_arg(arguments, const char *);
    switch (message) {
    case CRITERION_ASSERT_MSG_EXPR_FALSE:
        cr_asprintf(&text, "The expression %s is false.", expression);
        break;
    case CRITERION_ASSERT_MSG_EXPR_AS_STRINGS_FALSE: {
        const char *actual = va_arg(arguments, const char *);
        const char *expected = va_arg(arguments, const char *);
        cr_asprintf(&text, "The expression (as strings) %s is false: \"%s\", \"%s\".", expression,
                    actual ? actual : "(null)", expected ? expected : "(null)");
        break;
    }
    case CRITERION_ASSERT_MSG_IS_NULL:
        cr_asprintf(&text, "%s is null.", expression);
        break;
    case CRITERION_ASSERT_MSG_IS_NOT_NULL:
        cr_asprintf(&text, "%s is not null.", expression);
        break;
    case CRITERION_ASSERT_MSG_IS_EMPTY:
        cr_asprintf(&text, "%s is empty.", expression);
        break;
    case CRITERION_ASSERT_MSG_IS_NOT_EMPTY:
        cr_asprintf(&text, "%s is not empty.", expression);
        break;
    default:
        cr_asprintf(&text, "The assertion failed. %s", expression);
    }
    va_end(arguments);
    return text;
}

/* Deliberately counts nothing: a counter that all threads write would slow them down into step. */
void cri_asserts_passed_incr(void) {
}

void criterion_send_assert(struct criterion_assert_stats *stats) {
    if (stats->passed)
        return;
    atomic_fetch_add(&report->failed_assertions, 1);
    fprintf(stderr, "[----] %s:%u: Assertion Failed\n", stats->file, stats->line);
    print_indented(stats->message ? stats->message : "");
}

void criterion_continue_test(void) {
}

static _Noreturn void leave_test(void) {
    if (test_exit_valid && pthread_equal(pthread_self(), test_thread))
        siglongjmp(test_exit, 1);
    fflush(NULL);
    _exit(EXIT_FAILURE);
}

void criterion_abort_test(void) {
    leave_test();
}

void criterion_skip_test(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "[SKIP] %s::%s: ", current_test->category, current_test->name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    atomic_store(&report->skipped, true);
    leave_test();
}

void criterion_test_die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    atomic_fetch_add(&report->failed_assertions, 1);
    leave_test();
}

void cr_log(enum criterion_severity severity, const char *format, ...) {
    static const char *const labels[] = {"----", "WARN", "ERR "};
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "[%s] ", labels[severity]);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
}

/* --- One test, in the child
 * --------------------------------------------------------------------------------------- */

static const struct criterion_test_extra_data *suite_data(const char *suite_name) {
    if (__start_cr_sts == NULL)
        return NULL;
    for (struct criterion_suite **suite = __start_cr_sts; suite < __stop_cr_sts; suite++)
        if (*suite != NULL && strcmp((*suite)->name, suite_name) == 0)
            return (*suite)->data;
    return NULL;
}

/* The three steps that the trampoline of Test() calls. Each catches an assertion that failed in it:
 * the teardown runs after a failed test as well, but neither runs after a failed setup. */
void criterion_internal_test_setup(void) {
    const struct criterion_test_extra_data *suite = suite_data(current_test->category);
    test_exit_valid = true;
    if (sigsetjmp(test_exit, 0) == 0) {
        if (suite != NULL && suite->init != NULL)
            suite->init();
        if (current_test->data->init != NULL)
            current_test->data->init();
    } else {
        setup_failed = true;
    }
    test_exit_valid = false;
}

void criterion_internal_test_main(void (*function)(void)) {
    if (setup_failed)
        return;
    test_exit_valid = true;
    if (sigsetjmp(test_exit, 0) == 0) {
        if (current_test->data->kind_ == CR_TEST_PARAMETERIZED)
            ((void (*)(void *))function)(current_parameter);
        else
            function();
    }
    test_exit_valid = false;
}

void criterion_internal_test_teardown(void) {
    const struct criterion_test_extra_data *suite = suite_data(current_test->category);
    if (setup_failed)
        return;
    test_exit_valid = true;
    if (sigsetjmp(test_exit, 0) == 0) {
        if (current_test->data->fini != NULL)
            current_test->data->fini();
        if (suite != NULL && suite->fini != NULL)
            suite->fini();
    }
    test_exit_valid = false;
}

static _Noreturn void run_in_child(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (current_test->data->signal != 0)
        signal(current_test->data->signal, SIG_DFL); /* or the sanitizer's handler answers it */
    test_thread = pthread_self();
    current_test->test();
    atomic_store(&report->finished, true);
    exit(EXIT_SUCCESS);
}

/* --- Judging it, in the parent
 * ------------------------------------------------------------------------------------ */

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* SIGCHLD is blocked, so a child that ends between the two calls leaves the signal pending and
 * nothing is missed. Returns false when the child had to be killed. */
static bool wait_for_child(pid_t child, double limit_s, int *status) {
    double deadline = seconds_now() + limit_s;
    sigset_t child_ended;
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    for (;;) {
        if (waitpid(child, status, WNOHANG) == child)
            return true;
        double left_s = deadline - seconds_now();
        if (left_s <= 0)
            break;
        struct timespec left = {.tv_sec = (time_t)left_s,
                                .tv_nsec = (long)((left_s - (double)(time_t)left_s) * 1e9)};
        sigtimedwait(&child_ended, NULL, &left);
    }
    kill(child, SIGKILL);
    waitpid(child, status, 0);
    return false;
}

static double time_limit(void) {
    const struct criterion_test_extra_data *suite = suite_data(current_test->category);
    double limit_s = current_test->data->timeout;
    if (limit_s == 0 && suite != NULL)
        limit_s = suite->timeout;
    return (limit_s == 0 ? DEFAULT_TIMEOUT_S : limit_s) * slowness;
}

static enum verdict judge(int status) {
    const struct criterion_test_extra_data *data = current_test->data;
    const char *suite = current_test->category;
    const char *name = current_test->name;
    if (WIFSIGNALED(status)) {
        if (WTERMSIG(status) == data->signal)
            return VERDICT_PASSED;
        fprintf(stderr, "[FAIL] %s::%s: CRASH! (%s)\n", suite, name, strsignal(WTERMSIG(status)));
        return VERDICT_CRASHED;
    }
    int code = WEXITSTATUS(status);
    if (atomic_load(&report->failed_assertions) > 0)
        return VERDICT_FAILED;
    if (data->signal != 0) {
        fprintf(stderr, "[----] %s::%s: no signal %d came\n", suite, name, data->signal);
        return VERDICT_FAILED;
    }
    if (code != data->exit_code) {
        fprintf(stderr, "[----] %s::%s: exit code %d, expected %d\n", suite, name, code,
                data->exit_code);
        return VERDICT_FAILED;
    }
    if (atomic_load(&report->skipped))
        return VERDICT_SKIPPED;
    if (data->exit_code == 0 && !atomic_load(&report->finished)) {
        fprintf(stderr, "[----] %s::%s: the test ended its process\n", suite, name);
        return VERDICT_FAILED;
    }
    return VERDICT_PASSED;
}

static void run_once(struct totals *totals) {
    int status = 0;
    double begin = seconds_now();
    memset(report, 0, sizeof(*report));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        run_in_child();
    enum verdict verdict = VERDICT_FAILED;
    if (child < 0)
        fprintf(stderr, "[----] fork: %s\n", strerror(errno));
    else if (wait_for_child(child, time_limit(), &status))
        verdict = judge(status);
    else
        fprintf(stderr, "[----] %s::%s: Timed out.\n", current_test->category, current_test->name);

    if (verdict == VERDICT_SKIPPED)
        return;
    totals->tested++;
    totals->failed += verdict != VERDICT_PASSED;
    totals->crashed += verdict == VERDICT_CRASHED;
    if (verdict != VERDICT_PASSED || verbose)
        fprintf(stderr, "[%s] %s::%s: (%.2fs)\n", verdict == VERDICT_PASSED ? "PASS" : "FAIL",
                current_test->category, current_test->name, seconds_now() - begin);
}

static void run_with_every_parameter(struct totals *totals) {
    struct criterion_test_params parameters = current_test->data->param_();
    for (size_t i = 0; i < parameters.length; i++) {
        current_parameter = (char *)parameters.params + i * parameters.size;
        run_once(totals);
    }
    if (parameters.cleanup != NULL)
        parameters.cleanup(&parameters);
}

/* --- The program
 * --------------------------------------------------------------------------------------------------
 */

static bool is_selected(const struct criterion_test *test, const char *filter) {
    const struct criterion_test_extra_data *suite = suite_data(test->category);
    char full_name[512];
    snprintf(full_name, sizeof(full_name), "%s/%s", test->category, test->name);
    return !test->data->disabled && !(suite != NULL && suite->disabled) &&
           fnmatch(filter, full_name, 0) == 0;
}

static int parse_options(int argc, char **argv, const char **filter, bool *list) {
    static const struct option options[] = {
        {"filter", required_argument, NULL, 'f'},
        {"list", no_argument, NULL, 'l'},
        {"verbose", optional_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'f')
            *filter = optarg;
        else if (option == 'l')
            *list = true;
        else if (option == 'v')
            verbose = true;
        else
            return -1;
    }
    return 0;
}

static int set_up_runner(void) {
    const char *slowness_text = getenv("SLOTWISE_TEST_SLOWNESS");
    if (slowness_text != NULL && atof(slowness_text) > 0)
        slowness = atof(slowness_text);
    report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED) {
        perror("mmap");
        return -1;
    }
    sigset_t child_ended;
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    return sigprocmask(SIG_BLOCK, &child_ended, NULL);
}

int main(int argc, char **argv) {
    const char *filter = "*";
    bool list = false;
    struct totals totals = {0};
    if (parse_options(argc, argv, &filter, &list) != 0) {
        fprintf(stderr, "usage: %s [--filter=<suite>/<test>] [--list] [--verbose]\n", argv[0]);
        return 2;
    }
    if (set_up_runner() != 0)
        return 2;
    for (struct criterion_test **test = __start_cr_tst; test < __stop_cr_tst; test++) {
        if (*test == NULL || !is_selected(*test, filter))
            continue;
        current_test = *test;
        if (list)
            printf("%s/%s\n", current_test->category, current_test->name);
        else if (current_test->data->kind_ == CR_TEST_PARAMETERIZED)
            run_with_every_parameter(&totals);
        else
            run_once(&totals);
    }
    if (!list)
        fprintf(stderr, "[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: %d\n",
                totals.tested, totals.tested - totals.failed, totals.failed, totals.crashed);
    return totals.failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
