/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_INDEX_FORM_H
#define WFE_ARTIFACTFS_INDEX_FORM_H

/*
 * The form of an index in the cache. Each name below is a column (artifactfs/index_column.h) but
 * for those in quotes, BYTES and windows. A signed difference is folded: n < 0 is -2n - 1, else 2n.
 *
 *     file      = "WFEINDEX" version frame windows
 *                                               version: two bytes, little-endian
 *     windows   = what wfe_stream_save_windows() writes, up to the end: behind the frame, since
 *                 they are most of a large index and are read one by one
 *     content   = head texts nodes inodes extents items problems stream
 *     head      = size mtime_s mtime_ns         of the archive's file, so that a file whose
 *                                               contents changed is noticed
 *                 stream_length flags           flags: 1 names were clamped
 *     nodes     = count parent* flags* shared* length* BYTES entry* content*
 *                                               the root has an entry and content only; shared:
 *                                               bytes of the name as in the node before; BYTES:
 *                                               the rest of each name, one after the other
 *     inodes    = count mode* uid* gid* rdev* size* mtime_s* mtime_ns* node* extents*
 *                 data* target* xattrs*   data: of files with bytes and without extents only
 *     items     = count node* inode* link_node*
 *     extents   = gap* length* data*
 *     texts     = length BYTES
 *     problems  = count told { length BYTES }   told: how many follow
 *     stream    = length BYTES                  what wfe_stream_save() writes
 *
 * What is not there is computed again: links, children, their order and count, the tree's hash.
 */

#include "artifactfs/index.h"
#include "artifactfs/index_column.h"
#include "artifactfs/limits.h"
#include "artifactfs/stream.h"

#define WFE_INDEX_FORM_MAGIC "WFEINDEX"
#define WFE_INDEX_FORM_MAGIC_BYTES 8
#define WFE_INDEX_FORM_HEAD_BYTES (WFE_INDEX_FORM_MAGIC_BYTES + 2)

enum wfe_index_form_flag {
    WFE_INDEX_FORM_CLAMPED = 1,
};

enum wfe_index_form_node {
    WFE_INDEX_FORM_DIRECTORY = 1,
    WFE_INDEX_FORM_DEAD = 2,
};

/* One told problem's text at most. */
#define WFE_INDEX_FORM_MAX_PROBLEM_BYTES 4096
/* What wfe_stream_save() writes. */
#define WFE_INDEX_FORM_MAX_STREAM_BYTES ((size_t)64 * WFE_STREAM_MAX_CHECKPOINTS)

/*
 * A column of references into a table, as difference from where the one before would lead:
 *
 *     the expected one   0, in a rare column 1
 *     none               1, in a rare column 0
 *     another            1 + its difference
 */
struct wfe_index_form_reference {
    uint32_t expected;
    uint32_t step;
    bool is_rare; /* most inodes have none */
};

static inline uint64_t wfe_index_form_fold_reference(
    struct wfe_index_form_reference *column, uint32_t value)
{
    if (value == WFE_INDEX_NONE)
        return column->is_rare ? 0 : 1;
    uint64_t difference = wfe_column_fold((uint64_t)value - column->expected);
    column->expected = value + column->step;
    return difference > 0 ? 1 + difference : column->is_rare ? 1 : 0;
}

/* 64 bits, so that one that is out of range is not cut into range; none is WFE_INDEX_NONE. */
static inline uint64_t wfe_index_form_unfold_reference(
    struct wfe_index_form_reference *column, uint64_t number)
{
    if (number == (column->is_rare ? 0 : 1))
        return WFE_INDEX_NONE;
    uint64_t difference = number < 2 ? 0 : wfe_column_unfold(number - 1);
    uint64_t value = column->expected + difference;
    column->expected = (uint32_t)value + column->step;
    return value;
}

/*
 * Where a regular file's data should lie, if the archive were a tar with one header of 512 bytes an
 * entry. Both sides step it over each inode in turn; what is stored is the difference.
 */
struct wfe_index_form_place {
    uint64_t expected;
};

static inline bool wfe_index_form_has_place(const struct wfe_inode *inode, bool has_extents)
{
    return S_ISREG(inode->mode) && inode->size_bytes > 0 && !has_extents;
}

static inline void wfe_index_form_pass(
    struct wfe_index_form_place *place, const struct wfe_inode *inode, bool has_extents)
{
    if (wfe_index_form_has_place(inode, has_extents) && inode->data != WFE_INDEX_NO_DATA)
        place->expected = (inode->data + inode->size_bytes + 511) / 512 * 512;
    place->expected += 512;
}

/* Write the index. Errors: the sink's, WFE_ERROR_LIMIT, WFE_ERROR_INTERNAL. */
int wfe_index_encode(const struct wfe_index *index, const struct wfe_stream *stream,
    const struct stat *st, struct wfe_sink sink, struct wfe_error *err);

/* What is wrong with tables that came from a file, of an archive whose decoded stream has
 * stream_length bytes; NULL: nothing, they can be finished. The tree's parents and names are
 * right already. Static. */
const char *wfe_index_form_check(const struct wfe_index *index, uint64_t stream_length);

/*
 * Read an index from the start of the file fd (borrowed), of an archive's file that st tells of.
 * stream (NULL: its part is not read) takes what it needs (wfe_stream_load()). Errors:
 * WFE_ERROR_INTEGRITY, WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM (it can't be read), WFE_ERROR_INTERNAL.
 */
int wfe_index_decode(int fd, const struct stat *st, struct wfe_stream *stream,
    struct wfe_index **ret, struct wfe_error *err);

#endif
