/* Assertions for our own faults; they stay on in release builds. The world's faults (bad input,
 * full disks) are errors, never assertions. */
#ifndef SLOTWISE_ENGINE_ASSERT_H
#define SLOTWISE_ENGINE_ASSERT_H

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Called before abort() with the text of the failed assertion; the server points it at its crash
 * report. Set once at start, before threads exist. */
extern void (*assert_failed_hook)(const char *expression, const char *file, int line);

_Noreturn void assert_failed(const char *expression, const char *file, int line);

#define ASSERT(x)                                                                                  \
    do {                                                                                           \
        if (UNLIKELY(!(x)))                                                                        \
            assert_failed(#x, __FILE__, __LINE__);                                                 \
    } while (0)

#endif
