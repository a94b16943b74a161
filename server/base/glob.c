/* Glob matching with the exact results of Redis 7.2, oddities included, because clients see them:
 * an empty text matches only the empty pattern (not "*"); a bracket that is not closed ends with
 * the pattern; "[a-]" is a range up to ']'; bytes above 127 order below the ASCII ones in a range.
 *
 * Every element but `*` takes exactly one byte of text, so it is enough to come back to the last
 * `*`: when what follows it matched nowhere, a longer match of an earlier `*` cannot help. Hence a
 * loop instead of recursion, and no pattern is worse than pattern length times text length. */
#include "server/base/glob.h"

#include <ctype.h>

static int fold(int byte, bool ignore_case) {
    return ignore_case ? tolower((unsigned char)byte) : (unsigned char)byte;
}

/* Redis compares plain chars, which are signed on x86, orders the ends first and folds case later.
 */
static bool in_range(signed char first, signed char last, signed char byte, bool ignore_case) {
    int low = first < last ? first : last;
    int high = first < last ? last : first;
    int middle = byte;

    if (ignore_case) {
        low = low == -1 ? -1 : fold(low, true);
        high = high == -1 ? -1 : fold(high, true);
        middle = middle == -1 ? -1 : fold(middle, true);
    }
    return low <= middle && middle <= high;
}

/* The class that opens at pattern[at] ('['); *next is the place behind it. */
static bool class_matches(const char *pattern, size_t length, size_t at, char byte,
                          bool ignore_case, size_t *next) {
    bool negated = false;
    bool found = false;

    at++;
    if (at < length && pattern[at] == '^') {
        negated = true;
        at++;
    }
    while (at < length && pattern[at] != ']') {
        if (pattern[at] == '\\' && at + 1 < length) {
            at++;
            found |= pattern[at] == byte;
        } else if (at + 2 < length && pattern[at + 1] == '-') {
            found |= in_range((signed char)pattern[at], (signed char)pattern[at + 2],
                              (signed char)byte, ignore_case);
            at += 2;
        } else {
            found |= fold(pattern[at], ignore_case) == fold(byte, ignore_case);
        }
        at++;
    }
    *next = at < length ? at + 1 : length;
    return found != negated;
}

/* Whether the element at pattern[at], which is no star, takes this byte; *next is the place behind
 * it. */
static bool element_matches(const char *pattern, size_t length, size_t at, char byte,
                            bool ignore_case, size_t *next) {
    if (pattern[at] == '?') {
        *next = at + 1;
        return true;
    }
    if (pattern[at] == '[')
        return class_matches(pattern, length, at, byte, ignore_case, next);
    if (pattern[at] == '\\' && at + 1 < length)
        at++;
    *next = at + 1;
    return fold(pattern[at], ignore_case) == fold(byte, ignore_case);
}

bool glob_match(const char *pattern, size_t pattern_length, const char *text, size_t text_length,
                bool ignore_case) {
    size_t at = 0;       /* in the pattern */
    size_t position = 0; /* in the text */
    bool starred = false;
    size_t star_at = 0, star_position = 0;

    if (text_length == 0)
        return pattern_length == 0;
    while (position < text_length) {
        size_t next;
        if (at < pattern_length && pattern[at] == '*') {
            while (at < pattern_length && pattern[at] == '*')
                at++;
            if (at == pattern_length)
                return true;
            starred = true;
            star_at = at;
            star_position = position;
        } else if (at < pattern_length && element_matches(pattern, pattern_length, at,
                                                          text[position], ignore_case, &next)) {
            at = next;
            position++;
        } else if (starred) {
            at = star_at;
            position = ++star_position;
        } else {
            return false;
        }
    }
    /* A star's search that ran off the end leaves `at` on an element that is no star: no match. */
    while (at < pattern_length && pattern[at] == '*')
        at++;
    return at == pattern_length;
}
