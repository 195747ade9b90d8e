/* SPDX-License-Identifier: MIT */
#include "libcommon/layer_pass.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>

#include "libcommon/layer_name.h"
#include "libcommon/layer_xattrs.h"

/* The xattrs of one entry as pax records. */
#define RECORDS_CAP (2 * WFE_LAYER_MAX_XATTRS_BYTES)

/* So that a directory's block tells whether it was written: see is_written(). */
_Static_assert(WFE_LAYER_MAX_TAR_BYTES <= (uint64_t)WFE_PLAN_NONE * WFE_TAR_BLOCK_BYTES,
    "no block of a tar is WFE_PLAN_NONE");

static int prefix_entry(const char *name, int r, struct wfe_error *err)
{
    char shown[WFE_LAYER_SHOWN_BYTES];
    wfe_error_prefix(err, "'%s'", wfe_layer_show(name ? name : "?", shown));
    return r;
}

static int changed(struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_SYSTEM, EBUSY, "it was changed while it was read");
}

/* The xattrs of the source's entry, into pass->records. */
static int encode_xattrs(struct wfe_layer_pass *pass, struct wfe_error *err)
{
    WFE_LAYER_XATTRS struct wfe_layer_xattrs xattrs = {
        .max_value_bytes = pass->plan->limits.max_xattr_bytes,
        .max_bytes = pass->plan->limits.max_xattrs_bytes,
    };
    pass->records.length = 0;
    int r = pass->source->ops->read_xattrs(pass->source, &xattrs, err);
    return r < 0 ? r : wfe_layer_xattrs_encode(&xattrs, &pass->records, err);
}

/* The size of an entry whose archive tells it only behind the data. */
static int count_data(struct wfe_layer_pass *pass, uint64_t *ret, struct wfe_error *err)
{
    struct wfe_layer_source *source = pass->source;
    uint64_t size = 0;
    for (;;) {
        const void *data;
        size_t length;
        int r = source->ops->read(source, &data, &length, err);
        if (r < 0)
            return r;
        if (length == 0)
            break;
        size += length;
        if (size > pass->plan->limits.max_tar_bytes)
            return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG, "it has more than %" PRIu64 " bytes",
                pass->plan->limits.max_tar_bytes);
    }
    *ret = size;
    return 0;
}

static int plan_entry(
    struct wfe_layer_pass *pass, struct wfe_layer_entry *entry, struct wfe_error *err)
{
    int r = 0;
    pass->records.length = 0;
    if (entry->kind == WFE_LAYER_DIRECTORY)
        r = encode_xattrs(pass, err);
    else if (!entry->size_known)
        r = count_data(pass, &entry->size_bytes, err);
    return r < 0 ? r : wfe_layer_plan_add(pass->plan, entry, &pass->records, err);
}

/* The source failed instead of giving another entry. */
static void prefix_last_entry(const struct wfe_layer_plan *plan, struct wfe_error *err)
{
    if (plan->entry_count == 0)
        return;
    char path[WFE_LAYER_MAX_PATH_BYTES + 1];
    char shown[WFE_LAYER_SHOWN_BYTES];
    wfe_tree_path(&plan->tree, plan->entries[plan->entry_count - 1].node, path);
    wfe_error_prefix(err, "after '/%s'", wfe_layer_show(path, shown));
}

static int plan_layer(
    struct wfe_layer_pass *pass, const struct wfe_layer_options *options, struct wfe_error *err)
{
    for (;;) {
        if (options->is_cancelled && options->is_cancelled(options->cancel_context))
            return wfe_error_set(err, WFE_ERROR_CANCELLED, EINTR, "interrupted");
        struct wfe_layer_entry entry;
        int r = pass->source->ops->next(pass->source, &entry, err);
        if (r < 0)
            prefix_last_entry(pass->plan, err);
        if (r < 0)
            return r;
        if (r == 0)
            break;
        r = plan_entry(pass, &entry, err);
        if (r < 0)
            return prefix_entry(entry.name, r, err);
    }
    wfe_layer_plan_finish(pass->plan);
    return 0;
}

static uint64_t limit(uint64_t wanted, uint64_t most)
{
    return wanted == 0 || wanted > most ? most : wanted;
}

int wfe_layer_pass_plan(struct wfe_layer_source *source, const struct wfe_layer_options *options,
    struct wfe_layer_plan *plan, struct wfe_error *err)
{
    const struct wfe_layer_limits *wanted = &options->limits;
    struct wfe_layer_limits limits = {
        .max_entries = limit(wanted->max_entries, WFE_LAYER_MAX_ENTRIES),
        .max_tar_bytes = limit(wanted->max_tar_bytes, WFE_LAYER_MAX_TAR_BYTES),
        .max_path_bytes = limit(wanted->max_path_bytes, WFE_LAYER_MAX_PATH_BYTES),
        .max_xattr_bytes = limit(wanted->max_xattr_bytes, WFE_LAYER_MAX_XATTR_BYTES),
        .max_xattrs_bytes = limit(wanted->max_xattrs_bytes, WFE_LAYER_MAX_XATTRS_BYTES),
    };
    struct wfe_layer_pass pass = {
        .source = source, .plan = plan, .records = WFE_BUFFER_INIT(RECORDS_CAP)};
    int r = wfe_layer_plan_init(plan, options->prefix, &limits, err);
    if (r == 0)
        r = plan_layer(&pass, options, err);
    wfe_buffer_done(&pass.records);
    return r;
}

void wfe_layer_pass_init_part(struct wfe_layer_pass *pass, struct wfe_layer_source *source,
    struct wfe_layer_plan *plan, struct wfe_sink sink)
{
    *pass = (struct wfe_layer_pass){
        .source = source, .plan = plan, .records = WFE_BUFFER_INIT(RECORDS_CAP)};
    wfe_tar_writer_init_part(&pass->writer, sink, plan->limits.max_tar_bytes);
}

int wfe_layer_pass_init(struct wfe_layer_pass *pass, struct wfe_layer_source *source,
    struct wfe_layer_plan *plan, struct wfe_sink sink, struct wfe_error *err)
{
    *pass = (struct wfe_layer_pass){
        .source = source, .plan = plan, .records = WFE_BUFFER_INIT(RECORDS_CAP)};
    return wfe_tar_writer_init(&pass->writer, sink, plan->limits.max_tar_bytes, err);
}

void wfe_layer_pass_done(struct wfe_layer_pass *pass)
{
    wfe_tar_writer_done(&pass->writer);
    wfe_buffer_done(&pass->records);
}

static int write_directory(struct wfe_layer_pass *pass, uint32_t node, struct wfe_error *err)
{
    static const struct wfe_plan_directory made = {.attributes = {.mode = 0755}};
    char path[WFE_LAYER_MAX_PATH_BYTES + 2];
    size_t length = wfe_tree_path(&pass->plan->tree, node, path);
    path[length] = '/';
    path[length + 1] = '\0';
    uint32_t index = pass->plan->tree.nodes[node].content;
    const struct wfe_plan_directory *directory =
        index == WFE_PLAN_NONE ? &made : &pass->plan->directories[index];
    struct wfe_tar_header header = {
        .path = path,
        .typeflag = '5',
        .mode = directory->attributes.mode,
        .uid = directory->attributes.uid,
        .gid = directory->attributes.gid,
        .mtime_s = directory->attributes.mtime_s,
        .records = directory->records,
        .records_length = directory->records_length,
    };
    struct wfe_tree_node *written = &pass->plan->tree.nodes[node];
    if (written->block == WFE_PLAN_NONE)
        written->block = (uint32_t)(pass->writer.total_bytes / WFE_TAR_BLOCK_BYTES);
    return wfe_tar_write_header(&pass->writer, &header, err);
}

/* Whether the pass is behind the place that the directory has in the tar. One that was not written
 * yet by any pass (none) lies behind all of it. */
static bool is_written(const struct wfe_layer_pass *pass, const struct wfe_tree_node *directory)
{
    return (uint64_t)directory->block * WFE_TAR_BLOCK_BYTES < pass->writer.total_bytes;
}

/* Writes the directory and those above it, as far as they are missing; never the root. */
static int write_directories(struct wfe_layer_pass *pass, uint32_t node, struct wfe_error *err)
{
    uint32_t missing[WFE_LAYER_MAX_PATH_BYTES];
    size_t count = 0;
    const struct wfe_tree_node *nodes = pass->plan->tree.nodes;
    for (; node != WFE_TREE_ROOT && !is_written(pass, &nodes[node]); node = nodes[node].parent) {
        assert(count < WFE_LAYER_MAX_PATH_BYTES);
        missing[count++] = node;
    }
    while (count > 0) {
        int r = write_directory(pass, missing[--count], err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int write_data(struct wfe_layer_pass *pass, uint64_t size, struct wfe_error *err)
{
    struct wfe_layer_source *source = pass->source;
    uint64_t dropped = size < pass->writer.drop_bytes ? size : pass->writer.drop_bytes;
    if (dropped > 0 && source->ops->skip) {
        int r = source->ops->skip(source, dropped, err);
        if (r < 0)
            return r;
        wfe_tar_skip_data(&pass->writer, dropped);
        size -= dropped;
        if (size == 0)
            return wfe_tar_write_padding(&pass->writer, err);
    }
    for (;;) {
        const void *data;
        size_t length;
        int r = source->ops->read(source, &data, &length, err);
        if (r < 0)
            return r;
        if (length == 0)
            break;
        if (length > size)
            return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "more data than its header says");
        size -= length;
        r = wfe_tar_write_data(&pass->writer, data, length, err);
        if (r < 0)
            return r;
    }
    if (size > 0)
        return wfe_error_set(
            err, WFE_ERROR_ARCHIVE, EINVAL, "%" PRIu64 " bytes less than its header says", size);
    return wfe_tar_write_padding(&pass->writer, err);
}

static struct wfe_tar_header header_of(
    const struct wfe_plan_content *content, const char *path, char typeflag)
{
    return (struct wfe_tar_header){
        .path = path,
        .typeflag = typeflag,
        .mode = content->attributes.mode,
        .uid = content->attributes.uid,
        .gid = content->attributes.gid,
        .mtime_s = content->attributes.mtime_s,
    };
}

static int write_link(struct wfe_layer_pass *pass, uint32_t node, struct wfe_error *err)
{
    const struct wfe_tree *tree = &pass->plan->tree;
    const struct wfe_plan_content *content = &pass->plan->contents[tree->nodes[node].content];
    char path[WFE_LAYER_MAX_PATH_BYTES + 1];
    char target[WFE_LAYER_MAX_PATH_BYTES + 1];
    wfe_tree_path(tree, node, path);
    wfe_tree_path(tree, content->first_path, target);
    struct wfe_tar_header header = header_of(content, path, '1');
    header.target = target;
    int r = write_directories(pass, tree->nodes[node].parent, err);
    return r < 0 ? r : wfe_tar_write_header(&pass->writer, &header, err);
}

/* The content that the source's entry holds, then the links to it that came too early. */
static int write_content(struct wfe_layer_pass *pass, const struct wfe_layer_entry *entry,
    const struct wfe_plan_content *content, struct wfe_error *err)
{
    const struct wfe_tree *tree = &pass->plan->tree;
    int r = write_directories(pass, tree->nodes[content->first_path].parent, err);
    pass->records.length = 0;
    if (r == 0 && content->kind == WFE_LAYER_FILE)
        r = encode_xattrs(pass, err);
    if (r < 0)
        return r;
    char path[WFE_LAYER_MAX_PATH_BYTES + 1];
    wfe_tree_path(tree, content->first_path, path);
    char typeflag = content->kind == WFE_LAYER_FILE      ? '0'
                    : content->kind == WFE_LAYER_SYMLINK ? '2'
                                                         : '6';
    struct wfe_tar_header header = header_of(content, path, typeflag);
    header.target = content->kind == WFE_LAYER_SYMLINK ? entry->target : NULL;
    header.size_bytes = content->size_bytes;
    header.records = pass->records.data;
    header.records_length = pass->records.length;
    r = wfe_tar_write_header(&pass->writer, &header, err);
    if (r == 0 && content->kind == WFE_LAYER_FILE)
        r = write_data(pass, content->size_bytes, err);
    for (uint32_t at = content->early_paths; r == 0 && at != WFE_PLAN_NONE;
         at = tree->nodes[at].next_path) {
        if (at != content->first_path)
            r = write_link(pass, at, err);
    }
    return r;
}

static int write_entry(struct wfe_layer_pass *pass, const struct wfe_layer_entry *entry,
    uint32_t index, struct wfe_error *err)
{
    const struct wfe_layer_plan *plan = pass->plan;
    if (!wfe_layer_plan_matches(plan, index, entry))
        return changed(err);
    const struct wfe_plan_entry *planned = &plan->entries[index];
    const struct wfe_plan_content *content = NULL;
    if (planned->content != WFE_PLAN_NONE) {
        content = &plan->contents[planned->content];
        if (content->data_entry == index && content->first_path != WFE_PLAN_NONE) {
            int r = write_content(pass, entry, content, err);
            if (r < 0)
                return r;
        }
    }
    const struct wfe_tree_node *node = &plan->tree.nodes[planned->node];
    if (node->is_dead || node->entry != index)
        return 0;
    if (node->is_directory)
        return write_directories(pass, planned->node, err);
    assert(content);
    bool is_written = content->first_path == planned->node || index < content->data_entry;
    return is_written ? 0 : write_link(pass, planned->node, err);
}

int wfe_layer_pass_begin(struct wfe_layer_pass *pass, struct wfe_error *err)
{
    return write_directories(pass, pass->plan->base, err);
}

int wfe_layer_pass_entry(struct wfe_layer_pass *pass, uint32_t index, struct wfe_error *err)
{
    struct wfe_layer_entry entry;
    int r = pass->source->ops->next(pass->source, &entry, err);
    if (r == 0 && index != pass->plan->entry_count)
        return changed(err);
    if (r <= 0)
        return r;
    r = write_entry(pass, &entry, index, err);
    return r < 0 ? prefix_entry(entry.name, r, err) : 1;
}

int wfe_layer_pass_finish(struct wfe_layer_pass *pass, struct wfe_error *err)
{
    return wfe_tar_finish(&pass->writer, err);
}
