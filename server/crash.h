/* Crash report: on SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT and failed assertions, the log gets
 * what happened, a stack and the registers; then the process ends by that signal (a core is written
 * as usual). */
#ifndef SLOTWISE_SERVER_CRASH_H
#define SLOTWISE_SERVER_CRASH_H

#include <stdbool.h>

void crash_install(bool enabled);

#endif
