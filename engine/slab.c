/* Slabs. Run by: any thread.
 *
 * Algorithm. A class cuts pages of 64 KB into pieces; the page's header has a bit for each piece
 * that is free. Pages are cut from chunks of 1 MB, since the allocator adds to each large
 * allocation of its own. Each thread keeps a small stack of free pieces of each class: allocating
 * pops, freeing pushes. An empty stack is filled half from the pages, a full one gives its older
 * half back, under the lock of the class. So a thread that allocates as much as it frees (SET of
 * keys that exist) touches nothing shared, and others take the lock once in a dozen times. A page
 * without pieces in use goes back to the allocator at once.
 *
 * Ordering. A page is changed only under the lock of its class; a stack belongs to its thread. What
 * a thread wrote into a piece happens before another one gets it, by that lock.
 *
 * Progress. The lock is held for a few dozen pieces; pages come and go outside of it. A
 * thread that has lost its core while it holds the lock makes others of that class wait.
 *
 * Reclamation. Stacks go when their thread ends, or by slab_thread_flush. */
#include "engine/slab.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/assert.h"

#define FINE_MAX_BYTES   512 /* 8 bytes apart up to here */
#define MIDDLE_MAX_BYTES 1024
#define FINE_CLASSES     (FINE_MAX_BYTES / 8)
#define MIDDLE_CLASSES   ((MIDDLE_MAX_BYTES - FINE_MAX_BYTES) / 16)
#define CLASSES          (FINE_CLASSES + MIDDLE_CLASSES + (SLAB_MAX_BYTES - MIDDLE_MAX_BYTES) / 32)

#define PAGE_BYTES      ((size_t)64 * 1024)
#define CHUNK_PAGES     16
#define BITMAP_WORDS    64
#define STACK_PIECES    128 /* a batch of SETs allocates and frees as many as it has commands */
#define STACK_MIN       8
#define STACK_MAX_BYTES (16 * 1024) /* of one class, above STACK_MIN pieces */

struct chunk {
    struct chunk *next; /* list of chunks with free pages; all under chunks_lock */
    struct chunk *previous;
    char *memory;
    uint32_t free; /* a bit for each page */
};

struct page {
    struct chunk *chunk;
    struct page *next; /* list of pages with free pieces; under the lock of the class */
    struct page *previous;
    uint32_t free_pieces;
    uint32_t pieces;
    unsigned class;
    uint64_t free[BITMAP_WORDS]; /* a bit for each piece */
};

struct class {
    _Alignas(64) pthread_mutex_t lock;
    struct page *partial; /* pages with free pieces; under lock */
};

struct stack {
    uint16_t count;
    uint16_t limit; /* so many at most */
    void *pieces[STACK_PIECES];
};

struct cache {
    struct stack stacks[CLASSES];
};

static struct class classes[CLASSES] = {
    [0 ... CLASSES - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER},
};
static pthread_mutex_t chunks_lock = PTHREAD_MUTEX_INITIALIZER;
static struct chunk *chunks;
static _Thread_local struct cache *mine;
static pthread_key_t cache_key;
static pthread_once_t cache_once = PTHREAD_ONCE_INIT;

/* --- Geometry --------------------------------------------------------------------------------- */

static inline unsigned class_of(size_t bytes) {
    if (LIKELY(bytes <= FINE_MAX_BYTES))
        return (unsigned)((bytes + 7) / 8) - 1;
    if (bytes <= MIDDLE_MAX_BYTES)
        return FINE_CLASSES + (unsigned)((bytes - FINE_MAX_BYTES + 15) / 16) - 1;
    return FINE_CLASSES + MIDDLE_CLASSES + (unsigned)((bytes - MIDDLE_MAX_BYTES + 31) / 32) - 1;
}

static inline size_t class_bytes(unsigned class) {
    if (class < FINE_CLASSES)
        return (class + 1) * (size_t)8;
    if (class < FINE_CLASSES + MIDDLE_CLASSES)
        return FINE_MAX_BYTES + (class - FINE_CLASSES + 1) * (size_t)16;
    return MIDDLE_MAX_BYTES + (class - FINE_CLASSES - MIDDLE_CLASSES + 1) * (size_t)32;
}

size_t slab_class_bytes(size_t size_bytes) {
    return class_bytes(class_of(size_bytes));
}

/* --- Chunks ----------------------------------------------------------------------------------- */

static void chunk_link(struct chunk *chunk) {
    chunk->previous = NULL;
    chunk->next = chunks;
    if (chunks)
        chunks->previous = chunk;
    chunks = chunk;
}

static void chunk_unlink(struct chunk *chunk) {
    if (chunk->previous)
        chunk->previous->next = chunk->next;
    else
        chunks = chunk->next;
    if (chunk->next)
        chunk->next->previous = chunk->previous;
}

static struct chunk *chunk_make(void) {
    struct chunk *chunk = malloc(sizeof *chunk);
    void *memory;
    if (!chunk || posix_memalign(&memory, PAGE_BYTES, CHUNK_PAGES * PAGE_BYTES) != 0) {
        free(chunk);
        return NULL;
    }
    chunk->memory = memory;
    chunk->free = (1u << CHUNK_PAGES) - 1;
    chunk_link(chunk);
    return chunk;
}

static struct page *page_make(unsigned class) {
    pthread_mutex_lock(&chunks_lock);
    struct chunk *chunk = chunks ? chunks : chunk_make();
    struct page *page = NULL;
    if (chunk) {
        page = (struct page *)(chunk->memory + (unsigned)__builtin_ctz(chunk->free) * PAGE_BYTES);
        chunk->free &= chunk->free - 1;
        if (!chunk->free)
            chunk_unlink(chunk);
    }
    pthread_mutex_unlock(&chunks_lock);
    if (!page)
        return NULL;
    size_t pieces = (PAGE_BYTES - sizeof *page) / class_bytes(class);
    pieces = pieces < BITMAP_WORDS * 64 ? pieces : BITMAP_WORDS * 64;
    *page = (struct page){.chunk = chunk, .pieces = (uint32_t)pieces, .class = class};
    page->free_pieces = page->pieces;
    for (uint32_t i = 0; i < page->pieces; i++)
        page->free[i / 64] |= (uint64_t)1 << (i & 63);
    return page;
}

static void page_free(struct page *page) {
    struct chunk *chunk = page->chunk;
    madvise(page, PAGE_BYTES, MADV_DONTNEED); /* while nobody else can have it */
    pthread_mutex_lock(&chunks_lock);
    if (!chunk->free)
        chunk_link(chunk);
    chunk->free |= 1u << ((size_t)((char *)page - chunk->memory) / PAGE_BYTES);
    bool unused = chunk->free == (1u << CHUNK_PAGES) - 1;
    if (unused)
        chunk_unlink(chunk);
    pthread_mutex_unlock(&chunks_lock);
    if (unused) {
        free(chunk->memory);
        free(chunk);
    }
}

/* --- Pages, under the lock of their class ----------------------------------------------------- */

static void partial_add(struct class *class, struct page *page) {
    page->previous = NULL;
    page->next = class->partial;
    if (page->next)
        page->next->previous = page;
    class->partial = page;
}

static void partial_remove(struct class *class, struct page *page) {
    if (page->previous)
        page->previous->next = page->next;
    else
        class->partial = page->next;
    if (page->next)
        page->next->previous = page->previous;
}

/* Up to n pieces of a page; the lowest addresses first. */
static uint16_t page_take(struct page *page, size_t bytes, void **pieces, uint16_t n) {
    uint16_t taken = 0;
    char *first = (char *)(page + 1);
    for (unsigned word = 0; word < BITMAP_WORDS && taken < n; word++) {
        for (; page->free[word] && taken < n; page->free[word] &= page->free[word] - 1)
            pieces[taken++] =
                first + (word * 64 + (unsigned)__builtin_ctzll(page->free[word])) * bytes;
    }
    page->free_pieces -= taken;
    return taken;
}

/* true: nothing of it is in use any more, it is out of the list and must be freed. */
static bool page_put(struct class *class, struct page *page, size_t bytes, const void *piece) {
    uint32_t offset = (uint32_t)((const char *)piece - (const char *)(page + 1));
    uint32_t index = offset / (uint32_t)bytes;
    uint64_t bit = (uint64_t)1 << (index & 63);
    ASSERT(&classes[page->class] == class && offset % bytes == 0);   /* freed as another size */
    ASSERT(index < page->pieces && !(page->free[index / 64] & bit)); /* freed twice */
    page->free[index / 64] |= bit;
    if (page->free_pieces++ == 0)
        partial_add(class, page);
    if (page->free_pieces < page->pieces)
        return false;
    partial_remove(class, page);
    return true;
}

/* --- Stacks ----------------------------------------------------------------------------------- */

/* Gives the oldest n pieces back. */
static void stack_give(struct stack *stack, unsigned number, uint16_t n) {
    struct class *class = &classes[number];
    size_t bytes = class_bytes(number);
    struct page *empty = NULL;
    pthread_mutex_lock(&class->lock);
    for (uint16_t i = 0; i < n; i++) {
        uintptr_t address = (uintptr_t)stack->pieces[i];
        struct page *page = (struct page *)(address & ~(uintptr_t)(PAGE_BYTES - 1));
        if (UNLIKELY(page_put(class, page, bytes, stack->pieces[i]))) {
            page->next = empty;
            empty = page;
        }
    }
    pthread_mutex_unlock(&class->lock);
    stack->count -= n;
    for (uint16_t i = 0; i < stack->count; i++)
        stack->pieces[i] = stack->pieces[i + n];
    while (empty) {
        struct page *next = empty->next;
        page_free(empty);
        empty = next;
    }
}

static bool stack_fill(struct stack *stack, unsigned number) {
    struct class *class = &classes[number];
    size_t bytes = class_bytes(number);
    uint16_t wanted = stack->limit / 2;
    pthread_mutex_lock(&class->lock);
    while (stack->count < wanted) {
        struct page *page = class->partial;
        if (!page) {
            if (stack->count > 0)
                break; /* enough for now */
            pthread_mutex_unlock(&class->lock);
            page = page_make(number);
            if (!page)
                return false;
            pthread_mutex_lock(&class->lock);
            partial_add(class, page);
        }
        stack->count +=
            page_take(page, bytes, stack->pieces + stack->count, (uint16_t)(wanted - stack->count));
        if (page->free_pieces == 0)
            partial_remove(class, page);
    }
    pthread_mutex_unlock(&class->lock);
    return true;
}

void slab_thread_flush(void) {
    for (unsigned i = 0; mine && i < CLASSES; i++)
        if (mine->stacks[i].count > 0)
            stack_give(&mine->stacks[i], i, mine->stacks[i].count);
}

static void cache_end(void *cache) {
    mine = cache;
    slab_thread_flush();
    mine = NULL;
    free(cache);
}

static void cache_key_make(void) {
    ASSERT(pthread_key_create(&cache_key, cache_end) == 0);
}

static __attribute__((noinline)) struct cache *cache_make(void) {
    pthread_once(&cache_once, cache_key_make);
    struct cache *cache = malloc(sizeof *cache);
    if (!cache)
        return NULL;
    for (unsigned i = 0; i < CLASSES; i++) {
        size_t limit = STACK_MAX_BYTES / class_bytes(i);
        limit = limit < STACK_MIN ? STACK_MIN : limit > STACK_PIECES ? STACK_PIECES : limit;
        cache->stacks[i].count = 0;
        cache->stacks[i].limit = (uint16_t)limit;
    }
    mine = cache;
    pthread_setspecific(cache_key, cache);
    return cache;
}

/* --- The two of them -------------------------------------------------------------------------- */

void *slab_alloc(size_t size_bytes) {
    unsigned class = class_of(size_bytes);
    struct cache *cache = LIKELY(mine != NULL) ? mine : cache_make();
    if (UNLIKELY(!cache))
        return NULL;
    struct stack *stack = &cache->stacks[class];
    if (UNLIKELY(stack->count == 0) && !stack_fill(stack, class))
        return NULL;
    return stack->pieces[--stack->count];
}

void slab_free(void *piece, size_t size_bytes) {
    unsigned class = class_of(size_bytes);
    struct cache *cache = LIKELY(mine != NULL) ? mine : cache_make();
    ASSERT(cache);
    struct stack *stack = &cache->stacks[class];
    if (UNLIKELY(stack->count == stack->limit))
        stack_give(stack, class, stack->limit / 2);
    stack->pieces[stack->count++] = piece;
}
