/* SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <string.h>

#include "libcommon/document_build.h"

/* So that each value of a based integer fits into 64 bits. */
#define MAX_HEX_DIGITS 16
#define MAX_OCTAL_DIGITS 21
#define MAX_BINARY_DIGITS 64

static bool is_one_of(const char *text, size_t length, const char *const *words)
{
    for (; *words; words++) {
        if (strlen(*words) == length && memcmp(*words, text, length) == 0)
            return true;
    }
    return false;
}

static size_t digits_at(const char *text, const char *allowed)
{
    return strspn(text, allowed);
}

static bool is_based_integer(const char *text, size_t length)
{
    static const struct {
        const char *prefix;
        const char *digits;
        size_t max_digits;
    } bases[] = {
        {"0x", "0123456789abcdefABCDEF", MAX_HEX_DIGITS},
        {"0o", "01234567", MAX_OCTAL_DIGITS},
        {"0b", "01", MAX_BINARY_DIGITS},
    };
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++) {
        if (strncmp(text, bases[i].prefix, 2) == 0) {
            size_t digits = digits_at(text + 2, bases[i].digits);
            return digits > 0 && digits <= bases[i].max_digits && digits + 2 == length;
        }
    }
    return false;
}

/* [-+]? ( [0-9]+ ( . [0-9]* )? | . [0-9]+ ) ( [eE] [-+]? [0-9]+ )?  (YAML 1.2.2, 10.3.2) */
static enum wfe_node_kind number_kind(const char *text, size_t length)
{
    static const char decimal[] = "0123456789";
    const char *cursor = text;
    if (*cursor == '-' || *cursor == '+')
        cursor++;
    const char *integer = cursor;
    size_t whole = digits_at(cursor, decimal);
    cursor += whole;
    size_t fraction = 0;
    bool has_point = *cursor == '.';
    if (has_point) {
        cursor++;
        fraction = digits_at(cursor, decimal);
        cursor += fraction;
    }
    if (whole + fraction == 0)
        return WFE_NODE_STRING;
    bool has_exponent = *cursor == 'e' || *cursor == 'E';
    if (has_exponent) {
        cursor++;
        if (*cursor == '-' || *cursor == '+')
            cursor++;
        size_t exponent = digits_at(cursor, decimal);
        if (exponent == 0)
            return WFE_NODE_STRING;
        cursor += exponent;
    }
    if ((size_t)(cursor - text) != length || (whole > 1 && integer[0] == '0'))
        return WFE_NODE_STRING;
    return has_point || has_exponent ? WFE_NODE_FLOAT : WFE_NODE_INT;
}

enum wfe_node_kind wfe_document_scalar_kind(const char *text, size_t length)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE", NULL};
    if (is_one_of(text, length, nulls))
        return WFE_NODE_NULL;
    if (is_one_of(text, length, bools))
        return WFE_NODE_BOOL;
    if (is_based_integer(text, length))
        return WFE_NODE_INT;
    return number_kind(text, length);
}
