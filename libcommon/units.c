/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "libcommon/units.h"

/* Durations fit into 64 bits of nanoseconds, so that no later sum or product overflows. */
#define MAX_DURATION_MS (INT64_MAX / 1000000)
#define MILLIS_PER_CPU 1000
#define MILLI_DIGITS 3

/* Decimal digits at text. Returns their count, 0 when there are none; an overflow saturates. */
static size_t read_digits(const char *text, uint64_t *ret)
{
    uint64_t value = 0;
    size_t length = 0;
    for (; text[length] >= '0' && text[length] <= '9'; length++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[length] - '0'), &value)) {
            value = UINT64_MAX;
            length += strspn(text + length, "0123456789");
            break;
        }
    }
    *ret = value;
    return length;
}

int wfe_duration_parse(const char *text, uint64_t *ret_ms)
{
    uint64_t value;
    size_t digits = read_digits(text, &value);
    const char *unit = text + digits;
    uint64_t factor;
    if (digits == 0)
        return -EINVAL;
    if (unit[0] == '\0' || strcmp(unit, "ms") == 0)
        factor = 1;
    else if (strcmp(unit, "s") == 0)
        factor = 1000;
    else if (strcmp(unit, "m") == 0)
        factor = 60 * 1000;
    else
        return -EINVAL;
    uint64_t ms;
    if (value == UINT64_MAX || __builtin_mul_overflow(value, factor, &ms) || ms > MAX_DURATION_MS)
        return -ERANGE;
    *ret_ms = ms;
    return 0;
}

/* The power of 1024 that a size's unit stands for, -1 when it is none. */
static int unit_power(const char *unit)
{
    static const char letters[] = "kmgt";
    int power = 0;
    if (unit[0] != '\0') {
        const char *letter = strchr(letters, tolower((unsigned char)unit[0]));
        if (letter) {
            power = (int)(letter - letters) + 1;
            unit++;
            if (unit[0] == 'i')
                unit++;
        }
    }
    if (unit[0] == 'b' || unit[0] == 'B')
        unit++;
    return unit[0] == '\0' ? power : -1;
}

int wfe_size_parse(const char *text, uint64_t *ret_bytes)
{
    uint64_t value;
    size_t digits = read_digits(text, &value);
    int power = unit_power(text + digits);
    if (digits == 0 || power < 0)
        return -EINVAL;
    uint64_t bytes;
    if (value == UINT64_MAX || __builtin_mul_overflow(value, UINT64_C(1) << (10 * power), &bytes) ||
        bytes > INT64_MAX)
        return -ERANGE;
    *ret_bytes = bytes;
    return 0;
}

int wfe_cpu_parse(const char *text, uint32_t *ret_millis)
{
    uint64_t whole = 0, millis = 0;
    size_t whole_digits = read_digits(text, &whole);
    const char *rest = text + whole_digits;
    size_t fraction_digits = 0;
    bool overflow;
    if (whole_digits > 0 && strcmp(rest, "m") == 0) {
        rest++;
        millis = whole;
        overflow = whole == UINT64_MAX;
    } else {
        overflow = __builtin_mul_overflow(whole, MILLIS_PER_CPU, &millis);
        if (*rest == '.') {
            rest++;
            uint64_t weight = MILLIS_PER_CPU;
            fraction_digits = strspn(rest, "0123456789");
            for (size_t i = 0; i < fraction_digits && i < MILLI_DIGITS; i++) {
                weight /= 10;
                if (__builtin_add_overflow(millis, weight * (uint64_t)(rest[i] - '0'), &millis))
                    overflow = true;
            }
            rest += fraction_digits;
        }
    }
    if (whole_digits + fraction_digits == 0 || *rest != '\0')
        return -EINVAL;
    if (overflow || millis == 0 || millis > UINT32_MAX)
        return -ERANGE;
    *ret_millis = (uint32_t)millis;
    return 0;
}
