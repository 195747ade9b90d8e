/* SPDX-License-Identifier: MIT */
#include "libcommon/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libcommon/archive.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/layer.h"
#include "libcommon/store_index.h"
#include "libcommon/store_layout.h"
#include "libcommon/store_meta.h"
#include "libcommon/store_name.h"
#include "libcommon/store_scan.h"

#define COPY_BYTES (256 * 1024)

/* A blob that is whole in its staging file. */
struct staged {
    struct wfe_stage stage;
    struct wfe_scan_result scan;
    const char *media_type;
    bool is_own_layer; /* made here, not kept as it came */
};

static void staged_done(struct staged *staged)
{
    wfe_stage_done(&staged->stage);
}

static int spool(struct wfe_store *store, int in, struct wfe_stage *stage, struct wfe_error *err)
{
    WFE_FREE char *chunk = malloc(COPY_BYTES);
    if (!chunk)
        return wfe_error_nomem(err);
    int r = wfe_stage_open(store, stage, err);
    if (r < 0)
        return r;
    for (;;) {
        ssize_t n = wfe_read_full(in, chunk, COPY_BYTES);
        if (n < 0)
            return wfe_error_system(err, (int)-n, "read");
        if (n == 0)
            return 0;
        r = wfe_write_all(stage->fd, chunk, (size_t)n);
        if (r < 0)
            return wfe_error_system(err, -r, "write %s/%s", store->path, stage->name);
    }
}

static const char *media_type_of(enum wfe_archive_form form)
{
    switch (form) {
    case WFE_ARCHIVE_TAR_GZIP:
        return WFE_LAYER_MEDIA_TYPE_GZIP;
    case WFE_ARCHIVE_TAR_ZSTD:
        return WFE_LAYER_MEDIA_TYPE_ZSTD;
    default:
        return WFE_LAYER_MEDIA_TYPE_TAR;
    }
}

static bool is_tar(enum wfe_archive_form form)
{
    return form == WFE_ARCHIVE_TAR || form == WFE_ARCHIVE_TAR_GZIP || form == WFE_ARCHIVE_TAR_ZSTD;
}

static int probe(const char *path, enum wfe_archive_form *ret, struct wfe_error *err)
{
    WFE_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return wfe_error_system(err, errno, "open");
    int r = wfe_archive_probe_fd(fd, ret, NULL, err);
    if (r < 0 || *ret != WFE_ARCHIVE_NONE)
        return r;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return wfe_error_system(err, errno, "seek");
    return wfe_scan_probe(fd, ret, err);
}

/* A tar: what is kept is what was read. */
static int stage_tar(struct wfe_store *store, const char *path, enum wfe_archive_form form,
    struct staged *ret, struct wfe_error *err)
{
    WFE_CLOSE int in = open(path, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return wfe_error_system(err, errno, "open");
    int r = wfe_stage_open(store, &ret->stage, err);
    if (r < 0)
        return r;
    return wfe_scan_tar(in, ret->stage.fd, form, store->limits.max_tar_bytes, &ret->scan, err);
}

/* file_name: what a plain file is called in its layer; NULL for a directory or an archive. */
static int stage_layer(struct wfe_store *store, const char *path, const char *file_name,
    struct staged *ret, struct wfe_error *err)
{
    int r = wfe_stage_open(store, &ret->stage, err);
    if (r < 0)
        return r;
    struct wfe_layer_options options = {.compression = WFE_LAYER_GZIP, .limits = store->limits};
    struct wfe_sink sink = wfe_sink_to_fd(&ret->stage.fd);
    struct wfe_layer_result layer;
    r = file_name ? wfe_layer_write_file(path, file_name, &options, sink, &layer, err)
                  : wfe_layer_write(path, &options, sink, &layer, err);
    if (r < 0)
        return r;
    ret->scan = (struct wfe_scan_result){
        .digest = layer.digest, .diff_id = layer.diff_id, .size_bytes = layer.size_bytes};
    ret->media_type = layer.media_type;
    ret->is_own_layer = true;
    return 0;
}

static int stage_file(struct wfe_store *store, const char *path, const char *file_name,
    struct staged *ret, struct wfe_error *err)
{
    enum wfe_archive_form form;
    int r = probe(path, &form, err);
    if (r < 0)
        return r;
    ret->media_type = media_type_of(form);
    if (is_tar(form))
        return stage_tar(store, path, form, ret, err);
    if (form == WFE_ARCHIVE_OTHER)
        return stage_layer(store, path, NULL, ret, err);
    if (wfe_store_archive_suffix(file_name) > 0)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EBADMSG,
            "named like an archive, but it does not begin like one");
    return stage_layer(store, path, file_name, ret, err);
}

/* A pipe can be read once only, so it is spooled; a tar may then stay where it is. */
static int stage_stream(struct wfe_store *store, int in, const char *file_name, struct staged *ret,
    struct wfe_error *err)
{
    WFE_STAGE struct wfe_stage stage = WFE_STAGE_INIT;
    int r = spool(store, in, &stage, err);
    if (r < 0)
        return r;
    WFE_FREE char *path = wfe_path_join(store->path, stage.name);
    if (!path)
        return wfe_error_nomem(err);
    enum wfe_archive_form form;
    r = probe(path, &form, err);
    if (r < 0)
        return r;
    if (!is_tar(form))
        return stage_layer(store, path, form == WFE_ARCHIVE_NONE ? file_name : NULL, ret, err);
    if (lseek(stage.fd, 0, SEEK_SET) < 0)
        return wfe_error_system(err, errno, "seek");
    r = wfe_scan_tar(stage.fd, -1, form, store->limits.max_tar_bytes, &ret->scan, err);
    if (r < 0)
        return r;
    ret->media_type = media_type_of(form);
    ret->stage = stage;
    stage = (struct wfe_stage)WFE_STAGE_INIT;
    return 0;
}

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int stage_source(struct wfe_store *store, const char *path, const char *name,
    struct staged *ret, struct wfe_error *err)
{
    if (strcmp(path, "-") == 0)
        return stage_stream(store, STDIN_FILENO, name ? name : "stdin", ret, err);
    struct stat st;
    if (stat(path, &st) < 0)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, errno, "%s", strerror(errno));
    if (S_ISDIR(st.st_mode))
        return stage_layer(store, path, NULL, ret, err);
    if (S_ISREG(st.st_mode))
        return stage_file(store, path, last_component(path), ret, err);
    if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "neither a file nor a directory");
    WFE_CLOSE int in = open(path, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return wfe_error_system(err, errno, "open");
    return stage_stream(store, in, name ? name : last_component(path), ret, err);
}

static int stage_document(struct wfe_store *store, const struct wfe_image_document *document,
    struct wfe_stage *stage, struct wfe_error *err)
{
    int r = wfe_stage_open(store, stage, err);
    if (r < 0)
        return r;
    r = wfe_write_all(stage->fd, document->text, document->length);
    if (r < 0)
        return wfe_error_system(err, -r, "write %s/%s", store->path, stage->name);
    return wfe_stage_sync(stage, err);
}

/* What is there already lives on: its creation stays, its end only moves away. */
static int renew_meta(struct wfe_store *store, const struct staged *staged, int64_t expiry_s,
    struct wfe_meta *ret, struct wfe_error *err)
{
    const struct wfe_digest *digest = &staged->scan.digest;
    struct wfe_meta meta = {.recorded = false};
    wfe_meta_begin(expiry_s, &meta);
    struct wfe_blob blob;
    int r = wfe_blob_examine(store, digest, &blob);
    /* A rotten blob is about to be replaced. */
    if (r < 0 && r != -ENOENT && r != -EIO)
        return wfe_error_system(err, -r, "artifact %s", digest->text);
    if (r == 0 && !wfe_meta_expired(&blob.meta, meta.created)) {
        meta.created = blob.meta.created;
        if (wfe_meta_expired(&meta, blob.meta.expires))
            meta.expires = blob.meta.expires;
        meta.diff_id = blob.meta.diff_id;
    }
    if (staged->is_own_layer)
        meta.diff_id = staged->scan.diff_id;
    *ret = meta;
    return wfe_meta_write(store, digest, &meta, err);
}

/* With the lock held. A crash leaves metadata alone, or an artifact that is not listed. */
static int enter(struct wfe_store *store, struct staged *staged, const struct wfe_image *image,
    struct wfe_stage *config, struct wfe_stage *manifest, struct wfe_error *err)
{
    int r = wfe_stage_rename(config, wfe_store_blob_path(&image->config.digest).text, err);
    if (r == 0)
        r = wfe_stage_rename(manifest, wfe_store_blob_path(&image->manifest.digest).text, err);
    /* Also over a blob that is there already: its bytes may have rotted since. */
    if (r == 0)
        r = wfe_stage_rename(&staged->stage, wfe_store_blob_path(&staged->scan.digest).text, err);
    if (r == 0)
        r = wfe_store_sync_directory(store, WFE_STORE_BLOBS, err);
    return r;
}

static int commit(struct wfe_store *store, struct staged *staged, const char *name,
    int64_t expiry_s, struct wfe_meta *ret, struct wfe_error *err)
{
    const struct wfe_digest *digest = &staged->scan.digest;
    struct wfe_image image;
    wfe_image_make(&staged->scan, staged->media_type, &image);
    WFE_STAGE struct wfe_stage config = WFE_STAGE_INIT;
    WFE_STAGE struct wfe_stage manifest = WFE_STAGE_INIT;
    int r = stage_document(store, &image.config, &config, err);
    if (r == 0)
        r = stage_document(store, &image.manifest, &manifest, err);
    if (r == 0)
        r = wfe_stage_sync(&staged->stage, err);
    if (r < 0)
        return r;

    WFE_CLOSE int lock = -1;
    WFE_JSON cJSON *index = NULL;
    bool changed = false;
    r = wfe_store_lock(store, &lock, err);
    if (r == 0)
        r = wfe_store_index_load(store, &index, err);
    if (r < 0)
        return r;
    r = wfe_store_index_add(store, index, &image, digest, name, &changed);
    if (r < 0)
        return wfe_error_system(err, -r, "%s/" WFE_STORE_INDEX, store->path);
    r = renew_meta(store, staged, expiry_s, ret, err);
    if (r == 0)
        r = enter(store, staged, &image, &config, &manifest, err);
    if (r == 0 && changed)
        r = wfe_store_index_save(store, index, err);
    return r;
}

int wfe_store_put(struct wfe_store *store, const char *source_path, const char *name,
    int64_t expiry_s, struct wfe_store_entry *ret, struct wfe_error *err)
{
    if (name) {
        int r = wfe_store_check_name(name, err);
        if (r < 0)
            return r;
    }
    __attribute__((cleanup(staged_done))) struct staged staged = {.stage = WFE_STAGE_INIT};
    struct wfe_meta meta = {.recorded = false};
    int r = stage_source(store, source_path, name, &staged, err);
    if (r == 0)
        r = commit(store, &staged, name ? name : "", expiry_s, &meta, err);
    if (r < 0) {
        wfe_error_prefix(err, "%s", strcmp(source_path, "-") == 0 ? "standard input" : source_path);
        return r;
    }
    *ret = (struct wfe_store_entry){
        .digest = staged.scan.digest,
        .size_bytes = staged.scan.size_bytes,
        .media_type = staged.media_type,
        .created_s = meta.created.tv_sec,
        .expires_s = meta.expires.tv_sec,
    };
    snprintf(ret->name, sizeof ret->name, "%s", name ? name : "");
    return 0;
}
