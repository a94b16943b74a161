/* View: at what time, and as whom, one unit of work (a command, an EXEC, a script, a piece of a
 * background duty) looks at the keys. It is frozen when the unit first needs it and stays so until
 * the unit ends: a key that has expired for one command of a transaction has for all of them.
 *
 * A view belongs to the thread that runs the unit. view_state belongs to the keyspace. */
#ifndef SLOTWISE_ENGINE_VIEW_H
#define SLOTWISE_ENGINE_VIEW_H

#include "engine/object.h"

enum view_mode {
    VIEW_PRIMARY,  /* an expired key is absent, and deleted by whoever meets it with its token */
    VIEW_REPLICA,  /* it is absent, but only the primary's DEL deletes it */
    VIEW_APPLYING, /* a stream of changes is applied: nothing ever expires */
};

/* What the views of all clients have in common. */
struct view_state {
    _Atomic uint8_t mode; /* PRIMARY or REPLICA; written in exclusive sections */
    _Atomic bool paused;  /* nothing is deleted that nobody deletes; set in exclusive sections,
                             cleared by anybody when the pause is over */
};

struct view {
    int64_t now_ms; /* 0: not frozen yet */
    uint8_t mode;
    bool paused;
    const struct view_state *state;
};

/* mode: PRIMARY for clients (state says whether they are those of a replica), or APPLYING. */
static inline void view_init(struct view *view, const struct view_state *state,
                             enum view_mode mode) {
    *view = (struct view){.mode = (uint8_t)mode, .state = state};
}

/* A new unit: the next look at the time freezes it anew. */
static inline void view_begin(struct view *view) {
    view->now_ms = 0;
}

void view_freeze(struct view *view); /* the rest of view_now_ms */
static inline int64_t view_now_ms(struct view *view) {
    if (view->now_ms == 0)
        view_freeze(view);
    return view->now_ms;
}

/* Whether what has this time to live is absent. OBJECT_NO_EXPIRY never is. */
bool view_is_over(struct view *view, int64_t expiry_ms);
static inline bool view_is_expired(struct view *view, const struct object *object) {
    return __builtin_expect(object_flags(object) & OBJECT_HAS_EXPIRY, 0) &&
           view_is_over(view, object_expiry(object));
}

/* Whether expired keys may be deleted: not on a replica, not during CLIENT PAUSE. */
bool view_may_expire(struct view *view);

#endif
