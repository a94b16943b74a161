/* Error replies by code.
 *
 * A table is written by its thread only (relaxed stores, no read-modify-write); `used` is published
 * with release after the code of a new entry, and read with acquire. Tables are in a list that only
 * grows. */
#include "server/resp/error_statistics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/memory.h"

#define CODE_BYTES_MAX 31
#define UNDO_MAX       16

struct error_entry {
    char code[CODE_BYTES_MAX + 1];
    _Atomic uint64_t count;
};

struct error_table {
    struct error_table *next;
    _Atomic unsigned used;
    _Atomic uint64_t total; /* of all entries, and of codes for which there was no room */
    struct error_entry entries[ERROR_CODES_MAX];
    struct error_entry *recent[UNDO_MAX]; /* ring; NULL: no entry. This thread only */
    unsigned recent_next;
};

static pthread_mutex_t tables_lock = PTHREAD_MUTEX_INITIALIZER;
static struct error_table *tables; /* under tables_lock */
static _Thread_local struct error_table *own;

static struct error_table *own_table(void) {
    if (own == NULL) {
        own = memory_calloc(1, sizeof(*own));
        pthread_mutex_lock(&tables_lock);
        own->next = tables;
        tables = own;
        pthread_mutex_unlock(&tables_lock);
    }
    return own;
}

static void add(_Atomic uint64_t *counter, uint64_t n) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* NULL: the table is full. */
static struct error_entry *entry_of(struct error_table *table, const char *code, size_t length) {
    unsigned used = atomic_load_explicit(&table->used, memory_order_relaxed);
    for (unsigned i = 0; i < used; i++)
        if (memcmp(table->entries[i].code, code, length) == 0 &&
            table->entries[i].code[length] == '\0')
            return &table->entries[i];
    if (used == ERROR_CODES_MAX)
        return NULL;
    memcpy(table->entries[used].code, code, length);
    atomic_store_explicit(&table->used, used + 1, memory_order_release);
    return &table->entries[used];
}

void error_statistics_count(const char *text, size_t length) {
    struct error_table *table = own_table();
    const char *space = memchr(text, ' ', length < CODE_BYTES_MAX ? length : CODE_BYTES_MAX);
    struct error_entry *entry =
        space != NULL ? entry_of(table, text, (size_t)(space - text)) : entry_of(table, "ERR", 3);
    add(&table->total, 1);
    if (entry != NULL)
        add(&entry->count, 1);
    table->recent[table->recent_next++ % UNDO_MAX] = entry;
}

void error_statistics_undo(uint64_t n) {
    struct error_table *table = own_table();
    for (; n > 0; n--) {
        struct error_entry **recent = &table->recent[--table->recent_next % UNDO_MAX];
        add(&table->total, (uint64_t)-1);
        if (*recent != NULL)
            add(&(*recent)->count, (uint64_t)-1);
        *recent = NULL;
    }
}

struct code_sum {
    const char *code;
    uint64_t count;
};

static int by_code(const void *a, const void *b) {
    return strcmp(((const struct code_sum *)a)->code, ((const struct code_sum *)b)->code);
}

void error_statistics_each(void (*visit)(const char *code, uint64_t count, void *context),
                           void *context) {
    struct code_sum *sums = NULL;
    size_t n = 0, room = 0;
    pthread_mutex_lock(&tables_lock);
    for (struct error_table *table = tables; table != NULL; table = table->next) {
        unsigned used = atomic_load_explicit(&table->used, memory_order_acquire);
        if (n + used > room) {
            room = (n + used) * 2;
            sums = memory_realloc(sums, room * sizeof(*sums));
        }
        for (unsigned i = 0; i < used; i++) {
            uint64_t count = atomic_load_explicit(&table->entries[i].count, memory_order_relaxed);
            if (count > 0)
                sums[n++] = (struct code_sum){table->entries[i].code, count};
        }
    }
    pthread_mutex_unlock(&tables_lock);
    if (n > 0)
        qsort(sums, n, sizeof(*sums), by_code);
    for (size_t i = 0; i < n;) {
        struct code_sum sum = sums[i++];
        for (; i < n && strcmp(sums[i].code, sum.code) == 0; i++)
            sum.count += sums[i].count;
        visit(sum.code, sum.count, context);
    }
    memory_free(sums);
}

uint64_t error_statistics_total(void) {
    uint64_t total = 0;
    pthread_mutex_lock(&tables_lock);
    for (struct error_table *table = tables; table != NULL; table = table->next)
        total += atomic_load_explicit(&table->total, memory_order_relaxed);
    pthread_mutex_unlock(&tables_lock);
    return total;
}

void error_statistics_reset(void) {
    pthread_mutex_lock(&tables_lock);
    for (struct error_table *table = tables; table != NULL; table = table->next) {
        unsigned used = atomic_load_explicit(&table->used, memory_order_acquire);
        for (unsigned i = 0; i < used; i++)
            atomic_store_explicit(&table->entries[i].count, 0, memory_order_relaxed);
        atomic_store_explicit(&table->total, 0, memory_order_relaxed);
    }
    pthread_mutex_unlock(&tables_lock);
}
