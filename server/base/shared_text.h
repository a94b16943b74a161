/* Texts that never change and live as long as somebody uses them: the name of a connection is shown
 * by another thread while its owner takes another name. */
#ifndef SLOTWISE_SERVER_SHARED_TEXT_H
#define SLOTWISE_SERVER_SHARED_TEXT_H

#include <stdatomic.h>
#include <stddef.h>

struct shared_text {
    _Atomic unsigned users; /* any thread */
    char text[];            /* ends with a NUL */
};

/* One user: the caller. */
struct shared_text *shared_text_make(const char *data, size_t length);
/* One user more, for whom shared_text_drop is to be called. The caller is a user, or keeps one from
 * dropping it meanwhile. NULL stays NULL. */
struct shared_text *shared_text_use(struct shared_text *shared);
/* The last user frees it. NULL: nothing. */
void shared_text_drop(struct shared_text *shared);
/* "" for NULL. */
static inline const char *shared_text_string(const struct shared_text *shared) {
    return shared ? shared->text : "";
}

#endif
