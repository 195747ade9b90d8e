/* SPDX-License-Identifier: MIT */
#include "libcommon/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/json.h"
#include "libcommon/store_directory.h"
#include "libcommon/store_layout.h"
#include "libcommon/store_meta.h"

#define LAYOUT_NAME "oci-layout"
#define LAYOUT_TEXT "{\"imageLayoutVersion\":\"1.0.0\"}"
#define LAYOUT_MAX_BYTES 4096

char *wfe_store_default_path(void)
{
    const char *store = getenv("WFE_ARTIFACT_STORE");
    if (store && store[0])
        return strdup(store);
    const char *data = getenv("XDG_DATA_HOME");
    /* XDG base directory specification: a relative path is to be ignored. */
    if (data && data[0] == '/')
        return wfe_path_join(data, "wfe/artifacts");
    const char *home = getenv("HOME");
    return wfe_path_join(home && home[0] ? home : "/", ".local/share/wfe/artifacts");
}

/* 0: a store's layout; -ENOENT: no oci-layout; else err is set. */
static int check_layout(struct wfe_store *store, struct wfe_error *err)
{
    WFE_FREE char *text = NULL;
    size_t length;
    int r = wfe_store_read(store, LAYOUT_NAME, LAYOUT_MAX_BYTES, &text, &length);
    if (r == -ENOENT)
        return r;
    if (r < 0 && r != -EFBIG)
        return wfe_error_system(err, -r, "%s/" LAYOUT_NAME, store->path);
    WFE_JSON cJSON *layout = NULL;
    if (r == 0 && wfe_json_parse(text, length, NULL, &layout) == -ENOMEM)
        return wfe_error_nomem(err);
    const char *version =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(layout, "imageLayoutVersion"));
    if (!version)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s/" LAYOUT_NAME ": no imageLayoutVersion, so this is no artifact store", store->path);
    if (strcmp(version, "1.0.0") != 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s/" LAYOUT_NAME ": layout version '%.64s', known is 1.0.0", store->path, version);
    return 0;
}

/* Nothing but what a store that is being made may have already. */
static int check_vacant(struct wfe_store *store, struct wfe_error *err)
{
    static const char *const ours[] = {
        ".", "..", "tmp", LAYOUT_NAME, "blobs", "meta", "index.json", ".lock"};
    WFE_DIRECTORY DIR *directory = wfe_store_open_directory(store, ".");
    if (!directory)
        return wfe_error_system(err, errno, "%s", store->path);
    bool foreign = false;
    const struct dirent *entry;
    while (!foreign && (entry = readdir(directory))) {
        foreign = true;
        for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
            foreign = foreign && strcmp(entry->d_name, ours[i]) != 0;
    }
    if (foreign)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOTEMPTY,
            "%s: neither an artifact store (it has no " LAYOUT_NAME ") nor empty", store->path);
    return 0;
}

static int make_layout(struct wfe_store *store, bool has_layout, struct wfe_error *err)
{
    static const char *const directories[] = {
        WFE_STORE_TMP, "blobs", WFE_STORE_BLOBS, WFE_STORE_META};
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        if (mkdirat(store->root, directories[i], 0755) < 0 && errno != EEXIST)
            return wfe_error_system(err, errno, "%s/%s", store->path, directories[i]);
    }
    if (has_layout)
        return 0;
    int r = wfe_store_sync_directory(store, "blobs", err);
    if (r < 0)
        return r;
    return wfe_store_replace(store, ".", LAYOUT_NAME, LAYOUT_TEXT, strlen(LAYOUT_TEXT), err);
}

static int open_layout(struct wfe_store *store, bool create, struct wfe_error *err)
{
    int r = check_layout(store, err);
    if (r < 0 && r != -ENOENT)
        return r;
    bool has_layout = r == 0;
    if (!has_layout && !create)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s: not an artifact store (it has no " LAYOUT_NAME ")", store->path);
    if (!has_layout) {
        r = check_vacant(store, err);
        if (r < 0)
            return r;
    }
    return create ? make_layout(store, has_layout, err) : 0;
}

int wfe_store_open(const char *path, bool create, struct wfe_store **ret, struct wfe_error *err)
{
    if (create) {
        int r = wfe_make_directories(path, 0755);
        if (r < 0)
            return wfe_error_system(err, -r, "%s", path);
    }
    WFE_CLOSE int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 && errno == ENOENT)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT, "no artifact store at %s", path);
    if (root < 0)
        return wfe_error_system(err, errno, "%s", path);
    WFE_STORE struct wfe_store *store = calloc(1, sizeof *store);
    if (!store)
        return wfe_error_nomem(err);
    store->root = -1;
    store->path = strdup(path);
    if (!store->path)
        return wfe_error_nomem(err);
    store->root = wfe_steal_fd(&root);
    int r = open_layout(store, create, err);
    if (r < 0)
        return r;
    *ret = wfe_steal(&store);
    return 0;
}

void wfe_store_set_limits(struct wfe_store *store, const struct wfe_layer_limits *limits)
{
    store->limits = *limits;
}

void wfe_store_free(struct wfe_store *store)
{
    if (!store)
        return;
    if (store->root >= 0)
        close(store->root);
    free(store->path);
    free(store);
}

static int hash_blob(struct wfe_store *store, const struct wfe_digest *digest,
    struct wfe_digest *ret, struct wfe_error *err)
{
    struct stat st;
    WFE_CLOSE int fd = wfe_store_open_blob(store, digest, &st);
    WFE_HASHER struct wfe_hasher *hasher = NULL;
    WFE_FREE char *chunk = malloc(256 * 1024);
    if (!chunk || wfe_hasher_new(&hasher) < 0)
        return wfe_error_nomem(err);
    ssize_t n = fd;
    while (n >= 0 && (n = wfe_read_full(fd, chunk, 256 * 1024)) > 0)
        wfe_hasher_update(hasher, chunk, (size_t)n);
    if (n < 0)
        return wfe_error_system(err, (int)-n, "artifact %s", digest->text);
    wfe_hasher_final(hasher, ret);
    return 0;
}

static int examine(struct wfe_store *store, const struct wfe_digest *digest, struct wfe_blob *ret,
    struct wfe_error *err)
{
    int r = wfe_blob_examine(store, digest, ret);
    if (r == -ENOENT || (r == 0 && ret->is_document))
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT, "artifact %s is not in the store %s",
            digest->text, store->path);
    if (r < 0)
        return wfe_error_system(err, -r, "artifact %s", digest->text);
    if (!wfe_meta_expired(&ret->meta, wfe_store_now()))
        return 0;
    struct tm utc;
    char when[32] = "";
    if (gmtime_r(&ret->meta.expires.tv_sec, &utc))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%SZ", &utc);
    return wfe_error_set(
        err, WFE_ERROR_INPUT, ENOENT, "artifact %s expired on %s", digest->text, when);
}

int wfe_store_get(struct wfe_store *store, const struct wfe_digest *digest, char **ret_path,
    struct wfe_error *err)
{
    struct wfe_blob blob;
    int r = examine(store, digest, &blob, err);
    if (r < 0)
        return r;
    struct wfe_digest found;
    r = hash_blob(store, digest, &found, err);
    if (r < 0)
        return r;
    WFE_FREE char *path = wfe_path_join(store->path, wfe_store_blob_path(digest).text);
    if (!path)
        return wfe_error_nomem(err);
    if (!wfe_digest_equal(digest, &found))
        return wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG,
            "artifact %s is damaged: its bytes have the digest %s", digest->text, found.text);
    *ret_path = wfe_steal(&path);
    return 0;
}

int wfe_store_stat(struct wfe_store *store, const struct wfe_digest *digest,
    struct wfe_store_status *ret, struct wfe_error *err)
{
    struct wfe_blob blob;
    int r = examine(store, digest, &blob, err);
    if (r < 0)
        return r;
    *ret = (struct wfe_store_status){
        .size_bytes = blob.size_bytes,
        .media_type = blob.media_type,
        .diff_id = blob.meta.diff_id,
    };
    return 0;
}

bool wfe_store_exists(struct wfe_store *store, const struct wfe_digest *digest)
{
    struct wfe_blob blob;
    return examine(store, digest, &blob, NULL) == 0;
}
