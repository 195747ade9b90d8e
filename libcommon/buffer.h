/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_BUFFER_H
#define WFE_LIBCOMMON_BUFFER_H

/*
 * A growable byte buffer with a mandatory cap.
 *
 * Invariants: length <= cap_bytes; when data is not NULL, data[length] is 0, so
 * the contents can be read as a C string.
 */

#include <stdarg.h>
#include <stddef.h>

struct wfe_buffer {
    char *data;
    size_t length;
    size_t allocated;
    size_t cap_bytes;
};

/* An empty buffer that never holds more than cap bytes; allocates nothing yet. */
#define WFE_BUFFER_INIT(cap)                                                                       \
    {                                                                                              \
        .cap_bytes = (cap)                                                                         \
    }

/* Release the contents; the cap stays, the buffer can be used again. */
void wfe_buffer_done(struct wfe_buffer *buffer);

/* Each returns 0, -ENOMEM, or -EMSGSIZE when the cap would be passed (nothing is added then). */
int wfe_buffer_append(struct wfe_buffer *buffer, const void *data, size_t length);
int wfe_buffer_puts(struct wfe_buffer *buffer, const char *text);
int wfe_buffer_printf(struct wfe_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Hands the contents over (caller frees; never NULL on success); the buffer is empty then.
 * NULL when memory ran out. */
char *wfe_buffer_steal(struct wfe_buffer *buffer);

#define WFE_BUFFER __attribute__((cleanup(wfe_buffer_done)))

#endif
