/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_MOUNT_OPTIONS_H
#define WFE_ARTIFACTFS_MOUNT_OPTIONS_H

/*
 * The options behind -o.
 *
 *     taken                                     here
 *     ----------------------------------------  ------------------------------------------------
 *     ro, nosuid, nodev                         always so
 *     rw, suid, dev                             refused
 *     as_layer                                  what a container sees of a layer: see fuse_ops.h
 *     partial_listings                          of what the scan has found: see fuse_ops.h
 *     uid=N, gid=N, umask=N (octal)             attributes shown instead of the archive's
 *     allow_other, allow_root                   with default_permissions, since others than the
 *                                               one who mounts are let in
 *     default_permissions                       the kernel checks owners and modes
 *     fsname=S, subtype=S                       instead of the source's name and the program's
 *     auto_unmount, max_read=N, exec, noexec,   libfuse's and the kernel's own
 *     atime, noatime, relatime, …
 *     debug                                     libfuse tells of each request; in the foreground
 *     defaults, auto, noauto, user, …, x-*      mount(8)'s own: ignored
 *     anything else                             refused, and named
 */

#include <stdbool.h>

#include "artifactfs/fuse_ops.h"
#include "libcommon/error.h"

struct wfe_mount_options {
    struct wfe_fuse_owner owner;
    bool debug;
    struct fuse_args args; /* what fuse_session_new() gets */
};

/* text is the lists of all -o, joined by commas; NULL: none. fsname is shown by mount(8) unless
 * the options have one. Errors: WFE_ERROR_INPUT, WFE_ERROR_INTERNAL. wfe_mount_options_done() is
 * due on success. */
int wfe_mount_options_parse(
    const char *text, const char *fsname, struct wfe_mount_options *ret, struct wfe_error *err);
void wfe_mount_options_done(struct wfe_mount_options *options);

#endif
