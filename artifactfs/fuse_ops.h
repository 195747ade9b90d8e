/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_FUSE_OPS_H
#define WFE_ARTIFACTFS_FUSE_OPS_H

/*
 * The kernel's requests, translated into questions to the volume and to the files below /.wfe.
 *
 * Inode numbers:
 *     1                           the root: the only artifact's, or the folder of artifacts
 *     (artifact + 1) << 32 | (inode of its index + 1)
 *     enum wfe_virtual_directory, WFE_VIRTUAL_FIRST_CONTENT and above      see virtual.h
 *
 * /.wfe is found by its name and not listed, so that `find`, `rsync` and `grep -r` see the
 * artifacts alone.
 *
 * What the kernel may keep: an archive does not change, so that names, attributes, contents and
 * listings are the kernel's for WFE_FUSE_FOREVER_S, and open() and opendir() are not even asked
 * (ENOSYS; the kernel keeps pages and listings then). As long as an artifact is scanned, its names
 * and attributes are asked for each time, since a later entry may replace an earlier one; a name
 * that is not there, and a listing, are waited for until the end of the scan. Contents belong to an
 * inode and never change.
 *
 * Threads: the operations may run in any number of threads.
 */

#define FUSE_USE_VERSION 314

#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "artifactfs/virtual.h"
#include "artifactfs/volume.h"

#define WFE_FUSE_FOREVER_S (30.0 * 24 * 3600)

/* What the kernel reads ahead of a sequential reader, where this process may say so. */
#define WFE_FUSE_READ_AHEAD_KIB 2048

/* Buffers for replies that are kept for the next one. */
#define WFE_FUSE_KEPT_BUFFERS 8
#define WFE_FUSE_BUFFER_BYTES ((size_t)1024 * 1024)

/* What is shown in place of the archive's own attributes. uid, gid and umask as mount.fuse(8) has
 * them. */
struct wfe_fuse_owner {
    /* Show what a layer of the artifact would bring into a container (libcommon/layer.h): no
     * setuid, whole seconds, only the xattrs user.*; what a layer refuses is left out: devices,
     * sockets, names that begin with ".wh.", xattrs of overlayfs. */
    bool as_layer;
    /* List what the scan has found so far, then fail with EINPROGRESS, instead of waiting for its
     * end. */
    bool partial_listings;
    bool has_uid, has_gid, has_umask;
    uid_t uid;
    gid_t gid;
    mode_t umask; /* all files have the permissions that are not in it */
};

/* The user data of a session with wfe_fuse_ops. All fields but the last are set before it
 * begins. */
struct wfe_fuse {
    struct wfe_volume *volume;
    struct wfe_virtual *virtual_files;
    struct wfe_fuse_owner owner;
    struct fuse_session *session;
    bool skips_open, skips_opendir, parallel_directories; /* set by init */
    atomic_bool has_replied;                              /* see artifactfs/fuse_io.h */

    pthread_mutex_t buffers_lock;
    char *buffers[WFE_FUSE_KEPT_BUFFERS];
    size_t buffer_count;
};

extern const struct fuse_lowlevel_ops wfe_fuse_ops;

/* volume and virtual_files are borrowed. */
void wfe_fuse_init(struct wfe_fuse *fs, struct wfe_volume *volume,
    struct wfe_virtual *virtual_files, const struct wfe_fuse_owner *owner);
void wfe_fuse_done(struct wfe_fuse *fs);

#endif
