/* SPDX-License-Identifier: MIT */
#include "libcommon/buffer.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void wfe_buffer_done(struct wfe_buffer *buffer)
{
    free(buffer->data);
    buffer->data = NULL;
    buffer->length = 0;
    buffer->allocated = 0;
}

/* Room for `extra` more bytes and the terminator. */
static int reserve(struct wfe_buffer *buffer, size_t extra)
{
    assert(buffer->length <= buffer->cap_bytes);
    if (extra > buffer->cap_bytes - buffer->length)
        return -EMSGSIZE;
    if (extra >= SIZE_MAX - buffer->length)
        return -ENOMEM;
    size_t needed = buffer->length + extra + 1;
    if (needed <= buffer->allocated)
        return 0;
    size_t limit = buffer->cap_bytes < SIZE_MAX ? buffer->cap_bytes + 1 : SIZE_MAX;
    size_t size = buffer->allocated ? buffer->allocated : 64;
    while (size < needed)
        size = size > limit / 2 ? limit : size * 2;
    if (size > limit)
        size = limit;
    char *data = realloc(buffer->data, size);
    if (!data)
        return -ENOMEM;
    buffer->data = data;
    buffer->allocated = size;
    return 0;
}

int wfe_buffer_append(struct wfe_buffer *buffer, const void *data, size_t length)
{
    int r = reserve(buffer, length);
    if (r < 0)
        return r;
    assert(buffer->data);
    if (length > 0)
        memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
    return 0;
}

int wfe_buffer_puts(struct wfe_buffer *buffer, const char *text)
{
    return wfe_buffer_append(buffer, text, strlen(text));
}

int wfe_buffer_printf(struct wfe_buffer *buffer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0)
        return -EINVAL;
    int r = reserve(buffer, (size_t)length);
    if (r < 0)
        return r;
    va_start(args, format);
    vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, args);
    va_end(args);
    buffer->length += (size_t)length;
    return 0;
}

char *wfe_buffer_steal(struct wfe_buffer *buffer)
{
    if (!buffer->data && wfe_buffer_append(buffer, "", 0) < 0)
        return NULL;
    char *data = buffer->data;
    buffer->data = NULL;
    wfe_buffer_done(buffer);
    return data;
}
