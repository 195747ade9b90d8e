/* SPDX-License-Identifier: MIT */
#include "libcommon/error.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *wfe_error_kind_name(enum wfe_error_kind kind)
{
    switch (kind) {
    case WFE_ERROR_NONE:
        return "none";
    case WFE_ERROR_INPUT:
        return "input";
    case WFE_ERROR_SYSTEM:
        return "system";
    case WFE_ERROR_CONTAINERD:
        return "containerd";
    case WFE_ERROR_ARCHIVE:
        return "archive";
    case WFE_ERROR_INTEGRITY:
        return "integrity";
    case WFE_ERROR_LIMIT:
        return "limit";
    case WFE_ERROR_TIMEOUT:
        return "timeout";
    case WFE_ERROR_CANCELLED:
        return "cancelled";
    case WFE_ERROR_INTERNAL:
        return "internal";
    }
    return "internal";
}

/* snprintf may have cut a multi-byte character in two: drop its first half. */
static void trim_partial_utf8(char *text)
{
    size_t length = strlen(text);
    size_t start = length;
    while (start > 0 && length - start < 4 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t expected = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (expected > 1 && length - (start - 1) < expected)
        text[start - 1] = '\0';
}

__attribute__((format(printf, 2, 0))) static void set_message(
    struct wfe_error *err, const char *format, va_list args)
{
    int length = vsnprintf(err->message, sizeof err->message, format, args);
    if (length >= (int)sizeof err->message)
        trim_partial_utf8(err->message);
}

int(wfe_error_set)(
    struct wfe_error *err, enum wfe_error_kind kind, int errnum, const char *format, ...)
{
    assert(errnum > 0);
    assert(kind != WFE_ERROR_NONE);
    if (err) {
        assert(err->kind == WFE_ERROR_NONE);
        err->kind = kind;
        err->errnum = errnum;
        va_list args;
        va_start(args, format);
        set_message(err, format, args);
        va_end(args);
    }
    return -errnum;
}

int(wfe_error_system)(struct wfe_error *err, int errnum, const char *format, ...)
{
    /* A long path must not push the reason out of the message. */
    const char *reason = strerror(errnum);
    char what[sizeof err->message];
    assert(strlen(reason) + sizeof ": " < sizeof what);
    size_t room = sizeof what - strlen(reason) - strlen(": ");
    va_list args;
    va_start(args, format);
    if (vsnprintf(what, room, format, args) >= (int)room)
        trim_partial_utf8(what);
    va_end(args);
    return wfe_error_set(err, WFE_ERROR_SYSTEM, errnum, "%s: %s", what, reason);
}

int(wfe_error_nomem)(struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_INTERNAL, ENOMEM, "out of memory");
}

void wfe_error_prefix(struct wfe_error *err, const char *format, ...)
{
    if (!err)
        return;
    assert(err->kind != WFE_ERROR_NONE);
    char context[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    char message[sizeof err->message];
    memcpy(message, err->message, sizeof message);
    int length = snprintf(err->message, sizeof err->message, "%s: %s", context, message);
    if (length >= (int)sizeof err->message)
        trim_partial_utf8(err->message);
}
