/* SPDX-License-Identifier: MIT */
#include "artifactfs/fuse_place.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int wfe_place_of(const struct wfe_fuse *fs, fuse_ino_t number, struct wfe_place *ret)
{
    struct wfe_place place = {.number = number};
    uint64_t artifact = (uint64_t)number >> 32;
    if (number == FUSE_ROOT_ID && wfe_volume_is_single(fs->volume)) {
        place.kind = WFE_PLACE_ARTIFACT;
        place.inode = WFE_INDEX_ROOT;
    } else if (number == FUSE_ROOT_ID) {
        place.kind = WFE_PLACE_ROOT;
    } else if (artifact == 0 || number >= WFE_VIRTUAL_FIRST_CONTENT) {
        place.kind = WFE_PLACE_VIRTUAL;
    } else if (artifact <= wfe_volume_count(fs->volume) && (uint32_t)number > 0) {
        place.kind = WFE_PLACE_ARTIFACT;
        place.artifact = (size_t)artifact - 1;
        place.inode = (uint32_t)number - 1;
    } else {
        return -ESTALE;
    }
    *ret = place;
    return 0;
}

void wfe_place_in_artifact(
    const struct wfe_fuse *fs, size_t artifact, uint32_t inode, struct wfe_place *ret)
{
    bool is_root = inode == WFE_INDEX_ROOT && wfe_volume_is_single(fs->volume);
    *ret = (struct wfe_place){
        .kind = WFE_PLACE_ARTIFACT,
        .number = is_root ? FUSE_ROOT_ID : ((uint64_t)artifact + 1) << 32 | (inode + 1),
        .artifact = artifact,
        .inode = inode,
    };
}

bool wfe_fuse_hides_entry(const struct wfe_fuse *fs, const char *name, uint32_t mode)
{
    return fs->owner.as_layer &&
           (strncmp(name, ".wh.", 4) == 0 || S_ISCHR(mode) || S_ISBLK(mode) || S_ISSOCK(mode));
}

bool wfe_fuse_hides_xattr(const struct wfe_fuse *fs, const char *name)
{
    return fs->owner.as_layer &&
           (strncmp(name, "user.", 5) != 0 || strncmp(name, "user.overlay.", 13) == 0);
}

static void own(const struct wfe_fuse *fs, struct stat *st)
{
    if (fs->owner.as_layer) {
        st->st_mode &= ~(mode_t)(S_ISDIR(st->st_mode) ? S_ISUID : S_ISUID | S_ISGID);
        st->st_atim.tv_nsec = st->st_mtim.tv_nsec = st->st_ctim.tv_nsec = 0;
    }
    if (S_ISLNK(st->st_mode))
        st->st_mode = S_IFLNK | 0777; /* Linux knows no other */
    if (fs->owner.has_uid)
        st->st_uid = fs->owner.uid;
    if (fs->owner.has_gid)
        st->st_gid = fs->owner.gid;
    if (fs->owner.has_umask)
        st->st_mode = (st->st_mode & S_IFMT) | (0777 & ~fs->owner.umask);
}

/* A directory of this program's own, or an artifact's as long as it is not known. */
static void stat_folder(int64_t mtime_s, nlink_t links, struct stat *ret)
{
    *ret = (struct stat){
        .st_mode = S_IFDIR | 0755,
        .st_nlink = links,
        .st_uid = geteuid(),
        .st_gid = getegid(),
        .st_blksize = 4096,
        .st_atim = {.tv_sec = mtime_s},
        .st_mtim = {.tv_sec = mtime_s},
        .st_ctim = {.tv_sec = mtime_s},
    };
}

static void stat_root(const struct wfe_fuse *fs, struct stat *ret)
{
    int64_t newest = 0;
    for (size_t i = 0; i < wfe_volume_count(fs->volume); i++) {
        if (wfe_volume_mtime(fs->volume, i) > newest)
            newest = wfe_volume_mtime(fs->volume, i);
    }
    stat_folder(newest, 2 + (nlink_t)wfe_volume_count(fs->volume), ret);
}

static int stat_in_artifact(const struct wfe_fuse *fs, const struct wfe_place *place,
    struct stat *ret, double *ret_timeout_s)
{
    struct wfe_artifact *artifact = wfe_volume_opened(fs->volume, place->artifact);
    *ret_timeout_s = 0;
    if (!artifact) {
        if (place->inode != WFE_INDEX_ROOT)
            return -ENOENT;
        stat_folder(wfe_volume_mtime(fs->volume, place->artifact), 2, ret);
        return 0;
    }
    struct wfe_index *index = wfe_artifact_index(artifact);
    /* Asked first: what is told before the end may change. */
    bool is_settled = wfe_index_is_complete(index);
    int r = wfe_index_stat(index, place->inode, ret);
    if (r == 0 && is_settled)
        *ret_timeout_s = WFE_FUSE_FOREVER_S;
    return r;
}

int wfe_place_stat(const struct wfe_fuse *fs, const struct wfe_place *place, struct stat *ret,
    double *ret_timeout_s)
{
    struct stat st = {.st_ino = 0};
    double timeout_s = WFE_FUSE_FOREVER_S;
    int r = 0;
    switch (place->kind) {
    case WFE_PLACE_ROOT:
        stat_root(fs, &st);
        break;
    case WFE_PLACE_VIRTUAL:
        r = wfe_virtual_stat(fs->virtual_files, place->number, &st);
        if (r == 0) {
            st.st_uid = geteuid();
            st.st_gid = getegid();
        }
        break;
    case WFE_PLACE_ARTIFACT:
        r = stat_in_artifact(fs, place, &st, &timeout_s);
        break;
    }
    if (r < 0)
        return r;
    st.st_ino = place->number;
    own(fs, &st);
    *ret = st;
    *ret_timeout_s = timeout_s;
    return 0;
}

int wfe_place_open(
    const struct wfe_fuse *fs, const struct wfe_place *place, struct wfe_artifact **ret)
{
    return wfe_volume_artifact(fs->volume, place->artifact, ret);
}

bool wfe_fuse_is_over(void *waiter)
{
    const struct wfe_fuse_waiter *w = waiter;
    return fuse_req_interrupted(w->request) || fuse_session_exited(w->session);
}
