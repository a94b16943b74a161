/* The shortest decimal form of a double: Grisu2 (F. Loitsch, "Printing floating-point numbers
 * quickly and accurately with integers", PLDI 2010).
 *
 * The neighbours of the double bound an interval in which every number reads back as this double.
 * The interval is scaled by a cached power of ten to where its upper end has an integral part of at
 * most 32 bits, and digits of the upper end are produced until what is left of it lies inside. The
 * result is always right and nearly always (99.9 %) the shortest; Redis prints scores and RESP3
 * doubles this way, so the digits of the other 0.1 % are part of the protocol too. */
#include "engine/double_text.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define FRACTION_BITS  52
#define HIDDEN_BIT     (1ULL << FRACTION_BITS)
#define EXPONENT_BIAS  (1023 + FRACTION_BITS)
#define MAX_DIGITS     18
#define SCALED_LOWEST  -60 /* range of the binary exponent after scaling */
#define SCALED_HIGHEST -32
#define POWER_COUNT    87
#define POWER_FIRST    -348
#define POWER_STEP     8

/* fraction * 2^exponent */
struct binary_float {
    uint64_t fraction;
    int exponent;
};

/* 10^-348, 10^-340 ... 10^340, rounded to 64 bits. */
// clang-format off
static const struct binary_float powers_of_ten[POWER_COUNT] = {
    {0xfa8fd5a0081c0288ULL, -1220}, {0xbaaee17fa23ebf76ULL, -1193}, {0x8b16fb203055ac76ULL, -1166},
    {0xcf42894a5dce35eaULL, -1140}, {0x9a6bb0aa55653b2dULL, -1113}, {0xe61acf033d1a45dfULL, -1087},
    {0xab70fe17c79ac6caULL, -1060}, {0xff77b1fcbebcdc4fULL, -1034}, {0xbe5691ef416bd60cULL, -1007},
    {0x8dd01fad907ffc3cULL, -980}, {0xd3515c2831559a83ULL, -954}, {0x9d71ac8fada6c9b5ULL, -927},
    {0xea9c227723ee8bcbULL, -901}, {0xaecc49914078536dULL, -874}, {0x823c12795db6ce57ULL, -847},
    {0xc21094364dfb5637ULL, -821}, {0x9096ea6f3848984fULL, -794}, {0xd77485cb25823ac7ULL, -768},
    {0xa086cfcd97bf97f4ULL, -741}, {0xef340a98172aace5ULL, -715}, {0xb23867fb2a35b28eULL, -688},
    {0x84c8d4dfd2c63f3bULL, -661}, {0xc5dd44271ad3cdbaULL, -635}, {0x936b9fcebb25c996ULL, -608},
    {0xdbac6c247d62a584ULL, -582}, {0xa3ab66580d5fdaf6ULL, -555}, {0xf3e2f893dec3f126ULL, -529},
    {0xb5b5ada8aaff80b8ULL, -502}, {0x87625f056c7c4a8bULL, -475}, {0xc9bcff6034c13053ULL, -449},
    {0x964e858c91ba2655ULL, -422}, {0xdff9772470297ebdULL, -396}, {0xa6dfbd9fb8e5b88fULL, -369},
    {0xf8a95fcf88747d94ULL, -343}, {0xb94470938fa89bcfULL, -316}, {0x8a08f0f8bf0f156bULL, -289},
    {0xcdb02555653131b6ULL, -263}, {0x993fe2c6d07b7facULL, -236}, {0xe45c10c42a2b3b06ULL, -210},
    {0xaa242499697392d3ULL, -183}, {0xfd87b5f28300ca0eULL, -157}, {0xbce5086492111aebULL, -130},
    {0x8cbccc096f5088ccULL, -103}, {0xd1b71758e219652cULL, -77}, {0x9c40000000000000ULL, -50},
    {0xe8d4a51000000000ULL, -24}, {0xad78ebc5ac620000ULL, 3}, {0x813f3978f8940984ULL, 30},
    {0xc097ce7bc90715b3ULL, 56}, {0x8f7e32ce7bea5c70ULL, 83}, {0xd5d238a4abe98068ULL, 109},
    {0x9f4f2726179a2245ULL, 136}, {0xed63a231d4c4fb27ULL, 162}, {0xb0de65388cc8ada8ULL, 189},
    {0x83c7088e1aab65dbULL, 216}, {0xc45d1df942711d9aULL, 242}, {0x924d692ca61be758ULL, 269},
    {0xda01ee641a708deaULL, 295}, {0xa26da3999aef774aULL, 322}, {0xf209787bb47d6b85ULL, 348},
    {0xb454e4a179dd1877ULL, 375}, {0x865b86925b9bc5c2ULL, 402}, {0xc83553c5c8965d3dULL, 428},
    {0x952ab45cfa97a0b3ULL, 455}, {0xde469fbd99a05fe3ULL, 481}, {0xa59bc234db398c25ULL, 508},
    {0xf6c69a72a3989f5cULL, 534}, {0xb7dcbf5354e9beceULL, 561}, {0x88fcf317f22241e2ULL, 588},
    {0xcc20ce9bd35c78a5ULL, 614}, {0x98165af37b2153dfULL, 641}, {0xe2a0b5dc971f303aULL, 667},
    {0xa8d9d1535ce3b396ULL, 694}, {0xfb9b7cd9a4a7443cULL, 720}, {0xbb764c4ca7a44410ULL, 747},
    {0x8bab8eefb6409c1aULL, 774}, {0xd01fef10a657842cULL, 800}, {0x9b10a4e5e9913129ULL, 827},
    {0xe7109bfba19c0c9dULL, 853}, {0xac2820d9623bf429ULL, 880}, {0x80444b5e7aa7cf85ULL, 907},
    {0xbf21e44003acdd2dULL, 933}, {0x8e679c2f5e44ff8fULL, 960}, {0xd433179d9c8cb841ULL, 986},
    {0x9e19db92b4e31ba9ULL, 1013}, {0xeb96bf6ebadf77d9ULL, 1039}, {0xaf87023b9bf0ee6bULL, 1066},
};
// clang-format on

/* Rounded to nearest; half goes up. */
static struct binary_float multiply(struct binary_float a, struct binary_float b) {
    unsigned __int128 product = (unsigned __int128)a.fraction * b.fraction;
    product += (unsigned __int128)1 << 63;
    return (struct binary_float){(uint64_t)(product >> 64), a.exponent + b.exponent + 64};
}

static struct binary_float normalize(struct binary_float value) {
    int shift = __builtin_clzll(value.fraction);
    return (struct binary_float){value.fraction << shift, value.exponent - shift};
}

/* The power that brings a 64-bit float with this exponent into the scaled range; *decimal is its
 * exponent to base ten. The first guess is one off at most. */
static struct binary_float power_for(int exponent, int *decimal) {
    int guess = (int)(-(exponent + POWER_COUNT) * 0.30102999566398114);
    int index = (guess - POWER_FIRST) / POWER_STEP;

    while (exponent + powers_of_ten[index].exponent + 64 < SCALED_LOWEST)
        index++;
    while (exponent + powers_of_ten[index].exponent + 64 > SCALED_HIGHEST)
        index--;
    *decimal = POWER_FIRST + index * POWER_STEP;
    return powers_of_ten[index];
}

/* The digits so far are those of the upper end; walks the last one down towards the value itself
 * while that stays inside the interval and comes closer. All in units of the current digit
 * position: `rest` is the distance from the upper end, `unit` the weight of the last digit. */
static void round_last_digit(char *last, uint64_t width, uint64_t rest, uint64_t unit,
                             uint64_t distance) {
    while (rest < distance && width - rest >= unit &&
           (rest + unit < distance || distance - rest > rest + unit - distance)) {
        (*last)--;
        rest += unit;
    }
}

/* Digits of a number in the interval (upper - width, upper); `distance` is upper minus the value.
 * *decimal grows by the number of digits that were left out. Returns the number of digits. */
static int generate_digits(struct binary_float upper, uint64_t width, uint64_t distance,
                           char digits[MAX_DIGITS], int *decimal) {
    int point = -upper.exponent;
    uint64_t one = 1ULL << point;
    uint64_t whole = upper.fraction >> point;
    uint64_t part = upper.fraction & (one - 1);
    uint64_t divisor = 1000000000;
    int count = 0;

    for (int left = 9; left >= 0; left--, divisor /= 10) {
        uint64_t digit = whole / divisor;
        whole %= divisor;
        if (digit != 0 || count != 0)
            digits[count++] = (char)('0' + digit);
        uint64_t rest = (whole << point) + part;
        if (rest <= width) {
            *decimal += left;
            round_last_digit(&digits[count - 1], width, rest, divisor << point, distance);
            return count;
        }
    }
    for (uint64_t scale = 10;; scale *= 10) {
        part *= 10;
        width *= 10;
        (*decimal)--;
        uint64_t digit = part >> point;
        part &= one - 1;
        if (digit != 0 || count != 0)
            digits[count++] = (char)('0' + digit);
        if (part < width) {
            round_last_digit(&digits[count - 1], width, part, one, distance * scale);
            return count;
        }
    }
}

/* value > 0 and finite: value is about 0.d1d2d3... read as digits * 10^*decimal. */
static int shortest_digits(double value, char digits[MAX_DIGITS], int *decimal) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    struct binary_float exact = {bits & (HIDDEN_BIT - 1), (int)(bits >> FRACTION_BITS & 0x7ff)};
    if (exact.exponent != 0)
        exact.fraction |= HIDDEN_BIT;
    else
        exact.exponent = 1;
    exact.exponent -= EXPONENT_BIAS;

    /* Half way to the neighbours; below a power of two the lower one is nearer. */
    int lower_shift = exact.fraction == HIDDEN_BIT ? 2 : 1;
    struct binary_float upper =
        normalize((struct binary_float){exact.fraction * 2 + 1, exact.exponent - 1});
    struct binary_float lower = {(exact.fraction << lower_shift) - 1, exact.exponent - lower_shift};
    lower.fraction <<= lower.exponent - upper.exponent;
    lower.exponent = upper.exponent;

    int power;
    struct binary_float scale = power_for(upper.exponent, &power);
    exact = multiply(normalize(exact), scale);
    upper = multiply(upper, scale);
    lower = multiply(lower, scale);
    /* The products are off by less than one unit: shrink the interval to stay on the safe side. */
    upper.fraction--;
    lower.fraction++;
    *decimal = -power;
    return generate_digits(upper, upper.fraction - lower.fraction, upper.fraction - exact.fraction,
                           digits, decimal);
}

/* Plain notation for numbers that are neither long nor tiny, else d.ddde+N. Returns the length. */
static size_t layout(char *out, const char *digits, int count, int decimal) {
    int exponent = decimal + count - 1; /* of the first digit */
    int magnitude = exponent < 0 ? -exponent : exponent;
    char *at = out;

    if (decimal >= 0 && magnitude < count + 7) {
        memcpy(at, digits, (size_t)count);
        memset(at + count, '0', (size_t)decimal);
        return (size_t)(count + decimal);
    }
    if (decimal < 0 && (decimal > -7 || magnitude < 4)) {
        int whole = count + decimal;
        if (whole > 0) {
            memcpy(at, digits, (size_t)whole);
            at[whole] = '.';
            memcpy(at + whole + 1, digits + whole, (size_t)(count - whole));
            return (size_t)(count + 1);
        }
        memcpy(at, "0.", 2);
        memset(at + 2, '0', (size_t)-whole);
        memcpy(at + 2 - whole, digits, (size_t)count);
        return (size_t)(2 - whole + count);
    }
    *at++ = digits[0];
    if (count > 1) {
        *at++ = '.';
        memcpy(at, digits + 1, (size_t)(count - 1));
        at += count - 1;
    }
    *at++ = 'e';
    *at++ = exponent < 0 ? '-' : '+';
    return (size_t)(at - out) + (size_t)sprintf(at, "%d", magnitude);
}

size_t double_text_write(char *out, double value) {
    size_t sign = signbit(value) ? 1 : 0;
    char digits[MAX_DIGITS];
    int decimal;

    if (isnan(value)) {
        memcpy(out, "nan", 4);
        return 3;
    }
    /* Whole numbers in half the range of int64_t are exact. */
    if (value != 0 && fabs(value) <= (double)(INT64_MAX / 2) && value == (double)(int64_t)value)
        return (size_t)sprintf(out, "%lld", (long long)value);
    if (sign)
        *out = '-';
    if (isinf(value) || value == 0) {
        strcpy(out + sign, value == 0 ? "0" : "inf");
        return strlen(out);
    }
    int count = shortest_digits(fabs(value), digits, &decimal);
    size_t length = sign + layout(out + sign, digits, count, decimal);
    out[length] = '\0';
    return length;
}
