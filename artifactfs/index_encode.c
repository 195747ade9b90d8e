/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_form.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static void put_difference(struct wfe_column_writer *writer, uint64_t value, uint64_t expected)
{
    wfe_column_put(writer, wfe_column_fold(value - expected));
}

static void put_reference(
    struct wfe_column_writer *writer, struct wfe_index_form_reference *column, uint32_t value)
{
    wfe_column_put(writer, wfe_index_form_fold_reference(column, value));
}

static void put_head(struct wfe_column_writer *writer, const struct wfe_index *index,
    const struct stat *st, uint64_t stream_length)
{
    wfe_column_put(writer, (uint64_t)st->st_size);
    put_difference(writer, (uint64_t)st->st_mtim.tv_sec, 0);
    wfe_column_put(writer, (uint64_t)st->st_mtim.tv_nsec);
    wfe_column_put(writer, stream_length);
    wfe_column_put(writer, index->has_clamped_names ? WFE_INDEX_FORM_CLAMPED : 0);
    wfe_column_end(writer);
}

static void put_text(struct wfe_column_writer *writer, const void *text, size_t length)
{
    wfe_column_put(writer, length);
    wfe_column_end(writer);
    wfe_column_put_bytes(writer, text, length);
}

static size_t shared_length(const struct wfe_tree *tree, uint32_t node)
{
    const struct wfe_tree_node *a = &tree->nodes[node - 1], *b = &tree->nodes[node];
    size_t most = a->name_length < b->name_length ? a->name_length : b->name_length;
    size_t n = 0;
    while (n < most && tree->names[a->name + n] == tree->names[b->name + n])
        n++;
    return n;
}

static void put_nodes(struct wfe_column_writer *writer, const struct wfe_tree *tree)
{
    const struct wfe_tree_node *nodes = tree->nodes;
    uint32_t count = tree->node_count;
    wfe_column_put(writer, count);
    for (uint32_t i = 1; i < count; i++)
        put_difference(writer, nodes[i].parent, nodes[i - 1].parent);
    wfe_column_end(writer);
    for (uint32_t i = 1; i < count; i++)
        wfe_column_put(writer, (nodes[i].is_directory ? WFE_INDEX_FORM_DIRECTORY : 0U) |
                                   (nodes[i].is_dead ? WFE_INDEX_FORM_DEAD : 0U));
    wfe_column_end(writer);
    for (uint32_t i = 1; i < count; i++)
        wfe_column_put(writer, shared_length(tree, i));
    wfe_column_end(writer);
    for (uint32_t i = 1; i < count; i++)
        wfe_column_put(writer, nodes[i].name_length);
    wfe_column_end(writer);
    for (uint32_t i = 1; i < count; i++) {
        size_t shared = shared_length(tree, i);
        wfe_column_put_bytes(
            writer, tree->names + nodes[i].name + shared, nodes[i].name_length - shared);
    }
    struct wfe_index_form_reference entry = {.step = 1}, content = {.step = 1};
    for (uint32_t i = 0; i < count; i++)
        put_reference(writer, &entry, nodes[i].entry);
    wfe_column_end(writer);
    for (uint32_t i = 0; i < count; i++)
        put_reference(writer, &content, nodes[i].content);
    wfe_column_end(writer);
}

static bool has_extents(const struct wfe_inode *inode)
{
    return S_ISREG(inode->mode) && inode->count > 0;
}

static void put_owners(struct wfe_column_writer *writer, const struct wfe_index *index)
{
    const struct wfe_inode *inodes = index->inodes;
    uint32_t count = index->inode_count;
    struct wfe_inode last = {.mode = 0};
    for (uint32_t i = 0; i < count; last = inodes[i++])
        put_difference(writer, inodes[i].mode, last.mode);
    wfe_column_end(writer);
    last = (struct wfe_inode){.mode = 0};
    for (uint32_t i = 0; i < count; last = inodes[i++])
        put_difference(writer, inodes[i].uid, last.uid);
    wfe_column_end(writer);
    last = (struct wfe_inode){.mode = 0};
    for (uint32_t i = 0; i < count; last = inodes[i++])
        put_difference(writer, inodes[i].gid, last.gid);
    wfe_column_end(writer);
    for (uint32_t i = 0; i < count; i++)
        wfe_column_put(writer, inodes[i].rdev);
    wfe_column_end(writer);
}

static void put_times(struct wfe_column_writer *writer, const struct wfe_index *index)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < index->inode_count; i++) {
        put_difference(writer, (uint64_t)index->inodes[i].mtime_s, last);
        last = (uint64_t)index->inodes[i].mtime_s;
    }
    wfe_column_end(writer);
    for (uint32_t i = 0; i < index->inode_count; i++)
        wfe_column_put(writer, index->inodes[i].mtime_ns);
    wfe_column_end(writer);
}

static void put_inodes(struct wfe_column_writer *writer, const struct wfe_index *index)
{
    const struct wfe_inode *inodes = index->inodes;
    uint32_t count = index->inode_count;
    wfe_column_put(writer, count);
    put_owners(writer, index);
    for (uint32_t i = 0; i < count; i++)
        wfe_column_put(writer, inodes[i].size_bytes);
    wfe_column_end(writer);
    put_times(writer, index);
    struct wfe_index_form_reference node = {.step = 1};
    for (uint32_t i = 0; i < count; i++)
        put_reference(writer, &node, inodes[i].node);
    wfe_column_end(writer);
    for (uint32_t i = 0; i < count; i++)
        wfe_column_put(writer, has_extents(&inodes[i]) ? inodes[i].count : 0);
    wfe_column_end(writer);
    struct wfe_index_form_place place = {.expected = 0};
    for (uint32_t i = 0; i < count; i++) {
        if (wfe_index_form_has_place(&inodes[i], has_extents(&inodes[i])))
            put_difference(writer, inodes[i].data, place.expected);
        wfe_index_form_pass(&place, &inodes[i], has_extents(&inodes[i]));
    }
    wfe_column_end(writer);
    struct wfe_index_form_reference target = {.is_rare = true}, xattrs = {.is_rare = true};
    for (uint32_t i = 0; i < count; i++)
        put_reference(writer, &target, inodes[i].target);
    wfe_column_end(writer);
    for (uint32_t i = 0; i < count; i++)
        put_reference(writer, &xattrs, inodes[i].xattrs);
    wfe_column_end(writer);
}

/* In the order of their inodes, so that where an inode's begin need not be told. */
static void put_extents(struct wfe_column_writer *writer, const struct wfe_index *index)
{
    const struct wfe_extent zero = {.offset_bytes = 0};
    for (int column = 0; column < 3; column++) {
        const struct wfe_extent *last = &zero;
        for (uint32_t i = 0; i < index->inode_count; i++) {
            const struct wfe_inode *inode = &index->inodes[i];
            for (uint32_t j = 0; has_extents(inode) && j < inode->count; j++) {
                const struct wfe_extent *extent = &index->extents[inode->first + j];
                if (column == 0)
                    put_difference(
                        writer, extent->offset_bytes, last->offset_bytes + last->length_bytes);
                else if (column == 1)
                    wfe_column_put(writer, extent->length_bytes);
                else
                    put_difference(writer, extent->data, last->data + last->length_bytes);
                last = extent;
            }
        }
        wfe_column_end(writer);
    }
}

static void put_items(struct wfe_column_writer *writer, const struct wfe_index *index)
{
    const struct wfe_index_item *items = index->items;
    uint32_t count = index->item_count;
    struct wfe_index_form_reference node = {.step = 1}, inode = {.step = 1},
                                    link_node = {.is_rare = true};
    wfe_column_put(writer, count);
    for (uint32_t i = 0; i < count; i++)
        put_reference(writer, &node, items[i].node);
    wfe_column_end(writer);
    for (uint32_t i = 0; i < count; i++)
        put_reference(writer, &inode, items[i].inode);
    wfe_column_end(writer);
    for (uint32_t i = 0; i < count; i++)
        put_reference(writer, &link_node, items[i].link_node);
    wfe_column_end(writer);
}

static void put_problems(struct wfe_column_writer *writer, const struct wfe_index *index)
{
    uint64_t told =
        index->problem_count < WFE_MAX_PROBLEMS ? index->problem_count : WFE_MAX_PROBLEMS;
    wfe_column_put(writer, index->problem_count);
    wfe_column_put(writer, told);
    for (uint64_t i = 0; i < told; i++)
        put_text(writer, index->problems[i],
            strnlen(index->problems[i], WFE_INDEX_FORM_MAX_PROBLEM_BYTES));
    wfe_column_end(writer);
}

static int count_piece(void *context, const void *data, size_t length, struct wfe_error *err)
{
    (void)data;
    (void)err;
    *(uint64_t *)context += length;
    return 0;
}

static int put_piece(void *context, const void *data, size_t length, struct wfe_error *err)
{
    (void)err;
    struct wfe_column_writer *writer = context;
    wfe_column_put_bytes(writer, data, length);
    return writer->result;
}

/* Written twice, since its length comes first: who reads it takes room for all of it at once. */
static int put_stream(
    struct wfe_column_writer *writer, const struct wfe_stream *stream, struct wfe_error *err)
{
    uint64_t length = 0;
    int r =
        wfe_stream_save(stream, (struct wfe_sink){.write = count_piece, .context = &length}, err);
    if (r < 0)
        return r;
    if (length > WFE_INDEX_FORM_MAX_STREAM_BYTES)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG, "the index is too large for the cache");
    wfe_column_put(writer, length);
    wfe_column_end(writer);
    return wfe_stream_save(stream, (struct wfe_sink){.write = put_piece, .context = writer}, err);
}

int wfe_index_encode(const struct wfe_index *index, const struct wfe_stream *stream,
    const struct stat *st, struct wfe_sink sink, struct wfe_error *err)
{
    assert(wfe_index_is_complete(index) && !index->broken && index->place == WFE_INDEX_STREAM);
    char head[WFE_INDEX_FORM_HEAD_BYTES] = WFE_INDEX_FORM_MAGIC;
    head[WFE_INDEX_FORM_MAGIC_BYTES] = (char)(WFE_INDEX_FORMAT_VERSION & 0xff);
    head[WFE_INDEX_FORM_MAGIC_BYTES + 1] = (char)(WFE_INDEX_FORMAT_VERSION >> 8);
    WFE_COLUMN_WRITER struct wfe_column_writer *writer = NULL;
    int r = sink.write(sink.context, head, sizeof head, err);
    if (r == 0)
        r = wfe_column_writer_new(sink, &writer, err);
    if (r < 0)
        return r;
    assert(writer);
    put_head(writer, index, st, wfe_stream_length(stream));
    put_text(writer, index->texts, index->texts_length);
    put_nodes(writer, &index->tree);
    put_inodes(writer, index);
    put_extents(writer, index);
    put_items(writer, index);
    put_problems(writer, index);
    r = writer->result;
    if (r == 0)
        r = put_stream(writer, stream, err);
    if (r < 0)
        return r;
    r = wfe_column_writer_finish(writer);
    return r < 0 ? r : wfe_stream_save_windows(stream, sink, err);
}
