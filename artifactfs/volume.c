/* SPDX-License-Identifier: MIT */
#include "artifactfs/volume.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artifactfs/volume_parts.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

void wfe_volume_log(struct wfe_volume *volume, const char *name, const char *format, ...)
{
    if (!volume->log)
        return;
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    volume->log(volume->log_context, name, message);
}

int wfe_volume_check_name(const char *name, struct wfe_error *err)
{
    if (strcmp(name, WFE_VOLUME_CONTROL_NAME) == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "artifact name '%s': the mount has a directory of that name itself", name);
    return wfe_store_check_name(name, err);
}

static void free_item(struct wfe_volume_item *item)
{
    wfe_artifact_free(atomic_load(&item->artifact));
    cJSON_Delete(item->stored_as);
    free(item->name);
    free(item->path);
    free(item->file_name);
    free(item->prefix);
    pthread_mutex_destroy(&item->lock);
    free(item);
}

int wfe_volume_add(struct wfe_volume *volume, const char *name, struct wfe_volume_item **ret,
    struct wfe_error *err)
{
    int r = wfe_volume_check_name(name, err);
    if (r < 0)
        return r;
    struct wfe_volume_item **items =
        reallocarray(volume->items, volume->count + 1, sizeof(struct wfe_volume_item *));
    if (!items)
        return wfe_error_nomem(err);
    volume->items = items;
    struct wfe_volume_item *item = calloc(1, sizeof *item);
    if (!item)
        return wfe_error_nomem(err);
    pthread_mutex_init(&item->lock, NULL);
    item->volume = volume;
    item->name = strdup(name);
    items[volume->count++] = item;
    if (!item->name)
        return wfe_error_nomem(err);
    *ret = item;
    return 0;
}

int wfe_volume_set_path(struct wfe_volume_item *item, const char *path, struct wfe_error *err)
{
    struct stat st;
    item->path = realpath(path, NULL);
    if (!item->path || stat(item->path, &st) < 0)
        return wfe_error_system(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "%s: expected an archive, a directory or a file", path);
    item->is_directory = S_ISDIR(st.st_mode);
    item->size_bytes = item->is_directory ? 0 : (uint64_t)st.st_size;
    item->mtime_s = st.st_mtim.tv_sec;
    if (item->has_digest)
        return 0;
    /* A file that is no archive keeps the name that the user knows it by. */
    const char *slash = strrchr(path, '/');
    item->file_name = strdup(slash ? slash + 1 : path);
    return item->file_name ? 0 : wfe_error_nomem(err);
}

static int open_store(struct wfe_volume *volume, struct wfe_error *err)
{
    if (volume->store)
        return 0;
    WFE_FREE char *standard = volume->store_path ? NULL : wfe_store_default_path();
    const char *path = volume->store_path ? volume->store_path : standard;
    return path ? wfe_store_open(path, false, &volume->store, err) : wfe_error_nomem(err);
}

/* libcommon/store.h has the layout. */
static char *blob_path(const char *store_path, const struct wfe_digest *digest)
{
    WFE_FREE char *standard = store_path ? NULL : wfe_store_default_path();
    char *path;
    if ((!store_path && !standard) ||
        asprintf(&path, "%s/blobs/sha256/%s", store_path ? store_path : standard,
            wfe_digest_hex(digest)) < 0)
        return NULL;
    return path;
}

int wfe_volume_set_stored(struct wfe_volume *volume, struct wfe_volume_item *item, const char *text,
    struct wfe_error *err)
{
    int r = open_store(volume, err);
    if (r == 0)
        r = wfe_store_resolve(volume->store, text, &item->digest, err);
    if (r < 0)
        return r;
    struct wfe_store_status status;
    r = wfe_store_stat(volume->store, &item->digest, &status, err);
    if (r < 0)
        return r;
    item->size_bytes = status.size_bytes;
    WFE_FREE char *path = blob_path(volume->store_path, &item->digest);
    if (!path)
        return wfe_error_nomem(err);
    item->has_digest = true;
    return wfe_volume_set_path(item, path, err);
}

int wfe_volume_set_source(struct wfe_volume *volume, struct wfe_volume_item *item,
    const char *source, struct wfe_error *err)
{
    if (strncmp(source, "sha256:", 7) == 0)
        return wfe_volume_set_stored(volume, item, source, err);
    return wfe_volume_set_path(item, source, err);
}

static int compare_items(const void *a, const void *b)
{
    const struct wfe_volume_item *const *left = a;
    const struct wfe_volume_item *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static int sort_items(struct wfe_volume *volume, struct wfe_error *err)
{
    if (volume->count > 0)
        qsort(volume->items, volume->count, sizeof(struct wfe_volume_item *), compare_items);
    for (size_t i = 1; i < volume->count; i++) {
        if (strcmp(volume->items[i - 1]->name, volume->items[i]->name) == 0)
            return wfe_error_set(err, WFE_ERROR_INPUT, EEXIST, "artifact name '%s' is given twice",
                volume->items[i]->name);
    }
    return 0;
}

/* Both are resolved. */
static bool is_below(const char *path, const char *directory)
{
    size_t length = strlen(directory);
    if (length == 1)
        return strlen(path) > 1;
    return strncmp(path, directory, length) == 0 && path[length] == '/';
}

/* What is opened later must not be hidden by the mount, and a scan must not enter it: it would wait
 * for itself. */
static int check_places(const struct wfe_volume *volume, bool at_once, struct wfe_error *err)
{
    for (size_t i = 0; volume->mountpoint && i < volume->count; i++) {
        const struct wfe_volume_item *item = volume->items[i];
        if (item->is_directory && is_below(volume->mountpoint, item->path))
            return wfe_error_set(err, WFE_ERROR_INPUT, ELOOP,
                "the mount point %s lies within the source %s", volume->mountpoint, item->path);
        if (!at_once && is_below(item->path, volume->mountpoint))
            return wfe_error_set(err, WFE_ERROR_INPUT, ELOOP,
                "the mount point %s would hide the source %s", volume->mountpoint, item->path);
    }
    return 0;
}

static void log_artifact(void *context, const char *message)
{
    struct wfe_volume_item *item = context;
    wfe_volume_log(item->volume, item->name, "%s", message);
}

static int open_item(struct wfe_volume_item *item, struct wfe_error *err)
{
    const struct wfe_volume *volume = item->volume;
    struct wfe_artifact_options options = {
        .path = item->path,
        .offset_bytes = item->offset_bytes,
        .length_bytes = item->length_bytes,
        .digest = item->has_digest ? &item->digest : NULL,
        .file_name = item->file_name,
        .cache = volume->cache,
        .max_spool_bytes = volume->max_spool_bytes,
        .quiet_ms = volume->quiet_ms,
        .log = log_artifact,
        .log_context = item,
    };
    struct wfe_artifact *artifact;
    int r = wfe_artifact_open(&options, &artifact, err);
    if (r == 0)
        atomic_store(&item->artifact, artifact);
    return r;
}

/* One that is no archive must not keep the others from being mounted. */
static int open_all(struct wfe_volume *volume, struct wfe_error *err)
{
    for (size_t i = 0; i < volume->count; i++) {
        struct wfe_volume_item *item = volume->items[i];
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = open_item(item, &failure);
        if (r == 0)
            continue;
        if (volume->is_single || failure.kind != WFE_ERROR_ARCHIVE) {
            if (err)
                *err = failure;
            if (volume->is_single)
                wfe_error_prefix(err, "%s", item->path);
            else
                wfe_error_prefix(err, "artifact '%s'", item->name);
            return r;
        }
        item->has_failed = true;
        snprintf(item->fault, sizeof item->fault, "%s", failure.message);
        wfe_volume_log(volume, item->name, "%s", item->fault);
    }
    return 0;
}

int wfe_volume_open(
    const struct wfe_volume_options *options, struct wfe_volume **ret, struct wfe_error *err)
{
    WFE_VOLUME struct wfe_volume *volume = calloc(1, sizeof *volume);
    if (!volume)
        return wfe_error_nomem(err);
    volume->package_fd = -1;
    volume->store_path = options->store_path;
    volume->mountpoint = options->mountpoint;
    volume->cache = options->cache;
    volume->max_spool_bytes = options->max_spool_bytes;
    volume->quiet_ms = options->quiet_ms;
    volume->log = options->log;
    volume->log_context = options->log_context;
    int r = options->source ? wfe_volume_fill_source(volume, options->source, err)
                            : wfe_volume_fill_data(volume, options, err);
    if (r == 0)
        r = sort_items(volume, err);
    bool at_once = !volume->is_store && volume->count <= WFE_VOLUME_OPENED_AT_ONCE;
    if (r == 0)
        r = check_places(volume, at_once, err);
    if (r == 0 && at_once)
        r = open_all(volume, err);
    if (r < 0)
        return r;
    wfe_store_free(volume->store);
    volume->store = NULL;
    *ret = wfe_steal(&volume);
    return 0;
}

void wfe_volume_free(struct wfe_volume *volume)
{
    if (!volume)
        return;
    for (size_t i = 0; i < volume->count; i++)
        free_item(volume->items[i]);
    free(volume->items);
    wfe_artifact_free(volume->package);
    wfe_cleanup_close(&volume->package_fd);
    wfe_store_free(volume->store);
    free(volume);
}

bool wfe_volume_is_single(const struct wfe_volume *volume)
{
    return volume->is_single;
}

size_t wfe_volume_count(const struct wfe_volume *volume)
{
    return volume->count;
}

static struct wfe_volume_item *item_of(const struct wfe_volume *volume, size_t number)
{
    assert(number < volume->count);
    return volume->items[number];
}

const char *wfe_volume_name(const struct wfe_volume *volume, size_t number)
{
    return item_of(volume, number)->name;
}

const char *wfe_volume_prefix(const struct wfe_volume *volume, size_t number)
{
    return item_of(volume, number)->prefix;
}

int64_t wfe_volume_mtime(const struct wfe_volume *volume, size_t number)
{
    return item_of(volume, number)->mtime_s;
}

int wfe_volume_find(const struct wfe_volume *volume, const char *name, size_t *ret_number)
{
    size_t low = 0, high = volume->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, volume->items[middle]->name);
        if (order == 0) {
            *ret_number = middle;
            return 0;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -ENOENT;
}

int wfe_volume_artifact(struct wfe_volume *volume, size_t number, struct wfe_artifact **ret)
{
    struct wfe_volume_item *item = item_of(volume, number);
    struct wfe_artifact *artifact = atomic_load(&item->artifact);
    if (!artifact) {
        pthread_mutex_lock(&item->lock);
        struct wfe_error err = WFE_ERROR_INIT;
        if (!item->has_failed && !atomic_load(&item->artifact) && open_item(item, &err) < 0) {
            item->has_failed = true;
            snprintf(item->fault, sizeof item->fault, "%s", err.message);
            wfe_volume_log(volume, item->name, "%s", item->fault);
        }
        artifact = atomic_load(&item->artifact);
        pthread_mutex_unlock(&item->lock);
    }
    if (!artifact)
        return -EIO;
    *ret = artifact;
    return 0;
}

struct wfe_artifact *wfe_volume_opened(const struct wfe_volume *volume, size_t number)
{
    return atomic_load(&item_of(volume, number)->artifact);
}

int wfe_volume_find_digest(struct wfe_volume *volume, size_t number,
    const struct wfe_index_patience *patience, struct wfe_digest *ret)
{
    struct wfe_volume_item *item = item_of(volume, number);
    struct wfe_artifact *artifact = atomic_load(&item->artifact);
    if (!artifact && item->has_digest) {
        *ret = item->digest;
        return 0;
    }
    if (!artifact && wfe_volume_artifact(volume, number, &artifact) < 0)
        return -ENODATA;
    return wfe_artifact_find_digest(artifact, patience, ret);
}

const char *wfe_volume_media_type(struct wfe_volume *volume, size_t number)
{
    struct wfe_volume_item *item = item_of(volume, number);
    struct wfe_artifact *artifact = atomic_load(&item->artifact);
    if (artifact)
        return wfe_artifact_media_type(artifact);
    return item->is_directory ? "inode/directory" : item->media_type;
}
