/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_tables.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"

/* Linux's XATTR_NAME_MAX and XATTR_LIST_MAX. */
enum { MAX_NAME_BYTES = 255, MAX_LIST_BYTES = 65536 };

struct candidate {
    const struct wfe_xattr *xattr;
    uint32_t order;
};

static int compare(const void *a, const void *b)
{
    const struct candidate *one = a;
    const struct candidate *other = b;
    int order = strcmp(one->xattr->name, other->xattr->name);
    return order != 0 ? order : (one->order > other->order) - (one->order < other->order);
}

/* What of the xattrs can be shown, sorted, each name once; returns how many. */
static uint32_t choose(const struct wfe_xattr *xattrs, uint32_t count, bool may_have_user,
    struct candidate *chosen, const char **ret_problem)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t name_length = strlen(xattrs[i].name);
        if (!may_have_user && strncmp(xattrs[i].name, "user.", 5) == 0)
            continue;
        if (name_length == 0 || name_length > MAX_NAME_BYTES)
            *ret_problem = "an xattr is left out: its name is empty or too long";
        else if (xattrs[i].value_length > WFE_MAX_XATTR_BYTES)
            *ret_problem = "an xattr is left out: its value is too long";
        else
            chosen[n++] = (struct candidate){.xattr = &xattrs[i], .order = i};
    }
    qsort(chosen, n, sizeof *chosen, compare);
    uint32_t unique = 0;
    size_t bytes = 0, list_bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i + 1 < n && strcmp(chosen[i].xattr->name, chosen[i + 1].xattr->name) == 0)
            continue;
        size_t name_bytes = strlen(chosen[i].xattr->name) + 1;
        size_t more = sizeof(struct wfe_xattr_lengths) + name_bytes + chosen[i].xattr->value_length;
        if (more > WFE_MAX_XATTRS_BYTES - bytes || name_bytes > MAX_LIST_BYTES - list_bytes) {
            *ret_problem = "xattrs are left out: there are too many";
            break;
        }
        bytes += more;
        list_bytes += name_bytes;
        chosen[unique++] = chosen[i];
    }
    return unique;
}

static size_t measure(const struct candidate *chosen, uint32_t count)
{
    size_t bytes = sizeof(struct wfe_xattrs_head);
    for (uint32_t i = 0; i < count; i++)
        bytes += sizeof(struct wfe_xattr_lengths) + strlen(chosen[i].xattr->name) + 1 +
                 chosen[i].xattr->value_length;
    return bytes;
}

static void encode(const struct candidate *chosen, uint32_t count, size_t bytes, char *out)
{
    struct wfe_xattrs_head head = {.bytes = (uint32_t)(bytes - sizeof head), .count = count};
    memcpy(out, &head, sizeof head);
    out += sizeof head;
    for (uint32_t i = 0; i < count; i++) {
        const struct wfe_xattr *xattr = chosen[i].xattr;
        struct wfe_xattr_lengths lengths = {
            .name = (uint32_t)strlen(xattr->name), .value = xattr->value_length};
        memcpy(out, &lengths, sizeof lengths);
        out += sizeof lengths;
        memcpy(out, xattr->name, lengths.name + 1);
        out += lengths.name + 1;
        if (lengths.value > 0)
            memcpy(out, xattr->value, lengths.value);
        out += lengths.value;
    }
}

static bool is_as_before(const struct wfe_index *index, uint32_t place, size_t bytes)
{
    uint32_t last = index->last_xattrs;
    return last != WFE_INDEX_NONE && bytes <= place - last &&
           memcmp(index->texts + last, index->texts + place, bytes) == 0;
}

int wfe_index_pack_xattrs(struct wfe_index *index, const struct wfe_xattr *xattrs, uint32_t count,
    bool may_have_user, uint32_t *ret, const char **ret_problem)
{
    *ret = WFE_INDEX_NONE;
    if (count == 0)
        return 0;
    WFE_FREE struct candidate *chosen = reallocarray(NULL, count, sizeof *chosen);
    if (!chosen)
        return -ENOMEM;
    uint32_t unique = choose(xattrs, count, may_have_user, chosen, ret_problem);
    if (unique == 0)
        return 0;
    size_t bytes = measure(chosen, unique);
    uint32_t place;
    int r = wfe_index_reserve_text(index, bytes, &place);
    if (r < 0)
        return r;
    encode(chosen, unique, bytes, index->texts + place);
    if (is_as_before(index, place, bytes)) {
        index->texts_length = place;
        *ret = index->last_xattrs;
    } else {
        *ret = index->last_xattrs = place;
    }
    return 0;
}

/* A walk over an inode's xattrs, which does not trust the numbers. */
struct cursor {
    const char *at;
    size_t left;
    uint32_t count;
};

struct view {
    const char *name; /* with a NUL at its end */
    const char *value;
    struct wfe_xattr_lengths lengths;
};

static bool cursor_next(struct cursor *cursor, struct view *ret)
{
    struct view view;
    if (cursor->count == 0 || cursor->left < sizeof view.lengths)
        return false;
    memcpy(&view.lengths, cursor->at, sizeof view.lengths);
    cursor->at += sizeof view.lengths;
    cursor->left -= sizeof view.lengths;
    if (view.lengths.name >= cursor->left || cursor->at[view.lengths.name] != '\0' ||
        view.lengths.value > cursor->left - view.lengths.name - 1)
        return false;
    view.name = cursor->at;
    view.value = cursor->at + view.lengths.name + 1;
    cursor->at = view.value + view.lengths.value;
    cursor->left -= view.lengths.name + 1 + view.lengths.value;
    cursor->count--;
    *ret = view;
    return true;
}

/* At the start of an inode's xattrs; with the lock. Returns 0, -ENOENT (no inode). */
static int cursor_open(const struct wfe_index *index, uint32_t inode, struct cursor *ret)
{
    *ret = (struct cursor){.at = NULL};
    if (inode >= index->inode_count)
        return -ENOENT;
    uint32_t place = index->inodes[inode].xattrs;
    struct wfe_xattrs_head head;
    if (place >= index->texts_length || index->texts_length - place < sizeof head)
        return 0;
    memcpy(&head, index->texts + place, sizeof head);
    size_t left = index->texts_length - place - sizeof head;
    *ret = (struct cursor){
        .at = index->texts + place + sizeof head,
        .left = head.bytes < left ? head.bytes : left,
        .count = head.count,
    };
    return 0;
}

static ssize_t get(
    const struct wfe_index *index, uint32_t inode, const char *name, void *value, size_t size)
{
    struct cursor cursor;
    int r = cursor_open(index, inode, &cursor);
    if (r < 0)
        return r;
    for (struct view view; cursor_next(&cursor, &view);) {
        if (strcmp(view.name, name) != 0)
            continue;
        if (size > 0 && view.lengths.value > size)
            return -ERANGE;
        if (size > 0)
            memcpy(value, view.value, view.lengths.value);
        return (ssize_t)view.lengths.value;
    }
    return -ENODATA;
}

static ssize_t list(const struct wfe_index *index, uint32_t inode, char *out, size_t size)
{
    struct cursor cursor;
    int r = cursor_open(index, inode, &cursor);
    if (r < 0)
        return r;
    size_t length = 0;
    for (struct view view; cursor_next(&cursor, &view);) {
        size_t bytes = (size_t)view.lengths.name + 1;
        if (size > 0 && bytes > size - length)
            return -ERANGE;
        if (size > 0)
            memcpy(out + length, view.name, bytes);
        length += bytes;
    }
    return (ssize_t)length;
}

ssize_t wfe_index_getxattr(
    struct wfe_index *index, uint32_t inode, const char *name, void *value, size_t size)
{
    bool locked = wfe_index_read_lock(index);
    ssize_t r = get(index, inode, name, value, size);
    wfe_index_read_unlock(index, locked);
    return r;
}

ssize_t wfe_index_listxattr(struct wfe_index *index, uint32_t inode, char *out, size_t size)
{
    bool locked = wfe_index_read_lock(index);
    ssize_t r = list(index, inode, out, size);
    wfe_index_read_unlock(index, locked);
    return r;
}
