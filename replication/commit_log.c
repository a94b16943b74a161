/* See commit_log.h.
 *
 * Who writes what: a lane's writing side belongs to the thread that made it, its reading side to
 * the consumer; `free` is pushed to by the consumer and emptied at once by the thread, so that no
 * chunk can come back in between (no ABA). */
#include "replication/commit_log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"

#define CHUNK_BYTES      ((size_t)64 * 1024) /* with its header */
#define LANE_CHUNKS_KEPT 64                  /* unused ones: 4 MB */
#define CACHE_LINE       64
#define COPY_INLINE_MAX  256
#define ARGUMENT_EXTRA   25                /* "$18446744073709551615\r\n" and "\r\n" */
#define EXACT_BYTES      (CHUNK_BYTES / 8) /* what may be longer is measured before it is encoded */
#define AHEAD_LINES      3

struct header {
    uint64_t number;
    size_t length;
    uint32_t first_database, last_database;
};

struct chunk {
    struct chunk *_Atomic next;
    size_t size;              /* of data */
    _Atomic size_t published; /* bytes of data that the consumer may read */
    struct chunk *next_free;
    _Alignas(8) char data[];
};

struct lane {
    struct lane *next; /* in the log's list; set once */
    /* The writing thread. */
    _Alignas(CACHE_LINE) struct chunk *last;
    size_t used; /* of last->data */
    struct chunk *spare;
    _Atomic uint64_t written_bytes;
    _Atomic size_t memory_bytes; /* added to by the thread, taken from by the consumer */
    /* The consumer. */
    _Alignas(CACHE_LINE) struct chunk *first;
    size_t read; /* of first->data */
    _Atomic uint64_t read_bytes;
    struct chunk *_Atomic free;
    _Atomic unsigned free_count; /* chunks in free and spare, about */
};

struct commit_log {
    struct effect_log effect_log; /* first */
    uint64_t id;                  /* never the same again, for own_lane */
    void (*wake)(void *context);
    void *wake_context;
    struct lane *_Atomic lanes; /* only grows */
    _Alignas(CACHE_LINE) _Atomic uint64_t number;
    _Atomic bool asleep;
    /* The consumer. */
    _Alignas(CACHE_LINE) _Atomic uint64_t read_number;
    struct lane *current;
    size_t current_bytes; /* of the entry that was given last; 0: none */
};

static _Atomic uint64_t logs_made;
static _Thread_local struct {
    uint64_t log_id;
    struct lane *lane;
} own_lane;

/* --- Chunks ----------------------------------------------------------------------------------- */

static struct chunk *chunk_make(struct lane *lane, size_t size) {
    struct chunk *chunk = memory_alloc(sizeof *chunk + size);
    chunk->size = size;
    atomic_fetch_add_explicit(&lane->memory_bytes, sizeof *chunk + size, memory_order_relaxed);
    return chunk;
}

static void chunk_free(struct lane *lane, struct chunk *chunk) {
    size_t bytes = sizeof *chunk + chunk->size;
    atomic_fetch_sub_explicit(&lane->memory_bytes, bytes, memory_order_relaxed);
    memory_free_sized(chunk, bytes);
}

/* An empty one with room for length bytes, of the writing thread. */
static struct chunk *chunk_take(struct lane *lane, size_t length) {
    struct chunk *chunk;
    if (length > CHUNK_BYTES - sizeof *chunk) {
        chunk = chunk_make(lane, length);
    } else {
        if (!lane->spare)
            lane->spare = atomic_exchange_explicit(&lane->free, NULL, memory_order_acquire);
        chunk = lane->spare;
        if (chunk) {
            lane->spare = chunk->next_free;
            atomic_fetch_sub_explicit(&lane->free_count, 1, memory_order_relaxed);
        } else {
            chunk = chunk_make(lane, CHUNK_BYTES - sizeof *chunk);
        }
    }
    atomic_init(&chunk->next, NULL);
    atomic_init(&chunk->published, 0);
    return chunk;
}

/* Of the consumer: it has been read. */
static void chunk_give_back(struct lane *lane, struct chunk *chunk) {
    if (chunk->size > CHUNK_BYTES - sizeof *chunk ||
        atomic_load_explicit(&lane->free_count, memory_order_relaxed) >= LANE_CHUNKS_KEPT) {
        chunk_free(lane, chunk);
        return;
    }
    atomic_fetch_add_explicit(&lane->free_count, 1, memory_order_relaxed);
    struct chunk *top = atomic_load_explicit(&lane->free, memory_order_relaxed);
    do
        chunk->next_free = top;
    while (!atomic_compare_exchange_weak_explicit(&lane->free, &top, chunk, memory_order_release,
                                                  memory_order_relaxed));
}

/* --- Lanes ------------------------------------------------------------------------------------ */

static struct lane *lane_make(struct commit_log *log) {
    struct lane *lane = memory_alloc_aligned(CACHE_LINE, sizeof *lane);
    memset(lane, 0, sizeof *lane);
    lane->first = lane->last = chunk_take(lane, 0);
    lane->next = atomic_load_explicit(&log->lanes, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&log->lanes, &lane->next, lane,
                                                  memory_order_release, memory_order_relaxed))
        ;
    return lane;
}

static struct lane *lane_of_thread(struct commit_log *log) {
    if (UNLIKELY(own_lane.log_id != log->id)) {
        own_lane.lane = lane_make(log);
        own_lane.log_id = log->id;
    }
    return own_lane.lane;
}

static void lane_free(struct lane *lane) {
    struct chunk *lists[] = {lane->spare, atomic_load(&lane->free)};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (struct chunk *chunk = lists[i], *next; chunk; chunk = next) {
            next = chunk->next_free;
            chunk_free(lane, chunk);
        }
    for (struct chunk *chunk = lane->first, *next; chunk; chunk = next) {
        next = atomic_load(&chunk->next);
        chunk_free(lane, chunk);
    }
    memory_free(lane);
}

/* Where an entry of length bytes goes: behind its header. Nobody sees it yet. */
static char *lane_reserve(struct lane *lane, size_t length) {
    size_t needed = sizeof(struct header) + ((length + 7) & ~(size_t)7);
    if (UNLIKELY(lane->last->size - lane->used < needed)) {
        struct chunk *chunk = chunk_take(lane, needed);
        atomic_store_explicit(&lane->last->next, chunk, memory_order_release);
        lane->last = chunk;
        lane->used = 0;
    }
    return lane->last->data + lane->used + sizeof(struct header);
}

static inline void lane_publish(struct lane *lane, const struct header *header) {
    char *data = lane->last->data + lane->used;
    size_t bytes = sizeof *header + ((header->length + 7) & ~(size_t)7);
    memcpy(data, header, sizeof *header);
    lane->used += bytes;
    atomic_store_explicit(&lane->last->published, lane->used, memory_order_release);
    atomic_store_explicit(&lane->written_bytes,
                          atomic_load_explicit(&lane->written_bytes, memory_order_relaxed) + bytes,
                          memory_order_relaxed);
    /* Lines of the next entry, so that they are here when it comes: taking its number waits until
     * all that was stored before has got its line. */
    for (size_t line = 1; line <= AHEAD_LINES; line++)
        __builtin_prefetch(data + bytes + line * CACHE_LINE, 1);
}

/* --- Encoding --------------------------------------------------------------------------------- */

static const char multi[] = "*1\r\n$5\r\nMULTI\r\n", exec[] = "*1\r\n$4\r\nEXEC\r\n";

static inline size_t digits(uint64_t number) {
    size_t count = 1;
    for (; number >= 1000; number /= 1000)
        count += 3;
    return count + (number >= 10) + (number >= 100);
}

/* Two pieces that overlap. */
#define PUT_TWICE(bytes)                                                                           \
    do {                                                                                           \
        memcpy(to, data, bytes);                                                                   \
        memcpy(to + length - (bytes), data + length - (bytes), bytes);                             \
    } while (0)

/* Most of what is copied is short, and a call costs more than the copy. */
static inline char *put(char *to, const char *data, size_t length) {
    if (UNLIKELY(length > 64))
        memcpy(to, data, length);
    else if (length >= 32)
        PUT_TWICE(32);
    else if (length >= 16)
        PUT_TWICE(16);
    else if (length >= 8)
        PUT_TWICE(8);
    else if (length >= 4)
        PUT_TWICE(4);
    else if (length >= 2)
        PUT_TWICE(2);
    else if (length == 1)
        *to = *data;
    return to + length;
}

#define TEN(tens)                                                                                  \
    tens "0\r\n", tens "1\r\n", tens "2\r\n", tens "3\r\n", tens "4\r\n", tens "5\r\n",            \
        tens "6\r\n", tens "7\r\n", tens "8\r\n", tens "9\r\n"
static const char numbers[100][4] = {TEN(""),  TEN("1"), TEN("2"), TEN("3"), TEN("4"),
                                     TEN("5"), TEN("6"), TEN("7"), TEN("8"), TEN("9")};

/* "*12\r\n". May write a byte more, which belongs to what follows. */
static inline char *put_length(char *to, char kind, uint64_t number) {
    *to++ = kind;
    if (LIKELY(number < 100)) {
        memcpy(to, numbers[number], 4);
        return to + 3 + (number >= 10);
    }
    size_t count = digits(number);
    for (size_t i = count; i > 0; i--, number /= 10)
        to[i - 1] = (char)('0' + number % 10);
    memcpy(to + count, "\r\n", 2);
    return to + count + 2;
}

static size_t argument_bytes(size_t length) {
    return 1 + digits(length) + 2 + length + 2;
}

static inline char *put_argument(char *to, const char *data, size_t length) {
    to = put_length(to, '$', length);
    to = put(to, data, length);
    return put(to, "\r\n", 2);
}

static size_t select_bytes(unsigned database) {
    return strlen("*2\r\n$6\r\nSELECT\r\n") + argument_bytes(digits(database));
}

static char *put_select(char *to, unsigned database) {
    char text[12];
    to = put_length(to, '*', 2);
    to = put_argument(to, "SELECT", 6);
    return put_argument(to, text, (size_t)snprintf(text, sizeof text, "%u", database));
}

/* At least as much as the unit takes: a sum of few terms. */
static inline size_t unit_bytes_bound(const struct effect *effects, size_t count) {
    size_t bytes = sizeof multi + sizeof exec;
    for (const struct effect *effect = effects; effect < effects + count; effect++) {
        const struct effect_argument *argument = effect->arguments, *end = argument + effect->count;
        bytes += (size_t)ARGUMENT_EXTRA * (3 + effect->count); /* the count and a SELECT */
        for (; argument < end; argument++)
            bytes += argument->length;
    }
    return bytes;
}

/* Exactly. */
static size_t unit_bytes(const struct effect *effects, size_t count) {
    size_t bytes = count > 1 ? sizeof multi - 1 + sizeof exec - 1 : 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && effects[i].database != effects[i - 1].database)
            bytes += select_bytes(effects[i].database);
        bytes += 1 + digits(effects[i].count) + 2;
        for (unsigned j = 0; j < effects[i].count; j++)
            bytes += argument_bytes(effects[i].arguments[j].length);
    }
    return bytes;
}

/* What is written may not be told from what is read by the compiler: so locals. */
static inline char *put_effect(char *to, const struct effect *effect) {
    const struct effect_argument *argument = effect->arguments, *end = argument + effect->count;
    to = put_length(to, '*', effect->count);
    for (; argument < end; argument++)
        to = put_argument(to, argument->data, argument->length);
    return to;
}

static char *put_transaction(char *to, const struct effect *effects, size_t count) {
    to = put(to, multi, sizeof multi - 1);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && effects[i].database != effects[i - 1].database)
            to = put_select(to, effects[i].database);
        to = put_effect(to, &effects[i]);
    }
    return put(to, exec, sizeof exec - 1);
}

static uint64_t commit(void *context, const struct effect *effects, size_t count) {
    struct commit_log *log = context;
    struct lane *lane = lane_of_thread(log);
    ASSERT(count > 0);
    size_t room = unit_bytes_bound(effects, count);
    if (UNLIKELY(room > EXACT_BYTES))
        room = unit_bytes(effects, count);
    char *data = lane_reserve(lane, room);
    const char *end =
        LIKELY(count == 1) ? put_effect(data, effects) : put_transaction(data, effects, count);
    size_t length = (size_t)(end - data);
    ASSERT(length <= room);
    uint64_t number = atomic_fetch_add(&log->number, 1) + 1;
    lane_publish(
        lane, &(struct header){number, length, effects[0].database, effects[count - 1].database});
    if (UNLIKELY(atomic_load(&log->asleep)) && atomic_exchange(&log->asleep, false))
        log->wake(log->wake_context);
    return number;
}

static bool is_full(void *log) {
    return commit_log_is_full(log);
}

/* --- The log ---------------------------------------------------------------------------------- */

struct commit_log *commit_log_make(void (*wake)(void *context), void *context) {
    struct commit_log *log = memory_alloc_aligned(CACHE_LINE, sizeof *log);
    memset(log, 0, sizeof *log);
    log->effect_log = (struct effect_log){commit, is_full, log};
    log->id = atomic_fetch_add(&logs_made, 1) + 1;
    log->wake = wake;
    log->wake_context = context;
    return log;
}

void commit_log_free(struct commit_log *log) {
    if (!log)
        return;
    for (struct lane *lane = atomic_load(&log->lanes), *next; lane; lane = next) {
        next = lane->next;
        lane_free(lane);
    }
    memory_free(log);
}

struct effect_log *commit_log_effect_log(struct commit_log *log) {
    return &log->effect_log;
}

uint64_t commit_log_last_number(const struct commit_log *log) {
    return atomic_load(&log->number);
}

bool commit_log_is_full(struct commit_log *log) {
    const struct lane *lane = lane_of_thread(log);
    return atomic_load_explicit(&lane->written_bytes, memory_order_relaxed) -
               atomic_load_explicit(&lane->read_bytes, memory_order_relaxed) >
           COMMIT_LOG_FULL_BYTES;
}

size_t commit_log_bytes(const struct commit_log *log) {
    size_t bytes = 0;
    for (const struct lane *lane = atomic_load_explicit(&log->lanes, memory_order_acquire); lane;
         lane = lane->next)
        bytes += atomic_load_explicit(&lane->memory_bytes, memory_order_relaxed);
    return bytes;
}

/* --- The consumer ----------------------------------------------------------------------------- */

/* The oldest entry that is visible and unread, NULL: none. */
static const char *lane_head_slowly(struct lane *lane) {
    for (;;) {
        struct chunk *chunk = lane->first;
        if (lane->read < atomic_load_explicit(&chunk->published, memory_order_acquire))
            return chunk->data + lane->read;
        struct chunk *next = atomic_load_explicit(&chunk->next, memory_order_acquire);
        if (!next)
            return NULL;
        /* What was published in this chunk before it got a successor is visible now. */
        if (lane->read < atomic_load_explicit(&chunk->published, memory_order_relaxed))
            continue;
        lane->first = next;
        lane->read = 0;
        chunk_give_back(lane, chunk);
    }
}

static inline const char *lane_head(struct lane *lane) {
    const struct chunk *chunk = lane->first;
    if (LIKELY(lane->read < atomic_load_explicit(&chunk->published, memory_order_acquire)))
        return chunk->data + lane->read;
    return lane_head_slowly(lane);
}

/* The entry that was given last has been read. */
static inline void release_current(struct commit_log *log) {
    struct lane *lane = log->current;
    if (log->current_bytes == 0)
        return;
    lane->read += log->current_bytes;
    atomic_store_explicit(&lane->read_bytes,
                          atomic_load_explicit(&lane->read_bytes, memory_order_relaxed) +
                              log->current_bytes,
                          memory_order_relaxed);
    log->current_bytes = 0;
}

/* If the head of the lane is the entry that comes next. */
static inline bool take_head(struct commit_log *log, struct lane *lane, uint64_t number,
                             struct commit_entry *entry) {
    struct header header;
    const char *head = lane_head(lane);
    if (!head)
        return false;
    memcpy(&header, head, sizeof header);
    ASSERT(header.number >= number); /* numbers of a lane ascend, and all before it were read */
    if (header.number != number)
        return false;
    *entry = (struct commit_entry){number, header.first_database, header.last_database,
                                   head + sizeof header, header.length};
    log->current = lane;
    log->current_bytes = sizeof header + ((header.length + 7) & ~(size_t)7);
    atomic_store_explicit(&log->read_number, number, memory_order_relaxed);
    return true;
}

bool commit_log_next(struct commit_log *log, struct commit_entry *entry) {
    uint64_t number = commit_log_read_number(log) + 1;
    release_current(log);
    if (log->current && take_head(log, log->current, number, entry))
        return true;
    for (struct lane *lane = atomic_load_explicit(&log->lanes, memory_order_acquire); lane;
         lane = lane->next)
        if (lane != log->current && take_head(log, lane, number, entry))
            return true;
    return false;
}

uint64_t commit_log_read_number(const struct commit_log *log) {
    return atomic_load_explicit(&log->read_number, memory_order_relaxed);
}

bool commit_log_sleep(struct commit_log *log) {
    atomic_store(&log->asleep, true);
    if (atomic_load(&log->number) == commit_log_read_number(log))
        return true;
    atomic_store(&log->asleep, false);
    return false;
}

void commit_log_awake(struct commit_log *log) {
    if (atomic_load_explicit(&log->asleep, memory_order_relaxed))
        atomic_store_explicit(&log->asleep, false, memory_order_relaxed);
}
