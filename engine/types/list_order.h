/* List order: the elements of a large list by position, in a tree (tree.h) of leaves of about 4 KB
 * that are deques: their entries lie in one piece with free room in front and behind, so that a
 * push or a pop at either end of the list moves nothing.
 *
 *   struct tree_leaf | outside bytes (8) | free | entry ... entry | free
 *
 * Entries have listpack's form. An element of more than LIST_INLINE_MAX bytes lies outside, in a
 * counted blob; its entry is one that a listpack never has (a 32-bit length for 8 bytes) and holds
 * the blob's address. The bytes of all blobs that a leaf refers to are noted in front.
 *
 * Under the token of the key's slot, or by who has the tree alone (tree.h). */
#ifndef SLOTWISE_ENGINE_TYPES_LIST_ORDER_H
#define SLOTWISE_ENGINE_TYPES_LIST_ORDER_H

#include "engine/types/collection.h"

#define LIST_INLINE_MAX 1024

extern const struct tree_kind list_order;

/* The element at a position below the count. */
void list_order_at(const struct tree *tree, uint64_t position, struct element *element);
/* From the position on, count elements, those that there are; backwards: towards the head. */
void list_order_visit(const struct tree *tree, uint64_t position, uint64_t count, bool backwards,
                      collection_visit *visit, void *context);
/* What a listpack of all elements would take; stops counting when it is more than limit. */
size_t list_order_listpack_bytes(const struct tree *tree, size_t limit);

/* In front of the element at this position; at the count: behind all. */
void list_order_insert(struct tree *tree, uint64_t position, const char *data, size_t length);
/* Entries of a listpack that fit into one leaf: the first of an empty tree. */
#define LIST_ORDER_ENTRIES_MAX 2048
void list_order_fill(struct tree *tree, const uint8_t *entries, size_t bytes, unsigned count);
void list_order_replace(struct tree *tree, uint64_t position, const char *data, size_t length);
/* All of them are there. */
void list_order_remove(struct tree *tree, uint64_t position, uint64_t count);
/* The elements that equal, at most limit of them, from the head or, backwards, from the tail.
 * Returns how many there were. */
uint64_t list_order_remove_equal(struct tree *tree, const char *data, size_t length, uint64_t limit,
                                 bool backwards);

#endif
