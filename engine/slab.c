/* Slabs. Run by: any thread.
 *
 * Algorithm. A class cuts pages of 64 KB into pieces; the page's header has a bit for each piece
 * that is free. Each thread keeps a small stack of free pieces of each class: allocating pops,
 * freeing pushes, so a thread that allocates as much as it frees (SET of keys that exist) touches
 * nothing shared. An empty stack is filled half from the pages, a full one gives its older half
 * back.
 *
 * The pages of a class belong to a few lanes. Whoever gets a lane's busy mark changes its pages;
 * nobody waits for it. Who wants pieces and finds a lane busy goes to the next one. Who gives
 * pieces back pushes them onto a list of their page's lane, and puts them where they belong if the
 * lane is not busy; else the next one who comes does. So it makes no difference which thread frees
 * a piece, nor that threads end.
 *
 * A lane fills the pages that are at least half used first, so that sparse ones get empty. An empty
 * page goes back to its chunk of 1 MB, an empty chunk to the allocator (chunks, since the allocator
 * adds to each large allocation of its own). Both keep their memory until slab_give_back, about a
 * second after much has been freed: it gives the system pages back in which every piece is free,
 * those in the midst of used ones too.
 *
 *   list 0: pages that are half used or more
 *   list 1: less than half
 *   list 2: less than an eighth          (full pages are in none)
 *
 * In each list those come first that have changed since slab_give_back saw them (dirty).
 *
 * Ordering. A lane's pages and lists are changed by who set busy (acquire) until it is cleared
 * (release). A push onto the returned list (release) pairs with the exchange that takes all of it
 * (acquire): nothing is ever popped alone, so a head that comes back does no harm. What a thread
 * wrote into a piece happens before another one gets it, by these two. Chunks are under their
 * mutex.
 *
 * Progress. Never waits but for the chunks' mutex, which is taken once for each page made or
 * emptied and held for a few instructions. A thread that has lost its core with a lane makes the
 * others use another one; only LANES of them in one class make one try again.
 *
 * Reclamation. Stacks go when their thread ends, or by slab_thread_flush. A page goes when its last
 * piece is put back; a piece that is on its way there keeps it. */
#include "engine/slab.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
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

#define PAGE_BYTES        ((size_t)64 * 1024)
#define SYSTEM_PAGE_BYTES ((size_t)4096) /* or more: then less is given back */
#define SYSTEM_PAGES      (PAGE_BYTES / SYSTEM_PAGE_BYTES)
#define CHUNK_PAGES       16
#define CHUNK_ALL         ((1u << CHUNK_PAGES) - 1)
#define LANES             8
#define STACK_PIECES      128 /* a batch of SETs allocates and frees as many as it has commands */
#define STACK_MIN         8
#define STACK_MAX_BYTES   (16 * 1024) /* of one class, above STACK_MIN pieces */
#define SLICE_PIECES      1024        /* put, and ... */
#define SLICE_PAGES       16          /* ... looked at, while slab_give_back has a lane */

enum level { LEVEL_HALF, LEVEL_SPARSE, LEVEL_NEARLY_EMPTY, LEVELS };

struct link {
    struct link *next;
    struct link *previous;
};

struct piece {
    struct piece *next; /* while it is returned */
};

struct chunk {
    struct link link; /* list of chunks with free pages; all under chunks.lock */
    char *memory;
    uint32_t free;  /* a bit for each page */
    uint32_t dirty; /* of the free ones: has memory */
};

struct page {
    struct link link; /* in a list of its lane unless it is full; all from level on by who has it */
    struct lane *lane;
    struct chunk *chunk;
    uint32_t pieces;
    uint16_t class;
    uint16_t first_bytes; /* from here to the first piece */
    uint32_t free_pieces;
    uint16_t given; /* a bit for each system page that has no memory */
    uint8_t level;
    bool dirty;      /* a piece was put since slab_give_back saw it */
    uint64_t free[]; /* a bit for each piece */
};

struct lane {
    _Alignas(64) atomic_bool busy;
    _Atomic uint32_t listed;       /* pages in its lists; written by who has the lane */
    struct piece *_Atomic pending; /* taken from returned; written by who has the lane */
    struct link levels[LEVELS];    /* of who has the lane */
    _Alignas(64) struct piece *_Atomic returned; /* pushed by any thread */
};

struct stack {
    uint16_t count;
    uint16_t limit; /* so many at most */
    void *pieces[STACK_PIECES];
};

struct cache {
    struct stack stacks[CLASSES];
};

static struct lane lanes[CLASSES][LANES];
static struct {
    pthread_mutex_t lock;
    struct link dirty; /* chunks that have free pages with memory */
    struct link clean; /* others with free pages */
} chunks = {
    PTHREAD_MUTEX_INITIALIZER, {&chunks.dirty, &chunks.dirty}, {&chunks.clean, &chunks.clean}};
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

static inline struct page *page_of(const void *piece) {
    return (struct page *)((uintptr_t)piece & ~(uintptr_t)(PAGE_BYTES - 1));
}

static inline size_t bitmap_words(size_t pieces) {
    return (pieces + 63) / 64;
}

/* Pieces begin behind the bitmap; those of a class that is a multiple of 16, 32 or 64 bytes are
 * aligned to that, so that they lie in as few cache lines as can be. */
static size_t first_bytes_for(size_t pieces, size_t bytes) {
    size_t alignment = bytes & -bytes;
    alignment = alignment < 64 ? alignment : 64;
    size_t header = sizeof(struct page) + bitmap_words(pieces) * sizeof(uint64_t);
    return (header + alignment - 1) & -alignment;
}

/* --- Lists ------------------------------------------------------------------------------------ */

static inline bool link_is_empty(const struct link *list) {
    return list->next == list;
}

static inline void link_add(struct link *after, struct link *link) {
    link->previous = after;
    link->next = after->next;
    after->next->previous = link;
    after->next = link;
}

static inline void link_remove(struct link *link) {
    link->previous->next = link->next;
    link->next->previous = link->previous;
}

/* --- Chunks ----------------------------------------------------------------------------------- */

/* Into the list where it belongs; a chunk without free pages is in none. */
static void chunk_list(struct chunk *chunk) {
    if (chunk->free)
        link_add(chunk->dirty ? &chunks.dirty : &chunks.clean, &chunk->link);
}

static void chunk_unlist(struct chunk *chunk) {
    if (chunk->free)
        link_remove(&chunk->link);
}

static struct chunk *chunk_make(void) {
    struct chunk *chunk = malloc(sizeof *chunk);
    void *memory;
    if (!chunk || posix_memalign(&memory, PAGE_BYTES, CHUNK_PAGES * PAGE_BYTES) != 0) {
        free(chunk);
        return NULL;
    }
    *chunk = (struct chunk){.memory = memory, .free = CHUNK_ALL, .dirty = CHUNK_ALL};
    return chunk;
}

/* Under the lock, which it leaves: pages become free; the last of them take their chunk along. */
static void chunk_put(struct chunk *chunk, uint32_t pages, uint32_t dirty) {
    chunk_unlist(chunk);
    chunk->free |= pages;
    chunk->dirty |= dirty;
    bool unused = chunk->free == CHUNK_ALL;
    if (!unused)
        chunk_list(chunk);
    pthread_mutex_unlock(&chunks.lock);
    if (unused) {
        free(chunk->memory);
        free(chunk);
    }
}

/* Memory for a page, one that was in use before if there is one. */
static void *chunk_page(struct chunk **from) {
    pthread_mutex_lock(&chunks.lock);
    struct link *list = !link_is_empty(&chunks.dirty) ? &chunks.dirty : &chunks.clean;
    struct chunk *chunk = NULL;
    if (!link_is_empty(list)) {
        chunk = (struct chunk *)list->next;
        chunk_unlist(chunk);
    } else {
        pthread_mutex_unlock(&chunks.lock);
        chunk = chunk_make();
        if (!chunk)
            return NULL;
        pthread_mutex_lock(&chunks.lock);
    }
    unsigned number = (unsigned)__builtin_ctz(chunk->dirty ? chunk->dirty : chunk->free);
    chunk->free &= ~(1u << number);
    chunk->dirty &= ~(1u << number);
    chunk_list(chunk);
    pthread_mutex_unlock(&chunks.lock);
    *from = chunk;
    return chunk->memory + number * PAGE_BYTES;
}

static void page_free(struct page *page) {
    struct chunk *chunk = page->chunk;
    uint32_t bit = 1u << ((size_t)((char *)page - chunk->memory) / PAGE_BYTES);
    pthread_mutex_lock(&chunks.lock);
    chunk_put(chunk, bit, bit);
}

/* Gives back the memory of n units of so many bytes each, from memory on, whose bit is set. */
static void give_back_runs(char *memory, uint32_t bits, size_t unit_bytes) {
    while (bits) {
        unsigned first = (unsigned)__builtin_ctz(bits);
        unsigned n = (unsigned)__builtin_ctz(~(bits >> first));
        madvise(memory + first * unit_bytes, n * unit_bytes, MADV_DONTNEED);
        bits &= ~(((1u << n) - 1) << first);
    }
}

/* Free pages that have memory are nobody's meanwhile. false: there were none. */
static bool chunks_give_back(void) {
    pthread_mutex_lock(&chunks.lock);
    if (link_is_empty(&chunks.dirty)) {
        pthread_mutex_unlock(&chunks.lock);
        return false;
    }
    struct chunk *chunk = (struct chunk *)chunks.dirty.next;
    uint32_t pages = chunk->dirty;
    chunk_unlist(chunk);
    chunk->free &= ~pages;
    chunk->dirty = 0;
    chunk_list(chunk);
    pthread_mutex_unlock(&chunks.lock);
    give_back_runs(chunk->memory, pages, PAGE_BYTES);
    pthread_mutex_lock(&chunks.lock);
    chunk_put(chunk, pages, 0);
    return true;
}

/* --- Pages, by who has their lane ------------------------------------------------------------- */

static bool lane_try(struct lane *lane) {
    if (atomic_load_explicit(&lane->busy, memory_order_relaxed) ||
        atomic_exchange_explicit(&lane->busy, true, memory_order_acquire))
        return false;
    if (UNLIKELY(!lane->levels[0].next))
        for (unsigned i = 0; i < LEVELS; i++)
            lane->levels[i] = (struct link){&lane->levels[i], &lane->levels[i]};
    return true;
}

static void lane_leave(struct lane *lane) {
    atomic_store_explicit(&lane->busy, false, memory_order_release);
}

static void lane_listed_add(struct lane *lane, int change) {
    uint32_t listed = atomic_load_explicit(&lane->listed, memory_order_relaxed);
    atomic_store_explicit(&lane->listed, listed + (uint32_t)change, memory_order_relaxed);
}

static inline uint8_t level_of(const struct page *page) {
    uint32_t used = page->pieces - page->free_pieces;
    return used * 2 >= page->pieces   ? LEVEL_HALF
           : used * 8 >= page->pieces ? LEVEL_SPARSE
                                      : LEVEL_NEARLY_EMPTY;
}

static void page_list(struct page *page) {
    page->level = level_of(page);
    struct link *list = &page->lane->levels[page->level];
    link_add(page->dirty ? list : list->previous, &page->link);
    lane_listed_add(page->lane, 1);
}

static void page_unlist(struct page *page) {
    link_remove(&page->link);
    lane_listed_add(page->lane, -1);
}

static struct page *page_make(struct lane *lane, unsigned class) {
    size_t bytes = class_bytes(class), pieces = (PAGE_BYTES - sizeof(struct page)) / bytes;
    while (first_bytes_for(pieces, bytes) + pieces * bytes > PAGE_BYTES)
        pieces--;
    struct chunk *chunk;
    struct page *page = chunk_page(&chunk);
    if (!page)
        return NULL;
    *page = (struct page){.lane = lane, .chunk = chunk, .pieces = (uint32_t)pieces};
    page->class = (uint16_t) class;
    page->first_bytes = (uint16_t)first_bytes_for(pieces, bytes);
    page->free_pieces = page->pieces;
    for (size_t word = 0; word < bitmap_words(pieces); word++)
        page->free[word] = word < pieces / 64 ? UINT64_MAX : ((uint64_t)1 << pieces % 64) - 1;
    page_list(page);
    return page;
}

/* The system pages that lie in some bytes of a page. */
static inline uint32_t system_pages(size_t from, size_t size_bytes) {
    size_t first = from / SYSTEM_PAGE_BYTES, last = (from + size_bytes - 1) / SYSTEM_PAGE_BYTES;
    return (2u << last) - (1u << first);
}

/* Up to n pieces of a page that has some; the lowest addresses first. */
static uint16_t page_take(struct page *page, size_t bytes, void **pieces, uint16_t n) {
    uint16_t taken = 0;
    uint32_t given = page->given;
    page_unlist(page);
    for (size_t word = 0; word < bitmap_words(page->pieces) && taken < n; word++)
        for (; page->free[word] && taken < n; page->free[word] &= page->free[word] - 1) {
            size_t index = word * 64 + (unsigned)__builtin_ctzll(page->free[word]);
            size_t offset = page->first_bytes + index * bytes;
            pieces[taken++] = (char *)page + offset;
            given &= ~system_pages(offset, bytes);
        }
    page->given = (uint16_t)given;
    page->free_pieces -= taken;
    if (page->free_pieces > 0)
        page_list(page);
    return taken;
}

static void page_put(struct page *page, size_t bytes, const void *piece) {
    uint32_t offset = (uint32_t)((const char *)piece - (const char *)page) - page->first_bytes;
    uint32_t index = offset / (uint32_t)bytes;
    uint64_t bit = (uint64_t)1 << (index & 63);
    ASSERT(index < page->pieces && offset % bytes == 0); /* not where a piece begins */
    ASSERT(!(page->free[index / 64] & bit));             /* freed twice */
    page->free[index / 64] |= bit;
    bool listed = page->free_pieces > 0;
    page->free_pieces++;
    if (listed && page->dirty && page->level == level_of(page) && page->free_pieces < page->pieces)
        return;
    if (listed)
        page_unlist(page);
    page->dirty = true;
    if (page->free_pieces < page->pieces)
        page_list(page);
    else
        page_free(page);
}

/* Gives back the system pages in which every piece is free. */
static void page_give_back(struct page *page) {
    size_t bytes = class_bytes(page->class);
    uint32_t unused = UINT16_MAX & ~system_pages(0, page->first_bytes);
    for (size_t word = 0; word < bitmap_words(page->pieces); word++) {
        uint64_t used = ~page->free[word];
        if (word == page->pieces / 64)
            used &= ((uint64_t)1 << page->pieces % 64) - 1;
        for (; used; used &= used - 1) {
            size_t index = word * 64 + (unsigned)__builtin_ctzll(used);
            unused &= ~system_pages(page->first_bytes + index * bytes, bytes);
        }
    }
    give_back_runs((char *)page, unused & ~page->given, SYSTEM_PAGE_BYTES);
    page->given = (uint16_t)unused;
}

/* --- Lanes, by who has them ------------------------------------------------------------------- */

/* Puts up to `most` returned pieces where they belong; false: there were fewer. */
static bool lane_collect(struct lane *lane, size_t bytes, unsigned most) {
    struct piece *piece = atomic_load_explicit(&lane->pending, memory_order_relaxed), *next;
    unsigned put = 0;
    for (; put < most; put++, piece = next) {
        if (!piece)
            piece = atomic_exchange_explicit(&lane->returned, NULL, memory_order_acquire);
        if (!piece)
            break;
        next = piece->next;
        page_put(page_of(piece), bytes, piece);
    }
    atomic_store_explicit(&lane->pending, piece, memory_order_relaxed);
    return put == most;
}

static struct page *lane_fullest(const struct lane *lane) {
    for (unsigned i = 0; i < LEVELS; i++)
        if (!link_is_empty(&lane->levels[i]))
            return (struct page *)lane->levels[i].next;
    return NULL;
}

/* false: there may be more to do. */
static bool lane_give_back(struct lane *lane, size_t bytes) {
    if (lane_collect(lane, bytes, SLICE_PIECES))
        return false;
    unsigned pages = 0;
    for (unsigned level = LEVEL_SPARSE; level < LEVELS; level++)
        while (!link_is_empty(&lane->levels[level])) {
            struct page *page = (struct page *)lane->levels[level].next;
            if (!page->dirty)
                break;
            page_unlist(page);
            page_give_back(page);
            page->dirty = false;
            page_list(page);
            if (++pages == SLICE_PAGES)
                return false;
        }
    return true;
}

void slab_give_back(void) {
    for (unsigned class = 0; class < CLASSES; class ++)
        for (unsigned i = 0; i < LANES; i++) {
            struct lane *lane = &lanes[class][i];
            bool done = false;
            while (!done && lane_try(lane)) {
                done = lane_give_back(lane, class_bytes(class));
                lane_leave(lane);
            }
        }
    while (chunks_give_back())
        ;
}

/* --- Stacks ----------------------------------------------------------------------------------- */

static void lane_return(struct lane *lane, struct piece *first, struct piece *last) {
    struct piece *head = atomic_load_explicit(&lane->returned, memory_order_relaxed);
    do
        last->next = head;
    while (!atomic_compare_exchange_weak_explicit(&lane->returned, &head, first,
                                                  memory_order_release, memory_order_relaxed));
}

/* Gives the oldest n pieces back. */
static void stack_give(struct stack *stack, unsigned class, uint16_t n) {
    struct piece *first[LANES] = {NULL}, *last[LANES];
    for (uint16_t i = 0; i < n; i++)
        __builtin_prefetch(page_of(stack->pieces[i]));
    for (uint16_t i = 0; i < n; i++) {
        struct piece *piece = stack->pieces[i];
        const struct page *page = page_of(piece);
        ASSERT(page->class == class); /* freed as another size */
        size_t number = (size_t)(page->lane - lanes[class]);
        if (!first[number])
            last[number] = piece;
        piece->next = first[number];
        first[number] = piece;
    }
    stack->count -= n;
    for (uint16_t i = 0; i < stack->count; i++)
        stack->pieces[i] = stack->pieces[i + n];
    for (unsigned i = 0; i < LANES; i++) {
        struct lane *lane = &lanes[class][i];
        if (!first[i])
            continue;
        lane_return(lane, first[i], last[i]);
        if (lane_try(lane)) {
            lane_collect(lane, class_bytes(class), 2 * n); /* those of one who found it busy, too */
            lane_leave(lane);
        }
    }
}

static void stack_take(struct stack *stack, struct page *page) {
    stack->count += page_take(page, class_bytes(page->class), stack->pieces + stack->count,
                              (uint16_t)(stack->limit / 2 - stack->count));
}

/* From the pages of a lane that the caller has. */
static void stack_fill_from(struct stack *stack, unsigned class, struct lane *lane) {
    lane_collect(lane, class_bytes(class), stack->limit);
    struct page *page;
    while (stack->count < stack->limit / 2 && (page = lane_fullest(lane)) != NULL)
        stack_take(stack, page);
}

/* From a new page of whichever lane is to be had. false: out of memory. */
static bool stack_fill_new(struct stack *stack, unsigned class) {
    for (unsigned i = 0;; i = (i + 1) % LANES) {
        struct lane *lane = &lanes[class][i];
        if (lane_try(lane)) {
            struct page *page = page_make(lane, class);
            if (page)
                stack_take(stack, page);
            lane_leave(lane);
            return page != NULL;
        }
        if (i == LANES - 1)
            sched_yield(); /* so many threads have lost their cores in here */
    }
}

/* Something may be in there. */
static inline bool lane_has_some(const struct lane *lane) {
    return atomic_load_explicit(&lane->listed, memory_order_relaxed) > 0 ||
           atomic_load_explicit(&lane->returned, memory_order_relaxed) != NULL ||
           atomic_load_explicit(&lane->pending, memory_order_relaxed) != NULL;
}

static __attribute__((noinline)) bool stack_fill(struct stack *stack, unsigned class) {
    for (unsigned i = 0; i < LANES && stack->count == 0; i++) {
        struct lane *lane = &lanes[class][i];
        if (!lane_has_some(lane) || !lane_try(lane))
            continue;
        stack_fill_from(stack, class, lane);
        lane_leave(lane);
    }
    return stack->count > 0 || stack_fill_new(stack, class);
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
