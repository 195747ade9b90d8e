/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_VOLUME_PARTS_H
#define WFE_ARTIFACTFS_VOLUME_PARTS_H

/* Within the volume module: the handle, and the ways in which it is filled. */

#include <pthread.h>
#include <stdatomic.h>

#include <cjson/cJSON.h>

#include "artifactfs/volume.h"
#include "libcommon/store.h"

struct wfe_volume_item {
    char *name;
    char *path; /* absolute */
    uint64_t offset_bytes, length_bytes;
    char *file_name; /* see struct wfe_artifact_options; or NULL */
    char *prefix;    /* or NULL */
    bool has_digest;
    struct wfe_digest digest;
    bool is_directory;
    uint64_t size_bytes;
    int64_t mtime_s;
    const char *media_type; /* a store's; static; or NULL */
    cJSON *stored_as;       /* a store's: array of names; or NULL */

    pthread_mutex_t lock; /* held while it is opened */
    _Atomic(struct wfe_artifact *) artifact;
    bool has_failed;
    char fault[512];
    struct wfe_volume *volume;
};

struct wfe_volume {
    struct wfe_volume_item **items;
    size_t count;
    bool is_single;
    bool is_store;
    const char *store_path;
    struct wfe_store *store;      /* while the volume is filled; NULL until it is needed */
    struct wfe_artifact *package; /* what its members' ranges lie in; or NULL */
    int package_fd;               /* the copy of a compressed package's members, or -1 */
    const char *mountpoint;
    struct wfe_index_cache *cache;
    uint64_t max_spool_bytes;
    unsigned quiet_ms;
    void (*log)(void *context, const char *name, const char *message);
    void *log_context;
};

void wfe_volume_log(struct wfe_volume *volume, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An artifact's folder may be called so. Errors: WFE_ERROR_INPUT. */
int wfe_volume_check_name(const char *name, struct wfe_error *err);

/* A new item, without a source yet. Errors: WFE_ERROR_INPUT (the name is bad, or there already),
 * WFE_ERROR_INTERNAL. */
int wfe_volume_add(struct wfe_volume *volume, const char *name, struct wfe_volume_item **ret,
    struct wfe_error *err);

/* Let the item be the file or directory at path. Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INPUT (no
 * file and no directory), WFE_ERROR_INTERNAL. */
int wfe_volume_set_path(struct wfe_volume_item *item, const char *path, struct wfe_error *err);
/* Let the item be a blob of the store, called by its whole digest, or as wfe_store_resolve() takes
 * it. Errors: WFE_ERROR_INPUT (no digest, not there, expired), and those of wfe_store_open(). */
int wfe_volume_set_stored(struct wfe_volume *volume, struct wfe_volume_item *item, const char *text,
    struct wfe_error *err);
/* One of the two. */
int wfe_volume_set_source(struct wfe_volume *volume, struct wfe_volume_item *item,
    const char *source, struct wfe_error *err);

/* Fill from a SOURCE. */
int wfe_volume_fill_source(struct wfe_volume *volume, const char *source, struct wfe_error *err);
/* The members of the package at path. Returns 0, or -ENOTSUP without err: it is no package. */
int wfe_volume_fill_package(struct wfe_volume *volume, const char *path, struct wfe_error *err);
/* Fill from data, inputs and bindings. */
int wfe_volume_fill_data(
    struct wfe_volume *volume, const struct wfe_volume_options *options, struct wfe_error *err);

/* The inputs of all steps in a document: an object NAME → container path (null where that is
 * unclear). Errors: WFE_ERROR_INPUT, WFE_ERROR_SYSTEM, WFE_ERROR_LIMIT, WFE_ERROR_INTERNAL. */
int wfe_volume_read_inputs(const char *path, cJSON **ret, struct wfe_error *err);

#endif
