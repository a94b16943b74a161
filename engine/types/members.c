/* See members.h.
 *
 * A leaf has its members in the order of their hashes; equal hashes by length, then by bytes:
 *
 *   shape | fingerprint[count] | member size[count] | value size[count] | member value member ...
 *
 *   shape        1 byte: which of the three kinds; a column of value sizes only if values are bytes
 *   fingerprint  the low byte of the hash (the high bytes are much the same within a leaf)
 *   size         bytes stored here; with OUTSIDE they are the address of a blob
 *
 * Finding compares all fingerprints at once, and a place is a sum of sizes, so both read only the
 * front of a leaf before they know which member to look at. Vector loads may reach up to
 * VECTOR_BYTES - 1 bytes beyond the columns; each leaf has room for that.
 *
 * A change makes a new leaf of exactly the size that it needs, unless a value is replaced by one of
 * the same size: that is written where the old one is. */
#include "engine/types/members.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define VECTOR_BYTES 16
#define LINE_BYTES   64

#define SIZE_OUTSIDE 0x80
#define SIZE_MASK    0x7f
_Static_assert(MEMBERS_INLINE_MAX <= SIZE_MASK, "a size and its mark are one byte");
_Static_assert(MEMBERS_LEAF_MAX < 64, "matches are the bits of a word");

#define SCORE_BYTES 8
/* Leaves of fewer are small; two are merged into one of at most so many. */
#define LEAF_SMALL  (MEMBERS_LEAF_MAX * 2 / 5)
#define LEAF_MERGED (MEMBERS_LEAF_MAX * 5 / 6)

#define CURSOR_SHIFT 11 /* 53 bits of a hash */

enum shape { SHAPE_PLAIN, SHAPE_VALUES, SHAPE_SCORES };

struct member {
    const char *data;
    size_t length;
};

/* One member as a leaf stores it. */
struct stored {
    const uint8_t *member, *value;
    uint8_t member_size, value_size;
};

static inline uint64_t member_hash(const char *data, size_t length) {
    if (UNLIKELY(table_hash_for_tests != NULL))
        return table_hash_for_tests(data, length);
    return table_hash(data, length);
}

static inline uint8_t hash_fingerprint(uint64_t hash) {
    return (uint8_t)hash;
}

/* --- Columns ---------------------------------------------------------------------------------- */

static inline enum shape leaf_shape(const struct tree_leaf *leaf) {
    return (enum shape)leaf->data[0];
}
static inline unsigned shape_columns(enum shape shape) {
    return shape == SHAPE_VALUES ? 3 : 2;
}
static inline const uint8_t *leaf_fingerprints(const struct tree_leaf *leaf) {
    return leaf->data + 1;
}
static inline const uint8_t *leaf_member_sizes(const struct tree_leaf *leaf) {
    return leaf->data + 1 + leaf->count;
}
static inline const uint8_t *leaf_value_sizes(const struct tree_leaf *leaf) {
    return leaf->data + 1 + 2 * (size_t)leaf->count;
}
static inline size_t columns_bytes(enum shape shape, unsigned count) {
    return 1 + (size_t)shape_columns(shape) * count;
}

/* Which of the count bytes are this one: a bit each. */
static inline uint64_t match_bytes(const uint8_t *bytes, unsigned count, uint8_t wanted) {
    uint64_t matches = 0;
#ifdef __SSE2__
    __m128i pattern = _mm_set1_epi8((char)wanted);
    for (unsigned i = 0; i < count; i += VECTOR_BYTES) {
        __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(bytes + i));
        matches |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(some, pattern)) << i;
    }
    matches &= ((uint64_t)1 << count) - 1;
#else
    for (unsigned i = 0; i < count; i++)
        matches |= (uint64_t)(bytes[i] == wanted) << i;
#endif
    return matches;
}

/* Which of the sizes are of something outside. */
static inline uint64_t match_outside(const uint8_t *sizes, unsigned count) {
    uint64_t matches = 0;
#ifdef __SSE2__
    for (unsigned i = 0; i < count; i += VECTOR_BYTES) {
        __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(sizes + i));
        matches |= (uint64_t)(unsigned)_mm_movemask_epi8(some) << i;
    }
    matches &= ((uint64_t)1 << count) - 1;
#else
    for (unsigned i = 0; i < count; i++)
        matches |= (uint64_t)(sizes[i] >> 7) << i;
#endif
    return matches;
}

static inline size_t sum_sizes(const uint8_t *sizes, unsigned count) {
#ifdef __SSE2__
    /* From VECTOR_BYTES - n on: n bytes of SIZE_MASK, then zeros. */
    static const uint8_t masks[2 * VECTOR_BYTES] = {
        SIZE_MASK, SIZE_MASK, SIZE_MASK, SIZE_MASK, SIZE_MASK, SIZE_MASK, SIZE_MASK, SIZE_MASK,
        SIZE_MASK, SIZE_MASK, SIZE_MASK, SIZE_MASK, SIZE_MASK, SIZE_MASK, SIZE_MASK, SIZE_MASK};
    __m128i sum = _mm_setzero_si128(), zero = sum;
    for (unsigned i = 0; i < count; i += VECTOR_BYTES) {
        unsigned n = count - i < VECTOR_BYTES ? count - i : VECTOR_BYTES;
        __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(sizes + i));
        __m128i mask = _mm_loadu_si128((const __m128i *)(const void *)(masks + VECTOR_BYTES - n));
        sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_and_si128(some, mask), zero));
    }
    return (size_t)_mm_cvtsi128_si64(sum) + (size_t)_mm_cvtsi128_si64(_mm_srli_si128(sum, 8));
#else
    size_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += sizes[i] & SIZE_MASK;
    return sum;
#endif
}

/* --- Places in a leaf ------------------------------------------------------------------------- */

/* Bytes of the first count members and their values. */
static inline size_t stored_bytes(const struct tree_leaf *leaf, unsigned count) {
    size_t bytes = sum_sizes(leaf_member_sizes(leaf), count);
    if (leaf_shape(leaf) == SHAPE_VALUES)
        bytes += sum_sizes(leaf_value_sizes(leaf), count);
    else if (leaf_shape(leaf) == SHAPE_SCORES)
        bytes += (size_t)count * SCORE_BYTES;
    return bytes;
}

/* From the leaf's data; index may be the count. */
static inline size_t place_of(const struct tree_leaf *leaf, unsigned index) {
    return columns_bytes(leaf_shape(leaf), leaf->count) + stored_bytes(leaf, index);
}

static inline uint8_t value_size(const struct tree_leaf *leaf, unsigned index) {
    switch (leaf_shape(leaf)) {
    case SHAPE_VALUES:
        return leaf_value_sizes(leaf)[index];
    case SHAPE_SCORES:
        return SCORE_BYTES;
    default:
        return 0;
    }
}

/* The one at this place. */
static inline struct stored stored_at(const struct tree_leaf *leaf, unsigned index, size_t place) {
    struct stored stored = {.member = leaf->data + place,
                            .member_size = leaf_member_sizes(leaf)[index],
                            .value_size = value_size(leaf, index)};
    stored.value = stored.member + (stored.member_size & SIZE_MASK);
    return stored;
}

static inline struct stored stored_get(const struct tree_leaf *leaf, unsigned index) {
    return stored_at(leaf, index, place_of(leaf, index));
}

static inline struct blob *stored_blob(const uint8_t *bytes) {
    struct blob *blob;
    memcpy(&blob, bytes, sizeof blob);
    return blob;
}

static inline struct element stored_element(const uint8_t *bytes, uint8_t size) {
    if (LIKELY(!(size & SIZE_OUTSIDE)))
        return (struct element){.data = (const char *)bytes, .length = size};
    struct blob *blob = stored_blob(bytes);
    return (struct element){.data = blob->data, .length = blob->length, .blob = blob};
}

static inline struct element stored_member(const struct stored *stored) {
    return stored_element(stored->member, stored->member_size);
}
static inline struct element stored_value(const struct stored *stored) {
    return stored_element(stored->value, stored->value_size);
}

/* The order among equal hashes. */
static int member_compare(const struct member *member, const struct element *other) {
    if (member->length != other->length)
        return member->length < other->length ? -1 : 1;
    return memcmp(member->data, other->data, member->length);
}

static uint64_t hash_at(const struct tree_leaf *leaf, unsigned index) {
    struct stored stored = stored_get(leaf, index);
    struct element member = stored_member(&stored);
    return member_hash(member.data, member.length);
}

/* false: it is not in the leaf. */
static inline bool leaf_find(const struct tree_leaf *leaf, uint64_t hash,
                             const struct member *member, unsigned *index, struct stored *stored) {
    uint64_t matches = match_bytes(leaf_fingerprints(leaf), leaf->count, hash_fingerprint(hash));
    while (matches) {
        *index = (unsigned)__builtin_ctzll(matches);
        matches &= matches - 1;
        uint8_t size = leaf_member_sizes(leaf)[*index];
        if (size != member->length && !(size & SIZE_OUTSIDE))
            continue;
        *stored = stored_get(leaf, *index);
        struct element found = stored_member(stored);
        if (found.length == member->length && memcmp(found.data, member->data, member->length) == 0)
            return true;
    }
    return false;
}

/* Where a member that is not in the leaf belongs. */
static unsigned leaf_place(const struct tree_leaf *leaf, uint64_t hash,
                           const struct member *member) {
    unsigned low = 0, high = leaf->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        struct stored stored = stored_get(leaf, middle);
        struct element other = stored_member(&stored);
        uint64_t other_hash = member_hash(other.data, other.length);
        if (hash < other_hash || (hash == other_hash && member_compare(member, &other) < 0))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* --- Building leaves -------------------------------------------------------------------------- */

/* Of this many members whose bytes are so many, without its columns. */
static struct tree_leaf *leaf_make(enum shape shape, unsigned count, size_t bytes) {
    size_t columns = columns_bytes(shape, count);
    struct tree_leaf *leaf =
        tree_leaf_make(columns + (bytes > VECTOR_BYTES ? bytes : VECTOR_BYTES));
    ASSERT(columns + bytes <= TREE_LEAF_BYTES_MAX);
    leaf->count = (uint16_t)count;
    leaf->bytes = (uint16_t)(columns + bytes);
    leaf->data[0] = (uint8_t)shape;
    return leaf;
}

/* Where a leaf that is being built has got to. */
struct builder {
    struct tree_leaf *leaf;
    unsigned index;
    uint8_t *place;
};

static struct builder build_begin(enum shape shape, unsigned count, size_t bytes) {
    struct builder builder = {.leaf = leaf_make(shape, count, bytes)};
    builder.place = builder.leaf->data + columns_bytes(shape, count);
    return builder;
}

/* Members first..end-1 of another leaf of the same shape, which lie from begin on up to behind. */
static void build_copy(struct builder *builder, const struct tree_leaf *from, unsigned first,
                       unsigned end, size_t begin, size_t behind) {
    uint8_t *data = builder->leaf->data + 1 + builder->index;
    for (unsigned column = 0; column < shape_columns(leaf_shape(from)); column++)
        memcpy(data + (size_t)column * builder->leaf->count,
               from->data + 1 + (size_t)column * from->count + first, end - first);
    memcpy(builder->place, from->data + begin, behind - begin);
    builder->place += behind - begin;
    builder->index += end - first;
}

static void build_add(struct builder *builder, uint8_t fingerprint, const struct stored *stored) {
    struct tree_leaf *leaf = builder->leaf;
    uint8_t *data = leaf->data + 1 + builder->index++;
    data[0] = fingerprint;
    data[leaf->count] = stored->member_size;
    if (leaf_shape(leaf) == SHAPE_VALUES)
        data[2 * (size_t)leaf->count] = stored->value_size;
    size_t size = stored->member_size & SIZE_MASK;
    memcpy(builder->place, stored->member, size);
    builder->place += size;
    size = stored->value_size & SIZE_MASK;
    if (size > 0)
        memcpy(builder->place, stored->value, size);
    builder->place += size;
}

static struct tree_leaf *build_end(const struct builder *builder) {
    ASSERT(builder->index == builder->leaf->count &&
           builder->place == builder->leaf->data + builder->leaf->bytes);
    return builder->leaf;
}

/* --- What lies outside ------------------------------------------------------------------------ */

/* Bytes as they are to be stored: in a blob of its own, whose address is noted, if they are many.
 */
static uint8_t store_bytes(const char *data, size_t length, struct blob **blob,
                           const uint8_t **bytes) {
    if (LIKELY(length <= MEMBERS_INLINE_MAX)) {
        *bytes = (const uint8_t *)data;
        return (uint8_t)length;
    }
    *blob = blob_make(length, length);
    memcpy((*blob)->data, data, length);
    *bytes = (const uint8_t *)blob;
    return SIZE_OUTSIDE | sizeof(struct blob *);
}

static inline bool leaf_has_outside(const struct tree_leaf *leaf) {
    return match_outside(leaf_member_sizes(leaf), leaf->count) ||
           (leaf_shape(leaf) == SHAPE_VALUES && match_outside(leaf_value_sizes(leaf), leaf->count));
}

static size_t stored_outside(const struct stored *stored) {
    size_t bytes = 0;
    if (stored->member_size & SIZE_OUTSIDE)
        bytes += blob_bytes(stored_blob(stored->member));
    if (stored->value_size & SIZE_OUTSIDE)
        bytes += blob_bytes(stored_blob(stored->value));
    return bytes;
}

static size_t leaf_outside_bytes(const struct tree_leaf *leaf) {
    size_t bytes = 0;
    if (LIKELY(!leaf_has_outside(leaf)))
        return 0;
    for (unsigned i = 0; i < leaf->count; i++) {
        struct stored stored = stored_get(leaf, i);
        bytes += stored_outside(&stored);
    }
    return bytes;
}

static void leaf_acquire(const struct tree_leaf *leaf) {
    if (LIKELY(!leaf_has_outside(leaf)))
        return;
    for (unsigned i = 0; i < leaf->count; i++) {
        struct stored stored = stored_get(leaf, i);
        if (stored.member_size & SIZE_OUTSIDE)
            blob_lend(stored_blob(stored.member));
        if (stored.value_size & SIZE_OUTSIDE)
            blob_lend(stored_blob(stored.value));
    }
}

static void leaf_release(const struct tree_leaf *leaf) {
    if (LIKELY(!leaf_has_outside(leaf)))
        return;
    for (unsigned i = 0; i < leaf->count; i++) {
        struct stored stored = stored_get(leaf, i);
        if (stored.member_size & SIZE_OUTSIDE)
            blob_return(stored_blob(stored.member));
        if (stored.value_size & SIZE_OUTSIDE)
            blob_return(stored_blob(stored.value));
    }
}

/* --- The kinds -------------------------------------------------------------------------------- */

static struct tree_key leaf_first(const struct tree_leaf *leaf) {
    return (struct tree_key){.major = hash_at(leaf, 0)};
}

static int leaf_compare(const void *sought, const struct tree_leaf *leaf) {
    struct stored stored = stored_get(leaf, 0);
    struct element first = stored_member(&stored);
    return member_compare(sought, &first);
}

static bool leaf_is_large(const struct tree_leaf *leaf) {
    return leaf->count > MEMBERS_LEAF_MAX ||
           (leaf->bytes > MEMBERS_LEAF_BYTES_MAX && leaf->count > 1);
}

static bool leaf_is_small(const struct tree_leaf *leaf) {
    return leaf->count < LEAF_SMALL && leaf->bytes <= MEMBERS_LEAF_BYTES_MAX / 2;
}

/* Members first..end-1 alone; what they have outside is not referred to once more. */
static struct tree_leaf *leaf_part(const struct tree_leaf *leaf, unsigned first, unsigned end) {
    size_t begin = place_of(leaf, first), behind = place_of(leaf, end);
    struct builder builder = build_begin(leaf_shape(leaf), end - first, behind - begin);
    build_copy(&builder, leaf, first, end, begin, behind);
    return build_end(&builder);
}

static struct tree_leaf *leaf_split(struct tree_leaf **leaf) {
    struct tree_leaf *old = *leaf;
    struct tree_leaf *upper = leaf_part(old, old->count / 2, old->count);
    *leaf = leaf_part(old, 0, old->count / 2);
    tree_leaf_free(old);
    return upper;
}

static struct tree_leaf *leaf_merge(const struct tree_leaf *left, const struct tree_leaf *right) {
    unsigned count = (unsigned)left->count + right->count;
    size_t left_begin = place_of(left, 0), right_begin = place_of(right, 0);
    size_t bytes = left->bytes - left_begin + right->bytes - right_begin;
    if (count > LEAF_MERGED || bytes > MEMBERS_LEAF_BYTES_MAX * 3 / 4)
        return NULL;
    struct builder builder = build_begin(leaf_shape(left), count, bytes);
    build_copy(&builder, left, 0, left->count, left_begin, left->bytes);
    build_copy(&builder, right, 0, right->count, right_begin, right->bytes);
    leaf_acquire(builder.leaf);
    return build_end(&builder);
}

static void leaf_check(const struct tree_leaf *leaf) {
    enum shape shape = leaf_shape(leaf);
    uint64_t before_hash = 0;
    struct member before = {NULL, 0};
    ASSERT(leaf->count > 0 && leaf->count <= MEMBERS_LEAF_MAX && shape <= SHAPE_SCORES);
    ASSERT(leaf->bytes == place_of(leaf, leaf->count) && leaf->bytes <= leaf->capacity);
    ASSERT(leaf->capacity >= columns_bytes(shape, leaf->count) + VECTOR_BYTES);
    for (unsigned i = 0; i < leaf->count; i++) {
        struct stored stored = stored_get(leaf, i);
        struct element member = stored_member(&stored);
        uint64_t hash = member_hash(member.data, member.length);
        ASSERT(leaf_fingerprints(leaf)[i] == hash_fingerprint(hash));
        ASSERT(!(stored.member_size & SIZE_OUTSIDE) || member.length > MEMBERS_INLINE_MAX);
        ASSERT(!(stored.value_size & SIZE_OUTSIDE) ||
               stored_value(&stored).length > MEMBERS_INLINE_MAX);
        if (i > 0)
            ASSERT(before_hash < hash ||
                   (before_hash == hash && member_compare(&before, &member) < 0));
        before_hash = hash;
        before = (struct member){member.data, member.length};
    }
}

#define MEMBERS_KIND(outside)                                                                      \
    {                                                                                              \
        .key_words = 1, .first = leaf_first, .compare = leaf_compare, .is_large = leaf_is_large,   \
        .split = leaf_split, .is_small = leaf_is_small, .merge = leaf_merge,                       \
        .acquire = leaf_acquire, .release = leaf_release, .outside_bytes = (outside),              \
        .check = leaf_check                                                                        \
    }
const struct tree_kind members_without_values = MEMBERS_KIND(leaf_outside_bytes);
const struct tree_kind members_with_values = MEMBERS_KIND(leaf_outside_bytes);
const struct tree_kind members_with_scores = MEMBERS_KIND(NULL);

static enum shape tree_shape(const struct tree *members) {
    if (members->kind == &members_with_values)
        return SHAPE_VALUES;
    return members->kind == &members_with_scores ? SHAPE_SCORES : SHAPE_PLAIN;
}

/* --- Single members --------------------------------------------------------------------------- */

/* The path to where the member is or belongs. */
static inline bool find(const struct tree *members, uint64_t hash, const struct member *member,
                        struct tree_path *path, unsigned *index, struct stored *stored) {
    tree_find(members, (struct tree_key){.major = hash}, member, path);
    return path->leaf && leaf_find(path->leaf, hash, member, index, stored);
}

bool members_find(const struct tree *members, const char *data, size_t length,
                  struct element *value) {
    struct member member = {data, length};
    struct tree_path path;
    struct stored stored;
    unsigned index;
    if (!find(members, member_hash(data, length), &member, &path, &index, &stored))
        return false;
    if (value)
        *value = stored_value(&stored);
    return true;
}

struct blob *members_blob(const struct tree *members, const char *data, size_t length) {
    struct member member = {data, length};
    struct tree_path path;
    struct stored stored;
    unsigned index;
    bool there = find(members, member_hash(data, length), &member, &path, &index, &stored);
    ASSERT(there && stored.member_size & SIZE_OUTSIDE);
    return stored_blob(stored.member);
}

/* The first member with this fingerprint, which most likely is the sought one; or, if there is none
 * and one is to be put, all of the leaf. */
static void fetch_member(const struct tree_leaf *leaf, uint64_t hash,
                         struct members_sought *sought) {
    uint64_t matches = match_bytes(leaf_fingerprints(leaf), leaf->count, hash_fingerprint(hash));
    size_t begin = 0, end = 0;
    if (matches) {
        unsigned index = (unsigned)__builtin_ctzll(matches);
        begin = place_of(leaf, index);
        end = begin + LINE_BYTES;
        if (leaf_shape(leaf) == SHAPE_SCORES)
            sought->score = stored_at(leaf, index, begin).value;
    } else if (sought->changes) {
        end = leaf->bytes;
    }
    for (size_t at = begin; at < end; at += LINE_BYTES / 2)
        __builtin_prefetch(leaf->data + at);
}

void members_fetch(struct members_sought *sought, unsigned n) {
    struct tree_probe probes[MEMBERS_AHEAD];
    ASSERT(n <= MEMBERS_AHEAD);
    for (unsigned i = 0; i < n; i++) {
        sought[i].score = NULL;
        uint64_t hash = member_hash(sought[i].data, sought[i].length);
        tree_probe_begin(sought[i].members, (struct tree_key){.major = hash}, &probes[i]);
    }
    for (bool more = true; more;) {
        more = false;
        for (unsigned i = 0; i < n; i++)
            more |= tree_probe_step(&probes[i]);
    }
    for (unsigned i = 0; i < n; i++)
        if (probes[i].node)
            fetch_member(probes[i].node, probes[i].key.major, &sought[i]);
}

/* Puts a leaf in the place of the path's one, in which `skipped` members from index on give way to
 * the added one (NULL: to none). What that has outside belongs to the new leaf. */
static void splice(struct tree *members, struct tree_path *path, unsigned index, unsigned skipped,
                   uint8_t fingerprint, const struct stored *added) {
    const struct tree_leaf *old = path->leaf;
    enum shape shape = tree_shape(members);
    unsigned count = old ? old->count : 0;
    size_t begin = 0, at = 0, behind = 0, bytes = 0;
    if (old) {
        begin = columns_bytes(shape, count);
        at = behind = place_of(old, index);
        if (skipped) {
            struct stored gone = stored_at(old, index, at);
            behind += (gone.member_size & SIZE_MASK) + (gone.value_size & SIZE_MASK);
        }
        bytes = at - begin + old->bytes - behind;
    }
    if (added)
        bytes += (added->member_size & SIZE_MASK) + (added->value_size & SIZE_MASK);
    struct builder builder = build_begin(shape, count - skipped + (added != NULL), bytes);
    if (old)
        build_copy(&builder, old, 0, index, begin, at);
    if (added)
        build_add(&builder, fingerprint, added);
    if (old)
        build_copy(&builder, old, index + skipped, count, behind, old->bytes);
    struct tree_leaf *leaf = build_end(&builder);
    leaf_acquire(leaf);
    path->keeps_first = index > 0;
    tree_put(members, path, leaf);
}

static void put_new(struct tree *members, struct tree_path *path, uint64_t hash,
                    const struct member *member, const char *value, size_t value_length) {
    struct blob *member_blob = NULL, *value_blob = NULL;
    struct stored added = {.value = NULL};
    added.member_size = store_bytes(member->data, member->length, &member_blob, &added.member);
    if (tree_shape(members) != SHAPE_PLAIN)
        added.value_size = store_bytes(value, value_length, &value_blob, &added.value);
    unsigned index = path->leaf ? leaf_place(path->leaf, hash, member) : 0;
    splice(members, path, index, 0, hash_fingerprint(hash), &added);
    if (member_blob)
        blob_return(member_blob); /* the leaf has it */
    if (value_blob)
        blob_return(value_blob);
}

static void replace_value(struct tree *members, struct tree_path *path, unsigned index,
                          uint64_t hash, const struct stored *old, const char *value,
                          size_t value_length) {
    if (LIKELY(value_length == old->value_size && value_length <= MEMBERS_INLINE_MAX)) {
        size_t place = (size_t)(old->value - path->leaf->data);
        memcpy(tree_writable(members, path)->data + place, value, value_length);
        return;
    }
    struct blob *blob = NULL;
    struct stored added = *old;
    added.value_size = store_bytes(value, value_length, &blob, &added.value);
    splice(members, path, index, 1, hash_fingerprint(hash), &added);
    if (blob)
        blob_return(blob);
}

bool members_put(struct tree *members, const char *data, size_t length, const char *value,
                 size_t value_length) {
    struct member member = {data, length};
    uint64_t hash = member_hash(data, length);
    struct tree_path path;
    struct stored stored;
    unsigned index;
    ASSERT(tree_shape(members) != SHAPE_SCORES || value_length == SCORE_BYTES);
    if (!find(members, hash, &member, &path, &index, &stored)) {
        put_new(members, &path, hash, &member, value, value_length);
        return true;
    }
    if (tree_shape(members) != SHAPE_PLAIN)
        replace_value(members, &path, index, hash, &stored, value, value_length);
    return false;
}

bool members_remove(struct tree *members, const char *data, size_t length) {
    struct member member = {data, length};
    struct tree_path path;
    struct stored stored;
    unsigned index;
    if (!find(members, member_hash(data, length), &member, &path, &index, &stored))
        return false;
    splice(members, &path, index, 1, 0, NULL);
    return true;
}

void members_at(const struct tree *members, uint64_t position, struct element *member,
                struct element *value) {
    struct tree_path path;
    unsigned index = tree_at(members, position, &path);
    struct stored stored = stored_get(path.leaf, index);
    *member = stored_member(&stored);
    if (value)
        *value = stored_value(&stored);
}

/* --- Walks ------------------------------------------------------------------------------------ */

/* Members of the leaf from first on. false: enough. */
static bool leaf_visit(const struct tree_leaf *leaf, unsigned first, collection_visit *visit,
                       void *context) {
    size_t place = place_of(leaf, first);
    for (unsigned i = first; i < leaf->count; i++) {
        struct stored stored = stored_at(leaf, i, place);
        struct element member = stored_member(&stored), value = stored_value(&stored);
        double score = 0;
        if (leaf_shape(leaf) == SHAPE_SCORES)
            memcpy(&score, stored.value, sizeof score);
        if (!visit(context, &member, leaf_shape(leaf) == SHAPE_VALUES ? &value : NULL, score))
            return false;
        place += (stored.member_size & SIZE_MASK) + (stored.value_size & SIZE_MASK);
    }
    return true;
}

void members_visit(const struct tree *members, collection_visit *visit, void *context) {
    struct tree_path path;
    tree_first(members, &path);
    if (!path.leaf)
        return;
    while (leaf_visit(path.leaf, 0, visit, context) && tree_next(members, &path))
        continue;
}

/* A cursor is the upper bits of a hash: all below it have been visited. Members whose hashes agree
 * in these bits are visited by one call. */
uint64_t members_scan(const struct tree *members, uint64_t cursor, uint64_t count,
                      collection_visit *visit, void *context) {
    uint64_t bound = cursor << CURSOR_SHIFT, visited = 0;
    struct member lowest = {"", 0};
    struct tree_path path;
    if (cursor >> (64 - CURSOR_SHIFT))
        return 0;
    tree_find(members, (struct tree_key){.major = bound}, &lowest, &path);
    if (!path.leaf)
        return 0;
    unsigned first = leaf_place(path.leaf, bound, &lowest);
    if (first > 0 && hash_at(path.leaf, first - 1) >= bound)
        first--; /* it is the lowest itself */
    for (;;) {
        if (first < path.leaf->count) {
            if (!leaf_visit(path.leaf, first, visit, context))
                return 0;
            visited += path.leaf->count - first;
            bound = hash_at(path.leaf, path.leaf->count - 1u);
        }
        first = 0;
        if (!tree_next(members, &path))
            return 0;
        uint64_t next = leaf_first(path.leaf).major >> CURSOR_SHIFT;
        if (visited >= count && next != bound >> CURSOR_SHIFT)
            return next;
    }
}
