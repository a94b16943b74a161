/* Listpacks and intsets on arbitrary bytes.
 *
 * The first byte of the input chooses. Either the rest is taken for a listpack or an intset: what
 * is called sound is read in every way, and what has been read is written again and must be read as
 * the same. Or the rest is a program of changes, which a model of plain strings follows. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/types/intset.h"

#define MODEL_MAX 256

struct text {
    char *data; /* exactly its length, so that the sanitizer sees every step beyond */
    size_t length;
};

static struct text text_make(const void *data, size_t length) {
    struct text text = {.data = malloc(length ? length : 1), .length = length};
    memcpy(text.data, data, length);
    return text;
}

static bool entry_is(const uint8_t *entry, const struct text *text) {
    struct element element;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    listpack_get(entry, &element);
    const char *data = element_text(&element, room, &length);
    ASSERT(element_equals(&element, data, length));
    return length == text->length && memcmp(data, text->data, length) == 0;
}

static void listpack_matches(const uint8_t *listpack, const struct text *model, size_t count) {
    ASSERT(listpack_is_sound(listpack, listpack_bytes(listpack), true));
    ASSERT(listpack_count(listpack) == count);
    const uint8_t *entry = listpack_first(listpack), *last = listpack_last(listpack);
    for (size_t i = 0; i < count; i++) {
        ASSERT(entry && entry_is(entry, &model[i]));
        ASSERT(listpack_at(listpack, (int64_t)i) == entry);
        const uint8_t *found = listpack_find(listpack, entry, model[i].data, model[i].length, 1);
        ASSERT(found == entry);
        entry = listpack_next(listpack, entry);
    }
    ASSERT(!entry && !listpack_at(listpack, (int64_t)count));
    for (size_t i = count; i-- > 0; last = listpack_previous(listpack, last))
        ASSERT(last && entry_is(last, &model[i]));
    ASSERT(!last);
}

static void read_listpack(const uint8_t *bytes, size_t size) {
    struct text copy = text_make(bytes, size);
    const uint8_t *listpack = (const uint8_t *)copy.data;
    if (listpack_is_sound(listpack, size, true)) {
        ASSERT(listpack_is_sound(listpack, size, false));
        struct text *model = malloc((size + 1) * sizeof *model);
        struct listpack_buffer again = {0};
        listpack_clear(&again);
        size_t count = 0;
        for (const uint8_t *e = listpack_first(listpack); e; e = listpack_next(listpack, e)) {
            struct element element;
            char room[LISTPACK_INTEGER_ROOM];
            size_t length;
            listpack_get(e, &element);
            const char *data = element_text(&element, room, &length);
            model[count++] = text_make(data, length);
            listpack_append(&again, data, length);
        }
        listpack_matches(listpack, model, count);
        listpack_matches(again.bytes, model, count);
        listpack_buffer_free(&again);
        while (count)
            free(model[--count].data);
        free(model);
    }
    free(copy.data);
}

static void read_intset(const uint8_t *bytes, size_t size) {
    struct text copy = text_make(bytes, size);
    const uint8_t *intset = (const uint8_t *)copy.data;
    if (intset_is_sound(intset, size, true)) {
        ASSERT(intset_bytes(intset) == size);
        struct listpack_buffer again = {0};
        intset_clear(&again);
        size_t count = intset_count(intset), index;
        for (size_t i = 0; i < count; i++) {
            ASSERT(intset_find(intset, intset_at(intset, i), &index) && index == i);
            /* From both ends, so that elements move. */
            size_t next = i & 1 ? count - 1 - i / 2 : i / 2;
            ASSERT(intset_add(&again, intset_at(intset, next)));
        }
        ASSERT(intset_count(again.bytes) == count);
        for (size_t i = 0; i < count; i++)
            ASSERT(intset_at(again.bytes, i) == intset_at(intset, i));
        for (size_t i = 0; i < count; i++)
            ASSERT(intset_remove(&again, intset_at(intset, i)));
        ASSERT(intset_count(again.bytes) == 0);
        listpack_buffer_free(&again);
    }
    free(copy.data);
}

static size_t offset_of(const struct listpack_buffer *buffer, size_t index) {
    const uint8_t *entry = listpack_at(buffer->bytes, (int64_t)index);
    return entry ? (size_t)(entry - buffer->bytes) : listpack_bytes(buffer->bytes) - 1;
}

/* A step takes three bytes (what, where, how long) and its text. */
static void run_program(const uint8_t *bytes, size_t size) {
    struct text model[MODEL_MAX];
    size_t count = 0;
    struct listpack_buffer buffer = {0};
    listpack_clear(&buffer);
    while (size >= 3) {
        unsigned what = bytes[0] % 4;
        size_t index = bytes[1] % (count + 1), length = bytes[2];
        bytes += 3;
        size -= 3;
        if (what == 0) {
            size_t gone = length < count - index ? length : count - index;
            listpack_delete(&buffer, offset_of(&buffer, index), length);
            for (size_t i = index; i < index + gone; i++)
                free(model[i].data);
            count -= gone;
            memmove(model + index, model + index + gone, (count - index) * sizeof *model);
            continue;
        }
        if (length > size)
            length = size;
        struct text text = text_make(bytes, length);
        bytes += length;
        size -= length;
        if (what == 1 && index < count) {
            listpack_replace(&buffer, offset_of(&buffer, index), text.data, length);
            free(model[index].data);
            model[index] = text;
        } else if (count < MODEL_MAX) {
            listpack_insert(&buffer, offset_of(&buffer, index), text.data, length);
            memmove(model + index + 1, model + index, (count++ - index) * sizeof *model);
            model[index] = text;
        } else {
            free(text.data);
        }
    }
    listpack_matches(buffer.bytes, model, count);
    while (count)
        free(model[--count].data);
    listpack_buffer_free(&buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (!size)
        return 0;
    if (bytes[0] % 3 == 0)
        read_listpack(bytes + 1, size - 1);
    else if (bytes[0] % 3 == 1)
        read_intset(bytes + 1, size - 1);
    else
        run_program(bytes + 1, size - 1);
    return 0;
}
