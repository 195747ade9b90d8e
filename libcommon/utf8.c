/* SPDX-License-Identifier: MIT */
#include "libcommon/utf8.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#define HIGH_BITS UINT64_C(0x8080808080808080)

/* How long a character that starts with `lead` is, and the range of its second byte. */
static size_t expected_length(unsigned char lead, unsigned char *ret_low, unsigned char *ret_high)
{
    *ret_low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    *ret_high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 2;
    if (lead >= 0xE0 && lead <= 0xEF)
        return 3;
    if (lead >= 0xF0 && lead <= 0xF4)
        return 4;
    return 0;
}

/* How many bytes at text belong to the character that its first byte promises. */
static size_t matching_bytes(const char *text, size_t length, size_t *ret_expected)
{
    unsigned char low, high;
    *ret_expected = expected_length((unsigned char)text[0], &low, &high);
    size_t matching = 1;
    while (matching < *ret_expected && matching < length) {
        unsigned char byte = (unsigned char)text[matching];
        if (byte < low || byte > high)
            break;
        low = 0x80;
        high = 0xBF;
        matching++;
    }
    return matching;
}

size_t wfe_utf8_span(const char *text, size_t length)
{
    size_t offset = 0;
    while (offset < length) {
        uint64_t word;
        if (length - offset >= sizeof word) {
            memcpy(&word, text + offset, sizeof word);
            if (!(word & HIGH_BITS)) {
                offset += sizeof word;
                continue;
            }
        }
        size_t expected;
        size_t matching = matching_bytes(text + offset, length - offset, &expected);
        if (matching != expected)
            break;
        offset += matching;
    }
    return offset;
}

size_t wfe_utf8_ill_formed(const char *text, size_t length)
{
    assert(length > 0);
    size_t expected;
    return matching_bytes(text, length, &expected);
}
