/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "artifactfs/fuse_place.h"
#include "libcommon/cleanup.h"

/* What readdir() says of an inode whose number is not settled before it is looked up. */
#define UNKNOWN_INODE 0xFFFFFFFFU

/* In the offset of a listing of what the scan has found so far. */
#define SO_FAR_BIT ((off_t)1 << 40)

/* The name in a directory, and for how long what was found (or not) holds. */
struct found {
    struct wfe_place place;
    double timeout_s;
};

static bool has_control_directory(const struct wfe_fuse *fs, const struct wfe_place *place)
{
    return place->kind == WFE_PLACE_ROOT ||
           (place->number == FUSE_ROOT_ID && wfe_volume_is_single(fs->volume));
}

/* The directory above. */
static int find_parent(const struct wfe_fuse *fs, const struct wfe_place *place, struct found *ret)
{
    struct wfe_place above;
    struct wfe_artifact *artifact;
    if (place->kind == WFE_PLACE_ARTIFACT && place->inode != WFE_INDEX_ROOT) {
        int r = wfe_place_open(fs, place, &artifact);
        if (r < 0)
            return r;
        wfe_place_in_artifact(fs, place->artifact,
            wfe_index_parent(wfe_artifact_index(artifact), place->inode), &above);
    } else {
        fuse_ino_t number = place->kind == WFE_PLACE_VIRTUAL && place->number == WFE_VIRTUAL_LAYERS
                                ? (fuse_ino_t)WFE_VIRTUAL_TOP
                                : FUSE_ROOT_ID;
        int r = wfe_place_of(fs, number, &above);
        if (r < 0)
            return r;
    }
    ret->place = above;
    ret->timeout_s = WFE_FUSE_FOREVER_S;
    return 0;
}

static int find_in_artifact(const struct wfe_fuse *fs, const struct wfe_place *place,
    const char *name, const struct wfe_index_patience *patience, struct found *ret)
{
    struct wfe_artifact *artifact;
    int r = wfe_place_open(fs, place, &artifact);
    if (r < 0)
        return r;
    struct wfe_index *index = wfe_artifact_index(artifact);
    /* Asked first: a name found before the end may be another inode's later. */
    bool is_settled = wfe_index_is_complete(index);
    uint32_t inode;
    r = wfe_index_lookup(index, place->inode, name, patience, &inode);
    struct wfe_inode record;
    if (r == 0 && wfe_index_get(index, inode, &record) == 0 &&
        wfe_fuse_hides_entry(fs, name, record.mode))
        r = -ENOENT;
    ret->timeout_s = is_settled || r == -ENOENT ? WFE_FUSE_FOREVER_S : 0;
    if (r == 0)
        wfe_place_in_artifact(fs, place->artifact, inode, &ret->place);
    return r;
}

static int find_virtual(const struct wfe_fuse *fs, const struct wfe_place *place, const char *name,
    const struct wfe_index_patience *patience, struct found *ret)
{
    if (place->number != WFE_VIRTUAL_TOP && place->number != WFE_VIRTUAL_LAYERS)
        return -ENOTDIR;
    uint64_t number;
    int r = wfe_virtual_lookup(
        fs->virtual_files, (enum wfe_virtual_directory)place->number, name, patience, &number);
    bool is_final = r == -ENOENT || (r == 0 && wfe_virtual_is_final(fs->virtual_files, number));
    ret->timeout_s = is_final ? WFE_FUSE_FOREVER_S : 0;
    return r < 0 ? r : wfe_place_of(fs, number, &ret->place);
}

/* Returns 0, -ENOENT (timeout_s holds then, too), or another -errno. */
static int find(const struct wfe_fuse *fs, const struct wfe_place *place, const char *name,
    const struct wfe_index_patience *patience, struct found *ret)
{
    ret->timeout_s = WFE_FUSE_FOREVER_S;
    if (strcmp(name, ".") == 0) {
        ret->place = *place;
        return 0;
    }
    if (strcmp(name, "..") == 0)
        return find_parent(fs, place, ret);
    if (has_control_directory(fs, place) && strcmp(name, WFE_VOLUME_CONTROL_NAME) == 0)
        return wfe_place_of(fs, WFE_VIRTUAL_TOP, &ret->place);
    if (place->kind == WFE_PLACE_VIRTUAL)
        return find_virtual(fs, place, name, patience, ret);
    if (place->kind == WFE_PLACE_ARTIFACT)
        return find_in_artifact(fs, place, name, patience, ret);
    size_t artifact;
    int r = wfe_volume_find(fs->volume, name, &artifact);
    if (r == 0)
        wfe_place_in_artifact(fs, artifact, WFE_INDEX_ROOT, &ret->place);
    return r;
}

static int fill_entry(
    const struct wfe_fuse *fs, const struct found *found, struct fuse_entry_param *ret)
{
    *ret = (struct fuse_entry_param){
        .ino = found->place.number,
        .entry_timeout = found->timeout_s,
    };
    return wfe_place_stat(fs, &found->place, &ret->attr, &ret->attr_timeout);
}

/* An entry that the kernel did not get is one that it will not forget. */
static void reply_entry(
    fuse_req_t req, const struct wfe_fuse *fs, const struct fuse_entry_param *entry)
{
    fuse_ino_t number = entry->ino;
    if (fuse_reply_entry(req, entry) == -ENOENT && number >= WFE_VIRTUAL_FIRST_CONTENT)
        wfe_virtual_forget(fs->virtual_files, number, 1);
}

void wfe_fuse_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    const struct wfe_fuse *fs = fuse_req_userdata(req);
    struct wfe_place place;
    struct found found;
    struct fuse_entry_param entry;
    int r = wfe_place_of(fs, parent, &place);
    if (r == 0)
        r = find(fs, &place, name, WFE_FUSE_PATIENCE(fs, req), &found);
    if (r == 0)
        r = fill_entry(fs, &found, &entry);
    if (r == 0) {
        reply_entry(req, fs, &entry);
    } else if (r == -ENOENT) {
        entry = (struct fuse_entry_param){.entry_timeout = found.timeout_s};
        fuse_reply_entry(req, &entry);
    } else {
        fuse_reply_err(req, -r);
    }
}

/* A listing under way. */
struct listing {
    fuse_req_t req;
    const struct wfe_fuse *fs;
    struct wfe_place place;
    struct wfe_artifact *artifact; /* of WFE_PLACE_ARTIFACT */
    bool so_far;                   /* of what the scan has found */
    bool plus;
    char *buffer;
    size_t size;
    size_t used;
};

/* Returns false when it does not fit any more. A place of number 0 is looked up when it is
 * needed. */
static bool add_entry(
    struct listing *list, const char *name, struct fuse_entry_param *entry, off_t next)
{
    char *to = list->buffer + list->used;
    size_t room = list->size - list->used;
    size_t length = list->plus ? fuse_add_direntry_plus(list->req, to, room, name, entry, next)
                               : fuse_add_direntry(list->req, to, room, name, &entry->attr, next);
    if (length > room)
        return false;
    list->used += length;
    return true;
}

/* "." and "..", which the kernel does not look up. */
static bool add_self_or_parent(struct listing *list, off_t position)
{
    struct found found = {.place = list->place};
    struct fuse_entry_param entry = {.ino = 0};
    if (position == 1 && find_parent(list->fs, &list->place, &found) < 0)
        found.place = list->place;
    entry.attr.st_ino = found.place.number;
    entry.attr.st_mode = S_IFDIR;
    return add_entry(list, position == 0 ? "." : "..", &entry, position + 1);
}

/* Returns 1, 0 (no such child) or 2 (it is not to be listed). */
enum child { CHILD_END, CHILD_FOUND, CHILD_HIDDEN };

static enum child child_of_artifact(struct listing *list, size_t position,
    char name[static WFE_MAX_COMPONENT_BYTES + 1], struct fuse_entry_param *entry)
{
    const char *view;
    size_t length;
    uint32_t inode;
    if (position > UINT32_MAX ||
        wfe_index_child(wfe_artifact_index(list->artifact), list->place.inode, (uint32_t)position,
            &view, &length, &inode) < 0)
        return CHILD_END;
    memcpy(name, view, length);
    name[length] = '\0';
    if (has_control_directory(list->fs, &list->place) && strcmp(name, WFE_VOLUME_CONTROL_NAME) == 0)
        return CHILD_HIDDEN;
    struct found found = {.timeout_s = WFE_FUSE_FOREVER_S};
    wfe_place_in_artifact(list->fs, list->place.artifact, inode, &found.place);
    return fill_entry(list->fs, &found, entry) < 0 ||
                   wfe_fuse_hides_entry(list->fs, name, entry->attr.st_mode)
               ? CHILD_HIDDEN
               : CHILD_FOUND;
}

static enum child child_of_root(struct listing *list, size_t position,
    char name[static WFE_MAX_COMPONENT_BYTES + 1], struct fuse_entry_param *entry)
{
    if (position >= wfe_volume_count(list->fs->volume))
        return CHILD_END;
    memccpy(name, wfe_volume_name(list->fs->volume, position), '\0', WFE_MAX_COMPONENT_BYTES + 1);
    struct found found = {.timeout_s = WFE_FUSE_FOREVER_S};
    wfe_place_in_artifact(list->fs, position, WFE_INDEX_ROOT, &found.place);
    return fill_entry(list->fs, &found, entry) < 0 ? CHILD_HIDDEN : CHILD_FOUND;
}

/* A file's contents are opened when it is looked up, not when it is listed. */
static enum child child_of_virtual(struct listing *list, size_t position,
    char name[static WFE_MAX_COMPONENT_BYTES + 1], struct fuse_entry_param *entry)
{
    bool is_directory;
    const char *found = wfe_virtual_name(list->fs->virtual_files,
        (enum wfe_virtual_directory)list->place.number, position, &is_directory);
    if (!found)
        return CHILD_END;
    memccpy(name, found, '\0', WFE_MAX_COMPONENT_BYTES + 1);
    name[WFE_MAX_COMPONENT_BYTES] = '\0';
    *entry = (struct fuse_entry_param){
        .attr = {.st_ino = is_directory ? (ino_t)WFE_VIRTUAL_LAYERS : (ino_t)UNKNOWN_INODE,
            .st_mode = is_directory ? S_IFDIR : S_IFREG},
    };
    return CHILD_FOUND;
}

static enum child child_of(struct listing *list, size_t position,
    char name[static WFE_MAX_COMPONENT_BYTES + 1], struct fuse_entry_param *entry)
{
    switch (list->place.kind) {
    case WFE_PLACE_ROOT:
        return child_of_root(list, position, name, entry);
    case WFE_PLACE_VIRTUAL:
        return child_of_virtual(list, position, name, entry);
    default:
        return child_of_artifact(list, position, name, entry);
    }
}

/* From position `offset` on, as much as fits. */
static void fill_listing(struct listing *list, off_t offset)
{
    off_t position = offset;
    for (; position < 2; position++) {
        if (!add_self_or_parent(list, position))
            return;
    }
    for (;; position++) {
        char name[WFE_MAX_COMPONENT_BYTES + 1];
        struct fuse_entry_param entry;
        enum child child = child_of(list, (size_t)position - 2, name, &entry);
        if (child == CHILD_END ||
            (child == CHILD_FOUND && !add_entry(list, name, &entry, position + 1)))
            return;
    }
}

/* As fill_listing(), from what the scan has found; the offset is a node's. Returns 0, or
 * -EINPROGRESS when there is no more yet. */
static int fill_listing_so_far(struct listing *list, off_t offset)
{
    struct wfe_index *index = wfe_artifact_index(list->artifact);
    /* Asked first: then nothing that comes later is missed. */
    bool is_complete = wfe_index_is_complete(index);
    uint32_t node = (uint32_t)(offset & ~SO_FAR_BIT), inode;
    char name[WFE_MAX_COMPONENT_BYTES + 1];
    while (wfe_index_child_so_far(index, list->place.inode, &node, name, &inode) == 0) {
        /* The kernel looks it up when it is needed. */
        struct fuse_entry_param entry = {.attr = {.st_ino = UNKNOWN_INODE}};
        struct wfe_inode record;
        if (wfe_index_get(index, inode, &record) == 0)
            entry.attr.st_mode = record.mode & S_IFMT;
        bool is_control = has_control_directory(list->fs, &list->place) &&
                          strcmp(name, WFE_VOLUME_CONTROL_NAME) == 0;
        if (!is_control && !wfe_fuse_hides_entry(list->fs, name, record.mode) &&
            !add_entry(list, name, &entry, (off_t)node | SO_FAR_BIT))
            return 0;
    }
    return list->used > 0 || is_complete ? 0 : -EINPROGRESS;
}

/* Find the directory, and wait until all of its entries are known. */
static int begin_listing(struct listing *list, fuse_ino_t number, off_t offset)
{
    const struct wfe_fuse *fs = list->fs;
    int r = wfe_place_of(fs, number, &list->place);
    if (r < 0)
        return r;
    if (list->place.kind == WFE_PLACE_VIRTUAL)
        return number == WFE_VIRTUAL_TOP || number == WFE_VIRTUAL_LAYERS ? 0 : -ENOTDIR;
    if (list->place.kind != WFE_PLACE_ARTIFACT)
        return 0;
    r = wfe_place_open(fs, &list->place, &list->artifact);
    if (r < 0)
        return r;
    struct wfe_index *index = wfe_artifact_index(list->artifact);
    list->so_far = offset & SO_FAR_BIT ||
                   (offset == 0 && fs->owner.partial_listings && !wfe_index_is_complete(index));
    return list->so_far ? 0 : wfe_index_wait(index, WFE_FUSE_PATIENCE(fs, list->req));
}

static void reply_listing(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, bool plus)
{
    struct listing list = {
        .req = req,
        .fs = fuse_req_userdata(req),
        .plus = plus,
        .size = size,
    };
    int r = offset < 0 ? -EINVAL : begin_listing(&list, number, offset);
    WFE_FREE char *buffer = r == 0 ? malloc(size) : NULL;
    if (r == 0 && !buffer)
        r = -ENOMEM;
    list.buffer = buffer;
    if (r == 0 && list.so_far)
        r = fill_listing_so_far(&list, offset);
    else if (r == 0)
        fill_listing(&list, offset);
    if (r == 0)
        fuse_reply_buf(req, list.buffer, list.used);
    else
        fuse_reply_err(req, -r);
}

void wfe_fuse_readdir(
    fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *info)
{
    (void)info;
    reply_listing(req, number, size, offset, false);
}

void wfe_fuse_readdirplus(
    fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *info)
{
    (void)info;
    reply_listing(req, number, size, offset, true);
}
