/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_FUSE_PLACE_H
#define WFE_ARTIFACTFS_FUSE_PLACE_H

/* Within the translation: what an inode number stands for, and its attributes. */

#include <sys/stat.h>

#include "artifactfs/fuse_ops.h"

enum wfe_place_kind {
    WFE_PLACE_ROOT,     /* the folder of artifacts */
    WFE_PLACE_VIRTUAL,  /* number: what virtual.h calls so */
    WFE_PLACE_ARTIFACT, /* artifact, inode */
};

struct wfe_place {
    enum wfe_place_kind kind;
    fuse_ino_t number;
    size_t artifact;
    uint32_t inode;
};

/* Returns 0, or -ESTALE for a number that was never given out. */
int wfe_place_of(const struct wfe_fuse *fs, fuse_ino_t number, struct wfe_place *ret);
void wfe_place_in_artifact(
    const struct wfe_fuse *fs, size_t artifact, uint32_t inode, struct wfe_place *ret);

/* The attributes, and for how long they hold. Nothing is opened for them. Returns 0 or -ENOENT. */
int wfe_place_stat(const struct wfe_fuse *fs, const struct wfe_place *place, struct stat *ret,
    double *ret_timeout_s);

/* The artifact and its index. Returns 0 or -EIO. */
int wfe_place_open(
    const struct wfe_fuse *fs, const struct wfe_place *place, struct wfe_artifact **ret);

/* How long a request may wait: until it is interrupted, or the session ends. */
struct wfe_fuse_waiter {
    fuse_req_t request;
    struct fuse_session *session;
};
bool wfe_fuse_is_over(void *waiter);
#define WFE_FUSE_PATIENCE(fs, req)                                                                 \
    (&(struct wfe_index_patience){                                                                 \
        .is_over = wfe_fuse_is_over,                                                               \
        .context = &(struct wfe_fuse_waiter){.request = (req), .session = (fs)->session},          \
    })

/* Whether an entry of an artifact is left out, and one of its xattrs. */
bool wfe_fuse_hides_entry(const struct wfe_fuse *fs, const char *name, uint32_t mode);
bool wfe_fuse_hides_xattr(const struct wfe_fuse *fs, const char *name);

void wfe_fuse_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void wfe_fuse_readdir(
    fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *info);
void wfe_fuse_readdirplus(
    fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *info);
void wfe_fuse_getxattr(fuse_req_t req, fuse_ino_t number, const char *name, size_t size);
void wfe_fuse_listxattr(fuse_req_t req, fuse_ino_t number, size_t size);

#endif
