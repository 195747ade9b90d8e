/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_form.h"

#include <string.h>

static bool is_reference(uint32_t value, uint32_t count)
{
    return value < count || value == WFE_INDEX_NONE;
}

/* A directory's node and inode know each other, so that no directory is below itself. Of nodes that
 * are dead only their place in the archive matters. */
static const char *check_nodes(const struct wfe_index *index)
{
    const struct wfe_tree *tree = &index->tree;
    if (tree->nodes[WFE_TREE_ROOT].content != WFE_INDEX_ROOT)
        return "the root is not the first inode";
    for (uint32_t i = 0; i < tree->node_count; i++) {
        const struct wfe_tree_node *node = &tree->nodes[i];
        if (!is_reference(node->entry, index->item_count))
            return "a node's item does not exist";
        if (node->content >= index->inode_count)
            return "a node's inode does not exist";
        const struct wfe_inode *inode = &index->inodes[node->content];
        if (node->is_dead)
            continue;
        if (node->is_directory != S_ISDIR(inode->mode))
            return "a node and its inode are not of one kind";
        if (node->is_directory && inode->node != i)
            return "a directory has two names";
    }
    return NULL;
}

static bool are_in_stream(uint64_t data, uint64_t length, uint64_t stream_length)
{
    return data == WFE_INDEX_NO_DATA || (data <= stream_length && length <= stream_length - data);
}

static const char *check_extents(
    const struct wfe_index *index, const struct wfe_inode *inode, uint64_t stream_length)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < inode->count; i++) {
        const struct wfe_extent *extent = &index->extents[inode->first + i];
        if (extent->offset_bytes < end || extent->offset_bytes > inode->size_bytes ||
            extent->length_bytes > inode->size_bytes - extent->offset_bytes)
            return "an extent is not in its place";
        if (!are_in_stream(extent->data, extent->length_bytes, stream_length))
            return "an extent's data are outside of the archive";
        end = extent->offset_bytes + extent->length_bytes;
    }
    return NULL;
}

static bool is_text(const struct wfe_index *index, uint32_t at, size_t max_length)
{
    if (at >= index->texts_length)
        return false;
    size_t left = index->texts_length - at;
    size_t length = strnlen(index->texts + at, left);
    return length < left && length <= max_length;
}

static bool is_kind(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        return (mode & ~(uint32_t)(S_IFMT | 07777)) == 0;
    default:
        return false;
    }
}

static const char *check_inode(
    const struct wfe_index *index, const struct wfe_inode *inode, uint64_t stream_length)
{
    if (!is_kind(inode->mode))
        return "an inode's mode stands for nothing";
    if (inode->mtime_ns >= 1000000000)
        return "a time has too many nanoseconds";
    if (inode->size_bytes > WFE_MAX_FILE_BYTES)
        return "a file is larger than its limit";
    if (!is_reference(inode->node, index->tree.node_count))
        return "an inode's node does not exist";
    if (S_ISLNK(inode->mode) != (inode->target != WFE_INDEX_NONE))
        return "a symbolic link without target, or a target without link";
    if (S_ISLNK(inode->mode) && !is_text(index, inode->target, WFE_MAX_TARGET_BYTES))
        return "a symbolic link's target is not a text";
    if (inode->xattrs != WFE_INDEX_NONE &&
        (index->texts_length < sizeof(struct wfe_xattrs_head) ||
            inode->xattrs > index->texts_length - sizeof(struct wfe_xattrs_head)))
        return "an inode's xattrs are not in the texts";
    if (inode->count > 0)
        return S_ISREG(inode->mode) ? check_extents(index, inode, stream_length)
                                    : "only files have extents";
    if (wfe_index_form_has_place(inode, false) &&
        !are_in_stream(inode->data, inode->size_bytes, stream_length))
        return "a file's data are outside of the archive";
    return NULL;
}

static const char *check_items(const struct wfe_index *index)
{
    for (uint32_t i = 0; i < index->item_count; i++) {
        const struct wfe_index_item *item = &index->items[i];
        if (item->node >= index->tree.node_count || item->inode >= index->inode_count ||
            !is_reference(item->link_node, index->tree.node_count))
            return "an item's node or inode does not exist";
    }
    return NULL;
}

const char *wfe_index_form_check(const struct wfe_index *index, uint64_t stream_length)
{
    if (index->inode_count == 0)
        return "the root has no inode";
    for (uint32_t i = 0; i < index->inode_count; i++) {
        const char *wrong = check_inode(index, &index->inodes[i], stream_length);
        if (wrong)
            return wrong;
    }
    const char *wrong = check_nodes(index);
    return wrong ? wrong : check_items(index);
}
