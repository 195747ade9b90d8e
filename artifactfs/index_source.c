/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_source.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"

enum {
    READ_BYTES = 256 * 1024,
    /* Linux's XATTR_LIST_MAX. */
    LIST_BYTES = 64 * 1024,
};

struct index_source {
    struct wfe_layer_source head;
    struct wfe_artifact *artifact;
    struct wfe_index *index;
    uint32_t first_item; /* the one that is the first entry */
    uint32_t next_item;
    /* The entry at hand. */
    uint32_t inode;
    uint64_t size_bytes;
    uint64_t position;
    char *name;
    char *target;
    char *data; /* NULL: nothing was read yet */
};

static struct index_source *downcast(struct wfe_layer_source *source)
{
    return (struct index_source *)source;
}

bool wfe_index_source_is_exact(const struct wfe_index *index)
{
    return wfe_index_is_complete(index) && !index->broken && index->problem_count == 0 &&
           !index->has_clamped_names;
}

static int set_path(struct index_source *source, uint32_t node, char *out, struct wfe_error *err)
{
    ssize_t length = wfe_index_node_path(source->index, node, out, WFE_MAX_NAME_BYTES + 1);
    if (length < 0)
        return wfe_error_set(err, WFE_ERROR_INTERNAL, (int)-length, "an item has no path");
    return 0;
}

static int set_target(struct index_source *source, const struct wfe_index_item *item,
    struct wfe_layer_entry *entry, struct wfe_error *err)
{
    int r = 0;
    if (entry->kind == WFE_LAYER_HARDLINK)
        r = set_path(source, item->link_node, source->target, err);
    else if (wfe_index_readlink(source->index, item->inode, source->target) < 0)
        r = wfe_error_set(err, WFE_ERROR_INTERNAL, EINVAL, "a symbolic link has no target");
    entry->target = source->target;
    return r;
}

static int describe(struct index_source *source, const struct wfe_index_item *item,
    struct wfe_layer_entry *ret, struct wfe_error *err)
{
    struct wfe_inode inode;
    if (wfe_index_get(source->index, item->inode, &inode) < 0)
        return wfe_error_set(err, WFE_ERROR_INTERNAL, ENOENT, "an item has no inode");
    struct wfe_layer_entry entry = {
        .kind = wfe_layer_kind_of(inode.mode),
        .name = source->name,
        .mode = inode.mode & 07777,
        .uid = inode.uid,
        .gid = inode.gid,
        .mtime_s = inode.mtime_s,
        .size_known = true,
    };
    /* A walk over a directory takes each name of a symbolic link for one of its own. */
    bool is_symlink_again =
        source->index->place == WFE_INDEX_FILES && entry.kind == WFE_LAYER_SYMLINK;
    bool is_link = item->link_node != WFE_INDEX_NONE && !is_symlink_again;
    bool has_data = !is_link || item->link_node == item->node;
    if (S_ISREG(inode.mode) && has_data)
        entry.size_bytes = inode.size_bytes;
    if (is_link)
        entry.kind = WFE_LAYER_HARDLINK;
    int r = set_path(source, item->node, source->name, err);
    if (r == 0 && (is_link || entry.kind == WFE_LAYER_SYMLINK))
        r = set_target(source, item, &entry, err);
    if (r < 0)
        return r;
    source->inode = item->inode;
    source->size_bytes = entry.size_bytes;
    source->position = 0;
    *ret = entry;
    return 0;
}

static int next(struct wfe_layer_source *base, struct wfe_layer_entry *ret, struct wfe_error *err)
{
    struct index_source *source = downcast(base);
    if (source->next_item >= source->index->item_count)
        return 0;
    int r = describe(source, &source->index->items[source->next_item], ret, err);
    if (r < 0)
        return r;
    source->next_item++;
    return 1;
}

static int add_xattr(struct index_source *source, const char *name, struct wfe_layer_xattrs *xattrs,
    struct wfe_error *err)
{
    WFE_FREE char *value = malloc(WFE_MAX_XATTR_BYTES);
    if (!value)
        return wfe_error_nomem(err);
    ssize_t length =
        wfe_index_getxattr(source->index, source->inode, name, value, WFE_MAX_XATTR_BYTES);
    if (length < 0)
        return wfe_error_set(err, WFE_ERROR_INTERNAL, (int)-length, "an xattr has no value");
    return wfe_layer_xattrs_add(xattrs, name, value, (size_t)length, err);
}

static int read_xattrs(
    struct wfe_layer_source *base, struct wfe_layer_xattrs *xattrs, struct wfe_error *err)
{
    struct index_source *source = downcast(base);
    if (wfe_index_listxattr(source->index, source->inode, NULL, 0) <= 0)
        return 0;
    WFE_FREE char *names = malloc(LIST_BYTES);
    if (!names)
        return wfe_error_nomem(err);
    ssize_t length = wfe_index_listxattr(source->index, source->inode, names, LIST_BYTES);
    if (length < 0)
        return wfe_error_set(err, WFE_ERROR_LIMIT, E2BIG, "its xattrs have too many names");
    for (const char *name = names; name < names + length; name += strlen(name) + 1) {
        int r = wfe_layer_xattr_matters(name) ? add_xattr(source, name, xattrs, err) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_data(
    struct wfe_layer_source *base, const void **ret_data, size_t *ret_length, struct wfe_error *err)
{
    struct index_source *source = downcast(base);
    size_t length =
        base->wanted_bytes > 0 && base->wanted_bytes < READ_BYTES ? base->wanted_bytes : READ_BYTES;
    if (length > source->size_bytes - source->position)
        length = (size_t)(source->size_bytes - source->position);
    if (!source->data)
        source->data = malloc(READ_BYTES);
    if (!source->data)
        return wfe_error_nomem(err);
    ssize_t n = length == 0 ? 0
                            : wfe_artifact_read(source->artifact, source->inode, source->data,
                                  length, source->position, NULL, err);
    if (n < 0)
        return (int)n;
    source->position += (uint64_t)n;
    *ret_data = source->data;
    *ret_length = (size_t)n;
    return 0;
}

static int skip(struct wfe_layer_source *base, uint64_t bytes, struct wfe_error *err)
{
    (void)err;
    struct index_source *source = downcast(base);
    assert(bytes <= source->size_bytes - source->position);
    source->position += bytes;
    return 0;
}

static int seek_entry(struct wfe_layer_source *base, uint32_t index, struct wfe_error *err)
{
    (void)err;
    struct index_source *source = downcast(base);
    assert(index <= source->index->item_count - source->first_item);
    source->next_item = source->first_item + index;
    return 0;
}

static int rewind_source(struct wfe_layer_source *base, struct wfe_error *err)
{
    return seek_entry(base, 0, err);
}

static void free_source(struct wfe_layer_source *base)
{
    struct index_source *source = downcast(base);
    free(source->name);
    free(source->target);
    free(source->data);
    free(source);
}

static const struct wfe_layer_source_ops ops = {
    .next = next,
    .read_xattrs = read_xattrs,
    .read = read_data,
    .skip = skip,
    .rewind = rewind_source,
    .seek = seek_entry,
    .free = free_source,
};

int wfe_index_source_new(
    struct wfe_artifact *artifact, struct wfe_layer_source **ret, struct wfe_error *err)
{
    struct wfe_index *index = wfe_artifact_index(artifact);
    assert(wfe_index_source_is_exact(index));
    struct index_source *source = calloc(1, sizeof *source);
    if (!source)
        return wfe_error_nomem(err);
    *source = (struct index_source){
        .head = {.ops = &ops},
        .artifact = artifact,
        .index = index,
        .name = malloc(WFE_MAX_NAME_BYTES + 1),
        .target = malloc(WFE_MAX_NAME_BYTES + 1),
    };
    _Static_assert(WFE_MAX_TARGET_BYTES <= WFE_MAX_NAME_BYTES, "a link's target has room");
    WFE_LAYER_SOURCE struct wfe_layer_source *owner = &source->head;
    if (!source->name || !source->target)
        return wfe_error_nomem(err);
    /* The attributes of a directory that is the source are of the place where it lies. */
    if (index->place == WFE_INDEX_FILES && index->item_count > 0 &&
        index->items[0].node == WFE_INDEX_ROOT)
        source->first_item = source->next_item = 1;
    *ret = wfe_steal(&owner);
    return 0;
}
