/* SPDX-License-Identifier: MIT */
#include "libcommon/layer_xattrs.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/layer_name.h"

static const char KEY_PREFIX[] = "SCHILY.xattr.";

/* The kernel's XATTR_NAME_MAX, and what a record needs besides name and value. */
enum { NAME_MAX_BYTES = 255, RECORD_BYTES = 32 };

void wfe_layer_xattrs_done(struct wfe_layer_xattrs *xattrs)
{
    for (size_t i = 0; i < xattrs->count; i++) {
        free(xattrs->items[i].name);
        free(xattrs->items[i].value);
    }
    free(xattrs->items);
    xattrs->items = NULL;
    xattrs->count = xattrs->allocated = xattrs->bytes = 0;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool is_overlay(const char *name)
{
    return starts_with(name, "trusted.overlay.") || starts_with(name, "user.overlay.");
}

bool wfe_layer_xattr_matters(const char *name)
{
    return starts_with(name, "user.") || is_overlay(name);
}

/* What the policy says about an attribute that matters. */
static int check(
    const struct wfe_layer_xattrs *xattrs, const char *name, size_t length, struct wfe_error *err)
{
    char shown[WFE_LAYER_SHOWN_BYTES];
    wfe_layer_show(name, shown);
    if (is_overlay(name))
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL,
            "xattr '%s' is not allowed: overlayfs would act upon it", shown);
    if (strchr(name, '='))
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL,
            "xattr '%s' is not allowed: a tar can't hold a name with '='", shown);
    if (strlen(name) > NAME_MAX_BYTES)
        return wfe_error_set(err, WFE_ERROR_LIMIT, E2BIG,
            "the name of xattr '%s' has more than %d bytes", shown, NAME_MAX_BYTES);
    if (length > xattrs->max_value_bytes)
        return wfe_error_set(err, WFE_ERROR_LIMIT, E2BIG, "xattr '%s' has %zu bytes, more than %zu",
            shown, length, xattrs->max_value_bytes);
    return 0;
}

static int append(struct wfe_layer_xattrs *xattrs, const struct wfe_layer_xattr *item)
{
    if (xattrs->count == xattrs->allocated) {
        size_t allocated = xattrs->allocated ? 2 * xattrs->allocated : 8;
        struct wfe_layer_xattr *items = reallocarray(xattrs->items, allocated, sizeof *items);
        if (!items)
            return -ENOMEM;
        xattrs->items = items;
        xattrs->allocated = allocated;
    }
    xattrs->items[xattrs->count++] = *item;
    return 0;
}

int wfe_layer_xattrs_add(struct wfe_layer_xattrs *xattrs, const char *name, const void *value,
    size_t length, struct wfe_error *err)
{
    if (!wfe_layer_xattr_matters(name))
        return 0;
    int r = check(xattrs, name, length, err);
    if (r < 0)
        return r;
    xattrs->bytes += strlen(name) + length + RECORD_BYTES;
    if (xattrs->bytes > xattrs->max_bytes)
        return wfe_error_set(
            err, WFE_ERROR_LIMIT, E2BIG, "xattrs of more than %zu bytes", xattrs->max_bytes);
    WFE_FREE char *name_copy = strdup(name);
    WFE_FREE char *value_copy = malloc(length + 1);
    if (!name_copy || !value_copy)
        return wfe_error_nomem(err);
    if (length > 0)
        memcpy(value_copy, value, length);
    struct wfe_layer_xattr item = {
        .name = name_copy, .value = value_copy, .length = length, .order = xattrs->count};
    if (append(xattrs, &item) < 0)
        return wfe_error_nomem(err);
    wfe_steal(&name_copy);
    wfe_steal(&value_copy);
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct wfe_layer_xattr *one = a;
    const struct wfe_layer_xattr *other = b;
    int order = strcmp(one->name, other->name);
    return order != 0 ? order : (one->order > other->order) - (one->order < other->order);
}

int wfe_layer_pax_record(
    struct wfe_buffer *records, const char *key, const void *value, size_t length)
{
    /* The length counts its own digits. */
    size_t rest = strlen(key) + length + 3;
    size_t total = rest + 1;
    for (size_t digits = 1, power = 10; total >= power; power *= 10)
        total = rest + ++digits;
    int r = wfe_buffer_printf(records, "%zu %s=", total, key);
    if (r == 0)
        r = wfe_buffer_append(records, value, length);
    if (r == 0)
        r = wfe_buffer_append(records, "\n", 1);
    return r;
}

int wfe_layer_xattrs_encode(
    struct wfe_layer_xattrs *xattrs, struct wfe_buffer *records, struct wfe_error *err)
{
    if (xattrs->count == 0)
        return 0;
    qsort(xattrs->items, xattrs->count, sizeof *xattrs->items, compare);
    for (size_t i = 0; i < xattrs->count; i++) {
        if (i + 1 < xattrs->count && strcmp(xattrs->items[i].name, xattrs->items[i + 1].name) == 0)
            continue;
        char key[sizeof KEY_PREFIX + NAME_MAX_BYTES];
        snprintf(key, sizeof key, "%s%s", KEY_PREFIX, xattrs->items[i].name);
        if (wfe_layer_pax_record(records, key, xattrs->items[i].value, xattrs->items[i].length) < 0)
            return wfe_error_nomem(err);
    }
    return 0;
}
