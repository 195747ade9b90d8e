/* SPDX-License-Identifier: MIT */
#include "libcommon/layer_name.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/utf8.h"

bool wfe_layer_component_next(const char **name, struct wfe_layer_component *ret)
{
    const char *at = *name;
    for (;;) {
        at += strspn(at, "/");
        if (!*at)
            return false;
        size_t length = strcspn(at, "/");
        if (length == 1 && at[0] == '.') {
            at++;
            continue;
        }
        *ret = (struct wfe_layer_component){.text = at, .length = length};
        *name = at + length;
        return true;
    }
}

const char *wfe_layer_component_rule(const struct wfe_layer_component *component)
{
    if (component->length == 2 && memcmp(component->text, "..", 2) == 0)
        return "'..' may not stand in a name";
    if (component->length >= 4 && memcmp(component->text, ".wh.", 4) == 0)
        return "names that begin with '.wh.' are whiteouts: they delete files of the image";
    return NULL;
}

bool wfe_layer_is_utf8(const char *text)
{
    size_t length = strlen(text);
    return wfe_utf8_span(text, length) == length;
}

/* Length of the character at text, its code point in *ret; 0 when it is ill-formed. */
static size_t decode(const unsigned char *text, uint32_t *ret)
{
    size_t length = text[0] < 0x80 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
    size_t there = strnlen((const char *)text, length);
    if (there < length || wfe_utf8_span((const char *)text, length) != length)
        return 0;
    uint32_t code = length == 1 ? text[0] : text[0] & (0x7fU >> length);
    for (size_t i = 1; i < length; i++)
        code = code << 6 | (text[i] & 0x3f);
    *ret = code;
    return length;
}

static bool is_shown(uint32_t code)
{
    if (code < 0x20 || code == '\\' || (code >= 0x7f && code < 0xa0))
        return false;
    if (code >= 0x200b && code <= 0x200f)
        return false;
    if (code >= 0x2028 && code <= 0x202e)
        return false;
    return !(code >= 0x2060 && code <= 0x206f) && code != 0xfeff;
}

/* One character or byte of *text, as it is shown; returns its length in out. */
static size_t show_one(const unsigned char **text, char out[static 5])
{
    uint32_t code;
    size_t length = decode(*text, &code);
    if (length > 0 && is_shown(code)) {
        memcpy(out, *text, length);
        *text += length;
        return length;
    }
    snprintf(out, 5, "\\x%02x", **text);
    *text += 1;
    return 4;
}

const char *wfe_layer_show(const char *name, char out[static WFE_LAYER_SHOWN_BYTES])
{
    static const char ellipsis[] = "\xe2\x80\xa6";
    enum { HEAD = 100, TAIL = 40 };
    const unsigned char *at = (const unsigned char *)name;
    size_t length = 0;
    size_t head = 0; /* where the middle begins, should it have to go */
    while (*at && length + 4 < WFE_LAYER_SHOWN_BYTES) {
        length += show_one(&at, out + length);
        if (length <= HEAD)
            head = length;
    }
    if (*at) {
        memcpy(out + head, ellipsis, sizeof ellipsis - 1);
        length = head + sizeof ellipsis - 1;
        at += strlen((const char *)at) > TAIL / 4 ? strlen((const char *)at) - TAIL / 4 : 0;
        while (*at && (*at & 0xc0) == 0x80)
            at++;
        while (*at)
            length += show_one(&at, out + length);
    }
    out[length] = '\0';
    return out;
}
