/* SPDX-License-Identifier: MIT */
#include "libcommon/layer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/compress.h"
#include "libcommon/layer_name.h"
#include "libcommon/layer_plan.h"
#include "libcommon/layer_source.h"
#include "libcommon/layer_tar.h"
#include "libcommon/layer_xattrs.h"

/* The xattrs of one entry as pax records. */
#define RECORDS_CAP (2 * WFE_LAYER_MAX_XATTRS_BYTES)

struct layer {
    struct wfe_layer_source *source;
    struct wfe_layer_plan plan;
    struct wfe_tar_writer writer;
    struct wfe_buffer records; /* xattrs of the entry in hand */
};

/* A sink that hashes and counts what it passes on. */
struct meter {
    struct wfe_sink sink;
    struct wfe_hasher *hasher; /* NULL: only counts */
    uint64_t bytes;
};

static int meter_write(void *context, const void *data, size_t length, struct wfe_error *err)
{
    struct meter *meter = context;
    if (meter->hasher)
        wfe_hasher_update(meter->hasher, data, length);
    meter->bytes += length;
    return meter->sink.write(meter->sink.context, data, length, err);
}

static int compressor_sink(void *context, const void *data, size_t length, struct wfe_error *err)
{
    return wfe_compressor_write(context, data, length, err);
}

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

/* The xattrs of the source's entry, into layer->records. */
static int encode_xattrs(struct layer *layer, struct wfe_error *err)
{
    WFE_LAYER_XATTRS struct wfe_layer_xattrs xattrs = {
        .max_value_bytes = layer->plan.limits.max_xattr_bytes,
        .max_bytes = layer->plan.limits.max_xattrs_bytes,
    };
    layer->records.length = 0;
    int r = layer->source->ops->read_xattrs(layer->source, &xattrs, err);
    return r < 0 ? r : wfe_layer_xattrs_encode(&xattrs, &layer->records, err);
}

/* The size of an entry whose archive tells it only behind the data. */
static int count_data(struct layer *layer, uint64_t *ret, struct wfe_error *err)
{
    struct wfe_layer_source *source = layer->source;
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
        if (size > layer->plan.limits.max_tar_bytes)
            return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG, "it has more than %" PRIu64 " bytes",
                layer->plan.limits.max_tar_bytes);
    }
    *ret = size;
    return 0;
}

static int plan_entry(struct layer *layer, struct wfe_layer_entry *entry, struct wfe_error *err)
{
    int r = 0;
    layer->records.length = 0;
    if (entry->kind == WFE_LAYER_DIRECTORY)
        r = encode_xattrs(layer, err);
    else if (!entry->size_known)
        r = count_data(layer, &entry->size_bytes, err);
    return r < 0 ? r : wfe_layer_plan_add(&layer->plan, entry, &layer->records, err);
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

/* First pass. */
static int plan_layer(struct layer *layer, struct wfe_error *err)
{
    for (;;) {
        struct wfe_layer_entry entry;
        int r = layer->source->ops->next(layer->source, &entry, err);
        if (r < 0)
            prefix_last_entry(&layer->plan, err);
        if (r < 0)
            return r;
        if (r == 0)
            break;
        r = plan_entry(layer, &entry, err);
        if (r < 0)
            return prefix_entry(entry.name, r, err);
    }
    wfe_layer_plan_finish(&layer->plan);
    return 0;
}

static int write_directory(struct layer *layer, uint32_t node, struct wfe_error *err)
{
    static const struct wfe_plan_directory made = {.attributes = {.mode = 0755}};
    char path[WFE_LAYER_MAX_PATH_BYTES + 2];
    size_t length = wfe_tree_path(&layer->plan.tree, node, path);
    path[length] = '/';
    path[length + 1] = '\0';
    uint32_t index = layer->plan.tree.nodes[node].content;
    const struct wfe_plan_directory *directory =
        index == WFE_PLAN_NONE ? &made : &layer->plan.directories[index];
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
    layer->plan.tree.nodes[node].is_written = true;
    return wfe_tar_write_header(&layer->writer, &header, err);
}

/* Writes the directory and those above it, as far as they are missing; never the root. */
static int write_directories(struct layer *layer, uint32_t node, struct wfe_error *err)
{
    uint32_t missing[WFE_LAYER_MAX_PATH_BYTES];
    size_t count = 0;
    const struct wfe_tree_node *nodes = layer->plan.tree.nodes;
    for (; node != WFE_TREE_ROOT && !nodes[node].is_written; node = nodes[node].parent) {
        assert(count < WFE_LAYER_MAX_PATH_BYTES);
        missing[count++] = node;
    }
    while (count > 0) {
        int r = write_directory(layer, missing[--count], err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int write_data(struct layer *layer, uint64_t size, struct wfe_error *err)
{
    struct wfe_layer_source *source = layer->source;
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
        r = wfe_tar_write_data(&layer->writer, data, length, err);
        if (r < 0)
            return r;
    }
    if (size > 0)
        return wfe_error_set(
            err, WFE_ERROR_ARCHIVE, EINVAL, "%" PRIu64 " bytes less than its header says", size);
    return wfe_tar_write_padding(&layer->writer, err);
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

static int write_link(struct layer *layer, uint32_t node, struct wfe_error *err)
{
    const struct wfe_tree *tree = &layer->plan.tree;
    const struct wfe_plan_content *content = &layer->plan.contents[tree->nodes[node].content];
    char path[WFE_LAYER_MAX_PATH_BYTES + 1];
    char target[WFE_LAYER_MAX_PATH_BYTES + 1];
    wfe_tree_path(tree, node, path);
    wfe_tree_path(tree, content->first_path, target);
    struct wfe_tar_header header = header_of(content, path, '1');
    header.target = target;
    int r = write_directories(layer, tree->nodes[node].parent, err);
    return r < 0 ? r : wfe_tar_write_header(&layer->writer, &header, err);
}

/* The content that the source's entry holds, then the links to it that came too early. */
static int write_content(struct layer *layer, const struct wfe_layer_entry *entry,
    const struct wfe_plan_content *content, struct wfe_error *err)
{
    const struct wfe_tree *tree = &layer->plan.tree;
    int r = write_directories(layer, tree->nodes[content->first_path].parent, err);
    layer->records.length = 0;
    if (r == 0 && content->kind == WFE_LAYER_FILE)
        r = encode_xattrs(layer, err);
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
    header.records = layer->records.data;
    header.records_length = layer->records.length;
    r = wfe_tar_write_header(&layer->writer, &header, err);
    if (r == 0 && content->kind == WFE_LAYER_FILE)
        r = write_data(layer, content->size_bytes, err);
    for (uint32_t at = content->early_paths; r == 0 && at != WFE_PLAN_NONE;
         at = tree->nodes[at].next_path) {
        if (at != content->first_path)
            r = write_link(layer, at, err);
    }
    return r;
}

static int write_entry(
    struct layer *layer, const struct wfe_layer_entry *entry, uint32_t index, struct wfe_error *err)
{
    const struct wfe_layer_plan *plan = &layer->plan;
    if (!wfe_layer_plan_matches(plan, index, entry))
        return changed(err);
    const struct wfe_plan_entry *planned = &plan->entries[index];
    const struct wfe_plan_content *content = NULL;
    if (planned->content != WFE_PLAN_NONE) {
        content = &plan->contents[planned->content];
        if (content->data_entry == index && content->first_path != WFE_PLAN_NONE) {
            int r = write_content(layer, entry, content, err);
            if (r < 0)
                return r;
        }
    }
    const struct wfe_tree_node *node = &plan->tree.nodes[planned->node];
    if (node->is_dead || node->entry != index)
        return 0;
    if (node->is_directory)
        return write_directories(layer, planned->node, err);
    bool is_written = content->first_path == planned->node || index < content->data_entry;
    return is_written ? 0 : write_link(layer, planned->node, err);
}

/* Second pass. */
static int write_layer(struct layer *layer, struct wfe_error *err)
{
    struct wfe_layer_source *source = layer->source;
    int r = write_directories(layer, layer->plan.base, err);
    if (r == 0)
        r = source->ops->rewind(source, err);
    for (uint32_t index = 0; r == 0; index++) {
        struct wfe_layer_entry entry;
        r = source->ops->next(source, &entry, err);
        if (r == 0 && index != layer->plan.entry_count)
            r = changed(err);
        if (r <= 0)
            break;
        r = write_entry(layer, &entry, index, err);
        if (r < 0)
            return prefix_entry(entry.name, r, err);
    }
    return r < 0 ? r : wfe_tar_finish(&layer->writer, err);
}

static uint64_t limit(uint64_t wanted, uint64_t most)
{
    return wanted == 0 || wanted > most ? most : wanted;
}

static int build(struct wfe_layer_source *source, const struct wfe_layer_options *options,
    struct wfe_sink sink, uint64_t *ret_entries, struct wfe_error *err)
{
    const struct wfe_layer_limits *wanted = &options->limits;
    struct wfe_layer_limits limits = {
        .max_entries = limit(wanted->max_entries, WFE_LAYER_MAX_ENTRIES),
        .max_tar_bytes = limit(wanted->max_tar_bytes, WFE_LAYER_MAX_TAR_BYTES),
        .max_path_bytes = limit(wanted->max_path_bytes, WFE_LAYER_MAX_PATH_BYTES),
        .max_xattr_bytes = limit(wanted->max_xattr_bytes, WFE_LAYER_MAX_XATTR_BYTES),
        .max_xattrs_bytes = limit(wanted->max_xattrs_bytes, WFE_LAYER_MAX_XATTRS_BYTES),
    };
    struct layer layer = {.source = source, .records = WFE_BUFFER_INIT(RECORDS_CAP)};
    int r = wfe_layer_plan_init(&layer.plan, options->prefix, &limits, err);
    if (r == 0)
        r = wfe_tar_writer_init(&layer.writer, sink, limits.max_tar_bytes, err);
    if (r == 0)
        r = plan_layer(&layer, err);
    if (r == 0)
        r = write_layer(&layer, err);
    if (r == 0)
        *ret_entries = layer.writer.entries;
    wfe_tar_writer_done(&layer.writer);
    wfe_layer_plan_done(&layer.plan);
    wfe_buffer_done(&layer.records);
    return r;
}

static const char *media_type(enum wfe_layer_compression compression)
{
    switch (compression) {
    case WFE_LAYER_GZIP:
        return WFE_LAYER_MEDIA_TYPE_GZIP;
    case WFE_LAYER_ZSTD:
        return WFE_LAYER_MEDIA_TYPE_ZSTD;
    case WFE_LAYER_NONE:
        break;
    }
    return WFE_LAYER_MEDIA_TYPE_TAR;
}

/* tar → meter → compressor → meter → sink */
static int write_source(struct wfe_layer_source *source, const struct wfe_layer_options *options,
    struct wfe_sink sink, struct wfe_layer_result *ret, struct wfe_error *err)
{
    static const struct wfe_layer_options defaults = {.prefix = NULL};
    if (!options)
        options = &defaults;
    WFE_HASHER struct wfe_hasher *tar_hasher = NULL;
    WFE_HASHER struct wfe_hasher *out_hasher = NULL;
    bool is_compressed = options->compression != WFE_LAYER_NONE;
    if (wfe_hasher_new(&tar_hasher) < 0 || (is_compressed && wfe_hasher_new(&out_hasher) < 0))
        return wfe_error_nomem(err);
    struct meter out_meter = {.sink = sink, .hasher = out_hasher};
    WFE_COMPRESSOR struct wfe_compressor *compressor = NULL;
    struct wfe_sink to_out = {.write = meter_write, .context = &out_meter};
    int r = wfe_compressor_new(options->compression, to_out, &compressor, err);
    if (r < 0)
        return r;
    struct meter tar_meter = {
        .sink = {.write = compressor_sink, .context = compressor}, .hasher = tar_hasher};
    struct wfe_layer_result result = {.media_type = media_type(options->compression)};
    r = build(source, options, (struct wfe_sink){.write = meter_write, .context = &tar_meter},
        &result.entries, err);
    if (r == 0)
        r = wfe_compressor_finish(compressor, err);
    if (r < 0)
        return r;
    wfe_hasher_final(tar_hasher, &result.diff_id);
    result.digest = result.diff_id;
    if (is_compressed)
        wfe_hasher_final(out_hasher, &result.digest);
    result.tar_bytes = tar_meter.bytes;
    result.size_bytes = out_meter.bytes;
    *ret = result;
    return 0;
}

static int open_source(const char *path, int *ret_fd, struct stat *ret_st, struct wfe_error *err)
{
    WFE_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return wfe_error_system(err, errno, "open");
    if (fstat(fd, ret_st) < 0)
        return wfe_error_system(err, errno, "stat");
    *ret_fd = wfe_steal_fd(&fd);
    return 0;
}

static int prefix_path(const char *path, int r, struct wfe_error *err)
{
    char shown[WFE_LAYER_SHOWN_BYTES];
    if (r < 0)
        wfe_error_prefix(err, "%s", wfe_layer_show(path, shown));
    return r;
}

int wfe_layer_write(const char *path, const struct wfe_layer_options *options, struct wfe_sink sink,
    struct wfe_layer_result *ret, struct wfe_error *err)
{
    assert(path && sink.write && ret);
    int fd;
    struct stat st;
    int r = open_source(path, &fd, &st, err);
    if (r < 0)
        return prefix_path(path, r, err);
    WFE_LAYER_SOURCE struct wfe_layer_source *source = NULL;
    if (S_ISDIR(st.st_mode)) {
        r = wfe_directory_source_new(fd, &source, err);
    } else if (S_ISREG(st.st_mode)) {
        r = wfe_archive_source_new(fd, &source, err);
    } else {
        close(fd);
        r = wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "neither a file nor a directory");
    }
    if (r == 0)
        r = write_source(source, options, sink, ret, err);
    return prefix_path(path, r, err);
}

int wfe_layer_write_file(const char *path, const char *name,
    const struct wfe_layer_options *options, struct wfe_sink sink, struct wfe_layer_result *ret,
    struct wfe_error *err)
{
    assert(path && name && sink.write && ret);
    char shown[WFE_LAYER_SHOWN_BYTES];
    struct wfe_layer_component component = {.text = name, .length = strlen(name)};
    if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 ||
        wfe_layer_component_rule(&component)) {
        wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "'%s' is no name for a file in a layer",
            wfe_layer_show(name, shown));
        return prefix_path(path, -EINVAL, err);
    }
    int fd;
    struct stat st;
    int r = open_source(path, &fd, &st, err);
    if (r < 0)
        return prefix_path(path, r, err);
    WFE_LAYER_SOURCE struct wfe_layer_source *source = NULL;
    if (S_ISREG(st.st_mode)) {
        r = wfe_file_source_new(fd, name, &source, err);
    } else {
        close(fd);
        r = wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "not a regular file");
    }
    if (r == 0)
        r = write_source(source, options, sink, ret, err);
    return prefix_path(path, r, err);
}
