/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_LAYER_PLAN_H
#define WFE_LIBCOMMON_LAYER_PLAN_H

/*
 * First pass of a layer: what becomes of each entry of the source, by the policy in
 * libcommon/layer.h.
 *
 * The entries build a tree, as an extraction would. What the path of a non-directory stands
 * for is its content: the file, symbolic link or FIFO that an entry brought, shared by the
 * paths that are hard links to it. The second pass goes over the source again and writes
 *   - a content at the entry that holds its data, under the first of the paths that it
 *     has at the end, whichever of its paths were replaced;
 *   - its other paths as hard links, each at its own entry, but never before the data;
 *   - a directory at its entry or before the first thing below it, whichever is
 *     first, with the attributes that it has at the end.
 * So parents come before children and contents before links whatever the source's
 * order, and nothing has to be read out of order.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libcommon/buffer.h"
#include "libcommon/error.h"
#include "libcommon/layer.h"
#include "libcommon/layer_source.h"
#include "libcommon/layer_tree.h"

/* No node, content or directory. */
#define WFE_PLAN_NONE WFE_TREE_NONE

struct wfe_plan_attributes {
    int64_t mtime_s;
    uint32_t uid;
    uint32_t gid;
    uint32_t mode;
};

struct wfe_plan_content {
    struct wfe_plan_attributes attributes;
    enum wfe_layer_kind kind;
    uint32_t data_entry;
    uint32_t first_path;  /* node under which it is written; none when all were replaced */
    uint32_t early_paths; /* chain of the paths whose entries lie before data_entry */
    uint64_t size_bytes;
};

struct wfe_plan_directory {
    struct wfe_plan_attributes attributes;
    char *records; /* xattrs as pax records */
    size_t records_length;
};

struct wfe_plan_entry {
    uint32_t fingerprint;
    uint32_t node;
    uint32_t content; /* none for a directory */
};

/* In the tree's nodes, `entry` is the entry that put the node there last, `content` an index in
 * contents, for a directory in directories (none: it has no entry), `next_path` the chain of
 * early_paths, for a directory `block` where the second pass writes it, in blocks of the tar (none:
 * it has not yet). */
struct wfe_layer_plan {
    struct wfe_layer_limits limits; /* none is 0 */
    struct wfe_tree tree;
    uint32_t base;       /* node of the prefix's last directory */
    size_t prefix_bytes; /* of its path */

    struct wfe_plan_content *contents;
    uint32_t content_count, contents_allocated;
    struct wfe_plan_directory *directories;
    uint32_t directory_count, directories_allocated;
    struct wfe_plan_entry *entries;
    uint32_t entry_count, entries_allocated;
    size_t records_bytes; /* of all directories */
};

/* An empty plan below prefix (NULL: none). Errors: WFE_ERROR_INPUT (prefix), WFE_ERROR_SYSTEM,
 * WFE_ERROR_INTERNAL. wfe_layer_plan_done() is due on failure too. */
int wfe_layer_plan_init(struct wfe_layer_plan *plan, const char *prefix,
    const struct wfe_layer_limits *limits, struct wfe_error *err);
void wfe_layer_plan_done(struct wfe_layer_plan *plan);
#define WFE_LAYER_PLAN __attribute__((cleanup(wfe_layer_plan_done)))

/*
 * Adds the source's next entry, size_bytes set. records are the xattrs of a directory.
 * Errors: WFE_ERROR_ARCHIVE, WFE_ERROR_LIMIT, WFE_ERROR_INTERNAL. The messages tell the rule
 * and not the entry.
 */
int wfe_layer_plan_add(struct wfe_layer_plan *plan, const struct wfe_layer_entry *entry,
    const struct wfe_buffer *records, struct wfe_error *err);

/* After the last entry: settles which path each content is written under. */
void wfe_layer_plan_finish(struct wfe_layer_plan *plan);

/* Whether entry is the one that was added as number index, as far as can be seen. */
bool wfe_layer_plan_matches(
    const struct wfe_layer_plan *plan, uint32_t index, const struct wfe_layer_entry *entry);

#endif
