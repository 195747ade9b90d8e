/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_LAYER_XATTRS_H
#define WFE_LIBCOMMON_LAYER_XATTRS_H

/*
 * The extended attributes of one entry: sieved by the policy in libcommon/layer.h, and
 * turned into pax records (POSIX pax, "pax Extended Header"; the keys are star's
 * SCHILY.xattr.NAME).
 */

#include <stdbool.h>
#include <stddef.h>

#include "libcommon/buffer.h"
#include "libcommon/error.h"

struct wfe_layer_xattr {
    char *name;
    char *value;
    size_t length;
    size_t order; /* in which it was added */
};

struct wfe_layer_xattrs {
    struct wfe_layer_xattr *items;
    size_t count;
    size_t allocated;
    size_t bytes;           /* as WFE_LAYER_MAX_XATTRS_BYTES counts */
    size_t max_value_bytes; /* set by the owner, as the next */
    size_t max_bytes;
};

void wfe_layer_xattrs_done(struct wfe_layer_xattrs *xattrs);
#define WFE_LAYER_XATTRS __attribute__((cleanup(wfe_layer_xattrs_done)))

/* Whether the policy looks at the attribute at all; others need not be read. */
bool wfe_layer_xattr_matters(const char *name);

/* Adds a copy; of two with one name the last counts. What does not matter is dropped.
 * Errors: WFE_ERROR_ARCHIVE, WFE_ERROR_LIMIT, WFE_ERROR_INTERNAL. */
int wfe_layer_xattrs_add(struct wfe_layer_xattrs *xattrs, const char *name, const void *value,
    size_t length, struct wfe_error *err);

/* Appends the pax records, sorted by name. Errors: WFE_ERROR_INTERNAL. */
int wfe_layer_xattrs_encode(
    struct wfe_layer_xattrs *xattrs, struct wfe_buffer *records, struct wfe_error *err);

/* Appends one pax record, "LENGTH KEY=VALUE\n". Returns 0 or -errno as wfe_buffer_append() does. */
int wfe_layer_pax_record(
    struct wfe_buffer *records, const char *key, const void *value, size_t length);

#endif
