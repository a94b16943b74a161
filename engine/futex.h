/* Waiting for a 32-bit word to change. The word itself carries the ordering (it is atomic); the
 * kernel only parks the thread. Spurious returns are normal: call in a loop that tests the word. */
#ifndef SLOTWISE_ENGINE_FUTEX_H
#define SLOTWISE_ENGINE_FUTEX_H

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Blocks while *word is expected. Returns at once when it is not, and at times for no reason. */
static inline void futex_wait(_Atomic uint32_t *word, uint32_t expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

/* Wakes up to count threads that block on word. The word may be gone by now (its owner saw the new
 * value and went on): the kernel only uses the address. */
static inline void futex_wake(_Atomic uint32_t *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* One turn of a short spin. */
static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
