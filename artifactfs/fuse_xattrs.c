/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "artifactfs/fuse_place.h"
#include "libcommon/cleanup.h"

#define DIGEST_NAME "user.wfe.digest"
#define MEDIA_TYPE_NAME "user.wfe.media_type"

static bool is_artifact_root(const struct wfe_place *place)
{
    return place->kind == WFE_PLACE_ARTIFACT && place->inode == WFE_INDEX_ROOT;
}

/* As getxattr(2): the length of text, copied when there is room. */
static ssize_t give(const char *text, char *value, size_t size)
{
    size_t length = strlen(text);
    if (size == 0)
        return (ssize_t)length;
    if (length > size)
        return -ERANGE;
    memcpy(value, text, length);
    return (ssize_t)length;
}

/* What this program says of an artifact; -ENODATA for any other name. */
static ssize_t own_xattr(const struct wfe_fuse *fs, const struct wfe_place *place, const char *name,
    char *value, size_t size, const struct wfe_index_patience *patience)
{
    if (strcmp(name, MEDIA_TYPE_NAME) == 0) {
        const char *type = wfe_volume_media_type(fs->volume, place->artifact);
        struct wfe_artifact *artifact;
        if (!type && wfe_place_open(fs, place, &artifact) == 0)
            type = wfe_artifact_media_type(artifact);
        return type ? give(type, value, size) : -ENODATA;
    }
    if (strcmp(name, DIGEST_NAME) == 0) {
        struct wfe_digest digest;
        int r = wfe_volume_find_digest(fs->volume, place->artifact, patience, &digest);
        return r < 0 ? r : give(digest.text, value, size);
    }
    return -ENODATA;
}

static ssize_t get(const struct wfe_fuse *fs, const struct wfe_place *place, const char *name,
    char *value, size_t size, const struct wfe_index_patience *patience)
{
    if (place->kind != WFE_PLACE_ARTIFACT || wfe_fuse_hides_xattr(fs, name))
        return -ENODATA;
    if (is_artifact_root(place) && !fs->owner.as_layer) {
        ssize_t n = own_xattr(fs, place, name, value, size, patience);
        if (n != -ENODATA)
            return n;
    }
    /* A listing of all artifacts asks for ACLs: that must not open each of them. */
    struct wfe_artifact *artifact = wfe_volume_opened(fs->volume, place->artifact);
    return artifact
               ? wfe_index_getxattr(wfe_artifact_index(artifact), place->inode, name, value, size)
               : -ENODATA;
}

/* Add name to a list, as listxattr(2) has it, unless it is there. Returns the new length. */
static ssize_t add_name(char *list, ssize_t length, size_t size, const char *name)
{
    size_t bytes = strlen(name) + 1;
    for (ssize_t at = 0; size > 0 && at < length; at += (ssize_t)strlen(list + at) + 1) {
        if (strcmp(list + at, name) == 0)
            return length;
    }
    if (size > 0 && (size_t)length + bytes > size)
        return -ERANGE;
    if (size > 0)
        memcpy(list + length, name, bytes);
    return length + (ssize_t)bytes;
}

/* Drop what is hidden from a list that has been given. */
static ssize_t drop_hidden(const struct wfe_fuse *fs, char *list, ssize_t length)
{
    ssize_t kept = 0;
    for (ssize_t at = 0, bytes; at < length; at += bytes) {
        bytes = (ssize_t)strlen(list + at) + 1;
        if (wfe_fuse_hides_xattr(fs, list + at))
            continue;
        memmove(list + kept, list + at, (size_t)bytes);
        kept += bytes;
    }
    return kept;
}

static ssize_t list_all(
    const struct wfe_fuse *fs, const struct wfe_place *place, char *list, size_t size)
{
    if (place->kind != WFE_PLACE_ARTIFACT)
        return 0;
    struct wfe_artifact *artifact = wfe_volume_opened(fs->volume, place->artifact);
    ssize_t length =
        artifact ? wfe_index_listxattr(wfe_artifact_index(artifact), place->inode, list, size) : 0;
    if (length > 0 && size > 0)
        length = drop_hidden(fs, list, length);
    if (length < 0 || !is_artifact_root(place) || fs->owner.as_layer)
        return length;
    const char *type = wfe_volume_media_type(fs->volume, place->artifact);
    bool is_directory = type && strcmp(type, "inode/directory") == 0;
    if (!is_directory)
        length = add_name(list, length, size, DIGEST_NAME);
    return length < 0 ? length : add_name(list, length, size, MEDIA_TYPE_NAME);
}

static void reply(fuse_req_t req, ssize_t length, const char *value, size_t size)
{
    if (length < 0)
        fuse_reply_err(req, (int)-length);
    else if (size == 0)
        fuse_reply_xattr(req, (size_t)length);
    else
        fuse_reply_buf(req, value, (size_t)length);
}

void wfe_fuse_getxattr(fuse_req_t req, fuse_ino_t number, const char *name, size_t size)
{
    const struct wfe_fuse *fs = fuse_req_userdata(req);
    WFE_FREE char *value = size > 0 ? malloc(size) : NULL;
    struct wfe_place place;
    ssize_t n = size > 0 && !value ? -ENOMEM : wfe_place_of(fs, number, &place);
    if (n == 0)
        n = get(fs, &place, name, value, size, WFE_FUSE_PATIENCE(fs, req));
    reply(req, n, value, size);
}

void wfe_fuse_listxattr(fuse_req_t req, fuse_ino_t number, size_t size)
{
    const struct wfe_fuse *fs = fuse_req_userdata(req);
    WFE_FREE char *list = size > 0 ? malloc(size) : NULL;
    struct wfe_place place;
    ssize_t n = size > 0 && !list ? -ENOMEM : wfe_place_of(fs, number, &place);
    if (n == 0)
        n = list_all(fs, &place, list, size);
    reply(req, n, list, size);
}
