/* Makes a leak fail the test that leaked, in the AddressSanitizer build.
 *
 * Criterion runs each test in a process of its own and looks at what the test said, not at that
 * process's exit code, so LeakSanitizer's complaint at exit is printed and forgotten. This file
 * takes the place of Criterion's teardown in the test program: it runs the real one, which calls
 * the test's .fini, and then looks for leaks itself.
 *
 * Runs on the main thread of the test's process, after the test and before Criterion hears that it
 * is over. */
#include <dlfcn.h>
#include <sanitizer/lsan_interface.h>
#include <stdio.h>
#include <stdlib.h>

#include <criterion/criterion.h>

void criterion_internal_test_teardown(void) {
    void (*real_teardown)(void);
    *(void **)&real_teardown = dlsym(RTLD_NEXT, "criterion_internal_test_teardown");
    if (real_teardown == NULL) {
        fprintf(stderr, "leak_check: libcriterion has no teardown: %s\n", dlerror());
        abort();
    }
    real_teardown();
    if (__lsan_do_recoverable_leak_check())
        abort();
}
