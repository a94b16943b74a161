/* See shared_text.h. Reclamation: what users have read happens before the last drop, which frees.
 */
#include "server/base/shared_text.h"

#include <string.h>

#include "engine/memory.h"

struct shared_text *shared_text_make(const char *data, size_t length) {
    struct shared_text *shared = memory_alloc(sizeof *shared + length + 1);
    atomic_init(&shared->users, 1);
    memcpy(shared->text, data, length);
    shared->text[length] = '\0';
    return shared;
}

struct shared_text *shared_text_use(struct shared_text *shared) {
    if (shared)
        atomic_fetch_add_explicit(&shared->users, 1, memory_order_relaxed);
    return shared;
}

void shared_text_drop(struct shared_text *shared) {
    if (shared && atomic_fetch_sub_explicit(&shared->users, 1, memory_order_acq_rel) == 1)
        memory_free(shared);
}
