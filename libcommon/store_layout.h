/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_STORE_LAYOUT_H
#define WFE_LIBCOMMON_STORE_LAYOUT_H

/*
 * Within the store: the handle, its files, its lock, and the only way in which a file
 * appears in it: written below tmp/, fsync, rename.
 *
 * A staging file is locked (flock) for as long as its writer lives, so a free lock tells
 * gc that it was left behind.
 */

#include <sys/stat.h>

#include "libcommon/digest.h"
#include "libcommon/error.h"
#include "libcommon/store.h"

#define WFE_STORE_BLOBS "blobs/sha256"
#define WFE_STORE_META "meta"
#define WFE_STORE_TMP "tmp"
#define WFE_STORE_INDEX "index.json"
#define WFE_STORE_STAGE_PREFIX "wfe-"

/* The bound of a manifest, config or metadata file. */
#define WFE_STORE_DOCUMENT_MAX_BYTES (4 * 1024 * 1024)

struct wfe_store {
    char *path;
    int root;
    struct wfe_layer_limits limits;
};

/* "blobs/sha256/HEX" or "meta/HEX.json", relative to the store. */
struct wfe_store_path {
    char text[96];
};
struct wfe_store_path wfe_store_blob_path(const struct wfe_digest *digest);
struct wfe_store_path wfe_store_meta_path(const struct wfe_digest *digest);

struct wfe_stage {
    int root;      /* the store's, borrowed */
    int fd;        /* open for reading and writing, locked */
    char name[64]; /* relative to the store; "" once it was renamed */
};

#define WFE_STAGE_INIT                                                                             \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* A new, empty staging file, to be done with before the store is freed. Errors: WFE_ERROR_SYSTEM.
 */
int wfe_stage_open(struct wfe_store *store, struct wfe_stage *stage, struct wfe_error *err);
/* fsync. Errors: WFE_ERROR_SYSTEM. */
int wfe_stage_sync(struct wfe_stage *stage, struct wfe_error *err);
/* Rename to `to`, relative to the store; the directory is not synced.
 * Errors: WFE_ERROR_SYSTEM. */
int wfe_stage_rename(struct wfe_stage *stage, const char *to, struct wfe_error *err);
/* Removes the file unless it was renamed. */
void wfe_stage_done(struct wfe_stage *stage);
#define WFE_STAGE __attribute__((cleanup(wfe_stage_done)))

/* fsync of a directory, "." being the store's root. Errors: WFE_ERROR_SYSTEM. */
int wfe_store_sync_directory(struct wfe_store *store, const char *name, struct wfe_error *err);

/* Replace `name` in `directory` by data, durably. Errors: WFE_ERROR_SYSTEM. */
int wfe_store_replace(struct wfe_store *store, const char *directory, const char *name,
    const void *data, size_t length, struct wfe_error *err);

/* The contents of a file, NUL-terminated; caller frees. Returns 0, -ENOENT (missing or not a
 * regular file), -EFBIG past max_bytes, or -errno. */
int wfe_store_read(
    struct wfe_store *store, const char *name, size_t max_bytes, char **ret, size_t *ret_length);

/* A descriptor to read a blob, and its status. Returns it, or -ENOENT (missing or not a regular
 * file), or -errno. */
int wfe_store_open_blob(
    struct wfe_store *store, const struct wfe_digest *digest, struct stat *ret_status);

/* Unlink; a missing file is success. Errors: WFE_ERROR_SYSTEM. */
int wfe_store_unlink(struct wfe_store *store, const char *name, struct wfe_error *err);

/* Wait for the writers' lock, which ends when *ret_fd is closed. Errors: WFE_ERROR_SYSTEM. */
int wfe_store_lock(struct wfe_store *store, int *ret_fd, struct wfe_error *err);

/* "HEX" or "HEX.json" (with suffix ".json") → digest. Returns 0 or -EINVAL. */
int wfe_store_parse_file_name(const char *name, const char *suffix, struct wfe_digest *ret);

#endif
