/* SPDX-License-Identifier: MIT */
#include "libcommon/layer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "libcommon/cleanup.h"
#include "libcommon/compress.h"
#include "libcommon/layer_name.h"
#include "libcommon/layer_pass.h"
#include "libcommon/layer_source.h"
#include "libcommon/sink_thread.h"

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

static int write_tar(struct wfe_layer_pass *pass, struct wfe_error *err)
{
    int r = wfe_layer_pass_begin(pass, err);
    if (r == 0)
        r = pass->source->ops->rewind(pass->source, err);
    for (uint32_t index = 0; r == 0; index++) {
        r = wfe_layer_pass_entry(pass, index, err);
        if (r == 0)
            return wfe_layer_pass_finish(pass, err);
        r = r < 0 ? r : 0;
    }
    return r;
}

static struct wfe_layer_root root_of(const struct wfe_layer_plan *plan)
{
    uint32_t index = plan->tree.nodes[plan->base].content;
    if (index == WFE_PLAN_NONE)
        return WFE_LAYER_NO_ROOT;
    const struct wfe_plan_directory *directory = &plan->directories[index];
    return (struct wfe_layer_root){
        .mode = directory->attributes.mode,
        .uid = directory->attributes.uid,
        .gid = directory->attributes.gid,
        .mtime_s = directory->attributes.mtime_s,
        .has_xattrs = directory->records_length > 0,
    };
}

static int build(struct wfe_layer_source *source, const struct wfe_layer_options *options,
    struct wfe_sink sink, struct wfe_layer_result *result, struct wfe_error *err)
{
    WFE_LAYER_PLAN struct wfe_layer_plan plan;
    int r = wfe_layer_pass_plan(source, options, &plan, err);
    if (r < 0)
        return r;
    struct wfe_layer_pass pass;
    r = wfe_layer_pass_init(&pass, source, &plan, sink, err);
    if (r == 0)
        r = write_tar(&pass, err);
    if (r == 0)
        result->entries = pass.writer.entries;
    result->root = root_of(&plan);
    wfe_layer_pass_done(&pass);
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

/* The thread at the end of which `to` stands, and the next one's sink. */
static int start_stage(struct wfe_sink to, struct wfe_sink_thread **ret, struct wfe_sink *ret_sink,
    struct wfe_error *err)
{
    int r = wfe_sink_thread_start(to, ret, err);
    if (r == 0)
        *ret_sink = wfe_sink_thread_sink(*ret);
    return r;
}

/* tar | meter | compressor → meter → sink, where | leads to another thread; without compression,
 * tar | meter → sink. */
int wfe_layer_write_source(struct wfe_layer_source *source, const struct wfe_layer_options *options,
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
    /* What a thread uses comes before it, so that it is there when the thread ends. */
    struct meter out_meter = {.sink = sink, .hasher = out_hasher};
    struct meter tar_meter = {.sink = sink, .hasher = tar_hasher};
    WFE_COMPRESSOR struct wfe_compressor *compressor = NULL;
    WFE_SINK_THREAD struct wfe_sink_thread *compressing = NULL;
    WFE_SINK_THREAD struct wfe_sink_thread *hashing = NULL;
    struct wfe_sink to_tar;
    int r = 0;
    if (is_compressed)
        r = wfe_compressor_new(options->compression,
            (struct wfe_sink){.write = meter_write, .context = &out_meter}, &compressor, err);
    if (r == 0 && is_compressed)
        r = start_stage((struct wfe_sink){.write = compressor_sink, .context = compressor},
            &compressing, &tar_meter.sink, err);
    if (r == 0)
        r = start_stage(
            (struct wfe_sink){.write = meter_write, .context = &tar_meter}, &hashing, &to_tar, err);
    struct wfe_layer_result result = {.media_type = media_type(options->compression)};
    if (r == 0)
        r = build(source, options, to_tar, &result, err);
    if (r == 0)
        r = wfe_sink_thread_finish(hashing, err);
    if (r == 0 && is_compressed)
        r = wfe_sink_thread_finish(compressing, err);
    if (r == 0 && is_compressed)
        r = wfe_compressor_finish(compressor, err);
    if (r < 0)
        return r;
    wfe_hasher_final(tar_hasher, &result.diff_id);
    result.tar_bytes = tar_meter.bytes;
    if (is_compressed)
        wfe_hasher_final(out_hasher, &result.digest);
    else
        result.digest = result.diff_id;
    result.size_bytes = is_compressed ? out_meter.bytes : tar_meter.bytes;
    *ret = result;
    return 0;
}

/* A source that has its root and nothing else. */
struct root_source {
    struct wfe_layer_source head;
    const struct wfe_layer_root *root;
    bool is_at_end;
};

static int root_next(
    struct wfe_layer_source *source, struct wfe_layer_entry *ret, struct wfe_error *err)
{
    (void)err;
    struct root_source *alone = (struct root_source *)source;
    if (alone->is_at_end)
        return 0;
    alone->is_at_end = true;
    *ret = (struct wfe_layer_entry){
        .kind = WFE_LAYER_DIRECTORY,
        .name = ".",
        .mode = alone->root->mode,
        .uid = alone->root->uid,
        .gid = alone->root->gid,
        .mtime_s = alone->root->mtime_s,
        .size_known = true,
    };
    return 1;
}

static int root_read_xattrs(
    struct wfe_layer_source *source, struct wfe_layer_xattrs *xattrs, struct wfe_error *err)
{
    (void)source, (void)xattrs, (void)err;
    return 0;
}

static int root_rewind(struct wfe_layer_source *source, struct wfe_error *err)
{
    (void)err;
    ((struct root_source *)source)->is_at_end = false;
    return 0;
}

int wfe_layer_write_root(const struct wfe_layer_root *root, const struct wfe_layer_options *options,
    struct wfe_sink sink, struct wfe_layer_result *ret, struct wfe_error *err)
{
    static const struct wfe_layer_source_ops ops = {
        .next = root_next, .read_xattrs = root_read_xattrs, .rewind = root_rewind};
    struct root_source source = {.head = {.ops = &ops}, .root = root};
    return wfe_layer_write_source(&source.head, options, sink, ret, err);
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
        r = wfe_layer_write_source(source, options, sink, ret, err);
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
        r = wfe_layer_write_source(source, options, sink, ret, err);
    return prefix_path(path, r, err);
}
