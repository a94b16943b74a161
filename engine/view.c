/* See view.h. */
#include "engine/view.h"

#include "engine/clock.h"

void view_freeze(struct view *view) {
    view->now_ms = clock_now_ms();
    view->paused = atomic_load_explicit(&view->state->paused, memory_order_relaxed);
    if (view->mode != VIEW_APPLYING)
        view->mode = atomic_load_explicit(&view->state->mode, memory_order_relaxed);
}

bool view_is_over(struct view *view, int64_t expiry_ms) {
    if (expiry_ms == OBJECT_NO_EXPIRY || view->mode == VIEW_APPLYING)
        return false;
    return expiry_ms <= view_now_ms(view);
}

bool view_may_expire(struct view *view) {
    view_now_ms(view);
    return view->mode == VIEW_PRIMARY && !view->paused;
}
