/* SPDX-License-Identifier: MIT */
#include "libcommon/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "libcommon/cleanup.h"
#include "libcommon/store_directory.h"
#include "libcommon/store_index.h"
#include "libcommon/store_layout.h"
#include "libcommon/store_meta.h"

/* How old a file must be that nobody refers to: another tool may be about to. */
#define UNCLAIMED_AFTER_S 3600

/* What a removal works on, with the store's lock held. */
struct removal {
    struct wfe_store *store;
    int lock;
    cJSON *index;
    struct wfe_store_index_target *targets; /* of the index's descriptors, in order */
    bool has_foreign_images;
    struct wfe_digests doomed;     /* artifacts that go */
    struct wfe_digests unlisted;   /* manifests and configs that left the index */
    struct wfe_digests referenced; /* those that stay in it */
    size_t removed;
    uint64_t freed_bytes;
};

static void removal_done(struct removal *removal)
{
    wfe_cleanup_close(&removal->lock);
    cJSON_Delete(removal->index);
    free(removal->targets);
    wfe_digests_done(&removal->doomed);
    wfe_digests_done(&removal->unlisted);
    wfe_digests_done(&removal->referenced);
}
#define REMOVAL WFE_CLEANUP(removal_done)

static int removal_begin(struct removal *removal, struct wfe_error *err)
{
    int r = wfe_store_lock(removal->store, &removal->lock, err);
    if (r == 0)
        r = wfe_store_index_load(removal->store, &removal->index, err);
    if (r < 0)
        return r;
    const cJSON *descriptors = wfe_store_index_descriptors(removal->index);
    removal->targets =
        calloc((size_t)cJSON_GetArraySize(descriptors) + 1, sizeof *removal->targets);
    if (!removal->targets)
        return wfe_error_nomem(err);
    size_t at = 0;
    const cJSON *descriptor;
    cJSON_ArrayForEach(descriptor, descriptors)
    {
        struct wfe_store_index_target *target = &removal->targets[at++];
        r = wfe_store_index_resolve(removal->store, descriptor, target);
        if (r < 0)
            return wfe_error_system(err, -r, "%s/" WFE_STORE_INDEX, removal->store->path);
        if (!target->is_artifact)
            removal->has_foreign_images = true;
    }
    return 0;
}

static int note_documents(struct wfe_digests *digests, const struct wfe_store_index_target *target)
{
    if (wfe_digests_add(digests, &target->manifest) < 0)
        return -ENOMEM;
    return target->has_config ? wfe_digests_add(digests, &target->config) : 0;
}

/* Take the doomed artifacts out of the index, and those that are not among `present` (NULL: not
 * looked at). */
static int unlist(struct removal *removal, const struct wfe_digests *present, struct wfe_error *err)
{
    wfe_digests_sort(&removal->doomed);
    bool changed = false;
    size_t at = 0;
    cJSON *descriptors = wfe_store_index_descriptors(removal->index);
    cJSON *next;
    for (cJSON *descriptor = descriptors->child; descriptor; descriptor = next) {
        next = descriptor->next;
        const struct wfe_store_index_target *target = &removal->targets[at++];
        bool goes = target->is_artifact &&
                    (wfe_digests_contain(&removal->doomed, &target->artifact) ||
                        (present && !wfe_digests_contain(present, &target->artifact)));
        if (note_documents(goes ? &removal->unlisted : &removal->referenced, target) < 0)
            return wfe_error_nomem(err);
        if (goes) {
            cJSON_Delete(cJSON_DetachItemViaPointer(descriptors, descriptor));
            changed = true;
        }
    }
    wfe_digests_sort(&removal->referenced);
    return changed ? wfe_store_index_save(removal->store, removal->index, err) : 0;
}

static int unlink_counted(struct removal *removal, const char *name, struct wfe_error *err)
{
    struct stat st;
    if (fstatat(removal->store->root, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : wfe_error_system(err, errno, "%s", name);
    int r = wfe_store_unlink(removal->store, name, err);
    if (r == 0)
        removal->freed_bytes += (uint64_t)st.st_size;
    return r;
}

/* The blob goes before its metadata: left alone, the blob would live for the default expiry. */
static int remove_doomed(struct removal *removal, struct wfe_error *err)
{
    for (size_t i = 0; i < removal->doomed.count; i++) {
        const struct wfe_digest *digest = &removal->doomed.items[i];
        int r = unlink_counted(removal, wfe_store_blob_path(digest).text, err);
        if (r == 0)
            r = unlink_counted(removal, wfe_store_meta_path(digest).text, err);
        if (r < 0)
            return r;
        removal->removed++;
    }
    for (size_t i = 0; i < removal->unlisted.count; i++) {
        const struct wfe_digest *digest = &removal->unlisted.items[i];
        if (wfe_digests_contain(&removal->referenced, digest))
            continue;
        int r = unlink_counted(removal, wfe_store_blob_path(digest).text, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int remove_one(
    struct removal *removal, const struct wfe_digest *digest, struct wfe_error *err)
{
    struct wfe_blob blob;
    int r = wfe_blob_examine(removal->store, digest, &blob);
    if (r == -ENOENT || (r == 0 && blob.is_document))
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT, "artifact %s is not in the store %s",
            digest->text, removal->store->path);
    if (r < 0)
        return wfe_error_system(err, -r, "artifact %s", digest->text);
    if (wfe_digests_add(&removal->doomed, digest) < 0)
        return wfe_error_nomem(err);
    r = unlist(removal, NULL, err);
    return r < 0 ? r : remove_doomed(removal, err);
}

int wfe_store_remove(
    struct wfe_store *store, const struct wfe_digest *digest, struct wfe_error *err)
{
    REMOVAL struct removal removal = {.store = store, .lock = -1};
    int r = removal_begin(&removal, err);
    return r < 0 ? r : remove_one(&removal, digest, err);
}

int wfe_store_remove_name(struct wfe_store *store, const char *name, struct wfe_error *err)
{
    REMOVAL struct removal removal = {.store = store, .lock = -1};
    int r = removal_begin(&removal, err);
    if (r < 0)
        return r;
    cJSON *descriptors = wfe_store_index_descriptors(removal.index);
    cJSON *named = NULL;
    const struct wfe_store_index_target *found = NULL;
    char has[WFE_NAME_BYTES];
    size_t at = 0;
    cJSON *descriptor;
    cJSON_ArrayForEach(descriptor, descriptors)
    {
        const struct wfe_store_index_target *target = &removal.targets[at++];
        wfe_store_index_name(descriptor, has);
        if (!target->is_artifact || strcmp(has, name) != 0)
            continue;
        named = descriptor;
        found = target;
        break;
    }
    if (!named)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "no artifact is named '%s' in the store %s", name, store->path);
    at = 0;
    cJSON_ArrayForEach(descriptor, descriptors)
    {
        const struct wfe_store_index_target *target = &removal.targets[at++];
        wfe_store_index_name(descriptor, has);
        if (!has[0] || strcmp(has, name) == 0 || !target->is_artifact ||
            !wfe_digest_equal(&target->artifact, &found->artifact))
            continue;
        cJSON_Delete(cJSON_DetachItemViaPointer(descriptors, named));
        return wfe_store_index_save(store, removal.index, err);
    }
    return remove_one(&removal, &found->artifact, err);
}

static int doom_expired(
    struct removal *removal, const struct wfe_digests *blobs, struct wfe_error *err)
{
    struct timespec now = wfe_store_now();
    for (size_t i = 0; i < blobs->count; i++) {
        struct wfe_blob blob;
        int r = wfe_blob_examine(removal->store, &blobs->items[i], &blob);
        if (r < 0 && r != -ENOENT)
            return wfe_error_system(err, -r, "artifact %s", blobs->items[i].text);
        if (r < 0 || blob.is_document || !wfe_meta_expired(&blob.meta, now))
            continue;
        if (!blob.meta.recorded && removal->has_foreign_images)
            continue;
        if (wfe_digests_add(&removal->doomed, &blobs->items[i]) < 0)
            return wfe_error_nomem(err);
    }
    return 0;
}

static bool is_image_document(struct wfe_store *store, const char *path)
{
    WFE_FREE char *text = NULL;
    size_t length;
    if (wfe_store_read(store, path, WFE_STORE_DOCUMENT_MAX_BYTES, &text, &length) < 0)
        return false;
    WFE_JSON cJSON *document = cJSON_ParseWithLength(text, length);
    return cJSON_GetObjectItemCaseSensitive(document, "schemaVersion") ||
           cJSON_GetObjectItemCaseSensitive(document, "rootfs");
}

/* Manifests and configs of a put that died before it wrote the index. */
static int sweep_documents(
    struct removal *removal, const struct wfe_digests *blobs, struct wfe_error *err)
{
    if (removal->has_foreign_images)
        return 0;
    struct timespec now = wfe_store_now();
    for (size_t i = 0; i < blobs->count; i++) {
        const struct wfe_digest *digest = &blobs->items[i];
        struct wfe_store_path path = wfe_store_blob_path(digest);
        struct wfe_blob blob;
        if (wfe_digests_contain(&removal->referenced, digest) ||
            wfe_blob_examine(removal->store, digest, &blob) < 0 || !blob.is_document ||
            blob.modified.tv_sec > now.tv_sec - UNCLAIMED_AFTER_S ||
            !is_image_document(removal->store, path.text))
            continue;
        int r = unlink_counted(removal, path.text, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool is_unclaimed(struct wfe_store *store, const char *name)
{
    struct stat st;
    return fstatat(store->root, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           st.st_mtim.tv_sec <= wfe_store_now().tv_sec - UNCLAIMED_AFTER_S;
}

static int sweep_metadata(
    struct removal *removal, const struct wfe_digests *blobs, struct wfe_error *err)
{
    WFE_DIGESTS struct wfe_digests metadata = {.count = 0};
    int r = wfe_store_read_directory(removal->store, WFE_STORE_META, ".json", &metadata, err);
    for (size_t i = 0; r == 0 && i < metadata.count; i++) {
        struct wfe_store_path path = wfe_store_meta_path(&metadata.items[i]);
        if (!wfe_digests_contain(blobs, &metadata.items[i]) &&
            is_unclaimed(removal->store, path.text))
            r = unlink_counted(removal, path.text, err);
    }
    return r;
}

/* Our own files tell by their lock that nobody writes them, another tool's by their age. */
static int sweep_staging_file(struct removal *removal, const char *name, struct wfe_error *err)
{
    char path[sizeof WFE_STORE_TMP + NAME_MAX + 1];
    snprintf(path, sizeof path, WFE_STORE_TMP "/%s", name);
    struct wfe_store *store = removal->store;
    if (strncmp(name, WFE_STORE_STAGE_PREFIX, strlen(WFE_STORE_STAGE_PREFIX)) != 0 &&
        !is_unclaimed(store, path))
        return 0;
    WFE_CLOSE int fd = openat(store->root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    return flock(fd, LOCK_EX | LOCK_NB) == 0 ? unlink_counted(removal, path, err) : 0;
}

static int sweep_staging(struct removal *removal, struct wfe_error *err)
{
    WFE_DIRECTORY DIR *directory = wfe_store_open_directory(removal->store, WFE_STORE_TMP);
    if (!directory)
        return 0;
    int r = 0;
    const struct dirent *entry;
    while (r == 0 && (entry = readdir(directory)))
        r = sweep_staging_file(removal, entry->d_name, err);
    return r;
}

int wfe_store_gc(
    struct wfe_store *store, size_t *ret_removed, uint64_t *ret_bytes, struct wfe_error *err)
{
    REMOVAL struct removal removal = {.store = store, .lock = -1};
    WFE_DIGESTS struct wfe_digests blobs = {.count = 0};
    int r = removal_begin(&removal, err);
    if (r == 0)
        r = wfe_store_read_directory(store, WFE_STORE_BLOBS, "", &blobs, err);
    if (r == 0)
        r = doom_expired(&removal, &blobs, err);
    if (r == 0)
        r = unlist(&removal, &blobs, err);
    if (r == 0)
        r = remove_doomed(&removal, err);
    if (r == 0)
        r = sweep_documents(&removal, &blobs, err);
    if (r == 0)
        r = sweep_metadata(&removal, &blobs, err);
    if (r == 0)
        r = sweep_staging(&removal, err);
    if (r < 0)
        return r;
    if (ret_removed)
        *ret_removed = removal.removed;
    if (ret_bytes)
        *ret_bytes = removal.freed_bytes;
    return 0;
}
