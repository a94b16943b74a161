/* See crash.h. The handler uses only async-signal-safe calls; backtrace() is called once at install
 * time, so that its library is loaded before it is needed. */
#include "server/crash.h"

#include <execinfo.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/assert.h"
#include "server/base/log.h"
#include "slotwise_version.h"

#define STACK_DEPTH 64

static _Atomic int crashing;

static void print_stack(void) {
    void *frames[STACK_DEPTH];
    int depth = backtrace(frames, STACK_DEPTH);
    log_write_raw_signal_safe("\n------ STACK TRACE ------\n");
    char text[64];
    for (int i = 0; i < depth; i++) {
        snprintf(text, sizeof text, "%p\n", frames[i]);
        log_write_raw_signal_safe(text);
    }
    backtrace_symbols_fd(frames, depth, STDERR_FILENO);
}

static void print_registers(const ucontext_t *context) {
#if defined(__x86_64__)
    char text[160];
    const greg_t *r = context->uc_mcontext.gregs;
    snprintf(text, sizeof text, "RIP:%016llx RSP:%016llx RAX:%016llx RDI:%016llx RSI:%016llx\n",
             (unsigned long long)r[REG_RIP], (unsigned long long)r[REG_RSP],
             (unsigned long long)r[REG_RAX], (unsigned long long)r[REG_RDI],
             (unsigned long long)r[REG_RSI]);
    log_write_raw_signal_safe("\n------ REGISTERS ------\n");
    log_write_raw_signal_safe(text);
#else
    (void)context;
#endif
}

static void end_by(int number) {
    signal(number, SIG_DFL);
    raise(number);
}

static void on_crash(int number, siginfo_t *information, void *context) {
    if (crashing++) { /* a crash in the report */
        end_by(number);
        return;
    }
    char text[160];
    log_write_raw_signal_safe(
        "\n\n=== SLOTWISE BUG REPORT START: Cut & paste starting from here ===\n");
    snprintf(text, sizeof text, "Slotwise %s crashed by signal: %d, si_code: %d", SLOTWISE_VERSION,
             number, information->si_code);
    log_write_signal_safe(LOG_LEVEL_WARNING, text);
    if (number == SIGSEGV || number == SIGBUS) {
        snprintf(text, sizeof text, "Accessing address: %p", information->si_addr);
        log_write_signal_safe(LOG_LEVEL_WARNING, text);
    }
    print_stack();
    print_registers(context);
    log_write_raw_signal_safe("\n=== SLOTWISE BUG REPORT END. ===\n");
    end_by(number);
}

static void on_assertion(const char *expression, const char *file, int line) {
    char text[512];
    snprintf(text, sizeof text, "=== ASSERTION FAILED === ==> %s:%d '%s' is not true", file, line,
             expression);
    log_write_signal_safe(LOG_LEVEL_WARNING, text);
}

void crash_install(bool enabled) {
    assert_failed_hook = on_assertion;
    if (!enabled)
        return;
    void *frames[2];
    backtrace(frames, 2);
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_sigaction = on_crash,
                               .sa_flags = (int)(SA_NODEFER | SA_RESETHAND | SA_SIGINFO)};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, NULL);
}
