/* What happens when one of our own invariants is broken: a line on stderr, the hook (crash report),
 * abort. */
#include "engine/assert.h"

#include <stdio.h>
#include <stdlib.h>

void (*assert_failed_hook)(const char *expression, const char *file, int line);

_Noreturn void assert_failed(const char *expression, const char *file, int line) {
    if (assert_failed_hook)
        assert_failed_hook(expression, file, line);
    else
        fprintf(stderr, "assertion failed: %s (%s:%d)\n", expression, file, line);
    abort();
}
