/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_tables.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

int wfe_index_get(struct wfe_index *index, uint32_t inode, struct wfe_inode *ret)
{
    bool locked = wfe_index_read_lock(index);
    bool is_there = inode < index->inode_count;
    if (is_there)
        *ret = index->inodes[inode];
    wfe_index_read_unlock(index, locked);
    return is_there ? 0 : -ENOENT;
}

int wfe_index_stat(struct wfe_index *index, uint32_t inode, struct stat *ret)
{
    struct wfe_inode record;
    int r = wfe_index_get(index, inode, &record);
    if (r < 0)
        return r;
    struct timespec mtime = {.tv_sec = record.mtime_s, .tv_nsec = record.mtime_ns};
    bool is_sparse = S_ISREG(record.mode) && record.count > 0;
    uint64_t bytes = is_sparse ? record.data : S_ISREG(record.mode) ? record.size_bytes : 0;
    *ret = (struct stat){
        .st_mode = record.mode,
        .st_nlink = record.nlink,
        .st_uid = record.uid,
        .st_gid = record.gid,
        .st_rdev = record.rdev,
        .st_size = (off_t)record.size_bytes,
        .st_blksize = 4096,
        .st_blocks = (blkcnt_t)((bytes + 511) / 512),
        .st_atim = mtime,
        .st_mtim = mtime,
        .st_ctim = mtime,
    };
    return 0;
}

int wfe_index_child(const struct wfe_index *index, uint32_t directory, uint32_t position,
    const char **ret_name, size_t *ret_name_length, uint32_t *ret_inode)
{
    assert(wfe_index_is_complete(index));
    if (directory >= index->inode_count || !S_ISDIR(index->inodes[directory].mode) ||
        position >= index->inodes[directory].count)
        return -ENOENT;
    uint32_t child = index->children[index->inodes[directory].first + position];
    const struct wfe_tree_node *node = &index->tree.nodes[child];
    *ret_name = index->tree.names + node->name;
    *ret_name_length = node->name_length;
    *ret_inode = node->content;
    return 0;
}

int wfe_index_child_so_far(struct wfe_index *index, uint32_t directory, uint32_t *node,
    char name[static WFE_MAX_COMPONENT_BYTES + 1], uint32_t *ret_inode)
{
    bool locked = wfe_index_read_lock(index);
    const struct wfe_tree *tree = &index->tree;
    uint32_t parent =
        directory < index->inode_count ? index->inodes[directory].node : WFE_TREE_NONE;
    uint32_t at = *node > WFE_TREE_ROOT ? *node : WFE_TREE_ROOT + 1;
    while (at < tree->node_count && (tree->nodes[at].parent != parent || tree->nodes[at].is_dead))
        at++;
    bool is_there = at < tree->node_count;
    if (is_there) {
        memcpy(name, tree->names + tree->nodes[at].name, tree->nodes[at].name_length);
        name[tree->nodes[at].name_length] = '\0';
        *ret_inode = tree->nodes[at].content;
        *node = at + 1;
    }
    wfe_index_read_unlock(index, locked);
    return is_there ? 0 : -ENOENT;
}

uint32_t wfe_index_parent(struct wfe_index *index, uint32_t directory)
{
    bool locked = wfe_index_read_lock(index);
    uint32_t parent = WFE_INDEX_ROOT;
    if (directory < index->inode_count && index->inodes[directory].node < index->tree.node_count) {
        const struct wfe_tree_node *nodes = index->tree.nodes;
        parent = nodes[nodes[index->inodes[directory].node].parent].content;
    }
    wfe_index_read_unlock(index, locked);
    return parent;
}

/* With the lock. */
static ssize_t write_path(const struct wfe_index *index, uint32_t node, char *out, size_t size)
{
    const struct wfe_tree *tree = &index->tree;
    if (node >= tree->node_count)
        return -ENOENT;
    size_t length = 0;
    for (uint32_t at = node; at != WFE_TREE_ROOT; at = tree->nodes[at].parent)
        length += tree->nodes[at].name_length + (length > 0 ? 1U : 0U);
    if (length >= size)
        return -ENAMETOOLONG;
    out[length] = '\0';
    size_t end = length;
    for (uint32_t at = node; at != WFE_TREE_ROOT; at = tree->nodes[at].parent) {
        end -= tree->nodes[at].name_length;
        memcpy(out + end, tree->names + tree->nodes[at].name, tree->nodes[at].name_length);
        if (end > 0)
            out[--end] = '/';
    }
    return (ssize_t)length;
}

ssize_t wfe_index_node_path(struct wfe_index *index, uint32_t node, char *out, size_t size)
{
    bool locked = wfe_index_read_lock(index);
    ssize_t r = write_path(index, node, out, size);
    wfe_index_read_unlock(index, locked);
    return r;
}

ssize_t wfe_index_path(struct wfe_index *index, uint32_t inode, char *out, size_t size)
{
    bool locked = wfe_index_read_lock(index);
    ssize_t r = -ENOENT;
    if (inode < index->inode_count)
        r = write_path(index, index->inodes[inode].node, out, size);
    wfe_index_read_unlock(index, locked);
    return r;
}

int wfe_index_readlink(
    struct wfe_index *index, uint32_t inode, char out[static WFE_MAX_TARGET_BYTES + 1])
{
    bool locked = wfe_index_read_lock(index);
    int r = 0;
    if (inode >= index->inode_count) {
        r = -ENOENT;
    } else if (index->inodes[inode].target >= index->texts_length) {
        r = -EINVAL;
    } else {
        uint32_t at = index->inodes[inode].target;
        size_t length = strnlen(index->texts + at, index->texts_length - at);
        if (length > WFE_MAX_TARGET_BYTES)
            length = WFE_MAX_TARGET_BYTES;
        memcpy(out, index->texts + at, length);
        out[length] = '\0';
    }
    wfe_index_read_unlock(index, locked);
    return r;
}

/* A stretch of a file. */
struct stretch {
    uint64_t end; /* in the file */
    bool is_hole;
    uint64_t data; /* of the byte asked for */
};

/* The first of a sparse file's extents that ends behind offset; their count when there is none. */
static uint32_t find_extent(const struct wfe_extent *extents, uint32_t count, uint64_t offset)
{
    uint32_t low = 0;
    uint32_t high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (extents[middle].offset_bytes + extents[middle].length_bytes <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct stretch stretch_at(
    const struct wfe_index *index, const struct wfe_inode *inode, uint64_t offset)
{
    if (inode->count == 0)
        return (struct stretch){.end = inode->size_bytes,
            .data = inode->data == WFE_INDEX_NO_DATA ? inode->data : inode->data + offset};
    const struct wfe_extent *extents = index->extents + inode->first;
    uint32_t found = find_extent(extents, inode->count, offset);
    if (found == inode->count)
        return (struct stretch){.end = inode->size_bytes, .is_hole = true};
    const struct wfe_extent *extent = &extents[found];
    if (offset < extent->offset_bytes)
        return (struct stretch){.end = extent->offset_bytes, .is_hole = true};
    uint64_t data = extent->data;
    if (data != WFE_INDEX_NO_DATA)
        data += offset - extent->offset_bytes;
    return (struct stretch){.end = extent->offset_bytes + extent->length_bytes, .data = data};
}

/* With the lock: the file, for a byte of it at offset. */
static int open_file(
    const struct wfe_index *index, uint32_t inode, uint64_t offset, const struct wfe_inode **ret)
{
    if (inode >= index->inode_count)
        return -ENOENT;
    if (!S_ISREG(index->inodes[inode].mode))
        return -EINVAL;
    if (offset >= index->inodes[inode].size_bytes)
        return -ENXIO;
    *ret = &index->inodes[inode];
    return 0;
}

int wfe_index_locate(struct wfe_index *index, uint32_t inode, uint64_t offset, bool *ret_is_hole,
    uint64_t *ret_data, uint64_t *ret_length)
{
    bool locked = wfe_index_read_lock(index);
    const struct wfe_inode *file;
    int r = open_file(index, inode, offset, &file);
    if (r == 0) {
        struct stretch stretch = stretch_at(index, file, offset);
        if (!stretch.is_hole && stretch.data == WFE_INDEX_NO_DATA) {
            r = -EIO;
        } else {
            *ret_is_hole = stretch.is_hole;
            *ret_data = stretch.data;
            *ret_length = stretch.end - offset;
        }
    }
    wfe_index_read_unlock(index, locked);
    return r;
}

int64_t wfe_index_seek(struct wfe_index *index, uint32_t inode, int64_t offset, int whence)
{
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return -EINVAL;
    bool locked = wfe_index_read_lock(index);
    const struct wfe_inode *file;
    uint64_t at = offset < 0 ? UINT64_MAX : (uint64_t)offset;
    int64_t r = open_file(index, inode, at, &file);
    if (r == 0) {
        bool want_hole = whence == SEEK_HOLE;
        /* Extents may touch each other, so several stretches may be of one sort. */
        while (at < file->size_bytes) {
            struct stretch stretch = stretch_at(index, file, at);
            if (stretch.is_hole == want_hole)
                break;
            at = stretch.end;
        }
        /* There is a hole behind every file. */
        r = at < file->size_bytes || want_hole ? (int64_t)at : -ENXIO;
    }
    wfe_index_read_unlock(index, locked);
    return r;
}
