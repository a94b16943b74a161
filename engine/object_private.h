/* Setters of what may change in a published object. Private to engine/: whoever calls them has
 * called change_before and will call change_after. Under the token; each is one atomic store, so
 * that readers without it see the old or the new value. */
#ifndef SLOTWISE_ENGINE_OBJECT_PRIVATE_H
#define SLOTWISE_ENGINE_OBJECT_PRIVATE_H

#include "engine/object.h"

/* Only if OBJECT_HAS_EXPIRY. */
static inline void object_set_expiry(struct object *o, int64_t expiry_ms) {
    atomic_store_explicit((_Atomic int64_t *)o->payload, expiry_ms, memory_order_relaxed);
}
static inline void object_set_integer(struct object *o, int64_t value) {
    atomic_store_explicit(object_body(o), value, memory_order_relaxed);
}
/* Only if OBJECT_POINTER: what the old one led to is the caller's. */
static inline void object_set_pointer(struct object *o, void *pointer) {
    atomic_store_explicit(object_body(o), (int64_t)(intptr_t)pointer, memory_order_release);
}
/* No read-modify-write: only the token's holder changes this byte. */
static inline void object_set_snapshot_id(struct object *o, unsigned id) {
    uint8_t flags = object_flags(o);
    atomic_store_explicit(&o->flags,
                          (uint8_t)((flags & ~OBJECT_SNAPSHOT_MASK) | id << OBJECT_SNAPSHOT_SHIFT),
                          memory_order_relaxed);
}

#endif
